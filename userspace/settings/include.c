// SPDX-License-Identifier: Apache-2.0
/* `$include` (protocol page 2.2): a key of a map whose value names one file or
 * several, relative to the including one. What stands beside it is merged into
 * what they hold, so the including file wins. A map that holds nothing else may
 * be replaced by any value; as an item of a list, an included list takes its
 * place item by item. */
#include "settings/reading.h"

#include <string.h>

#define INCLUDE_KEY "$include"

static bool is_open(const struct reading *reading, const char *path)
{
	for (unsigned i = 0; i < reading->open_count; i++) {
		if (!strcmp(reading->open_files[i], path))
			return true;
	}
	return false;
}

static struct setting *include_file(struct reading *reading, const struct setting *site, const char *path)
{
	struct arena *arena = &reading->tree->arena;
	const char *name = site->string, *target, *file;

	if (site->type != SETTING_STRING) {
		reading_error(reading, site->file, site->line, INCLUDE_KEY " needs a path or a list of paths, not %s",
			      setting_type_name(site->type));
		return NULL;
	}
	if (*name == '/') {
		reading_error(reading, site->file, site->line, INCLUDE_KEY " takes relative paths only: %s", name);
		return NULL;
	}
	if (!path_is_settings_file(name)) {
		reading_error(reading, site->file, site->line, INCLUDE_KEY " takes .yml and .json files only: %s",
			      name);
		return NULL;
	}
	target = path_join(arena, path_directory(arena, path), name);
	file = path_join(arena, path_directory(arena, site->file), name);
	if (is_open(reading, target)) {
		reading_error(reading, site->file, site->line, "%s includes itself, over %u files", file,
			      reading->open_count);
		return NULL;
	}
	return file_process(reading, file, target, site);
}

/* All files of one `$include`, merged in order. */
static struct setting *include_files(struct reading *reading, const struct setting *value, const char *path)
{
	struct setting *result = NULL;

	if (value->type != SETTING_LIST)
		return include_file(reading, value, path);
	if (!value->count)
		return setting_create(reading, SETTING_NULL, value->file, value->line);
	for (size_t i = 0; i < value->count; i++) {
		struct setting *next = include_file(reading, value->items[i], path);

		if (!next)
			return NULL;
		result = result ? settings_merge(reading, result, next) : next;
	}
	return result;
}

static struct setting *expand_map(struct reading *reading, struct setting *map, const char *path)
{
	long index = setting_find(map, INCLUDE_KEY);
	struct setting *value = NULL, *included;

	if (index >= 0) {
		value = map->items[index];
		setting_remove(map, (size_t)index);
	}
	for (size_t i = 0; i < map->count; i++)
		map->items[i] = includes_expand(reading, map->items[i], path);
	if (!value)
		return map;
	included = include_files(reading, value, path);
	if (!included)
		return map; /* was reported; what else is wrong is still looked for */
	if (!map->count)
		return included;
	if (included->type != SETTING_MAP && included->type != SETTING_NULL) {
		reading_error(reading, value->file, value->line,
			      "the included file holds %s, but a map with other keys can only include maps",
			      setting_type_name(included->type));
		return map;
	}
	if (included->type == SETTING_NULL)
		return map;
	included->file = map->file; /* what it lacks can be added here */
	included->line = map->line;
	return settings_merge(reading, included, map);
}

static struct setting *expand_list(struct reading *reading, struct setting *list, const char *path)
{
	struct setting *result = setting_create(reading, SETTING_LIST, list->file, list->line);

	if (!result)
		return list;
	for (size_t i = 0; i < list->count; i++) {
		struct setting *item = list->items[i];
		bool is_include = item->type == SETTING_MAP && item->count == 1 && !strcmp(item->keys[0], INCLUDE_KEY);

		item = includes_expand(reading, item, path);
		if (is_include && item->type == SETTING_LIST)
			settings_merge(reading, result, item);
		else
			setting_append(reading, result, NULL, item);
	}
	return result;
}

struct setting *includes_expand(struct reading *reading, struct setting *node, const char *path)
{
	if (node->type == SETTING_MAP)
		return expand_map(reading, node, path);
	if (node->type == SETTING_LIST)
		return expand_list(reading, node, path);
	return node;
}
