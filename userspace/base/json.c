// SPDX-License-Identifier: Apache-2.0
/* JSON text in the shape that the protocol's peers write (protocol page 4.1).
 *
 * Reading is jansson's. Writing is done here, because every answer passes
 * through it: one growing buffer for the text and one growing array for the
 * sorted members of all objects that are open, so that a value of any shape
 * costs a handful of allocations. Nothing is shared between calls; a caller
 * may use it from any thread for values that are its own. */
#include "base/json.h"

#include <errno.h>
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_NESTED 2048 /* what jansson's reader allows */
#define PIECE_SIZE 4096  /* of a string escaped at once, bounds what is reserved for it */

struct member {
	const char *key;
	size_t key_length;
	json_t *value;
};

struct writer {
	char *text;
	size_t length, capacity;
	struct member *members; /* of the open objects, a stack */
	size_t member_count, member_capacity;
	bool indented;
	unsigned depth;
};

json_t *json_read(const char *text, size_t length, json_error_t *error)
{
	return json_loadb(text, length, JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, error);
}

/* Whether each value and key of `text` could be counted by the mark that stands
 * before it, and there are at most `most` of those. Looks at all bytes, also
 * behind the first value. */
static bool has_few_values(const char *text, size_t length, size_t most)
{
	bool in_string = false;
	size_t count = 1;

	if (length <= most)
		return true;
	for (size_t i = 0; i < length && count <= most; i++) {
		char c = text[i];

		if (c == '"')
			in_string = !in_string;
		else if (in_string)
			i += c == '\\';
		else
			count += c == ',' || c == ':' || c == '[' || c == '{';
	}
	return count <= most;
}

json_t *json_read_bounded(const char *text, size_t length, size_t most_values, json_error_t *error)
{
	if (!has_few_values(text, length, most_values)) {
		memset(error, 0, sizeof(*error));
		snprintf(error->text, sizeof(error->text), "more than %zu values", most_values);
		return NULL;
	}
	return json_read(text, length, error);
}

json_t *json_read_exact(const char *text, size_t length, json_error_t *error)
{
	return json_loadb(text, length, JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY, error);
}

const char *json_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* Significant digits of a positive, finite `value`, without trailing zeros,
 * and the power of ten of the first one. The shortest that reads back: 15
 * digits of a normal number always identify themselves, so a text of up to 15
 * is found at once; subnormal numbers have fewer and are searched. */
static int shortest_digits(double value, char digits[32], int *exponent)
{
	char text[40];
	int count = 0;

	for (int precision = value < DBL_MIN ? 1 : 15;; precision++) {
		snprintf(text, sizeof(text), "%.*e", precision - 1, value);
		if (precision >= 17 || strtod(text, NULL) == value)
			break;
		/* Above a power of two the neighbour is further away than below: the
		 * next text upwards may read back although the nearest does not. */
		if (precision == 16) {
			int rounding = fegetround();

			fesetround(FE_UPWARD);
			snprintf(text, sizeof(text), "%.*e", precision - 1, value);
			fesetround(rounding);
			if (strtod(text, NULL) == value)
				break;
		}
	}
	for (const char *p = text; *p && *p != 'e'; p++) {
		if (*p >= '0' && *p <= '9')
			digits[count++] = *p;
	}
	*exponent = atoi(strchr(text, 'e') + 1);
	while (count > 1 && digits[count - 1] == '0')
		count--;
	return count;
}

static char *write_integer(char *text, uint64_t value)
{
	char reversed[24];
	int count = 0;

	do {
		reversed[count++] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	while (count)
		*text++ = reversed[--count];
	return text;
}

char *json_number_text(double value, char text[32])
{
	char digits[32], *out = text;
	double magnitude = fabs(value);
	int count, exponent;

	if (!isfinite(value)) /* JSON has no word for it; json_write() refuses before */
		return strcpy(text, "null");
	if (signbit(value))
		*out++ = '-';
	if (magnitude < 9007199254740992.0 && magnitude == (double)(uint64_t)magnitude) {
		*write_integer(out, (uint64_t)magnitude) = 0;
		return text;
	}
	count = shortest_digits(magnitude, digits, &exponent);
	if (magnitude < 1e-6 || magnitude >= 1e21) {
		*out++ = digits[0];
		if (count > 1) {
			*out++ = '.';
			memcpy(out, digits + 1, (size_t)count - 1);
			out += count - 1;
		}
		*out++ = 'e';
		*out++ = exponent < 0 ? '-' : '+';
		*write_integer(out, (uint64_t)abs(exponent)) = 0;
		return text;
	}
	if (exponent < 0) {
		*out++ = '0';
		*out++ = '.';
		for (int zero = -1; zero > exponent; zero--)
			*out++ = '0';
		memcpy(out, digits, (size_t)count);
		out[count] = 0;
		return text;
	}
	for (int i = 0; i < count || i <= exponent; i++) {
		if (i == exponent + 1)
			*out++ = '.';
		*out++ = i < count ? digits[i] : '0';
	}
	*out = 0;
	return text;
}

/* Room for `more` bytes, or NULL without memory. */
static char *reserve(struct writer *writer, size_t more)
{
	if (writer->capacity - writer->length < more) {
		size_t capacity = writer->capacity * 2 > writer->length + more ? writer->capacity * 2 :
										writer->length + more + 512;
		char *text = realloc(writer->text, capacity);

		if (!text)
			return NULL;
		writer->text = text;
		writer->capacity = capacity;
	}
	return writer->text + writer->length;
}

static bool put(struct writer *writer, const char *text, size_t length)
{
	char *out = reserve(writer, length);

	if (!out)
		return false;
	memcpy(out, text, length);
	writer->length += length;
	return true;
}

static bool put_line_break(struct writer *writer)
{
	size_t blanks = writer->depth * 2;
	char *out;

	if (!writer->indented)
		return true;
	out = reserve(writer, blanks + 1);
	if (!out)
		return false;
	*out = '\n';
	memset(out + 1, ' ', blanks);
	writer->length += blanks + 1;
	return true;
}

/* How many bytes from here need no escape: no control, quote or backslash.
 * Looks at eight at once while none of them does; the three tests are the
 * usual ones for "some byte of the word is less than n", and "is zero". */
static size_t plain_length(const char *string, size_t length)
{
	/* 1 for bytes that need an escape */
	static const unsigned char special[256] = { [0 ... 31] = 1, ['"'] = 1, ['\\'] = 1 };
	const uint64_t ones = 0x0101010101010101ULL, tops = ones * 0x80;
	size_t i = 0;

	for (; i + 8 <= length; i += 8) {
		uint64_t word, quote, backslash;

		memcpy(&word, string + i, 8);
		quote = word ^ ones * '"';
		backslash = word ^ ones * '\\';
		if ((((word - ones * 0x20) & ~word) | ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash)) & tops)
			break;
	}
	while (i < length && !special[(unsigned char)string[i]])
		i++;
	return i;
}

/* One piece of a string, escaped. Six bytes is the longest escape; asking for
 * all of it once saves a check per byte, and what is not used stays for what
 * follows. */
static bool put_escaped(struct writer *writer, const char *string, size_t length)
{
	static const char hex[] = "0123456789abcdef";
	char *start = reserve(writer, length * 6), *out = start;

	if (!out)
		return false;
	for (size_t i = 0; i < length;) {
		size_t plain = plain_length(string + i, length - i);
		unsigned char c;

		memcpy(out, string + i, plain);
		out += plain;
		i += plain;
		if (i == length)
			break;
		c = (unsigned char)string[i++];
		*out++ = '\\';
		switch (c) {
		case '"':
		case '\\':
			*out++ = (char)c;
			break;
		case '\n':
			*out++ = 'n';
			break;
		case '\r':
			*out++ = 'r';
			break;
		case '\t':
			*out++ = 't';
			break;
		default:
			memcpy(out, "u00", 3);
			out[3] = hex[c >> 4];
			out[4] = hex[c & 15];
			out += 5;
		}
	}
	writer->length += (size_t)(out - start);
	return true;
}

static bool put_string(struct writer *writer, const char *string, size_t length)
{
	if (!put(writer, "\"", 1))
		return false;
	while (length) {
		size_t piece = length < PIECE_SIZE ? length : PIECE_SIZE;

		if (!put_escaped(writer, string, piece))
			return false;
		string += piece;
		length -= piece;
	}
	return put(writer, "\"", 1);
}

static int member_order(const void *a, const void *b)
{
	const struct member *left = a, *right = b;
	size_t shorter = left->key_length < right->key_length ? left->key_length : right->key_length;
	int order = memcmp(left->key, right->key, shorter);

	return order ? order : (left->key_length > right->key_length) - (left->key_length < right->key_length);
}

static void sort_members(struct member *members, size_t count)
{
	if (count > 24) {
		qsort(members, count, sizeof(*members), member_order);
		return;
	}
	for (size_t i = 1; i < count; i++) {
		struct member moving = members[i];
		size_t place = i;

		for (; place > 0 && member_order(&members[place - 1], &moving) > 0; place--)
			members[place] = members[place - 1];
		members[place] = moving;
	}
}

static bool put_value(struct writer *writer, const json_t *value);

static bool put_object(struct writer *writer, const json_t *object)
{
	json_t *mutable = (json_t *)object; /* jansson's iterator only reads */
	size_t count = json_object_size(object), first = writer->member_count, filled = first;
	bool ok = put(writer, "{", 1);

	if (writer->member_capacity - first < count) {
		size_t capacity = (first + count) * 2 + 32;
		struct member *members = realloc(writer->members, capacity * sizeof(*members));

		if (!members)
			return false;
		writer->members = members;
		writer->member_capacity = capacity;
	}
	for (void *i = json_object_iter(mutable); i; i = json_object_iter_next(mutable, i), filled++) {
		writer->members[filled].key = json_object_iter_key(i);
		writer->members[filled].key_length = json_object_iter_key_len(i);
		writer->members[filled].value = json_object_iter_value(i);
	}
	if (count > 1)
		sort_members(writer->members + first, count);
	writer->member_count = filled;
	writer->depth++;
	for (size_t i = first; ok && i < filled; i++) {
		/* by value: writing a member may move the array */
		struct member member = writer->members[i];

		ok = (i == first || put(writer, ",", 1)) && put_line_break(writer) &&
		     put_string(writer, member.key, member.key_length) &&
		     put(writer, ": ", writer->indented ? 2 : 1) && put_value(writer, member.value);
	}
	writer->depth--;
	writer->member_count = first;
	return ok && (!count || put_line_break(writer)) && put(writer, "}", 1);
}

static bool put_array(struct writer *writer, const json_t *array)
{
	size_t count = json_array_size(array);
	bool ok = put(writer, "[", 1);

	writer->depth++;
	for (size_t i = 0; ok && i < count; i++) {
		ok = (i == 0 || put(writer, ",", 1)) && put_line_break(writer) &&
		     put_value(writer, json_array_get(array, i));
	}
	writer->depth--;
	return ok && (!count || put_line_break(writer)) && put(writer, "]", 1);
}

static bool put_number(struct writer *writer, double value)
{
	char *out = reserve(writer, 32);

	if (!out || !isfinite(value))
		return false;
	json_number_text(value, out);
	writer->length += strlen(out);
	return true;
}

static bool put_whole_number(struct writer *writer, json_int_t value)
{
	char *start = reserve(writer, 24), *out = start;

	if (!out)
		return false;
	if (value < 0)
		*out++ = '-';
	out = write_integer(out, value < 0 ? -(uint64_t)value : (uint64_t)value);
	writer->length += (size_t)(out - start);
	return true;
}

static bool put_value(struct writer *writer, const json_t *value)
{
	if (writer->depth > MOST_NESTED)
		return false;
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return put_object(writer, value);
	case JSON_ARRAY:
		return put_array(writer, value);
	case JSON_STRING:
		return put_string(writer, json_string_value(value), json_string_length(value));
	case JSON_INTEGER:
		return put_whole_number(writer, json_integer_value(value));
	case JSON_REAL:
		return put_number(writer, json_real_value(value));
	case JSON_TRUE:
		return put(writer, "true", 4);
	case JSON_FALSE:
		return put(writer, "false", 5);
	case JSON_NULL:
		return put(writer, "null", 4);
	}
	return false;
}

static char *write_value(const json_t *value, bool indented, size_t *length)
{
	struct writer writer = { .indented = indented };
	bool ok;

	if (!value || !reserve(&writer, 1024))
		return NULL;
	ok = put_value(&writer, value) && put(&writer, "", 1);
	free(writer.members);
	if (!ok) {
		free(writer.text);
		return NULL;
	}
	if (length)
		*length = writer.length - 1;
	return writer.text;
}

char *json_write(const json_t *value, size_t *length)
{
	return write_value(value, false, length);
}

char *json_write_indented(const json_t *value)
{
	return write_value(value, true, NULL);
}
