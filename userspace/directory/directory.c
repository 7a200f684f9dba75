// SPDX-License-Identifier: Apache-2.0
/* The two kinds of directory behind one interface, see directory.h. A `json`
 * directory is read again for every question. */
#include "directory/directory.h"

#include "base/json.h"
#include "base/log.h"
#include "directory/api_directory.h"
#include "directory/entry.h"
#include "directory/json_directory.h"
#include "directory/verifier.h"
#include "tls/checkup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct directory {
	struct api_directory *api; /* or: */
	char *path;
	json_t *file_entries;
	directory_loaded file_loaded;
	void *file_loaded_context;
};

int directory_create(struct event_base *base, const struct directory_settings *settings, struct directory **result)
{
	struct directory *directory = calloc(1, sizeof(*directory));
	char reason[JSON_DIRECTORY_REASON_SIZE];
	int error = -ENOMEM;

	if (!directory)
		return -ENOMEM;
	if (settings->type == DIRECTORY_API) {
		error = api_directory_create(base, settings, &directory->api);
	} else if ((directory->path = strdup(settings->path))) {
		/* A broken file is said now, but may be repaired before the first question. */
		directory->file_entries = json_directory_read(directory->path, reason);
		if (!directory->file_entries)
			log_error("directory: %s", reason);
		error = 0;
	}
	if (error) {
		directory_free(directory);
		return error;
	}
	*result = directory;
	return 0;
}

bool directory_check(const struct directory_settings *settings)
{
	char reason[JSON_DIRECTORY_REASON_SIZE];

	if (settings->type == DIRECTORY_API) {
		bool fine = tls_check_client(settings->jsonrpc_client->tls, "directory");
		struct verifier *verifier = verifier_create(&settings->ca_certificate_files,
							    &settings->ca_intermediate_certificate_files, reason);

		if (!verifier)
			log_error("certificates for record signatures: %s", reason);
		verifier_free(verifier);
		return fine && verifier;
	}
	json_t *entries = json_directory_read(settings->path, reason);

	if (!entries)
		log_error("directory: %s", reason);
	json_decref(entries);
	return entries;
}

void directory_free(struct directory *directory)
{
	if (!directory)
		return;
	api_directory_free(directory->api);
	json_decref(directory->file_entries);
	free(directory->path);
	free(directory);
}

static void read_files(struct directory *directory, directory_ready ready, void *context)
{
	char reason[JSON_DIRECTORY_REASON_SIZE];
	json_t *entries = json_directory_read(directory->path, reason);

	if (!entries) {
		log_error("directory: %s", reason);
		ready(reason, context);
		return;
	}
	json_decref(directory->file_entries);
	directory->file_entries = entries;
	if (directory->file_loaded)
		directory->file_loaded(directory->file_loaded_context);
	ready(NULL, context);
}

void directory_refresh(struct directory *directory, directory_ready ready, void *context)
{
	if (directory->api)
		api_directory_refresh(directory->api, ready, context);
	else
		read_files(directory, ready, context);
}

void directory_await(struct directory *directory, directory_ready ready, void *context)
{
	if (directory->api)
		api_directory_await(directory->api, ready, context);
	else
		read_files(directory, ready, context);
}

void directory_watch(struct directory *directory, directory_loaded loaded, void *context)
{
	if (directory->api) {
		api_directory_watch(directory->api, loaded, context);
	} else {
		directory->file_loaded = loaded;
		directory->file_loaded_context = context;
	}
}

static const json_t *all_entries(const struct directory *directory)
{
	return directory->api ? api_directory_replica(directory->api)->entries : directory->file_entries;
}

json_t *directory_entry(const struct directory *directory, const char *name)
{
	return json_object_get(all_entries(directory), name);
}

static bool has_any_channel(const json_t *entry, const json_t *channels)
{
	for (size_t i = 0; i < json_array_size(channels); i++) {
		const char *type = json_string_value(json_array_get(channels, i));

		if (type && entry_channel(entry, type))
			return true;
	}
	return false;
}

json_t *directory_query(const struct directory *directory, const char *operator_name, const char *group,
			const json_t *channels)
{
	json_t *result = json_array(), *entry;
	const char *name;

	json_object_foreach((json_t *)all_entries(directory), name, entry)
	{
		if ((operator_name && strcmp(name, operator_name)) || (group && !entry_has_group(entry, group)) ||
		    (channels && !has_any_channel(entry, channels)))
			continue;
		if (json_array_append(result, entry)) {
			json_decref(result);
			return NULL;
		}
	}
	return result;
}

const json_t *directory_records(const struct directory *directory)
{
	return directory->api ? api_directory_replica(directory->api)->records : NULL;
}
