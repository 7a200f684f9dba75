// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Bytes of a data file (protocol page 9.1, 9.2): entries, cut into chunks of at
 * most 231 data bytes behind a header of 25. Pure functions on buffers. */
#include <stddef.h>
#include <stdint.h>

#define STORE_ID_SIZE 16
#define STORE_CHUNK_DATA_MAX 231
#define STORE_ENTRY_HEADER_SIZE (1 + 1 + 2 + STORE_ID_SIZE)

#define STORE_TYPE_RECORD 1 /* also: public announcement */
#define STORE_TYPE_PRIVATE_ANNOUNCEMENT 2

struct store_entry {
	uint8_t type;
	uint8_t id[STORE_ID_SIZE];
	uint8_t *data;
	size_t size;
	size_t offset; /* of its first chunk in the file */
};

/* What a whole file holds. */
struct store_scan {
	struct store_entry *entries; /* complete ones, ordered by their first chunk */
	size_t count;
	size_t held_back;  /* entries of which chunks are missing */
	size_t sound_size; /* up to here: everything up to the end of the last complete entry; a torn tail follows */
	size_t error_offset;
};

/* Reads a file. A tail that ends within a chunk, or turns into zeros to the end
 * (blocks that were not written before a crash), is torn and not an error. 0; -EBADMSG:
 * the bytes at `error_offset` are no chunk, or no entry of a known kind; -ENOMEM.
 * Clear the scan when it is 0. */
int store_scan(const uint8_t *bytes, size_t size, struct store_scan *scan);
void store_scan_clear(struct store_scan *scan);

/* All chunks of one entry, malloc'd. 0, -EMSGSIZE or -ENOMEM. */
int store_encode(uint8_t type, const uint8_t id[STORE_ID_SIZE], const uint8_t chunk_set_id[STORE_ID_SIZE],
		 const uint8_t *data, size_t data_size, uint8_t **bytes, size_t *size);
