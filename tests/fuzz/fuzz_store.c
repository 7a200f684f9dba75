// SPDX-License-Identifier: Apache-2.0
/* Data files that a crash, or anybody, may have left: reading them, and that what
 * is sound stays readable when the tail is cut off. */
#include "directory/store_format.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store_scan scan, again;

	if (store_scan(data, size, &scan))
		return 0;
	if (scan.sound_size > size || store_scan(data, scan.sound_size, &again) || again.count != scan.count ||
	    again.sound_size != scan.sound_size)
		abort();
	for (size_t i = 0; i < scan.count; i++) {
		const struct store_entry *entry = &scan.entries[i];
		struct store_scan one;
		uint8_t *bytes;
		size_t bytes_size;

		if (store_encode(entry->type, entry->id, entry->id, entry->data, entry->size, &bytes, &bytes_size))
			continue;
		if (store_scan(bytes, bytes_size, &one) || one.count != 1 || one.sound_size != bytes_size ||
		    one.entries[0].size != entry->size || memcmp(one.entries[0].data, entry->data, entry->size))
			abort();
		store_scan_clear(&one);
		free(bytes);
	}
	store_scan_clear(&again);
	store_scan_clear(&scan);
	return 0;
}
