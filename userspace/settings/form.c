// SPDX-License-Identifier: Apache-2.0
/* The engine behind the tables of form.h: walks a map along its shape and
 * keeps the dotted path for messages. An object and its tree are freed
 * together; the object lies in the tree's arena behind a small head. */
#include "settings/form.h"

#include "base/cleanup.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct owned {
	struct settings_tree *tree;
	_Alignas(max_align_t) char object[];
};

void form_error(struct form *form, const struct setting *node, const char *format, ...)
{
	_free_ char *text = NULL;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	va_end(arguments);
	reading_error(form->reading, node->file, node->line, "%s%s%s", form->path, *form->path ? ": " : "",
		      text ? text : format);
}

void form_refuse_type(struct form *form, const struct setting *node, const char *wanted)
{
	form_error(form, node, "must be %s, not %s", wanted, setting_type_name(node->type));
}

static size_t add_to_path(struct form *form, const char *format, const char *key, size_t index)
{
	size_t mark = strlen(form->path);

	if (key)
		snprintf(form->path + mark, sizeof(form->path) - mark, "%s%s", format, key);
	else
		snprintf(form->path + mark, sizeof(form->path) - mark, "[%zu]", index);
	return mark;
}

size_t form_enter(struct form *form, const char *key)
{
	return add_to_path(form, *form->path ? "." : "", key, 0);
}

size_t form_enter_item(struct form *form, size_t index)
{
	return add_to_path(form, "", NULL, index);
}

void form_leave(struct form *form, size_t mark)
{
	form->path[mark] = 0;
}

static bool is_absent(const struct setting *value)
{
	return !value || value->type == SETTING_NULL || (value->type == SETTING_STRING && !*value->string);
}

/* A value that stands for what a key says when it is absent. */
static void fill_fallback(struct form *form, const struct form_field *field, void *target)
{
	if (field->read == read_text || field->read == read_bind_address) {
		if (field->fallback_text)
			*(char **)target = arena_copy(&form->reading->tree->arena, field->fallback_text,
						      strlen(field->fallback_text));
	} else if (field->read == read_flag || field->read == read_inverse_flag) {
		*(bool *)target = field->fallback != 0;
	} else if (field->read == read_count) {
		*(unsigned *)target = (unsigned)field->fallback;
	} else if (field->read == read_seconds) {
		*(unsigned *)target = (unsigned)(field->fallback * 1000);
	} else if (field->read == read_large_count || field->read == read_size) {
		*(uint64_t *)target = (uint64_t)field->fallback;
	} else if (field->read == read_map) {
		form_fill(form, NULL, field->shape, target);
	}
}

static void warn_of_unknown_keys(struct form *form, const struct setting *map, const struct form_shape *shape)
{
	for (size_t i = 0; i < map->count; i++) {
		const struct form_field *field = shape->fields;

		while (field->key && strcmp(field->key, map->keys[i]))
			field++;
		if (!field->key && strcmp(map->keys[i], "_vars"))
			reading_warning(form->reading, map->items[i]->file, map->items[i]->line,
					"%s%sthe key '%s' is not known", form->path, *form->path ? ": " : "",
					map->keys[i]);
	}
}

void form_fill(struct form *form, const struct setting *map, const struct form_shape *shape, void *object)
{
	if (map && map->type != SETTING_MAP) {
		form_refuse_type(form, map, "a map");
		map = NULL;
	} else if (map) {
		warn_of_unknown_keys(form, map, shape);
	}
	for (const struct form_field *field = shape->fields; field->key; field++) {
		const struct setting *value = map ? setting_child(map, field->key) : NULL;
		void *target = (char *)object + field->offset;

		if (!field->read)
			continue;
		if (!is_absent(value)) {
			size_t mark = form_enter(form, field->key);

			field->read(form, value, field, target);
			form_leave(form, mark);
			continue;
		}
		if (map && field->required)
			form_error(form, map, "the key '%s' is missing", field->key);
		fill_fallback(form, field, target);
	}
	if (map && shape->check)
		shape->check(form, map, object);
}

void *form_load_tree(struct settings_tree *tree, settings_report report, void *context, const struct form_shape *shape)
{
	struct reading reading = { .tree = tree, .report = report ? report : settings_report_to_log,
				   .context = context };
	struct form form = { .reading = &reading };
	struct owned *owned = arena_alloc(&tree->arena, sizeof(*owned) + shape->size);

	owned->tree = tree;
	form_fill(&form, tree->root, shape, owned->object);
	if (!reading.errors)
		return owned->object;
	settings_tree_free(tree);
	return NULL;
}

void *form_load(const char *search_path, settings_report report, void *context, const struct form_shape *shape)
{
	struct settings_tree *tree;

	if (settings_tree_load(search_path, report, context, &tree))
		return NULL;
	return form_load_tree(tree, report, context, shape);
}

void form_free(void *object)
{
	if (object)
		settings_tree_free(((struct owned *)(void *)((char *)object - offsetof(struct owned, object)))->tree);
}
