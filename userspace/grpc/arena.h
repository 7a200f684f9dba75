// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Memory for one protobuf message: handed out in order, given back all at once.
 * A message of 17 KB is some 2,000 small objects, and protobuf-c would malloc
 * each of them. */
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

struct arena_block;

struct arena {
	struct arena_block *blocks;
	char *next, *end;
};

/* Allocates nothing. */
void arena_init(struct arena *arena);
/* Memory for any type, not cleared; NULL when there is none. */
void *arena_allocate(struct arena *arena, size_t size);
void arena_release(struct arena *arena);
/* protobuf-c's view; freeing a single object does nothing. */
ProtobufCAllocator arena_allocator(struct arena *arena);
