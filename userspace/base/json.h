// SPDX-License-Identifier: Apache-2.0
#pragma once
/* JSON text as the protocol's peers write and read it (protocol page 4.1).
 *
 * jansson values are the representation of every map inside the programs.
 * They are shared by reference and never changed after they were published:
 * copy before you change one. One value belongs to one thread. */
#include <jansson.h>
#include <stddef.h>

/* Reads the first JSON value of `text`; what follows it is ignored. Every
 * number becomes a real, so that integral doubles survive the way through
 * protobuf. Depth and duplicate keys follow jansson's defaults.
 * Returns a new reference, or NULL and a reason in `error`. */
json_t *json_read(const char *text, size_t length, json_error_t *error);

/* As json_read for text of strangers: refuses, before it takes memory for any,
 * text that may have more than `most_values` values and keys. A value takes
 * about a hundred times the memory of its shortest text. */
json_t *json_read_bounded(const char *text, size_t length, size_t most_values, json_error_t *error);

/* As json_read, but integers stay integers (for `id` and `code`). */
json_t *json_read_exact(const char *text, size_t length, json_error_t *error);

/* Compact text, object keys sorted; a real that is integral is written
 * without a fraction, others as the shortest text that reads back, with an
 * exponent below 1e-6 and from 1e21 on. Returns a malloc'd, NUL-terminated
 * string and its length, or NULL (memory, NaN). */
char *json_write(const json_t *value, size_t *length);

/* Same, indented by two blanks, for people. */
char *json_write_indented(const json_t *value);

/* Shortest decimal text of a double, as above; `text` holds 32 bytes. */
char *json_number_text(double value, char text[32]);

/* `object[key]` as a string, or NULL if it is absent or no string. Borrowed. */
const char *json_text(const json_t *object, const char *key);
