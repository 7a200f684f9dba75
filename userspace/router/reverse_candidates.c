// SPDX-License-Identifier: Apache-2.0
/* Selection of reverse-stream peers. Permissions are read as the reference
 * reads them here: any group named in any permission of an own service or
 * method, whatever its rights, and "*" is a group like any other. */
#include "router/reverse_candidates.h"

#include "base/json.h"
#include "directory/entry.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static bool permissions_name_group_of(const json_t *permissions, const json_t *entry)
{
	for (size_t i = 0; i < json_array_size(permissions); i++) {
		const char *group = json_text(json_array_get(permissions, i), "group");
		if (group && entry_has_group(entry, group))
			return true;
	}
	return false;
}

static bool may_call(const json_t *entry, const json_t *own_entry)
{
	const json_t *services = json_object_get(own_entry, "services");
	for (size_t i = 0; i < json_array_size(services); i++) {
		const json_t *service = json_array_get(services, i);
		if (permissions_name_group_of(json_object_get(service, "permissions"), entry))
			return true;
		const json_t *methods = json_object_get(service, "methods");
		for (size_t j = 0; j < json_array_size(methods); j++)
			if (permissions_name_group_of(json_object_get(json_array_get(methods, j), "permissions"),
						      entry))
				return true;
	}
	return false;
}

json_t *reverse_candidates(const json_t *own_entry, const json_t *entries)
{
	json_t *candidates = json_array();
	const char *own_name = json_text(own_entry, "name");
	struct grpc_server_entry server;
	int own = entry_grpc_server(own_entry, &server);
	if (!candidates || !own_name || own == -EINVAL)
		return candidates;
	bool is_public = own == 0 && !server.internal && !*server.proxy;

	for (size_t i = 0; i < json_array_size(entries); i++) {
		json_t *entry = json_array_get(entries, i);
		const char *name = json_text(entry, "name");
		if (!name || strcmp(name, own_name) == 0 || entry_grpc_server(entry, &server) < 0)
			continue;
		if (server.internal || *server.proxy || !may_call(entry, own_entry))
			continue;
		if (is_public && entry_channel(entry, "grpc_client"))
			continue;
		if (json_array_append(candidates, entry) < 0) {
			json_decref(candidates);
			return NULL;
		}
	}
	return candidates;
}
