// SPDX-License-Identifier: Apache-2.0
/* Sizes with three digits and a decimal unit, durations with their two largest
 * units. Pure. */
#include "format.h"

#include "ask.h"

#include <inttypes.h>
#include <stdio.h>

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
