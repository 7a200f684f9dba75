// SPDX-License-Identifier: Apache-2.0
#pragma once
/* A limit on the bytes that strangers make this process keep, in two levels: one
 * for all connections of a server, and below it one for each operator, so that a
 * single operator cannot use up what the others need. Internal to grpc/. */
#include <stdbool.h>
#include <stddef.h>

struct budget {
	unsigned references;
	size_t used_bytes, max_bytes;
	struct budget *parent; /* a reference; NULL: none */
	char name[];           /* of the operator; "" at the top */
};

/* With one reference. NULL: no memory. `parent` may be NULL. */
struct budget *budget_create(struct budget *parent, const char *name, size_t max_bytes);
struct budget *budget_hold(struct budget *budget);
void budget_release(struct budget *budget); /* NULL is fine */

/* Always booked, on all levels; false: one of them is exceeded. NULL has no limit. */
bool budget_book(struct budget *budget, size_t bytes);
void budget_return(struct budget *budget, size_t bytes);
