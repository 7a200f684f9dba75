// SPDX-License-Identifier: Apache-2.0
/* `vars` and `$NAME` (protocol page 2.2). The variables of a file hold for
 * the text values of this file alone; an included file brings its own. PATH and
 * DIR are always there, without the leading slash: files write "/$DIR/…".
 *
 * "$NAME" alone takes the variable's value with its type; inside a longer text
 * its value is put in as text. "$$" is a dollar sign. A value that was put in
 * is not looked through again. Values may be secret: no message shows one. */
#include "base/cleanup.h"
#include "base/json.h"
#include "settings/reading.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

struct variables {
	struct reading *reading;
	const char *file;
	struct setting *values; /* a map of name -> value */
};

static const char *text_of(struct reading *reading, const struct setting *entry, const char *name, const char *key,
			   bool required)
{
	const struct setting *value = setting_child(entry, key);

	if (value && value->type == SETTING_STRING)
		return value->string;
	if (value && value->type != SETTING_NULL)
		reading_error(reading, value->file, value->line, "vars.%s.%s: must be text, not %s", name, key,
			      setting_type_name(value->type));
	else if (required)
		reading_error(reading, entry->file, entry->line, "vars.%s: the key '%s' is missing", name, key);
	return NULL;
}

static bool flag_of(struct reading *reading, const struct setting *entry, const char *name, const char *key)
{
	const struct setting *value = setting_child(entry, key);

	if (value && value->type == SETTING_BOOL)
		return value->boolean;
	if (value && value->type != SETTING_NULL)
		reading_error(reading, value->file, value->line, "vars.%s.%s: must be true or false, not %s", name,
			      key, setting_type_name(value->type));
	return false;
}

static struct setting *new_text(struct reading *reading, const struct setting *entry, const char *text)
{
	struct setting *node = setting_create(reading, SETTING_STRING, entry->file, entry->line);

	if (node)
		node->string = arena_copy(&reading->tree->arena, text, strlen(text));
	return node;
}

static struct setting *ask(struct reading *reading, const struct setting *entry, const char *name)
{
	bool sensitive = flag_of(reading, entry, name, "sensitive");
	struct termios plain, silent;
	struct setting *node = NULL;
	_free_ char *line = NULL;
	size_t capacity = 0;
	ssize_t length;

	sensitive = sensitive && !tcgetattr(STDIN_FILENO, &plain);
	if (sensitive) {
		silent = plain;
		silent.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
	}
	fprintf(stderr, "%s: ", name);
	length = getline(&line, &capacity, stdin);
	if (sensitive) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &plain);
		fputc('\n', stderr);
	}
	if (length < 0) {
		reading_error(reading, entry->file, entry->line, "vars.%s: nothing was entered", name);
	} else {
		while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
			line[--length] = 0;
		node = new_text(reading, entry, line);
	}
	if (line)
		explicit_bzero(line, capacity);
	return node;
}

/* The value before its type is looked at; NULL after a report. */
static struct setting *raw_value(struct reading *reading, const struct setting *entry, const char *name)
{
	const char *source = text_of(reading, entry, name, "source", true), *variable, *found;
	const struct setting *value;

	if (!source)
		return NULL;
	if (!strcmp(source, "prompt"))
		return ask(reading, entry, name);
	if (!strcmp(source, "literal")) {
		value = setting_child(entry, "value");
		if (value)
			return setting_copy(reading, value);
		reading_error(reading, entry->file, entry->line, "vars.%s: the key 'value' is missing", name);
		return NULL;
	}
	if (strcmp(source, "env")) {
		reading_error(reading, entry->file, entry->line,
			      "vars.%s.source: must be env, literal or prompt, not '%s'", name, source);
		return NULL;
	}
	variable = text_of(reading, entry, name, "variable", true);
	if (!variable)
		return NULL;
	found = getenv(variable);
	if (found)
		return new_text(reading, entry, found);
	value = setting_child(entry, "default");
	if (value)
		return setting_copy(reading, value);
	if (flag_of(reading, entry, name, "required")) {
		reading_error(reading, entry->file, entry->line,
			      "vars.%s: the environment variable %s is not set, and it is required", name, variable);
		return NULL;
	}
	return setting_create(reading, SETTING_NULL, entry->file, entry->line);
}

/* Takes a number, or a text that is one. */
static bool to_number(struct setting *node, bool whole)
{
	double real;
	char *end;

	if (node->type == SETTING_STRING) {
		const char *text = node->string;

		if (!*text || strspn(text, "+-.0123456789eE") != strlen(text))
			return false;
		if (whole) {
			long long value;

			errno = 0;
			value = strtoll(text, &end, 10);
			if (errno || *end)
				return false;
			node->type = SETTING_INT;
			node->integer = value;
			return true;
		}
		real = strtod(text, &end);
		if (*end)
			return false;
		node->type = SETTING_FLOAT;
		node->real = real;
	}
	if (whole && node->type == SETTING_FLOAT) {
		if (node->real != trunc(node->real) || fabs(node->real) >= 9223372036854775808.0)
			return false;
		real = node->real;
		node->type = SETTING_INT;
		node->integer = (int64_t)real;
	} else if (!whole && node->type == SETTING_INT) {
		real = (double)node->integer;
		node->type = SETTING_FLOAT;
		node->real = real;
	}
	return node->type == (whole ? SETTING_INT : SETTING_FLOAT);
}

static void swallow(bool is_error, const char *file, unsigned line, const char *text, void *context)
{
	(void)is_error, (void)file, (void)line, (void)text, (void)context;
}

static void relocate(struct setting *node, unsigned line)
{
	node->line = line;
	for (size_t i = 0; (node->type == SETTING_MAP || node->type == SETTING_LIST) && i < node->count; i++)
		relocate(node->items[i], line);
}

/* A text that is JSON or YAML. */
static struct setting *parse_text(struct reading *reading, const struct setting *node, bool is_json)
{
	struct reading inner = *reading;
	struct setting *value;

	if (node->type != SETTING_STRING)
		return NULL;
	inner.report = swallow; /* a reader's complaint may show a secret */
	inner.errors = 0;
	value = is_json ? json_file_parse(&inner, node->file, node->string, strlen(node->string)) :
			  yaml_file_parse(&inner, node->file, node->string, strlen(node->string));
	reading->nodes = inner.nodes;
	if (value)
		relocate(value, node->line);
	return value;
}

/* NULL if the value is not of the type. */
static struct setting *typed_value(struct reading *reading, struct setting *node, const char *type)
{
	if (node->type == SETTING_NULL || !strcmp(type, "any"))
		return node;
	if (!strcmp(type, "string"))
		return node->type == SETTING_STRING ? node : NULL;
	if (!strcmp(type, "int") || !strcmp(type, "float"))
		return to_number(node, *type == 'i') ? node : NULL;
	return parse_text(reading, node, *type == 'j');
}

static bool type_is_known(const char *type)
{
	static const char *const types[] = { "string", "int", "float", "json", "yaml", "any" };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (!strcmp(type, types[i]))
			return true;
	}
	return false;
}

static size_t name_length(const char *text)
{
	size_t length = 0;

	if ((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z'))
		length = 1 + strspn(text + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
	return length;
}

static void define(struct variables *variables, const char *name, const struct setting *entry)
{
	static const char *const keys[] = { "type",	"source",  "variable",	"required",
					    "default",	"value",   "sensitive" };
	struct reading *reading = variables->reading;
	struct setting *value;
	const char *type;

	/* Also after an error the name is defined: one fault, one message. */
	value = setting_create(reading, SETTING_NULL, entry->file, entry->line);
	if (!value)
		return;
	setting_put(reading, variables->values, name, value);
	if (entry->type != SETTING_MAP) {
		reading_error(reading, entry->file, entry->line, "vars.%s: must be a map, not %s", name,
			      setting_type_name(entry->type));
		return;
	}
	if (!*name || name_length(name) != strlen(name))
		reading_warning(reading, entry->file, entry->line,
				"vars.%s: no $NAME can mean it: a name is a letter, then letters, digits and '_'", name);
	for (size_t i = 0; i < entry->count; i++) {
		size_t known = 0;

		while (known < sizeof(keys) / sizeof(keys[0]) && strcmp(keys[known], entry->keys[i]))
			known++;
		if (known == sizeof(keys) / sizeof(keys[0]))
			reading_warning(reading, entry->items[i]->file, entry->items[i]->line,
					"vars.%s: the key '%s' is not known", name, entry->keys[i]);
	}
	type = text_of(reading, entry, name, "type", true);
	if (type && !type_is_known(type)) {
		reading_error(reading, entry->file, entry->line,
			      "vars.%s.type: must be string, int, float, json, yaml or any, not '%s'", name, type);
		type = NULL;
	}
	value = raw_value(reading, entry, name);
	if (!type || !value)
		return;
	value = typed_value(reading, value, type);
	if (value)
		setting_put(reading, variables->values, name, value);
	else
		reading_error(reading, entry->file, entry->line, "vars.%s: the value is not of type %s", name, type);
}

static struct setting *lookup(struct variables *variables, const struct setting *site, const char *name, size_t length)
{
	struct setting *values = variables->values;

	for (size_t i = 0; i < values->count; i++) {
		if (strlen(values->keys[i]) == length && !memcmp(values->keys[i], name, length))
			return values->items[i];
	}
	reading_error(variables->reading, site->file, site->line, "the variable $%.*s is not defined", (int)length,
		      name);
	return NULL;
}

/* Adds the text of a variable. */
static void insert(struct variables *variables, FILE *out, const struct setting *site, const char *name, size_t length)
{
	const struct setting *value = lookup(variables, site, name, length);
	char number[32];

	if (!value)
		return;
	if (value->type == SETTING_STRING)
		fputs(value->string, out);
	else if (value->type == SETTING_INT)
		fprintf(out, "%lld", (long long)value->integer);
	else if (value->type == SETTING_FLOAT && isfinite(value->real))
		fputs(json_number_text(value->real, number), out);
	else
		reading_error(variables->reading, site->file, site->line,
			      "the variable $%.*s is %s: it can only stand alone, not inside a text", (int)length, name,
			      setting_type_name(value->type));
}

static void substitute_text(struct variables *variables, struct setting *node)
{
	const char *text = node->string;
	size_t length = *text == '$' ? name_length(text + 1) : 0, size;
	char *built = NULL;
	FILE *out;

	if (length && !text[1 + length]) {
		const char *file = node->file;
		unsigned line = node->line;
		struct setting *value = lookup(variables, node, text + 1, length);

		if (value && value->type != SETTING_NULL)
			value = setting_copy(variables->reading, value);
		if (value)
			*node = *value;
		node->file = file;
		node->line = line;
		return;
	}
	if (!strchr(text, '$'))
		return;
	out = open_memstream(&built, &size);
	if (!out) {
		reading_error(variables->reading, node->file, node->line, "no memory");
		return;
	}
	while (*text) {
		if (text[0] == '$' && text[1] == '$') {
			/* A name behind two or more dollars is no variable. */
			size_t dollars = strspn(text, "$");

			for (size_t i = 0; i < dollars / 2 + dollars % 2; i++)
				fputc('$', out);
			text += dollars;
		} else if (text[0] == '$' && (length = name_length(text + 1))) {
			insert(variables, out, node, text + 1, length);
			text += 1 + length;
		} else {
			fputc(*text++, out);
		}
	}
	if (!fclose(out))
		node->string = arena_copy(&variables->reading->tree->arena, built, size);
	free(built);
}

static void substitute(struct variables *variables, struct setting *node)
{
	if (node->type == SETTING_STRING && node->file == variables->file) {
		substitute_text(variables, node);
		return;
	}
	for (size_t i = 0; (node->type == SETTING_MAP || node->type == SETTING_LIST) && i < node->count; i++)
		substitute(variables, node->items[i]);
}

static void define_text(struct variables *variables, const struct setting *root, const char *name, const char *text)
{
	struct setting *node = new_text(variables->reading, root, text);

	if (node)
		setting_put(variables->reading, variables->values, name, node);
}

void variables_apply(struct reading *reading, struct setting *root, const char *file, const char *path)
{
	struct variables variables = { .reading = reading, .file = file };
	struct setting *declared = NULL;
	long index = setting_find(root, "vars");

	variables.values = setting_create(reading, SETTING_MAP, file, 1);
	if (!variables.values)
		return;
	if (index >= 0) {
		declared = root->items[index];
		setting_remove(root, (size_t)index);
	}
	if (declared && declared->type == SETTING_MAP) {
		for (size_t i = 0; i < declared->count; i++)
			define(&variables, declared->keys[i], declared->items[i]);
	} else if (declared && declared->type != SETTING_NULL) {
		reading_error(reading, declared->file, declared->line, "vars: must be a map, not %s",
			      setting_type_name(declared->type));
	}
	define_text(&variables, root, "PATH", path + 1);
	define_text(&variables, root, "DIR", path_directory(&reading->tree->arena, path) + 1);
	substitute(&variables, root);
	if (declared)
		setting_append(reading, root, "_vars", declared);
}
