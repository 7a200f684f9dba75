// SPDX-License-Identifier: Apache-2.0
/* The small parsers of base: instants, addresses, hex and base64. What they
 * accept must come out as it went in. */
#include "base/address.h"
#include "base/encoding.h"
#include "base/instant.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_instant(const char *text, size_t length)
{
	char written[INSTANT_TEXT_SIZE];
	struct instant value, again;

	if (instant_parse(text, length, &value))
		return;
	instant_format(value, written);
	if (instant_parse(written, strlen(written), &again) || instant_compare(value, again) ||
	    value.offset_minutes != again.offset_minutes)
		abort();
}

static void check_address(const char *text, size_t length)
{
	char *copy = strndup(text, length), *host;
	uint16_t port;

	if (!address_split(copy, &host, &port)) {
		if (strlen(host) > strlen(copy))
			abort();
		free(host);
	}
	free(copy);
}

static void check_encodings(const uint8_t *data, size_t size)
{
	size_t capacity = size * 2 + 8;
	char *text = malloc(capacity);
	uint8_t *bytes = malloc(size + 1);
	int decoded;

	base64_encode(data, size, text);
	if (base64_decode(text, strlen(text), bytes, size) != (int)size || (size && memcmp(bytes, data, size)))
		abort();
	hex_encode(data, size, text);
	if (hex_decode(text, strlen(text), bytes, size) || (size && memcmp(bytes, data, size)))
		abort();
	decoded = base64_decode((const char *)data, size, bytes, size);
	if (decoded > (int)size)
		abort();
	(void)hex_decode((const char *)data, size, bytes, size / 2);
	free(text);
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_instant((const char *)data, size);
	check_address((const char *)data, size);
	check_encodings(data, size);
	return 0;
}
