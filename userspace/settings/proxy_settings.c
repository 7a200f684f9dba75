// SPDX-License-Identifier: Apache-2.0
/* Settings of `proxy` (protocol page 2.6), with our own `relay` and `control`.
 * A `private` section is recognised, not read. */
#include "settings/form.h"

#include <string.h>

static void read_planes(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	static const struct {
		const char *word;
		unsigned bit;
	} planes[] = { { "sockmap", PLANE_MASK_SOCKMAP }, { "splice", PLANE_MASK_SPLICE }, { "copy", PLANE_MASK_COPY },
		     { "ktls-splice", PLANE_MASK_KTLS_SPLICE } };
	const size_t count = sizeof planes / sizeof *planes;
	struct string_list words = { 0 };
	unsigned mask = 0;

	read_texts(form, value, field, &words);
	for (size_t i = 0; i < words.count; i++) {
		size_t known = 0;

		while (known < count && strcmp(planes[known].word, words.items[i]))
			known++;
		if (known == count)
			form_error(form, value, "must be of sockmap, ktls-splice, splice and copy, not '%s'", words.items[i]);
		else
			mask |= planes[known].bit;
	}
	*(unsigned *)target = mask;
}

static void check_relay(struct form *form, const struct setting *map, void *object)
{
	struct relay_settings *relay = object;

	(void)form;
	if (!setting_child(map, "planes") || setting_child(map, "planes")->type == SETTING_NULL)
		relay->planes = PLANE_MASK_ALL;
}

static const struct form_field relay_fields[] = {
	{ FORM_FIELD(struct relay_settings, workers), .read = read_count, .most = 1024 },
	{ FORM_FIELD(struct relay_settings, planes), .read = read_planes, .least = 1 },
	{ .key = "pair_memory", .offset = offsetof(struct relay_settings, pair_memory_bytes), .read = read_size,
	  .least = 64U << 10, .most = 1U << 30, .fallback = 32U << 20 },
	{ .key = "credit_budget", .offset = offsetof(struct relay_settings, credit_budget_bytes), .read = read_size,
	  .most = 1ULL << 44 },
	{ .key = "buffer_budget", .offset = offsetof(struct relay_settings, buffer_budget_bytes), .read = read_size,
	  .most = 1ULL << 44 },
	{ FORM_FIELD(struct relay_settings, max_pairs), .read = read_large_count, .least = 1, .most = 1U << 22,
	  .fallback = 4096 },
	{ .key = "stall_limit", .offset = offsetof(struct relay_settings, stall_limit_ms), .read = read_seconds,
	  .most = 604800 },
	{ .key = "stop_deadline", .offset = offsetof(struct relay_settings, stop_deadline_ms), .read = read_seconds,
	  .most = 86400, .fallback = 5 },
	{ 0 },
};
static const struct form_shape relay_shape = { relay_fields, sizeof(struct relay_settings), check_relay };

static const struct form_field control_fields[] = {
	{ FORM_FIELD(struct control_settings, path), .read = read_text, .fallback_text = "/run/p2p-proxy/control.sock" },
	{ FORM_FIELD(struct control_settings, group), .read = read_text },
	{ 0 },
};
static const struct form_shape control_shape = { control_fields, sizeof(struct control_settings), NULL };

static void read_new_directory(struct form *form, const struct setting *value, const struct form_field *field,
			       void *target)
{
	struct directory_settings *directory = arena_alloc(&form->reading->tree->arena, sizeof(*directory));

	read_directory(form, value, field, directory);
	*(struct directory_settings **)target = directory;
}

static const struct form_field public_fields[] = {
	{ FORM_FIELD(struct public_proxy_settings, name), .read = read_text, .required = true },
	{ FORM_FIELD(struct public_proxy_settings, datastore), .read = read_map, .required = true,
	  .shape = &datastore_shape },
	{ FORM_FIELD(struct public_proxy_settings, tls_bind_address), .read = read_bind_address,
	  .fallback_text = "localhost:443" },
	{ FORM_FIELD(struct public_proxy_settings, internal_bind_address), .read = read_bind_address,
	  .fallback_text = "localhost:9999" },
	{ FORM_FIELD(struct public_proxy_settings, internal_endpoint), .read = read_bind_address,
	  .fallback_text = "localhost:9999" },
	{ FORM_FIELD(struct public_proxy_settings, relay_tls_bind_address), .read = read_bind_address },
	{ FORM_FIELD(struct public_proxy_settings, relay_tls_endpoint), .read = read_bind_address },
	{ FORM_FIELD(struct public_proxy_settings, relay_tls), .read = read_new_map, .shape = &tls_shape },
	{ FORM_FIELD(struct public_proxy_settings, directory), .read = read_new_directory },
	{ .key = "accept_timeout", .offset = offsetof(struct public_proxy_settings, accept_timeout_ms),
	  .read = read_seconds, .most = 3000, .fallback = 10 },
	{ .key = "token_timeout", .offset = offsetof(struct public_proxy_settings, token_timeout_ms),
	  .read = read_seconds, .least = 0.001, .most = 3000, .fallback = 5 },
	{ .key = "tcp_rate_limits", .offset = offsetof(struct public_proxy_settings, limits), .read = read_rate_limits },
	{ .key = "rate_limit_loopback", .offset = offsetof(struct public_proxy_settings, limits.exempt_loopback),
	  .read = read_inverse_flag },
	{ FORM_FIELD(struct public_proxy_settings, jsonrpc_client), .read = read_new_map, .required = true,
	  .shape = &jsonrpc_client_shape },
	{ FORM_FIELD(struct public_proxy_settings, jsonrpc_server), .read = read_new_map, .required = true,
	  .shape = &jsonrpc_server_shape },
	{ FORM_FIELD(struct public_proxy_settings, max_tickets), .read = read_count, .least = 1, .most = 1U << 24,
	  .fallback = 65536 },
	{ FORM_FIELD(struct public_proxy_settings, max_tickets_per_operator), .read = read_count, .least = 1,
	  .most = 1U << 24, .fallback = 1024 },
	{ FORM_FIELD(struct public_proxy_settings, max_pairs_per_operator), .read = read_count, .least = 1,
	  .most = 1U << 24, .fallback = 1024 },
	{ 0 },
};

/* Not one that was refused and left at 0. */
static bool is_no_time(const struct setting *seconds)
{
	return (seconds->type == SETTING_INT && seconds->integer == 0) ||
	       (seconds->type == SETTING_FLOAT && seconds->real == 0);
}

static void check_public(struct form *form, const struct setting *map, void *object)
{
	struct public_proxy_settings *settings = object;

	if (!settings->relay_tls && settings->jsonrpc_server)
		settings->relay_tls = settings->jsonrpc_server->tls;
	if (settings->relay_tls_bind_address && !settings->relay_tls_endpoint)
		form_error(form, setting_child(map, "relay_tls_bind_address"),
			   "the key 'relay_tls_endpoint' is missing: what peers are told");
	if (settings->relay_tls_bind_address && !settings->relay_tls)
		form_error(form, setting_child(map, "relay_tls_bind_address"),
			   "needs certificates: relay_tls, or jsonrpc_server.tls");
	const struct setting *accept_timeout = setting_child(map, "accept_timeout");

	if (accept_timeout && is_no_time(accept_timeout))
		reading_warning(form->reading, accept_timeout->file, accept_timeout->line,
				"%s.accept_timeout: is 0, so nobody has the time to connect", form->path);
	if (settings->jsonrpc_client && !settings->jsonrpc_client->endpoint)
		form_error(form, setting_child(map, "jsonrpc_client"), "jsonrpc_client: the key 'endpoint' is missing");
}

static const struct form_shape public_shape = { public_fields, sizeof(struct public_proxy_settings), check_public };

static void read_presence(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	(void)field;
	if (value->type != SETTING_MAP)
		form_refuse_type(form, value, "a map");
	*(bool *)target = true;
}

static void check_proxy(struct form *form, const struct setting *map, void *object)
{
	struct proxy_settings *settings = object;

	(void)form;
	if (!setting_child(map, "relay") || setting_child(map, "relay")->type == SETTING_NULL)
		settings->relay.planes = PLANE_MASK_ALL;
}

static const struct form_field proxy_fields[] = {
	{ FORM_FIELD(struct proxy_settings, metrics), .read = read_new_map, .shape = &metrics_shape },
	{ .key = "public", .offset = offsetof(struct proxy_settings, public_proxy), .read = read_new_map,
	  .shape = &public_shape },
	{ .key = "private", .offset = offsetof(struct proxy_settings, has_private), .read = read_presence },
	{ FORM_FIELD(struct proxy_settings, relay), .read = read_map, .shape = &relay_shape },
	{ FORM_FIELD(struct proxy_settings, control), .read = read_map, .shape = &control_shape },
	{ 0 },
};
const struct form_shape proxy_shape = { proxy_fields, sizeof(struct proxy_settings), check_proxy };

struct proxy_settings *proxy_settings_load(const char *search_path, settings_report report, void *context)
{
	return form_load(search_path, report, context, &proxy_shape);
}

void proxy_settings_free(struct proxy_settings *settings)
{
	form_free(settings);
}
