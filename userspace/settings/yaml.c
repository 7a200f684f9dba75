// SPDX-License-Identifier: Apache-2.0
/* YAML files through libyaml, with the line of every value.
 *
 * Unquoted scalars mean what they mean to the readers of the existing
 * installations (YAML 1.1): yes, no, on, off, y and n are booleans, numbers may
 * have 0x, 0o, 0b, a leading 0 (octal) and underscores. What those read as a
 * date stays text here. Anchors, aliases and merge keys work; an alias is a
 * copy, because later steps change nodes in place. Only the first document of
 * a file is read. */
#include "settings/reading.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct anchor {
	struct anchor *next;
	const char *name;
	struct setting *node; /* NULL while it is being read */
};

struct composer {
	struct reading *reading;
	const char *file;
	yaml_parser_t parser;
	struct anchor *anchors;
	unsigned depth;
};

static bool word_is(const char *text, const char *words)
{
	size_t length = strlen(text);

	for (const char *p = words; *p; p += strcspn(p, " "), p += *p == ' ') {
		if (strcspn(p, " ") == length && !memcmp(p, text, length))
			return true;
	}
	return false;
}

/* Whole numbers in any base that the prefix names. 0, or -ERANGE, -EINVAL. */
static int parse_whole(const char *text, int64_t *value)
{
	bool negative = *text == '-';
	unsigned long long magnitude;
	int base = 10;
	char *end;

	if (*text == '-' || *text == '+')
		text++;
	if (text[0] == '0' && text[1]) {
		switch (text[1] | 0x20) {
		case 'x':
			base = 16;
			text += 2;
			break;
		case 'b':
			base = 2;
			text += 2;
			break;
		case 'o':
			base = 8;
			text += 2;
			break;
		default:
			base = 8;
			text++;
		}
	}
	if (!isxdigit((unsigned char)*text)) /* strtoull would take blanks and signs */
		return -EINVAL;
	errno = 0;
	magnitude = strtoull(text, &end, base);
	/* "0x0x1": strtoull takes the prefix a second time */
	if (*end || (base == 16 && text[0] == '0' && (text[1] | 0x20) == 'x'))
		return -EINVAL;
	if (errno || magnitude > (unsigned long long)INT64_MAX + negative)
		return -ERANGE;
	*value = negative ? (int64_t)-magnitude : (int64_t)magnitude;
	return 0;
}

/* [-+]? ( .digits | digits [.digits?] ) [ [eE] [-+]? digits ] */
static bool looks_like_float(const char *text)
{
	size_t before, after = 0;

	text += *text == '-' || *text == '+';
	before = strspn(text, "0123456789");
	text += before;
	if (*text == '.') {
		after = strspn(++text, "0123456789");
		text += after;
	}
	if (!before && !after)
		return false;
	if ((*text | 0x20) == 'e') {
		text++;
		text += *text == '-' || *text == '+';
		if (!isdigit((unsigned char)*text))
			return false;
		text += strspn(text, "0123456789");
	}
	return !*text;
}

static bool resolve_number(struct setting *node, const char *text)
{
	char plain[128];
	size_t length = 0;

	for (; *text && length < sizeof(plain) - 1; text++) {
		if (*text != '_')
			plain[length++] = *text;
	}
	plain[length] = 0;
	if (*text)
		return false;
	if (!parse_whole(plain, &node->integer)) {
		node->type = SETTING_INT;
		return true;
	}
	if (!looks_like_float(plain))
		return false;
	node->type = SETTING_FLOAT;
	node->real = strtod(plain, NULL);
	return true;
}

void yaml_resolve_plain(struct reading *reading, struct setting *node, const char *text, size_t length)
{
	char *copy = arena_copy(&reading->tree->arena, text, length);
	char first = copy[0];

	if (!first || word_is(copy, "~ null Null NULL")) {
		node->type = SETTING_NULL;
	} else if (word_is(copy, "y Y yes Yes YES true True TRUE on On ON")) {
		node->type = SETTING_BOOL;
		node->boolean = true;
	} else if (word_is(copy, "n N no No NO false False FALSE off Off OFF")) {
		node->type = SETTING_BOOL;
		node->boolean = false;
	} else if (word_is(copy, ".inf .Inf .INF +.inf +.Inf +.INF -.inf -.Inf -.INF")) {
		node->type = SETTING_FLOAT;
		node->real = first == '-' ? -INFINITY : INFINITY;
	} else if (word_is(copy, ".nan .NaN .NAN")) {
		node->type = SETTING_FLOAT;
		node->real = NAN;
	} else if (!memchr("+-.0123456789", first, 13) || !resolve_number(node, copy)) {
		node->type = SETTING_STRING;
		node->string = copy;
	}
}

static unsigned mark_line(const yaml_mark_t *mark)
{
	return (unsigned)mark->line + 1;
}

static bool next_event(struct composer *composer, yaml_event_t *event)
{
	yaml_parser_t *parser = &composer->parser;

	if (yaml_parser_parse(parser, event))
		return true;
	if (parser->error == YAML_READER_ERROR) /* has no mark */
		reading_error(composer->reading, composer->file, 0, "not readable as YAML: %s at byte %zu",
			      parser->problem, parser->problem_offset);
	else
		reading_error(composer->reading, composer->file, mark_line(&parser->problem_mark),
			      "not readable as YAML: %s%s%s", parser->problem ? parser->problem : "no memory",
			      parser->context ? ", " : "", parser->context ? parser->context : "");
	return false;
}

/* Remembers an anchor before its node is read: an alias to it from inside
 * finds it without a node. */
static struct anchor *add_anchor(struct composer *composer, const yaml_char_t *name)
{
	struct arena *arena = &composer->reading->tree->arena;
	struct anchor *anchor;

	if (!name)
		return NULL;
	anchor = arena_alloc(arena, sizeof(*anchor));
	anchor->name = arena_copy(arena, (const char *)name, strlen((const char *)name));
	anchor->next = composer->anchors;
	composer->anchors = anchor;
	return anchor;
}

static struct setting *compose_alias(struct composer *composer, const yaml_event_t *event)
{
	const char *name = (const char *)event->data.alias.anchor;
	unsigned line = mark_line(&event->start_mark);

	for (struct anchor *anchor = composer->anchors; anchor; anchor = anchor->next) {
		if (strcmp(anchor->name, name))
			continue;
		if (anchor->node)
			return setting_copy(composer->reading, anchor->node);
		reading_error(composer->reading, composer->file, line, "the alias *%s stands inside its own anchor",
			      name);
		return NULL;
	}
	reading_error(composer->reading, composer->file, line, "no anchor before the alias *%s", name);
	return NULL;
}

static struct setting *compose_scalar(struct composer *composer, const yaml_event_t *event)
{
	static const char prefix[] = "tag:yaml.org,2002:";
	const char *text = (const char *)event->data.scalar.value, *tag = (const char *)event->data.scalar.tag;
	size_t length = event->data.scalar.length;
	unsigned line = mark_line(&event->start_mark);
	struct setting *node = setting_create(composer->reading, SETTING_STRING, composer->file, line);
	bool fits = true;

	if (!node)
		return NULL;
	if (memchr(text, 0, length)) {
		reading_error(composer->reading, composer->file, line, "a text holds a zero byte");
		return NULL;
	}
	if (tag && !strncmp(tag, prefix, sizeof(prefix) - 1))
		tag += sizeof(prefix) - 1;
	if (tag ? !strcmp(tag, "str") || !strcmp(tag, "!") : !event->data.scalar.plain_implicit) {
		node->string = arena_copy(&composer->reading->tree->arena, text, length);
		return node;
	}
	yaml_resolve_plain(composer->reading, node, text, length);
	if (!tag)
		return node;
	if (!strcmp(tag, "float") && node->type == SETTING_INT) {
		node->type = SETTING_FLOAT;
		node->real = (double)node->integer;
	} else if (!strcmp(tag, "int")) {
		fits = node->type == SETTING_INT;
	} else if (!strcmp(tag, "float")) {
		fits = node->type == SETTING_FLOAT;
	} else if (!strcmp(tag, "bool")) {
		fits = node->type == SETTING_BOOL;
	} else if (!strcmp(tag, "null")) {
		fits = node->type == SETTING_NULL;
	} else {
		reading_error(composer->reading, composer->file, line, "the tag '%s' is not known", tag);
		return NULL;
	}
	if (!fits) {
		reading_error(composer->reading, composer->file, line, "the value does not fit its tag '%s'", tag);
		return NULL;
	}
	return node;
}

static struct setting *compose(struct composer *composer, yaml_event_t *event);

/* Reads the next node; NULL at the end of the collection (*ended) or after a
 * report. With `is_merge` it is a key: an unquoted one such as 5, on or y means
 * its text, whatever else YAML 1.1 takes it for. */
static struct setting *compose_next(struct composer *composer, bool *ended, bool *is_merge)
{
	struct setting *node = NULL;
	yaml_event_t event;

	*ended = false;
	if (!next_event(composer, &event))
		return NULL;
	if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT)
		*ended = true;
	else
		node = compose(composer, &event);
	if (node && is_merge && event.type == YAML_SCALAR_EVENT && *event.data.scalar.value) {
		const char *text = (const char *)event.data.scalar.value;

		*is_merge = event.data.scalar.plain_implicit && !strcmp(text, "<<");
		node->type = SETTING_STRING;
		node->string = arena_copy(&composer->reading->tree->arena, text, strlen(text));
	}
	yaml_event_delete(&event);
	return node;
}

/* Adds what a merge key brings: members that the map does not have. */
static bool merge_members(struct composer *composer, struct setting *map, const struct setting *source)
{
	if (source->type == SETTING_LIST) {
		for (size_t i = 0; i < source->count; i++) {
			if (source->items[i]->type != SETTING_MAP || !merge_members(composer, map, source->items[i]))
				goto bad;
		}
		return true;
	}
	if (source->type != SETTING_MAP)
		goto bad;
	for (size_t i = 0; i < source->count; i++) {
		if (setting_find(map, source->keys[i]) < 0)
			setting_append(composer->reading, map, source->keys[i], source->items[i]);
	}
	return true;
bad:
	reading_error(composer->reading, source->file, source->line, "'<<' needs a map or a list of maps");
	return false;
}

static bool compose_members(struct composer *composer, struct setting *map)
{
	struct setting *merges = NULL;
	bool ended;

	for (;;) {
		bool is_merge = false;
		struct setting *key = compose_next(composer, &ended, &is_merge), *value;

		if (ended)
			break;
		if (!key)
			return false;
		value = compose_next(composer, &ended, NULL);
		if (!value)
			return false;
		if (key->type != SETTING_STRING) {
			reading_error(composer->reading, key->file, key->line,
				      "a key must be text, this one is %s", setting_type_name(key->type));
			return false;
		}
		if (is_merge) {
			if (!merges)
				merges = setting_create(composer->reading, SETTING_LIST, key->file, key->line);
			if (!merges)
				return false;
			setting_append(composer->reading, merges, NULL, value);
			continue;
		}
		if (setting_find(map, key->string) >= 0)
			reading_warning(composer->reading, key->file, key->line,
					"the key '%s' is here a second time, this one counts", key->string);
		setting_put(composer->reading, map, key->string, value);
	}
	for (size_t i = 0; merges && i < merges->count; i++) {
		if (!merge_members(composer, map, merges->items[i]))
			return false;
	}
	return true;
}

static bool compose_items(struct composer *composer, struct setting *list)
{
	bool ended;

	for (;;) {
		struct setting *item = compose_next(composer, &ended, NULL);

		if (ended)
			return true;
		if (!item)
			return false;
		setting_append(composer->reading, list, NULL, item);
	}
}

static struct setting *compose(struct composer *composer, yaml_event_t *event)
{
	unsigned line = mark_line(&event->start_mark);
	struct setting *node = NULL;
	struct anchor *anchor = NULL;

	if (event->type == YAML_ALIAS_EVENT)
		return compose_alias(composer, event);
	if (event->type == YAML_SCALAR_EVENT) {
		anchor = add_anchor(composer, event->data.scalar.anchor);
		node = compose_scalar(composer, event);
	} else if (event->type == YAML_MAPPING_START_EVENT || event->type == YAML_SEQUENCE_START_EVENT) {
		bool is_map = event->type == YAML_MAPPING_START_EVENT, ok;

		if (composer->depth == MOST_NESTED_NODES) {
			reading_error(composer->reading, composer->file, line, "more than %d levels",
				      MOST_NESTED_NODES);
			return NULL;
		}
		anchor = add_anchor(composer, is_map ? event->data.mapping_start.anchor :
						       event->data.sequence_start.anchor);
		node = setting_create(composer->reading, is_map ? SETTING_MAP : SETTING_LIST, composer->file, line);
		if (!node)
			return NULL;
		composer->depth++;
		ok = is_map ? compose_members(composer, node) : compose_items(composer, node);
		composer->depth--;
		if (!ok)
			return NULL;
	}
	if (anchor)
		anchor->node = node;
	return node;
}

/* Events up to the first document's node, the node, and what follows it. */
static struct setting *compose_document(struct composer *composer)
{
	struct setting *root = NULL;

	for (;;) {
		yaml_event_t event;
		yaml_event_type_t type;

		if (!next_event(composer, &event))
			return NULL;
		type = event.type;
		if (type == YAML_DOCUMENT_START_EVENT && root) {
			reading_warning(composer->reading, composer->file, mark_line(&event.start_mark),
					"only the first document of a file is read");
			yaml_event_delete(&event);
			return root;
		}
		if (type == YAML_ALIAS_EVENT || type == YAML_SCALAR_EVENT || type == YAML_MAPPING_START_EVENT ||
		    type == YAML_SEQUENCE_START_EVENT) {
			root = compose(composer, &event);
			yaml_event_delete(&event);
			if (!root)
				return NULL;
			continue;
		}
		yaml_event_delete(&event);
		if (type == YAML_STREAM_END_EVENT || type == YAML_NO_EVENT)
			return root ? root : setting_create(composer->reading, SETTING_NULL, composer->file, 1);
	}
}

struct setting *yaml_file_parse(struct reading *reading, const char *file, const char *text, size_t length)
{
	struct composer composer = { .reading = reading, .file = file };
	struct setting *root;

	if (!yaml_parser_initialize(&composer.parser)) {
		reading_error(reading, file, 0, "no memory");
		return NULL;
	}
	yaml_parser_set_input_string(&composer.parser, (const unsigned char *)text, length);
	root = compose_document(&composer);
	yaml_parser_delete(&composer.parser);
	return root;
}
