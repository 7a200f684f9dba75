// SPDX-License-Identifier: Apache-2.0
/* Where a program reads the service directory (protocol page 2.4): a map with a
 * `type` and the `settings` of that type. */
#include "settings/form.h"

#include <string.h>

static const struct form_field json_directory_fields[] = {
	{ FORM_FIELD(struct directory_settings, path), .read = read_text, .required = true },
	{ 0 },
};
static const struct form_shape json_directory_shape = { json_directory_fields, sizeof(struct directory_settings), NULL };

static void check_api_directory(struct form *form, const struct setting *map, void *object)
{
	const struct directory_settings *directory = object;
	const struct setting *client = setting_child(map, "jsonrpc_client");

	if (directory->jsonrpc_client && !directory->jsonrpc_client->tls)
		form_error(form, client, "jsonrpc_client: the key 'tls' is missing");
}

static const struct form_field api_directory_fields[] = {
	{ FORM_FIELD(struct directory_settings, endpoints), .read = read_urls, .required = true, .least = 1 },
	{ FORM_FIELD(struct directory_settings, server_names), .read = read_texts, .required = true, .least = 1 },
	{ .key = "cache_entries_for", .offset = offsetof(struct directory_settings, cache_entries_for_s),
	  .read = read_count, .most = 3600, .fallback = 5 },
	{ FORM_FIELD(struct directory_settings, jsonrpc_client), .read = read_new_map, .required = true,
	  .shape = &jsonrpc_client_shape },
	{ FORM_FIELD(struct directory_settings, ca_certificate_files), .read = read_texts, .required = true },
	{ FORM_FIELD(struct directory_settings, ca_intermediate_certificate_files), .read = read_texts },
	{ 0 },
};
static const struct form_shape api_directory_shape = { api_directory_fields, sizeof(struct directory_settings),
						       check_api_directory };

static const struct form_field directory_fields[] = {
	{ .key = "type" },
	{ .key = "settings" },
	{ 0 },
};
static const struct form_shape directory_keys = { directory_fields, 0, NULL };

const char *form_word(struct form *form, const struct setting *map, const char *key)
{
	const struct setting *value = setting_child(map, key);
	char *word = NULL;

	if (!value || value->type == SETTING_NULL || (value->type == SETTING_STRING && !*value->string)) {
		form_error(form, map, "the key '%s' is missing", key);
	} else {
		size_t mark = form_enter(form, key);

		read_text(form, value, NULL, &word);
		form_leave(form, mark);
	}
	return word;
}

const struct setting *form_settings(const struct setting *map, struct setting *empty)
{
	const struct setting *settings = setting_child(map, "settings");

	if (settings && settings->type != SETTING_NULL)
		return settings;
	memset(empty, 0, sizeof(*empty));
	empty->type = SETTING_MAP;
	empty->file = map->file;
	empty->line = map->line;
	return empty;
}

void read_directory(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	struct directory_settings *directory = target;
	const struct form_shape *shape = NULL;
	struct setting empty;
	const char *type;

	(void)field;
	form_fill(form, value, &directory_keys, directory);
	if (value->type != SETTING_MAP)
		return;
	type = form_word(form, value, "type");
	if (type && !strcmp(type, "json"))
		shape = &json_directory_shape;
	else if (type && !strcmp(type, "api"))
		shape = &api_directory_shape;
	else if (type)
		form_error(form, setting_child(value, "type"), "type must be json or api, not '%s'", type);
	if (shape) {
		size_t mark = form_enter(form, "settings");

		directory->type = shape == &json_directory_shape ? DIRECTORY_JSON : DIRECTORY_API;
		form_fill(form, form_settings(value, &empty), shape, directory);
		form_leave(form, mark);
	}
}
