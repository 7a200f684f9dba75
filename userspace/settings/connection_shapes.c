// SPDX-License-Identifier: Apache-2.0
/* Shapes that all programs share (protocol page 2.5, 2.8): TLS, CORS, rate
 * limits, JSON-RPC and gRPC ends, datastores, metrics. */
#include "settings/form.h"

#include <regex.h>
#include <string.h>

/* --- tls --- */

static void check_tls(struct form *form, const struct setting *map, void *object)
{
	const struct tls_settings *tls = object;

	if (!tls->certificate_file != !tls->key_file)
		reading_warning(form->reading, map->file, map->line,
				"%s: only one of certificate_file and key_file is set, so neither is used", form->path);
}

static const struct form_field tls_fields[] = {
	{ FORM_FIELD(struct tls_settings, ca_certificate_files), .read = read_texts, .required = true },
	{ FORM_FIELD(struct tls_settings, certificate_file), .read = read_text },
	{ FORM_FIELD(struct tls_settings, key_file), .read = read_text },
	{ FORM_FIELD(struct tls_settings, server_name), .read = read_text },
	{ FORM_FIELD(struct tls_settings, verify_client), .read = read_flag, .fallback = true },
	{ FORM_FIELD(struct tls_settings, request_client_cert), .read = read_flag },
	{ FORM_FIELD(struct tls_settings, insecure_skip_verify), .read = read_flag },
	{ 0 },
};
const struct form_shape tls_shape = { tls_fields, sizeof(struct tls_settings), check_tls };

/* --- cors --- */

static const char *const methods[] = { "GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS" };

static void read_host_patterns(struct form *form, const struct setting *value, const struct form_field *field,
			       void *target)
{
	struct string_list *list = target;

	read_texts(form, value, field, target);
	for (size_t i = 0; i < list->count; i++) {
		regex_t pattern;
		char reason[128];
		int error = regcomp(&pattern, list->items[i], REG_EXTENDED | REG_NOSUB);

		if (!error) {
			regfree(&pattern);
			continue;
		}
		regerror(error, &pattern, reason, sizeof(reason));
		form_error(form, value, "'%s' is no regular expression: %s", list->items[i], reason);
	}
}

static void read_methods(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	struct string_list *list = target;

	read_texts(form, value, field, target);
	for (size_t i = 0; i < list->count; i++) {
		size_t known = 0;

		while (known < sizeof(methods) / sizeof(methods[0]) && strcmp(methods[known], list->items[i]))
			known++;
		if (known == sizeof(methods) / sizeof(methods[0]))
			form_error(form, value, "must be of GET, POST, PATCH, PUT, DELETE and OPTIONS, not '%s'",
				   list->items[i]);
	}
}

static void check_cors(struct form *form, const struct setting *map, void *object)
{
	struct cors_settings *cors = object;

	(void)map;
	if (cors->allowed_methods.items)
		return;
	cors->allowed_methods.count = sizeof(methods) / sizeof(methods[0]);
	cors->allowed_methods.items = arena_alloc(&form->reading->tree->arena, sizeof(methods));
	for (size_t i = 0; i < cors->allowed_methods.count; i++)
		cors->allowed_methods.items[i] =
			arena_copy(&form->reading->tree->arena, methods[i], strlen(methods[i]));
}

static const struct form_field cors_fields[] = {
	{ FORM_FIELD(struct cors_settings, allowed_hosts), .read = read_host_patterns },
	{ FORM_FIELD(struct cors_settings, allowed_headers), .read = read_texts },
	{ FORM_FIELD(struct cors_settings, allowed_methods), .read = read_methods },
	{ 0 },
};
static const struct form_shape cors_shape = { cors_fields, sizeof(struct cors_settings), check_cors };

/* --- rate limits --- */

struct limit_item {
	char *type;
	unsigned limit;
};

static const struct form_field limit_fields[] = {
	{ FORM_FIELD(struct limit_item, type), .read = read_text, .required = true },
	{ FORM_FIELD(struct limit_item, limit), .read = read_count, .required = true, .least = 1, .most = UINT32_MAX },
	{ 0 },
};
static const struct form_shape limit_shape = { limit_fields, sizeof(struct limit_item), NULL };

void read_rate_limits(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	static const char *const windows[] = {
		[RATE_WINDOW_SECOND] = "second",
		[RATE_WINDOW_MINUTE] = "minute",
		[RATE_WINDOW_HOUR] = "hour",
	};
	struct rate_limit_settings *limits = target;

	(void)field;
	if (value->type != SETTING_LIST) {
		form_refuse_type(form, value, "a list");
		return;
	}
	limits->rules = arena_alloc(&form->reading->tree->arena, value->count * sizeof(limits->rules[0]));
	limits->count = value->count;
	for (size_t i = 0; i < value->count; i++) {
		size_t mark = form_enter_item(form, i), window = 0;
		struct limit_item item = { 0 };

		form_fill(form, value->items[i], &limit_shape, &item);
		while (window < 3 && item.type && strcmp(windows[window], item.type))
			window++;
		if (window == 3)
			form_error(form, value->items[i], "type must be second, minute or hour, not '%s'", item.type);
		limits->rules[i].window = (enum rate_window)(window % 3);
		limits->rules[i].limit = item.limit;
		form_leave(form, mark);
	}
}

/* --- JSON-RPC and gRPC ends --- */

static void check_jsonrpc_server(struct form *form, const struct setting *map, void *object)
{
	const struct jsonrpc_server_settings *server = object;

	/* Absent after what is no text, which was reported. */
	if (server->path && *server->path != '/')
		form_error(form, setting_child(map, "path"), "path must begin with a slash: write '/%s'", server->path);
}

static const struct form_field jsonrpc_server_fields[] = {
	{ FORM_FIELD(struct jsonrpc_server_settings, bind_address), .read = read_bind_address, .required = true },
	{ FORM_FIELD(struct jsonrpc_server_settings, path), .read = read_text, .fallback_text = "/jsonrpc" },
	{ FORM_FIELD(struct jsonrpc_server_settings, cors), .read = read_new_map, .shape = &cors_shape },
	{ .key = "tcp_rate_limits", .offset = offsetof(struct jsonrpc_server_settings, limits),
	  .read = read_rate_limits },
	{ .key = "rate_limit_loopback", .offset = offsetof(struct jsonrpc_server_settings, limits.exempt_loopback),
	  .read = read_inverse_flag },
	{ FORM_FIELD(struct jsonrpc_server_settings, tls), .read = read_new_map, .shape = &tls_shape },
	{ .key = "max_body", .offset = offsetof(struct jsonrpc_server_settings, max_body_bytes), .read = read_size,
	  .least = 1024, .most = 1U << 30, .fallback = 4U << 20 },
	{ 0 },
};
const struct form_shape jsonrpc_server_shape = { jsonrpc_server_fields, sizeof(struct jsonrpc_server_settings),
						 check_jsonrpc_server };

static const struct form_field jsonrpc_client_fields[] = {
	{ FORM_FIELD(struct jsonrpc_client_settings, endpoint), .read = read_url },
	{ FORM_FIELD(struct jsonrpc_client_settings, proxy_url), .read = read_proxy_url },
	{ FORM_FIELD(struct jsonrpc_client_settings, local), .read = read_flag, .fallback = true },
	{ FORM_FIELD(struct jsonrpc_client_settings, tls), .read = read_new_map, .shape = &tls_shape },
	{ .key = "timeout", .offset = offsetof(struct jsonrpc_client_settings, timeout_ms), .read = read_seconds,
	  .least = 0.001, .most = 86400, .fallback = 30 },
	{ 0 },
};
const struct form_shape jsonrpc_client_shape = { jsonrpc_client_fields, sizeof(struct jsonrpc_client_settings), NULL };

static const struct form_field grpc_server_fields[] = {
	{ FORM_FIELD(struct grpc_server_settings, bind_address), .read = read_bind_address,
	  .fallback_text = "localhost:4444" },
	{ .key = "tcp_rate_limits", .offset = offsetof(struct grpc_server_settings, limits), .read = read_rate_limits },
	{ .key = "rate_limit_loopback", .offset = offsetof(struct grpc_server_settings, limits.exempt_loopback),
	  .read = read_inverse_flag },
	{ FORM_FIELD(struct grpc_server_settings, tls), .read = read_new_map, .required = true, .shape = &tls_shape },
	{ 0 },
};
const struct form_shape grpc_server_shape = { grpc_server_fields, sizeof(struct grpc_server_settings), NULL };

static void read_relay_tls_use(struct form *form, const struct setting *value, const struct form_field *field,
			       void *target)
{
	static const char *const words[] = {
		[RELAY_TLS_PREFER] = "prefer",
		[RELAY_TLS_REQUIRE] = "require",
		[RELAY_TLS_OFF] = "off",
	};
	char *word = NULL;
	unsigned use = 0;

	/* YAML 1.1 reads a bare `off` as false. */
	if (value->type == SETTING_BOOL && !value->boolean) {
		*(enum relay_tls_use *)target = RELAY_TLS_OFF;
		return;
	}
	read_text(form, value, field, &word);
	while (word && use < 3 && strcmp(words[use], word))
		use++;
	if (word && use == 3)
		form_error(form, value, "must be prefer, require or off, not '%s'", word);
	else
		*(enum relay_tls_use *)target = (enum relay_tls_use)use;
}

static const struct form_field grpc_client_fields[] = {
	{ FORM_FIELD(struct grpc_client_settings, tls), .read = read_new_map, .required = true, .shape = &tls_shape },
	{ .key = "useProxy", .offset = offsetof(struct grpc_client_settings, use_proxy), .read = read_flag,
	  .fallback = true },
	{ .key = "call_timeout", .offset = offsetof(struct grpc_client_settings, call_timeout_ms),
	  .read = read_seconds, .least = 0.001, .most = 86400, .fallback = 30 },
	{ .key = "idle_timeout", .offset = offsetof(struct grpc_client_settings, idle_timeout_ms),
	  .read = read_seconds, .least = 0.001, .most = 86400, .fallback = 30 },
	{ FORM_FIELD(struct grpc_client_settings, allowed_relay_endpoints), .read = read_texts },
	{ FORM_FIELD(struct grpc_client_settings, relay_tls), .read = read_relay_tls_use },
	{ 0 },
};
const struct form_shape grpc_client_shape = { grpc_client_fields, sizeof(struct grpc_client_settings), NULL };

/* --- datastores and metrics --- */

static const struct form_field file_store_fields[] = {
	{ FORM_FIELD(struct datastore_settings, filename), .read = read_text, .required = true },
	{ 0 },
};
static const struct form_shape file_store_shape = { file_store_fields, sizeof(struct datastore_settings), NULL };

static void check_datastore(struct form *form, const struct setting *map, void *object)
{
	const struct setting *type = setting_child(map, "type"), *settings = setting_child(map, "settings");
	size_t mark;

	if (!type || type->type != SETTING_STRING || !settings || settings->type == SETTING_NULL)
		return; /* was reported */
	if (!strcmp(type->string, "redis")) {
		form_error(form, type, "type redis is not in this version: write file");
		return;
	}
	if (strcmp(type->string, "file")) {
		form_error(form, type, "type must be file, not '%s'", type->string);
		return;
	}
	mark = form_enter(form, "settings");
	form_fill(form, settings, &file_store_shape, object);
	form_leave(form, mark);
}

/* Only that they are there; check_datastore() reads them. */
static void read_nothing(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	(void)form, (void)value, (void)field, (void)target;
}

static void read_word(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	(void)field, (void)target;
	if (value->type != SETTING_STRING)
		form_refuse_type(form, value, "text");
}

static const struct form_field datastore_fields[] = {
	{ .key = "type", .read = read_word, .required = true },
	{ .key = "settings", .read = read_nothing, .required = true },
	{ 0 },
};
const struct form_shape datastore_shape = { datastore_fields, sizeof(struct datastore_settings), check_datastore };

static const struct form_field metrics_fields[] = {
	{ FORM_FIELD(struct metrics_settings, bind_address), .read = read_bind_address, .required = true },
	{ 0 },
};
const struct form_shape metrics_shape = { metrics_fields, sizeof(struct metrics_settings), NULL };
