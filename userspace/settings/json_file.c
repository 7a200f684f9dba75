// SPDX-License-Identifier: Apache-2.0
/* JSON files. jansson reads and checks the text, but keeps no lines; so the
 * text, known to be right by then, is walked once more beside jansson's value,
 * whose members stand in the order of the text, only to count lines. */
#include "settings/reading.h"

#include <string.h>

struct walk {
	struct reading *reading;
	const char *file;
	const char *text, *end;
	unsigned line, depth;
};

static void skip_blanks(struct walk *walk)
{
	for (; walk->text < walk->end && memchr(" \t\r\n", *walk->text, 4); walk->text++)
		walk->line += *walk->text == '\n';
}

/* A string, number, or word; a string has no raw line breaks. */
static void skip_scalar(struct walk *walk)
{
	skip_blanks(walk);
	if (walk->text < walk->end && *walk->text == '"') {
		for (walk->text++; walk->text < walk->end && *walk->text != '"'; walk->text++)
			walk->text += *walk->text == '\\';
		walk->text++;
		return;
	}
	while (walk->text < walk->end && !memchr(" \t\r\n,:]}", *walk->text, 8))
		walk->text++;
}

static void skip_mark(struct walk *walk)
{
	skip_blanks(walk);
	walk->text++;
}

static struct setting *walk_value(struct walk *walk, json_t *value);

static bool walk_members(struct walk *walk, json_t *value, struct setting *node)
{
	const char *key;
	json_t *member;
	size_t index;

	skip_mark(walk); /* the opening bracket */
	if (node->type == SETTING_MAP) {
		json_object_foreach(value, key, member) {
			struct setting *item;

			skip_scalar(walk);
			skip_mark(walk); /* colon */
			item = walk_value(walk, member);
			if (!item)
				return false;
			setting_append(walk->reading, node, key, item);
			skip_mark(walk); /* comma, or the closing bracket */
		}
	} else {
		json_array_foreach(value, index, member) {
			struct setting *item = walk_value(walk, member);

			if (!item)
				return false;
			setting_append(walk->reading, node, NULL, item);
			skip_mark(walk);
		}
	}
	if (!node->count)
		skip_mark(walk);
	return true;
}

static struct setting *walk_value(struct walk *walk, json_t *value)
{
	struct setting *node;

	skip_blanks(walk);
	node = setting_create(walk->reading, SETTING_NULL, walk->file, walk->line);
	if (!node)
		return NULL;
	if (json_is_object(value) || json_is_array(value)) {
		if (walk->depth == MOST_NESTED_NODES) {
			reading_error(walk->reading, walk->file, walk->line, "more than %d levels", MOST_NESTED_NODES);
			return NULL;
		}
		node->type = json_is_object(value) ? SETTING_MAP : SETTING_LIST;
		walk->depth++;
		if (!walk_members(walk, value, node))
			return NULL;
		walk->depth--;
		return node;
	}
	skip_scalar(walk);
	if (json_is_string(value)) {
		node->type = SETTING_STRING;
		node->string = arena_copy(&walk->reading->tree->arena, json_string_value(value),
					  json_string_length(value));
	} else if (json_is_number(value)) {
		node->type = SETTING_FLOAT;
		node->real = json_number_value(value);
	} else if (json_is_boolean(value)) {
		node->type = SETTING_BOOL;
		node->boolean = json_is_true(value);
	}
	return node;
}

struct setting *json_file_parse(struct reading *reading, const char *file, const char *text, size_t length)
{
	struct walk walk = { .reading = reading, .file = file, .text = text, .end = text + length, .line = 1 };
	struct setting *root;
	json_error_t error;
	json_t *value = json_loadb(text, length, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES,
				   &error);

	if (!value) {
		/* what stands near the fault may be a secret */
		reading_error(reading, file, error.line > 0 ? (unsigned)error.line : 0, "not readable as JSON: %.*s",
			      (int)(strstr(error.text, " near ") ? strstr(error.text, " near ") - error.text :
								   (long)strlen(error.text)),
			      error.text);
		return NULL;
	}
	root = walk_value(&walk, value);
	json_decref(value);
	return root;
}
