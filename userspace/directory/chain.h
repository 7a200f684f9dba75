// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Which of the stored records are the directory (protocol page 3.9). Pure: the
 * records and a function that judges them go in, the winning chain comes out.
 *
 * A record whose parent is empty or unknown is a root; chains lead from a root
 * to a leaf, depth first, children in storage order, every hash once. Records
 * that are not valid behind everything before them in their chain are skipped.
 * The chain whose first valid record was created latest wins, the first found
 * on a tie. */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Is record `index` valid behind records that left `pins` (verifier.h)? */
typedef bool (*chain_judge)(size_t index, const json_t *pins, void *context);

struct chain {
	size_t *indices; /* into `records`, in order */
	size_t count;
	json_t *pins; /* what all records on the winning path, skipped ones too, say */
	bool ends_in_leaf; /* the last valid record has no children: appending to it makes no fork */
};

/* `records`: list of normalised signed records in storage order. 0, or -ENOENT:
 * no chain has a valid record; or -ENOMEM. Clear the chain when it is 0. */
int chain_select(const json_t *records, chain_judge judge, void *context, struct chain *result);
void chain_clear(struct chain *chain);
