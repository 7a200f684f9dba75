// SPDX-License-Identifier: Apache-2.0
/* Sizes with three digits and a decimal unit, durations with their two largest
 * units, names that fit into a column. Text comes out of JSON, so it is sound UTF-8.
 * Pure. */
#include "format.h"

#include "ask.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

char *format_bytes(uint64_t bytes, char text[FORMAT_SIZE])
{
	static const char *const units[] = {"KB", "MB", "GB", "TB", "PB", "EB"};
	double value = (double)bytes / 1000;
	unsigned unit = 0;

	if (bytes < 1000) {
		snprintf(text, FORMAT_SIZE, "%" PRIu64 " B", bytes);
		return text;
	}
	while (value >= 999.5 && unit + 1 < sizeof units / sizeof *units) {
		value /= 1000;
		unit++;
	}
	snprintf(text, FORMAT_SIZE, "%.*f %s", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value, units[unit]);
	return text;
}

char *format_duration(uint64_t milliseconds, char text[FORMAT_SIZE])
{
	uint64_t seconds = milliseconds / 1000, minutes = seconds / 60, hours = minutes / 60;

	if (milliseconds < 1000)
		snprintf(text, FORMAT_SIZE, "%" PRIu64 " ms", milliseconds);
	else if (seconds < 60)
		snprintf(text, FORMAT_SIZE, "%" PRIu64 ".%" PRIu64 " s", seconds, milliseconds % 1000 / 100);
	else if (minutes < 60)
		snprintf(text, FORMAT_SIZE, "%" PRIu64 " m %" PRIu64 " s", minutes, seconds % 60);
	else if (hours < 24)
		snprintf(text, FORMAT_SIZE, "%" PRIu64 " h %" PRIu64 " m", hours, minutes % 60);
	else
		snprintf(text, FORMAT_SIZE, "%" PRIu64 " d %" PRIu64 " h", hours / 24, hours % 24);
	return text;
}

char *format_counts(const json_t *counts, const char *empty, char *text, size_t size)
{
	size_t length = 0;
	const char *key;
	json_t *value;

	snprintf(text, size, "%s", empty);
	json_object_foreach((json_t *)counts, key, value) {
		uint64_t count = number_of(counts, key);
		if (count == 0 || length >= size)
			continue;
		length += (size_t)snprintf(text + length, size - length, "%s%s %" PRIu64, length ? ", " : "", key, count);
	}
	return text;
}

static bool is_continuation(char byte)
{
	return ((unsigned char)byte & 0xc0) == 0x80;
}

char *format_printable(const char *text)
{
	char *copy = strdup(text), *out = copy;

	if (!copy)
		return NULL;
	for (const char *at = text; *at; at++) {
		unsigned char byte = (unsigned char)*at;
		/* U+0080 to U+009F are 0xc2 and their own number. */
		bool is_second_set = byte == 0xc2 && (unsigned char)at[1] >= 0x80 && (unsigned char)at[1] < 0xa0;

		*out++ = byte < 0x20 || byte == 0x7f || is_second_set ? '?' : *at;
		at += is_second_set;
	}
	*out = 0;
	return copy;
}

size_t format_width(const char *text)
{
	size_t width = 0;

	for (; *text; text++)
		width += !is_continuation(*text);
	return width;
}

char *format_name(const char *name, char text[FORMAT_NAME_SIZE])
{
	size_t width = 0, length = 0;

	if (!*name)
		name = "unknown";
	while (name[length] && (width < FORMAT_NAME_MOST || is_continuation(name[length])))
		width += !is_continuation(name[length++]);
	snprintf(text, FORMAT_NAME_SIZE, "%.*s%s", (int)length, name, name[length] ? "…" : "");
	return text;
}
