// SPDX-License-Identifier: Apache-2.0
/* Settings of `hyper` (protocol page 2.3 to 2.5): name, directory, channels,
 * metrics, signing. */
#include "settings/form.h"

#include <string.h>

/* --- channels --- */

static const struct form_field no_fields[] = { { 0 } };
static const struct form_shape stdout_shape = { no_fields, 0, NULL };

static const struct {
	const char *word;
	const struct form_shape *shape;
} channel_types[] = {
	[CHANNEL_STDOUT] = { "stdout", &stdout_shape },
	[CHANNEL_JSONRPC_CLIENT] = { "jsonrpc_client", &jsonrpc_client_shape },
	[CHANNEL_JSONRPC_SERVER] = { "jsonrpc_server", &jsonrpc_server_shape },
	[CHANNEL_GRPC_CLIENT] = { "grpc_client", &grpc_client_shape },
	[CHANNEL_GRPC_SERVER] = { "grpc_server", &grpc_server_shape },
};
#define CHANNEL_TYPES (sizeof(channel_types) / sizeof(channel_types[0]))

static const struct form_field channel_fields[] = {
	{ FORM_FIELD(struct channel_settings, name), .read = read_text, .required = true },
	{ .key = "type" },
	{ .key = "settings" },
	{ .key = "services" },
	{ 0 },
};
static const struct form_shape channel_keys = { channel_fields, sizeof(struct channel_settings), NULL };

/* False if the type is not usable. */
static bool read_channel(struct form *form, const struct setting *item, struct channel_settings *channel)
{
	const char *type;
	struct setting empty;
	size_t mark, index = 0;
	void *settings;

	form_fill(form, item, &channel_keys, channel);
	type = item->type == SETTING_MAP ? form_word(form, item, "type") : NULL;
	if (!type)
		return false;
	while (index < CHANNEL_TYPES && strcmp(channel_types[index].word, type))
		index++;
	if (index == CHANNEL_TYPES) {
		form_error(form, setting_child(item, "type"),
			   strcmp(type, "quic") ? "there is no channel of type '%s'" :
						  "a channel of type '%s' is not in this version: leave it out",
			   type);
		return false;
	}
	channel->type = (enum channel_type)index;
	settings = arena_alloc(&form->reading->tree->arena, channel_types[index].shape->size);
	mark = form_enter(form, "settings");
	form_fill(form, form_settings(item, &empty), channel_types[index].shape, settings);
	form_leave(form, mark);
	if (channel_types[index].shape->size)
		channel->jsonrpc_client = settings; /* of a union of pointers */
	return true;
}

static void read_channels(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	struct hyper_settings *settings = (void *)((char *)target - offsetof(struct hyper_settings, channels));
	const struct setting *seen[CHANNEL_TYPES] = { 0 };

	(void)field;
	if (value->type != SETTING_LIST) {
		form_refuse_type(form, value, "a list");
		return;
	}
	settings->channels = arena_alloc(&form->reading->tree->arena, value->count * sizeof(settings->channels[0]));
	settings->channel_count = value->count;
	for (size_t i = 0; i < value->count; i++) {
		const struct setting *item = value->items[i];
		struct channel_settings *channel = &settings->channels[i];
		size_t mark = form_enter_item(form, i);

		if (read_channel(form, item, channel)) {
			if (seen[channel->type])
				form_error(form, item, "a second channel of type '%s', the first is at %s:%u",
					   channel_types[channel->type].word, seen[channel->type]->file,
					   seen[channel->type]->line);
			seen[channel->type] = item;
		}
		form_leave(form, mark);
	}
}

/* --- the whole --- */

static const struct form_field signing_fields[] = {
	{ .key = "name" },
	{ FORM_FIELD(struct signing_settings, ca_certificate_file), .read = read_text, .required = true },
	{ FORM_FIELD(struct signing_settings, ca_intermediate_certificate_files), .read = read_texts },
	{ FORM_FIELD(struct signing_settings, certificate_file), .read = read_text, .required = true },
	{ FORM_FIELD(struct signing_settings, key_file), .read = read_text, .required = true },
	{ 0 },
};
static const struct form_shape signing_shape = { signing_fields, sizeof(struct signing_settings), NULL };

static const struct form_field hyper_fields[] = {
	{ FORM_FIELD(struct hyper_settings, name), .read = read_text, .required = true },
	{ FORM_FIELD(struct hyper_settings, directory), .read = read_directory, .required = true },
	{ FORM_FIELD(struct hyper_settings, channels), .read = read_channels, .required = true },
	{ FORM_FIELD(struct hyper_settings, metrics), .read = read_new_map, .shape = &metrics_shape },
	{ FORM_FIELD(struct hyper_settings, signing), .read = read_new_map, .shape = &signing_shape },
	{ 0 },
};
const struct form_shape hyper_shape = { hyper_fields, sizeof(struct hyper_settings), NULL };

struct hyper_settings *hyper_settings_load(const char *search_path, settings_report report, void *context)
{
	return form_load(search_path, report, context, &hyper_shape);
}

void hyper_settings_free(struct hyper_settings *settings)
{
	form_free(settings);
}
