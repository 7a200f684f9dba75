// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Settings files: finding, reading, `$include`, `$ref`, `vars`, merging
 * (protocol page 2.1 and 2.2). The result is a tree whose every node knows the
 * file and line it came from, so that errors can name them.
 *
 * A tree belongs to one thread and lives until settings_tree_free(). */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum setting_type { SETTING_NULL, SETTING_BOOL, SETTING_INT, SETTING_FLOAT, SETTING_STRING, SETTING_LIST, SETTING_MAP };

struct setting {
	enum setting_type type;
	const char *file; /* as opened */
	unsigned line;    /* from 1 */
	union {
		bool boolean;
		int64_t integer;
		double real;
		char *string;
		struct {
			struct setting **items;
			char **keys; /* NULL for lists */
			size_t count;
		};
	};
};

struct settings_tree;

/* Where problems go: by default to the log. `is_error` false is a warning.
 * `file` may be NULL where no file is to blame. */
typedef void (*settings_report)(bool is_error, const char *file, unsigned line, const char *text, void *context);
void settings_report_to_log(bool is_error, const char *file, unsigned line, const char *text, void *context);

/* `search_path`: the value of HYPER_SETTINGS and the like, parts split at ':'.
 * Returns 0, or a negative errno after every problem found was reported. */
int settings_tree_load(const char *search_path, settings_report report, void *context, struct settings_tree **result);
void settings_tree_free(struct settings_tree *tree);

/* The merged top-level map. Borrowed from the tree. */
const struct setting *settings_tree_root(const struct settings_tree *tree);

/* Child of a map, or NULL. */
const struct setting *setting_child(const struct setting *map, const char *key);

/* The node as JSON (verbatim maps such as channel settings of others). */
json_t *setting_to_json(const struct setting *node);
