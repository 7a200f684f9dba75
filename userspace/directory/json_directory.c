// SPDX-License-Identifier: Apache-2.0
/* Directory in files, see json_directory.h. */
#include "directory/json_directory.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "directory/entry.h"
#include "directory/record.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool refuse(char reason[JSON_DIRECTORY_REASON_SIZE], const char *file, const char *why)
{
	snprintf(reason, JSON_DIRECTORY_REASON_SIZE, "%s: %s", file, why);
	return false;
}

static json_t *read_json(const char *path, char reason[JSON_DIRECTORY_REASON_SIZE])
{
	_fclose_ FILE *file = fopen(path, "r");
	_free_ char *text = NULL;
	json_error_t error;
	json_t *json;
	size_t capacity = 0;
	ssize_t length;

	if (!file) {
		refuse(reason, path, strerror(errno));
		return NULL;
	}
	length = getdelim(&text, &capacity, 0, file); /* JSON text has no NUL: this is the whole file */
	json = json_read(text ? text : "", length > 0 ? (size_t)length : 0, &error);
	if (!json)
		snprintf(reason, JSON_DIRECTORY_REASON_SIZE, "%s:%d: %s", path, error.line, error.text);
	return json;
}

static bool add_file(json_t *entries, const char *path, char reason[JSON_DIRECTORY_REASON_SIZE])
{
	char problem[RECORD_PROBLEM_SIZE];
	json_t *json = read_json(path, reason), *records, *record;
	bool fine = true;
	size_t i;

	if (!json)
		return false;
	records = record_file_normalise(json, problem);
	json_decref(json);
	if (!records)
		return refuse(reason, path, problem);
	json_array_foreach(records, i, record)
	{
		/* What peers see of an unsigned record. */
		json_t *unsigned_record = json_pack("{s:s, s:s, s:n, s:O}", "parent_hash", "", "hash", "", "signature", "record", record);

		fine = fine && unsigned_record && !entries_integrate(entries, unsigned_record);
		json_decref(unsigned_record);
	}
	json_decref(records);
	return fine || refuse(reason, path, "out of memory");
}

/* "json" behind at least one other character, wherever that is. */
static int is_json_name(const struct dirent *item) { return *item->d_name && strstr(item->d_name + 1, "json") != NULL; }

static int compare_names(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static bool add_folder(json_t *entries, const char *path, char reason[JSON_DIRECTORY_REASON_SIZE])
{
	struct dirent **items;
	int count = scandir(path, &items, is_json_name, compare_names);
	bool fine = count >= 0 || refuse(reason, path, strerror(errno));

	for (int i = 0; i < count; i++) {
		_free_ char *file = NULL;
		struct stat status;

		if (asprintf(&file, "%s/%s", path, items[i]->d_name) < 0)
			fine = refuse(reason, path, "out of memory");
		else if (fine && (stat(file, &status) || !S_ISDIR(status.st_mode)))
			fine = add_file(entries, file, reason);
		free(items[i]);
	}
	if (count >= 0)
		free(items);
	return fine;
}

json_t *json_directory_read(const char *path, char reason[JSON_DIRECTORY_REASON_SIZE])
{
	json_t *entries = json_object();
	struct stat status;
	bool fine;

	if (!entries || stat(path, &status))
		fine = refuse(reason, path, entries ? strerror(errno) : "out of memory");
	else
		fine = S_ISDIR(status.st_mode) ? add_folder(entries, path, reason) : add_file(entries, path, reason);
	if (fine)
		return entries;
	json_decref(entries);
	return NULL;
}
