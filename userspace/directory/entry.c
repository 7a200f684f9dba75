// SPDX-License-Identifier: Apache-2.0
/* Directory entries, see entry.h. A section of a record replaces the list of
 * that name in the entry; what peers see there are structs whose absent optional
 * members are null, so records' data is widened to that form. The contents of
 * preferences are lost on the way (protocol page 3.2). */
#include "directory/entry.h"

#include "base/json.h"
#include "directory/record.h"

#include <errno.h>
#include <string.h>

/* `map[key]`, or JSON null in place of nothing. New reference. */
static json_t *member_or_null(const json_t *map, const char *key)
{
	json_t *value = json_object_get(map, key);

	return value ? json_incref(value) : json_null();
}

static json_t *widen_list(const json_t *list, json_t *(*widen)(const json_t *item))
{
	json_t *result = json_array();

	for (size_t i = 0; result && i < json_array_size(list); i++) {
		if (json_array_append_new(result, widen(json_array_get(list, i)))) {
			json_decref(result);
			return NULL;
		}
	}
	return result;
}

/* Absent lists become null, as the peers write them. */
static json_t *widen_optional_list(const json_t *list, json_t *(*widen)(const json_t *item))
{
	return list ? widen_list(list, widen) : json_null();
}

static json_t *widen_channel(const json_t *channel)
{
	return json_pack("{s:O, s:o}", "type", json_object_get(channel, "type"), "settings",
			 member_or_null(channel, "settings"));
}

static json_t *widen_validator(const json_t *validator)
{
	return json_pack("{s:O, s:o}", "type", json_object_get(validator, "type"), "parameters",
			 member_or_null(validator, "parameters"));
}

static json_t *widen_parameter(const json_t *parameter)
{
	return json_pack("{s:O, s:o}", "name", json_object_get(parameter, "name"), "validators",
			 widen_optional_list(json_object_get(parameter, "validators"), widen_validator));
}

static json_t *widen_method(const json_t *method)
{
	return json_pack("{s:O, s:O, s:o}", "name", json_object_get(method, "name"), "permissions",
			 json_object_get(method, "permissions"), "parameters",
			 widen_optional_list(json_object_get(method, "parameters"), widen_parameter));
}

static json_t *widen_service(const json_t *service)
{
	return json_pack("{s:O, s:O, s:o}", "name", json_object_get(service, "name"), "permissions",
			 json_object_get(service, "permissions"), "methods",
			 widen_list(json_object_get(service, "methods"), widen_method));
}

static json_t *widen_preferences(const json_t *preferences)
{
	return json_pack("{s:O, s:O, s:O, s:n}", "operator", json_object_get(preferences, "operator"), "service",
			 json_object_get(preferences, "service"), "environment",
			 json_object_get(preferences, "environment"), "preferences");
}

static json_t *widen_data(const char *section, json_t *data)
{
	if (!strcmp(section, "channels"))
		return widen_list(data, widen_channel);
	if (!strcmp(section, "services"))
		return widen_list(data, widen_service);
	if (!strcmp(section, "preferences"))
		return widen_list(data, widen_preferences);
	return json_incref(data);
}

static json_t *entry_new(const char *name)
{
	return json_pack("{s:s, s:[], s:[], s:[], s:[], s:[], s:n, s:[], s:{s:s}}", "name", name, "groups", "channels",
			 "services", "certificates", "settings", "preferences", "records", "properties", "displayName",
			 "");
}

int entries_integrate(json_t *entries, json_t *signed_record)
{
	const json_t *record = signed_record_inner(signed_record);
	const char *name = record_name(record), *section = record_section(record);
	const json_t *old = json_object_get(entries, name);
	/* Readers may hold the old entry: change copies of it and of its list of records. */
	json_t *entry = old ? json_copy((json_t *)old) : entry_new(name);
	json_t *records = entry ? json_copy(json_object_get(entry, "records")) : NULL;

	if (!records || json_array_append(records, signed_record) || json_object_set(entry, "records", records) ||
	    json_object_set_new(entry, section, widen_data(section, json_object_get(record, "data"))) ||
	    json_object_set(entries, name, entry)) {
		json_decref(records);
		json_decref(entry);
		return -ENOMEM;
	}
	json_decref(records);
	json_decref(entry);
	return 0;
}

json_t *entry_channel(const json_t *entry, const char *type)
{
	const json_t *channels = json_object_get(entry, "channels");

	for (size_t i = 0; i < json_array_size(channels); i++) {
		const json_t *channel = json_array_get(channels, i);
		const char *its_type = json_text(channel, "type");
		json_t *settings = json_object_get(channel, "settings");

		if (its_type && !strcmp(its_type, type))
			return settings ? settings : json_null();
	}
	return NULL;
}

bool entry_lists_fingerprint(const json_t *entry, const char *fingerprint)
{
	const json_t *certificates = json_object_get(entry, "certificates");

	for (size_t i = 0; i < json_array_size(certificates); i++) {
		const json_t *item = json_array_get(certificates, i);
		const char *usage = json_text(item, "key_usage"), *listed = json_text(item, "fingerprint");
		if (usage && listed && strcmp(usage, "encryption") == 0 && strcmp(listed, fingerprint) == 0)
			return true;
	}
	return false;
}

bool entry_has_group(const json_t *entry, const char *group)
{
	const json_t *groups = json_object_get(entry, "groups");

	for (size_t i = 0; i < json_array_size(groups); i++) {
		const char *name = json_string_value(json_array_get(groups, i));

		if (name && !strcmp(name, group))
			return true;
	}
	return false;
}

static bool permissions_allow(const json_t *permissions, const json_t *caller)
{
	for (size_t i = 0; i < json_array_size(permissions); i++) {
		const json_t *permission = json_array_get(permissions, i);
		const json_t *rights = json_object_get(permission, "rights");
		const char *group = json_text(permission, "group");

		if (!group || (strcmp(group, "*") && !entry_has_group(caller, group)))
			continue;
		for (size_t j = 0; j < json_array_size(rights); j++) {
			const char *right = json_string_value(json_array_get(rights, j));

			if (right && !strcmp(right, "call"))
				return true;
		}
	}
	return false;
}

static const json_t *service_method(const json_t *service, const char *method)
{
	const json_t *methods = json_object_get(service, "methods");

	for (size_t i = 0; i < json_array_size(methods); i++) {
		const json_t *candidate = json_array_get(methods, i);
		const char *name = json_text(candidate, "name");

		if (name && !strcmp(name, method))
			return candidate;
	}
	return NULL;
}

bool entry_permits(const json_t *caller, const json_t *callee, const char *method)
{
	const json_t *services = json_object_get(callee, "services");

	for (size_t i = 0; i < json_array_size(services); i++) {
		const json_t *service = json_array_get(services, i);
		const json_t *found = service_method(service, method);

		/* Only the first service that lists the method counts. */
		if (found)
			return permissions_allow(json_object_get(service, "permissions"), caller) ||
			       permissions_allow(json_object_get(found, "permissions"), caller);
	}
	return false;
}

int entry_grpc_server(const json_t *entry, struct grpc_server_entry *result)
{
	const json_t *settings = entry_channel(entry, "grpc_server");
	const json_t *proxy = json_object_get(settings, "proxy"), *internal = json_object_get(settings, "internal");

	memset(result, 0, sizeof(*result));
	if (!settings)
		return -ENOENT;
	result->address = json_text(settings, "address");
	if (!result->address)
		return -EINVAL;
	result->proxy = "";
	if (proxy && !json_is_null(proxy)) {
		if (!json_is_string(proxy))
			return -EINVAL;
		result->proxy = json_string_value(proxy);
	}
	if (internal && !json_is_null(internal)) {
		if (!json_is_boolean(internal) && !(json_is_string(internal) && !json_string_length(internal)))
			return -EINVAL;
		result->internal = json_is_true(internal);
	}
	return 0;
}
