// SPDX-License-Identifier: Apache-2.0
/* What reads as JSON is written, reads again, and is written the same. */
#include "base/json.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Values and keys. */
static size_t count_values(const json_t *value)
{
	size_t count = 1, index;
	json_t *each;
	const char *key;

	json_object_foreach((json_t *)value, key, each)
		count += 1 + count_values(each);
	json_array_foreach(value, index, each)
		count += count_values(each);
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_number(const uint8_t *data, size_t size)
{
	double value;
	char text[32];

	if (size < sizeof(value))
		return;
	memcpy(&value, data, sizeof(value));
	json_number_text(value, text);
	if (isfinite(value) && strtod(text, NULL) != value)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *value, *again;
	size_t length, second;
	char *text, *other;
	json_error_t error;

	check_number(data, size);
	free(json_write_indented(NULL));
	value = json_read((const char *)data, size, &error);
	if (!value)
		return 0;
	/* The count that is made from the text is never too small. */
	if (json_read_bounded((const char *)data, size, count_values(value) - 1, &error))
		abort();
	text = json_write(value, &length);
	if (!text || strlen(text) != length)
		abort();
	again = json_read(text, length, &error);
	if (!again)
		abort();
	other = json_write(again, &second);
	if (!other || second != length || memcmp(text, other, length))
		abort();
	free(json_write_indented(value));
	free(text);
	free(other);
	json_decref(value);
	json_decref(again);
	json_decref(json_read_exact((const char *)data, size, &error));
	return 0;
}
