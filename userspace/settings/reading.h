// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Inside of the settings library: what the steps of reading share. A tree and
 * everything made from it lies in one arena and is freed at once, so no step
 * frees anything. Nobody outside userspace/settings and the tests includes this. */
#include "settings/loader.h"

#define MOST_NESTED_NODES 100   /* maps and lists inside each other */
#define MOST_NODES 200000       /* of one tree: aliases and references multiply */
#define MOST_KEYS 4096          /* of one map: keys are looked for one by one */
#define MOST_NESTED_FILES 32    /* includes inside each other */
#define MOST_FILE_BYTES (16U << 20)

struct arena {
	struct arena_chunk *chunks;
};

/* Zeroed, aligned for every type; never NULL (see arena.c). */
void *arena_alloc(struct arena *arena, size_t size);
char *arena_copy(struct arena *arena, const char *text, size_t length);
char *arena_print(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
void arena_free(struct arena *arena);

struct settings_tree {
	struct arena arena;
	struct setting *root;
};

struct reading {
	struct settings_tree *tree;
	settings_report report;
	void *context;
	unsigned errors, warnings;
	size_t nodes;
	const char *open_files[MOST_NESTED_FILES]; /* clean absolute paths, outermost first */
	unsigned open_count;
};

void reading_error(struct reading *reading, const char *file, unsigned line, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void reading_warning(struct reading *reading, const char *file, unsigned line, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* --- nodes (node.c) --- */

/* A new node, or NULL after "too many values" was reported. */
struct setting *setting_create(struct reading *reading, enum setting_type type, const char *file, unsigned line);
/* Appends to a list (`key` NULL) or a map, whatever keys it has; with MOST_KEYS it reports and stays as it is. */
void setting_append(struct reading *reading, struct setting *parent, const char *key, struct setting *item);
/* Replaces the value of a key, or appends it. */
void setting_put(struct reading *reading, struct setting *map, const char *key, struct setting *item);
/* Index of a key, or -1. */
long setting_find(const struct setting *map, const char *key);
/* Takes a member out. */
void setting_remove(struct setting *map, size_t index);
/* A deep copy; strings are shared, they never change. NULL after a report. */
struct setting *setting_copy(struct reading *reading, const struct setting *node);
/* "a list", "text", … */
const char *setting_type_name(enum setting_type type);

/* --- files (yaml.c, json_file.c, loader.c) --- */

/* The first document; NULL after a report. `file` must live in the arena. */
struct setting *yaml_file_parse(struct reading *reading, const char *file, const char *text, size_t length);
struct setting *json_file_parse(struct reading *reading, const char *file, const char *text, size_t length);
/* Type and value of an unquoted YAML 1.1 scalar; a string if nothing else. */
void yaml_resolve_plain(struct reading *reading, struct setting *node, const char *text, size_t length);

/* Reads one file and does all of page 2.2 to it. `path` is clean and absolute,
 * `file` is how messages call it; both live in the arena. `site` is the value
 * that includes the file, or NULL. NULL after a report. */
struct setting *file_process(struct reading *reading, const char *file, const char *path, const struct setting *site);
struct setting *text_process(struct reading *reading, const char *file, const char *path, const char *text,
			     size_t length);

/* `path` against `directory` without ".", ".." and double slashes. */
/* `path` alone if it is absolute. */
char *path_join(struct arena *arena, const char *directory, const char *path);
char *path_directory(struct arena *arena, const char *path);
bool path_is_settings_file(const char *path);

/* --- steps of page 2.2 and 2.1; each returns the node that takes the place --- */

struct setting *includes_expand(struct reading *reading, struct setting *node, const char *path);
struct setting *references_resolve(struct reading *reading, struct setting *root);
/* Replaces in the values that `file` itself wrote, not in what it included. */
void variables_apply(struct reading *reading, struct setting *root, const char *file, const char *path);
/* Later into earlier, by the rules of page 2.1; `earlier` may be changed. */
struct setting *settings_merge(struct reading *reading, struct setting *earlier, struct setting *later);

/* A tree from one text instead of files, for tests and fuzzing. */
int settings_tree_load_text(const char *file, const char *text, size_t length, settings_report report, void *context,
			    struct settings_tree **result);
