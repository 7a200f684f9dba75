// SPDX-License-Identifier: Apache-2.0
/* Splitting request ids (protocol page 5.1).
 *
 * The grammar is ambiguous: in "a.b(c.d(e)" both "b" and "d" may be the method.
 * Both ends of a connection must split alike, so the rule is the reference's
 * greedy one: the operator takes as much as it can.
 *
 * Pure; the three texts of an address share one allocation, whose start is
 * `operator_name`. */
#include "router/address.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int address_parse(const char *text, struct address *result)
{
	*result = (struct address){ 0 };
	size_t length = strlen(text);
	if (length == 0 || text[length - 1] != ')')
		return -EINVAL;

	/* The id starts behind the last closing bracket before the final one; the
	 * bracket that opens it cannot lie before that. */
	size_t last = length - 1, floor = last;
	while (floor > 0 && text[floor - 1] != ')')
		floor--;

	/* From the right: an opening bracket with a non-empty id behind it and a
	 * dot before it, with a non-empty method in between. */
	for (size_t open = last; open-- > floor;) {
		if (text[open] != '(' || open + 1 == last)
			continue;
		size_t dot = open;
		while (dot > 0 && text[dot - 1] != '.' && text[dot - 1] != '(')
			dot--;
		if (dot < 2 || dot == open || text[dot - 1] != '.')
			continue;

		char *copy = strdup(text);
		if (!copy)
			return -ENOMEM;
		copy[dot - 1] = copy[open] = copy[last] = '\0';
		result->operator_name = copy;
		result->method = copy + dot;
		result->id = copy + open + 1;
		return 0;
	}
	return -EINVAL;
}

void address_clear(struct address *address)
{
	free(address->operator_name);
	*address = (struct address){ 0 };
}

char *address_compose(const char *method_address, const char *id)
{
	char *text;
	return asprintf(&text, "%s(%s)", method_address, id) < 0 ? NULL : text;
}
