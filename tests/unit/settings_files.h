// SPDX-License-Identifier: Apache-2.0
#pragma once
/* A folder of settings files for one test, and what the loader reports of it. */
#include "base/json.h"
#include "settings/loader.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static char reports[16384]; /* "error NAME:LINE: text" lines, the folder left out */

static inline void collect_report(bool is_error, const char *file, unsigned line, const char *text, void *context)
{
	size_t length = strlen(reports);
	size_t prefix = strlen(folder);

	(void)context;
	if (file && prefix && !strncmp(file, folder, prefix) && file[prefix] == '/')
		file += prefix + 1;
	snprintf(reports + length, sizeof(reports) - length, "%s %s:%u: %s\n", is_error ? "error" : "warning",
		 file ? file : "-", line, text);
}

static inline int make_folder(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/settings-test.XXXXXX");
	reports[0] = 0;
	return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
	(void)status, (void)kind, (void)walk;
	return remove(path);
}

static inline int remove_folder(void **state)
{
	(void)state;
	return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* Path of `name` in the folder; a static buffer. */
static inline const char *in_folder(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static inline void put_file(const char *name, const char *text)
{
	char directory[512];
	FILE *file;

	snprintf(directory, sizeof(directory), "%s", in_folder(name));
	for (char *slash = directory + strlen(folder) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = 0;
		mkdir(directory, 0700);
	}
	file = fopen(in_folder(name), "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static inline void assert_reported(const char *expected)
{
	if (!strstr(reports, expected))
		fail_msg("'%s' is not in:\n%s", expected, reports);
}
