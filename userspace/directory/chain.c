// SPDX-License-Identifier: Apache-2.0
/* Chain selection, see chain.h. Iterative, since chains may be as long as the
 * store; links are indices. A path is walked once per leaf, so that each branch
 * of a fork is judged with the pins of its own records. */
#include "directory/chain.h"

#include "base/instant.h"
#include "base/json.h"
#include "directory/record.h"
#include "directory/verifier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NONE SIZE_MAX

struct node {
	size_t parent;                   /* NONE: a root */
	size_t first_child, last_child;  /* NONE */
	size_t next;                     /* sibling in storage order */
	bool visited;                    /* a record of that hash was reached; kept with the hash's first node */
	size_t same_hash;                /* first node with that hash */
};

struct forest {
	struct node *nodes;
	size_t count;
	size_t first_root, last_root;
	size_t *path;
};

static void add_sibling(struct node *nodes, size_t *first, size_t *last, size_t index)
{
	if (*last == NONE)
		*first = index;
	else
		nodes[*last].next = index;
	*last = index;
}

static int forest_build(const json_t *records, struct forest *forest)
{
	json_t *by_hash = json_object();
	int error = by_hash ? 0 : -ENOMEM;

	for (size_t i = 0; !error && i < forest->count; i++) {
		const char *hash = signed_record_hash(json_array_get(records, i));
		const json_t *known = json_object_get(by_hash, hash);

		forest->nodes[i] = (struct node){ NONE, NONE, NONE, NONE, false, known ? (size_t)json_integer_value(known) : i };
		if (!known && json_object_set_new(by_hash, hash, json_integer((json_int_t)i)))
			error = -ENOMEM;
	}
	for (size_t i = 0; !error && i < forest->count; i++) {
		const json_t *parent = json_object_get(by_hash, signed_record_parent(json_array_get(records, i)));
		struct node *node = &forest->nodes[i];

		if (parent) {
			node->parent = (size_t)json_integer_value(parent);
			add_sibling(forest->nodes, &forest->nodes[node->parent].first_child,
				    &forest->nodes[node->parent].last_child, i);
		} else {
			add_sibling(forest->nodes, &forest->first_root, &forest->last_root, i);
		}
	}
	json_decref(by_hash);
	return error;
}

/* Children hang on the first node of a hash, wherever the walk came in. */
static size_t first_child(const struct forest *forest, size_t index)
{
	return forest->nodes[forest->nodes[index].same_hash].first_child;
}

/* Goes to the first unvisited one of `index` and its later siblings. */
static size_t unvisited(const struct forest *forest, size_t index)
{
	while (index != NONE && forest->nodes[forest->nodes[index].same_hash].visited)
		index = forest->nodes[index].next;
	return index;
}

/* Judges the path of `length` nodes. 0, -ENOENT (nothing valid) or -ENOMEM. */
static int judge_path(const json_t *records, const struct forest *forest, size_t length, chain_judge judge, void *context,
		      struct chain *chain)
{
	memset(chain, 0, sizeof(*chain));
	chain->indices = calloc(length, sizeof(*chain->indices));
	chain->pins = json_object();
	if (!chain->indices || !chain->pins)
		goto no_memory;
	for (size_t i = 0; i < length; i++) {
		size_t index = forest->path[i];

		if (judge(index, chain->pins, context))
			chain->indices[chain->count++] = index;
		if (pins_note(chain->pins, json_array_get(records, index)))
			goto no_memory;
	}
	if (chain->count) {
		chain->ends_in_leaf = chain->indices[chain->count - 1] == forest->path[length - 1] &&
				      first_child(forest, forest->path[length - 1]) == NONE;
		return 0;
	}
	chain_clear(chain);
	return -ENOENT;
no_memory:
	chain_clear(chain);
	return -ENOMEM;
}

static struct instant chain_start(const json_t *records, const struct chain *chain)
{
	const char *text = json_text(signed_record_inner(json_array_get(records, chain->indices[0])), "created_at");
	struct instant instant = { 0 };

	instant_parse(text, strlen(text), &instant); /* normalised, so it parses */
	return instant;
}

static int consider(const json_t *records, const struct forest *forest, size_t length, chain_judge judge, void *context,
		    struct chain *best)
{
	struct chain candidate;
	int error = judge_path(records, forest, length, judge, context, &candidate);

	if (error)
		return error == -ENOENT ? 0 : error;
	if (best->count && instant_compare(chain_start(records, &candidate), chain_start(records, best)) <= 0) {
		chain_clear(&candidate);
		return 0;
	}
	chain_clear(best);
	*best = candidate;
	return 0;
}

static int walk(const json_t *records, struct forest *forest, chain_judge judge, void *context, struct chain *best)
{
	size_t depth = 0, next = unvisited(forest, forest->first_root);
	bool grew = false;
	int error = 0;

	for (;;) {
		if (next != NONE) { /* one step deeper */
			forest->nodes[forest->nodes[next].same_hash].visited = true;
			forest->path[depth++] = next;
			grew = true;
			next = unvisited(forest, first_child(forest, next));
			continue;
		}
		if (depth == 0)
			return 0;
		if (grew && (error = consider(records, forest, depth, judge, context, best)))
			return error;
		grew = false; /* a branch that was left again is no other chain */
		next = unvisited(forest, forest->nodes[forest->path[--depth]].next);
	}
}

int chain_select(const json_t *records, chain_judge judge, void *context, struct chain *result)
{
	struct forest forest = { .count = json_array_size(records), .first_root = NONE, .last_root = NONE };
	int error = -ENOMEM;

	memset(result, 0, sizeof(*result));
	forest.nodes = calloc(forest.count + 1, sizeof(*forest.nodes));
	forest.path = calloc(forest.count + 1, sizeof(*forest.path));
	if (forest.nodes && forest.path)
		error = forest_build(records, &forest);
	if (!error)
		error = walk(records, &forest, judge, context, result);
	if (error)
		chain_clear(result);
	else if (!result->count)
		error = -ENOENT;
	free(forest.nodes);
	free(forest.path);
	return error;
}

void chain_clear(struct chain *chain)
{
	free(chain->indices);
	json_decref(chain->pins);
	memset(chain, 0, sizeof(*chain));
}
