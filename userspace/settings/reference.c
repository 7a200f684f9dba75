// SPDX-License-Identifier: Apache-2.0
/* `$ref` (protocol page 2.2): a map with this key alone becomes a copy of the
 * value at a dotted path of the same file. A component of digits counts the
 * items of a list from 0. References may lead to references, not in a circle. */
#include "settings/reading.h"

#include <string.h>

#define REFERENCE_KEY "$ref"
#define MOST_STEPS 32 /* from one reference to the next */

static bool is_reference(const struct setting *node)
{
	return node->type == SETTING_MAP && node->count == 1 && !strcmp(node->keys[0], REFERENCE_KEY) &&
	       node->items[0]->type == SETTING_STRING;
}

static const struct setting *child_by_component(const struct setting *node, const char *name, size_t length)
{
	size_t index = 0;

	for (size_t i = 0; node->type == SETTING_MAP && i < node->count; i++) {
		if (strlen(node->keys[i]) == length && !memcmp(node->keys[i], name, length))
			return node->items[i];
	}
	if (node->type != SETTING_LIST || !length || length > 9)
		return NULL;
	for (size_t i = 0; i < length; i++) {
		if (name[i] < '0' || name[i] > '9')
			return NULL;
		index = index * 10 + (size_t)(name[i] - '0');
	}
	return index < node->count ? node->items[index] : NULL;
}

/* The value that a reference names, or NULL. */
static const struct setting *find_target(const struct setting *root, const struct setting *reference, unsigned steps)
{
	const struct setting *node = root;
	const char *path = reference->items[0]->string;

	if (steps > MOST_STEPS)
		return NULL;
	while (node) {
		size_t length = strcspn(path, ".");

		node = child_by_component(node, path, length);
		if (!node || !path[length])
			return node;
		path += length + 1;
		if (is_reference(node))
			node = find_target(root, node, steps + 1);
	}
	return NULL;
}

static struct setting *resolve(struct reading *reading, struct setting *root, struct setting *node, unsigned steps)
{
	if (is_reference(node)) {
		const struct setting *name = node->items[0], *target = find_target(root, node, 0);
		struct setting *copy;

		if (!target || steps == MOST_STEPS) {
			reading_error(reading, name->file, name->line, REFERENCE_KEY ": %s '%s'",
				      target ? "goes in a circle:" : "there is nothing at", name->string);
			return node;
		}
		copy = setting_copy(reading, target);
		return copy ? resolve(reading, root, copy, steps + 1) : node;
	}
	if (node->type == SETTING_MAP || node->type == SETTING_LIST) {
		for (size_t i = 0; i < node->count && reading->nodes <= MOST_NODES; i++)
			node->items[i] = resolve(reading, root, node->items[i], steps);
	}
	return node;
}

struct setting *references_resolve(struct reading *reading, struct setting *root)
{
	return resolve(reading, root, root, 0);
}
