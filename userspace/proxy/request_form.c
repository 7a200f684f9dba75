// SPDX-License-Identifier: Apache-2.0
/* What a caller may say in `requestConnection`, and what the callee is told.
 *
 * The client info that the own hyper put into `_client` goes on to the callee,
 * whose program may validate it: keys that the form does not know are dropped,
 * `groups`, `records` and `properties` are null. The lists of the entry have the
 * same forms as records, so they are checked and widened by the code for
 * records. Preferences of an entry have lost their `settings`, which the form
 * wants: an empty map stands in for it, here and towards the callee. */
#include "proxy/request_form.h"

#include "base/json.h"
#include "directory/entry.h"
#include "directory/record.h"
#include "tls/relay_message.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int problem_add(json_t *problems, const char *field, const char *detail)
{
	return json_object_set_new(problems, field, json_string(detail)) ? -ENOMEM : -EINVAL;
}

/* The required string `map[key]`, or NULL and a problem under `field`. */
static const char *need_text(const json_t *map, const char *key, const char *field, json_t *problems)
{
	const json_t *value = json_object_get(map, key);

	if (!json_is_string(value))
		problem_add(problems, field, !value || json_is_null(value) ? "is required" : "expected a string");
	return json_string_value(value);
}

/* New list whose elements all have a `settings` map, as far as they are maps. */
static json_t *preferences_with_settings(const json_t *preferences)
{
	json_t *result = json_array();

	for (size_t i = 0; result && i < json_array_size(preferences); i++) {
		json_t *item = json_copy(json_array_get(preferences, i));
		if (json_is_object(item) && !json_is_object(json_object_get(item, "settings")))
			json_object_set_new(item, "settings", json_object());
		if (json_array_append_new(result, item)) {
			json_decref(result);
			return NULL;
		}
	}
	return result;
}

/* Checks one list of the entry and puts it into `entries[name]`. */
static int integrate_list(json_t *entries, const char *name, const char *section, json_t *list, json_t *problems)
{
	char detail[RECORD_PROBLEM_SIZE] = "";
	char field[64];
	int error = -ENOMEM;

	snprintf(field, sizeof field, "_client.entry.%s", section);
	if (!json_is_array(list))
		return problem_add(problems, field, "expected a list");
	json_t *raw = json_pack("{s:s, s:s, s:O, s:s}", "name", name, "section", section, "data", list, "created_at",
				"1970-01-01T00:00:00Z");
	json_t *record = raw ? record_normalise(raw, detail) : NULL;
	json_t *signed_record = record ? json_pack("{s:O}", "record", record) : NULL;
	if (signed_record)
		error = entries_integrate(entries, signed_record);
	else if (raw && !record)
		error = problem_add(problems, field, detail);
	json_decref(signed_record);
	json_decref(record);
	json_decref(raw);
	return error;
}

static bool is_missing(const json_t *value)
{
	return !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0);
}

static int integrate_lists(json_t *entries, const char *name, const json_t *entry, json_t *problems)
{
	static const char *const optional[] = {"services", "settings", "certificates"};
	int error;

	error = integrate_list(entries, name, "channels", json_object_get(entry, "channels"), problems);
	for (size_t i = 0; i < sizeof optional / sizeof *optional && error != -ENOMEM; i++) {
		json_t *list = json_object_get(entry, optional[i]);
		if (!is_missing(list) && integrate_list(entries, name, optional[i], list, problems) == -ENOMEM)
			error = -ENOMEM;
	}
	const json_t *preferences = json_object_get(entry, "preferences");
	if (error == -ENOMEM || is_missing(preferences))
		return error;
	if (!json_is_array(preferences))
		return problem_add(problems, "_client.entry.preferences", "expected a list");
	json_t *list = preferences_with_settings(preferences);
	int preferences_error = list ? integrate_list(entries, name, "preferences", list, problems) : -ENOMEM;
	json_decref(list);
	return preferences_error ? preferences_error : error;
}

/* The entry as the callee gets it. New reference, or NULL (memory). */
static json_t *entry_for_callee(const json_t *entries, const char *name)
{
	json_t *entry = json_copy(json_object_get(entries, name));
	json_t *preferences = preferences_with_settings(json_object_get(entry, "preferences"));

	if (!preferences || !entry || json_object_set(entry, "preferences", preferences) ||
	    json_object_set_new(entry, "groups", json_null()) || json_object_set_new(entry, "records", json_null()) ||
	    json_object_set_new(entry, "properties", json_null())) {
		json_decref(entry);
		entry = NULL;
	}
	json_decref(preferences);
	return entry;
}

static int client_read(const json_t *client, struct connection_request *request, json_t *problems)
{
	if (!json_is_object(client))
		return problem_add(problems, "_client", is_missing(client) ? "is required" : "expected a map");

	const char *name = need_text(client, "name", "_client.name", problems);
	const json_t *entry = json_object_get(client, "entry");
	if (!json_is_object(entry))
		return problem_add(problems, "_client.entry", is_missing(entry) ? "is required" : "expected a map");
	const char *entry_name = need_text(entry, "name", "_client.entry.name", problems);
	if (!name || !entry_name)
		return -EINVAL;

	json_t *entries = json_object();
	int error = entries ? integrate_lists(entries, entry_name, entry, problems) : -ENOMEM;
	json_t *checked = error ? NULL : entry_for_callee(entries, entry_name);
	if (checked)
		request->client = json_pack("{s:s, s:O}", "name", name, "entry", checked);
	if (!error && !request->client)
		error = -ENOMEM;
	if (request->client)
		request->requester = json_text(request->client, "name");
	json_decref(checked);
	json_decref(entries);
	return error;
}

int connection_request_read(const json_t *params, struct connection_request *request, json_t **problems)
{
	memset(request, 0, sizeof *request);
	*problems = json_object();
	if (!*problems)
		return -ENOMEM;

	request->to = need_text(params, "to", "to", *problems);
	request->channel = need_text(params, "channel", "channel", *problems);
	int error = client_read(json_object_get(params, "_client"), request, *problems);
	if (!error && json_object_size(*problems) > 0)
		error = -EINVAL;
	if (error != -EINVAL) {
		json_decref(*problems);
		*problems = NULL;
	}
	return error;
}

void connection_request_clear(struct connection_request *request)
{
	json_decref(request->client);
	memset(request, 0, sizeof *request);
}

/* The member `relay_tls` is ours; peers that do not know it skip it. */
static json_t *add_relay_tls(json_t *message, const struct told_endpoints *endpoints)
{
	if (!message || !endpoints->tls)
		return message;
	json_t *relay_tls = json_pack("{s:s, s:s, s:i}", "endpoint", endpoints->tls, "server_name", endpoints->server_name,
				      "version", RELAY_PROTOCOL_VERSION);
	if (json_object_set_new(message, "relay_tls", relay_tls)) {
		json_decref(message);
		return NULL;
	}
	return message;
}

json_t *connection_request_params(const struct connection_request *request, const struct told_endpoints *endpoints,
				  const char *token_text)
{
	return add_relay_tls(json_pack("{s:s, s:O, s:s, s:s}", "channel", request->channel, "client", request->client,
				       "endpoint", endpoints->plain, "token", token_text),
			     endpoints);
}

json_t *connection_answer(const struct told_endpoints *endpoints, const char *token_text)
{
	return add_relay_tls(json_pack("{s:s, s:s}", "token", token_text, "endpoint", endpoints->plain), endpoints);
}
