// SPDX-License-Identifier: Apache-2.0
/* The nodes of a settings tree: making, looking up, copying, and their form as
 * JSON. A node keeps the file and line where its value was written, through
 * every copy and merge. */
#include "settings/reading.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"

void settings_report_to_log(bool is_error, const char *file, unsigned line, const char *text, void *context)
{
	enum log_level level = is_error ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING;

	(void)context;
	if (file && line)
		log_write(level, "settings: %s:%u: %s", file, line, text);
	else if (file)
		log_write(level, "settings: %s: %s", file, text);
	else
		log_write(level, "settings: %s", text);
}

__attribute__((format(printf, 5, 0))) static void report(struct reading *reading, bool is_error, const char *file,
							 unsigned line, const char *format, va_list arguments)
{
	_free_ char *text = NULL;

	if (is_error)
		reading->errors++;
	else
		reading->warnings++;
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	reading->report(is_error, file, line, text ? text : format, reading->context);
}

void reading_error(struct reading *reading, const char *file, unsigned line, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	report(reading, true, file, line, format, arguments);
	va_end(arguments);
}

void reading_warning(struct reading *reading, const char *file, unsigned line, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	report(reading, false, file, line, format, arguments);
	va_end(arguments);
}

struct setting *setting_create(struct reading *reading, enum setting_type type, const char *file, unsigned line)
{
	struct setting *node;

	if (reading->nodes == MOST_NODES) {
		reading_error(reading, file, line, "more than %d values, aliases and references counted each time",
			      MOST_NODES);
		reading->nodes++; /* said once is enough */
	}
	if (reading->nodes > MOST_NODES)
		return NULL;
	reading->nodes++;
	node = arena_alloc(&reading->tree->arena, sizeof(*node));
	node->type = type;
	node->file = file;
	node->line = line;
	return node;
}

/* Arrays double whenever the count is a power of two: the count is all there
 * is to remember. */
static void *grown(struct arena *arena, void *array, size_t count)
{
	void *larger;

	if (count & (count - 1))
		return array;
	larger = arena_alloc(arena, (count ? count * 2 : 1) * sizeof(void *));
	if (count)
		memcpy(larger, array, count * sizeof(void *));
	return larger;
}

void setting_append(struct reading *reading, struct setting *parent, const char *key, struct setting *item)
{
	struct arena *arena = &reading->tree->arena;

	if (parent->type == SETTING_MAP && parent->count >= MOST_KEYS) {
		if (reading->nodes <= MOST_NODES)
			reading_error(reading, item->file, item->line, "more than %d keys in one map", MOST_KEYS);
		reading->nodes = MOST_NODES + 1; /* nothing more is read, and said once is enough */
		return;
	}
	parent->items = grown(arena, parent->items, parent->count);
	parent->items[parent->count] = item;
	if (parent->type == SETTING_MAP) {
		parent->keys = grown(arena, parent->keys, parent->count);
		parent->keys[parent->count] = arena_copy(arena, key, strlen(key));
	}
	parent->count++;
}

long setting_find(const struct setting *map, const char *key)
{
	for (size_t i = 0; map->type == SETTING_MAP && i < map->count; i++) {
		if (!strcmp(map->keys[i], key))
			return (long)i;
	}
	return -1;
}

void setting_put(struct reading *reading, struct setting *map, const char *key, struct setting *item)
{
	long index = setting_find(map, key);

	if (index < 0)
		setting_append(reading, map, key, item);
	else
		map->items[index] = item;
}

void setting_remove(struct setting *map, size_t index)
{
	size_t behind = map->count - index - 1;

	/* A count that falls below a power of two makes the next growth copy the
	 * array once more, which is all that happens. */
	memmove(&map->items[index], &map->items[index + 1], behind * sizeof(map->items[0]));
	if (map->keys)
		memmove(&map->keys[index], &map->keys[index + 1], behind * sizeof(map->keys[0]));
	map->count--;
}

struct setting *setting_copy(struct reading *reading, const struct setting *node)
{
	struct setting *copy = setting_create(reading, node->type, node->file, node->line);

	if (!copy)
		return NULL;
	if (node->type != SETTING_MAP && node->type != SETTING_LIST) {
		*copy = *node;
		return copy;
	}
	for (size_t i = 0; i < node->count; i++) {
		struct setting *item = setting_copy(reading, node->items[i]);

		if (!item)
			return NULL;
		setting_append(reading, copy, node->keys ? node->keys[i] : NULL, item);
	}
	return copy;
}

const char *setting_type_name(enum setting_type type)
{
	static const char *const names[] = {
		[SETTING_NULL] = "nothing",  [SETTING_BOOL] = "true or false", [SETTING_INT] = "a whole number",
		[SETTING_FLOAT] = "a number", [SETTING_STRING] = "text",	       [SETTING_LIST] = "a list",
		[SETTING_MAP] = "a map",
	};

	return names[type];
}

const struct setting *settings_tree_root(const struct settings_tree *tree)
{
	return tree->root;
}

const struct setting *setting_child(const struct setting *map, const char *key)
{
	long index = map ? setting_find(map, key) : -1;

	return index < 0 ? NULL : map->items[index];
}

static json_t *members_to_json(const struct setting *node)
{
	json_t *result = node->type == SETTING_MAP ? json_object() : json_array();

	for (size_t i = 0; result && i < node->count; i++) {
		json_t *item = setting_to_json(node->items[i]);
		int error = node->type == SETTING_MAP ? json_object_set_new(result, node->keys[i], item) :
							json_array_append_new(result, item);

		if (error) {
			json_decref(result);
			result = NULL;
		}
	}
	return result;
}

json_t *setting_to_json(const struct setting *node)
{
	switch (node->type) {
	case SETTING_NULL:
		return json_null();
	case SETTING_BOOL:
		return json_boolean(node->boolean);
	case SETTING_INT:
		/* every number of a map is a double on the wire: see base/json.h */
		return json_real((double)node->integer);
	case SETTING_FLOAT:
		return json_real(node->real);
	case SETTING_STRING:
		return json_string(node->string);
	case SETTING_LIST:
	case SETTING_MAP:
		return members_to_json(node);
	}
	return NULL;
}
