// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Memory for one protobuf message: handed out in order, given back all at once.
 * A message of 17 KB is some 2,000 small objects, and protobuf-c would malloc
 * each of them. */
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

#define ARENA_FIRST_SIZE (128u << 10)

struct arena_block;

struct arena {
	struct arena_block *blocks;
	char *next, *end;
	_Alignas(max_align_t) char first[ARENA_FIRST_SIZE]; /* most messages need little more */
};

/* Allocates nothing. The arena is not to be moved afterwards. */
void arena_init(struct arena *arena);
/* Memory for any type, not cleared; NULL when there is none. */
void *arena_allocate(struct arena *arena, size_t size);
void arena_release(struct arena *arena);
/* protobuf-c's view; freeing a single object does nothing. */
ProtobufCAllocator arena_allocator(struct arena *arena);
