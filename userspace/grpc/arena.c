// SPDX-License-Identifier: Apache-2.0
/* Blocks of memory chained together, the first one within the arena; an
 * allocation advances a pointer in the newest block. Used by one message coder call at a time, from any thread.
 * Invariant: `next` is aligned for any type and never beyond `end`. */
#include "grpc/arena.h"

#include <stdint.h>
#include <stdlib.h>

#define ARENA_ALIGNMENT _Alignof(max_align_t)
/* Small enough that malloc keeps the blocks instead of giving pages back to the kernel every time. */
#define ARENA_BLOCK_SIZE (64u << 10)

struct arena_block {
	struct arena_block *older;
	_Alignas(max_align_t) char memory[];
};

void arena_init(struct arena *arena)
{
	arena->blocks = NULL;
	arena->next = arena->first;
	arena->end = arena->first + sizeof(arena->first);
}

void *arena_allocate(struct arena *arena, size_t size)
{
	if (size > PTRDIFF_MAX - ARENA_ALIGNMENT)
		return NULL;
	size = (size + ARENA_ALIGNMENT - 1) & ~(ARENA_ALIGNMENT - 1);
	if ((size_t)(arena->end - arena->next) < size) {
		size_t room = size > ARENA_BLOCK_SIZE ? size : ARENA_BLOCK_SIZE;
		struct arena_block *block = malloc(sizeof(*block) + room);

		if (!block)
			return NULL;
		block->older = arena->blocks;
		arena->blocks = block;
		arena->next = block->memory;
		arena->end = block->memory + room;
	}
	void *result = arena->next;

	arena->next += size;
	return result;
}

void arena_release(struct arena *arena)
{
	while (arena->blocks) {
		struct arena_block *older = arena->blocks->older;

		free(arena->blocks);
		arena->blocks = older;
	}
	arena_init(arena);
}

static void *allocate_for_protobuf(void *arena, size_t size)
{
	return arena_allocate(arena, size);
}

static void keep(void *arena, void *pointer)
{
	(void)arena;
	(void)pointer;
}

ProtobufCAllocator arena_allocator(struct arena *arena)
{
	return (ProtobufCAllocator){ allocate_for_protobuf, keep, arena };
}
