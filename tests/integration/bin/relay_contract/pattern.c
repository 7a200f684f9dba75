// SPDX-License-Identifier: Apache-2.0
/* One table of random bytes, its length a prime, serves all streams: each begins
 * at a place of its own in it and wraps around. Sending needs no copy and checking
 * is a memcmp, so that the tester costs little beside the relay it measures. A
 * shift by a whole table would go unseen here; the byte counters catch it. */
#include "pattern.h"

#include <stdio.h>
#include <string.h>

#define TABLE_SIZE 4194301u

static uint8_t table[TABLE_SIZE + PATTERN_RUN + 8];
static uint64_t table_seed;

uint64_t pattern_mix(uint64_t value)
{
	value += 0x9e3779b97f4a7c15u;
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
	value = (value ^ value >> 27) * 0x94d049bb133111ebu;
	return value ^ value >> 31;
}

void pattern_seed(uint64_t seed)
{
	table_seed = seed;
	for (size_t at = 0; at < TABLE_SIZE; at += 8) {
		uint64_t word = pattern_mix(seed ^ pattern_mix(at));
		memcpy(table + at, &word, sizeof word);
	}
	memcpy(table + TABLE_SIZE, table, PATTERN_RUN);
}

static size_t place(uint64_t stream, uint64_t position)
{
	return (pattern_mix(table_seed + stream) % TABLE_SIZE + position % TABLE_SIZE) % TABLE_SIZE;
}

const uint8_t *pattern_at(uint64_t stream, uint64_t position)
{
	return table + place(stream, position);
}

size_t pattern_compare(uint64_t stream, uint64_t position, const uint8_t *data, size_t size)
{
	const uint8_t *right = pattern_at(stream, position);

	if (!memcmp(right, data, size))
		return size;
	for (size_t at = 0; at < size; at++)
		if (right[at] != data[at])
			return at;
	return size;
}

void pattern_explain(uint64_t stream, uint64_t position, const uint8_t *data, size_t size, char *text, size_t text_size)
{
	if (size > 16)
		size = 16;
	const uint8_t *found = size < 8 ? NULL : memmem(table, sizeof table, data, size);
	if (!found) {
		snprintf(text, text_size, size < 8 ? "too few bytes to say more" : "bytes of no stream");
		return;
	}
	int64_t ahead = (int64_t)((size_t)(found - table) % TABLE_SIZE) - (int64_t)place(stream, position);
	if (ahead > (int64_t)TABLE_SIZE / 2)
		ahead -= TABLE_SIZE;
	if (ahead < -(int64_t)TABLE_SIZE / 2)
		ahead += TABLE_SIZE;
	snprintf(text, text_size, "the bytes of %lld further %s (or of another stream)",
		 (long long)(ahead < 0 ? -ahead : ahead), ahead < 0 ? "back: doubled" : "on: some were lost");
}
