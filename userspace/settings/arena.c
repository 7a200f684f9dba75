// SPDX-License-Identifier: Apache-2.0
/* Memory of one settings tree: taken piece by piece, freed at once.
 *
 * Settings are a few kilobytes that are read before a program does anything.
 * One that cannot get them cannot start: it says so and ends, and no step of
 * the reading needs a path for it. */
#include "base/log.h"
#include "settings/reading.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 16384
#define ALIGNMENT 16

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, size;
	_Alignas(ALIGNMENT) char bytes[];
};

void *arena_alloc(struct arena *arena, size_t size)
{
	struct arena_chunk *chunk = arena->chunks;
	void *result;

	size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	if (!chunk || chunk->size - chunk->used < size) {
		size_t capacity = size > CHUNK_BYTES / 4 ? size : CHUNK_BYTES;

		chunk = calloc(1, sizeof(*chunk) + capacity);
		if (!chunk) {
			log_fatal("no memory for the settings");
			exit(1);
		}
		chunk->size = capacity;
		chunk->next = arena->chunks;
		arena->chunks = chunk;
	}
	result = chunk->bytes + chunk->used;
	chunk->used += size;
	return result;
}

char *arena_copy(struct arena *arena, const char *text, size_t length)
{
	char *copy = arena_alloc(arena, length + 1);

	memcpy(copy, text, length);
	return copy;
}

char *arena_print(struct arena *arena, const char *format, ...)
{
	va_list arguments;
	char *text;
	int length;

	va_start(arguments, format);
	length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	text = arena_alloc(arena, length < 0 ? 1 : (size_t)length + 1);
	if (length < 0)
		return text;
	va_start(arguments, format);
	vsnprintf(text, (size_t)length + 1, format, arguments);
	va_end(arguments);
	return text;
}

void arena_free(struct arena *arena)
{
	while (arena->chunks) {
		struct arena_chunk *next = arena->chunks->next;

		/* Settings may hold passwords that came from `vars`. */
		explicit_bzero(arena->chunks->bytes, arena->chunks->used);
		free(arena->chunks);
		arena->chunks = next;
	}
}
