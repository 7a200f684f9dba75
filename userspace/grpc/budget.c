// SPDX-License-Identifier: Apache-2.0
/* Budgets are counted references: what an operator made us keep may outlive its
 * connection, and the server too, when the owner of a call is slow to answer it.
 * Event loop's thread. */
#include "grpc/budget.h"

#include <stdlib.h>
#include <string.h>

struct budget *budget_create(struct budget *parent, const char *name, size_t max_bytes)
{
	struct budget *budget = calloc(1, sizeof(*budget) + strlen(name) + 1);

	if (!budget)
		return NULL;
	strcpy(budget->name, name);
	budget->references = 1;
	budget->max_bytes = max_bytes;
	budget->parent = parent ? budget_hold(parent) : NULL;
	return budget;
}

struct budget *budget_hold(struct budget *budget)
{
	budget->references++;
	return budget;
}

void budget_release(struct budget *budget)
{
	while (budget && --budget->references == 0) {
		struct budget *parent = budget->parent;

		free(budget);
		budget = parent;
	}
}

bool budget_book(struct budget *budget, size_t bytes)
{
	bool is_within = true;

	for (; budget; budget = budget->parent) {
		budget->used_bytes += bytes;
		is_within &= budget->used_bytes <= budget->max_bytes;
	}
	return is_within;
}

void budget_return(struct budget *budget, size_t bytes)
{
	for (; budget; budget = budget->parent)
		budget->used_bytes -= bytes;
}
