// SPDX-License-Identifier: Apache-2.0
/* From a search path to one merged tree (protocol page 2.1): which files, in
 * which order, each processed for itself and then merged into what the earlier
 * ones gave. Goes on after a fault, so that an operator sees all of them. */
#include "base/cleanup.h"
#include "settings/reading.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

char *path_directory(struct arena *arena, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return arena_copy(arena, ".", 1);
	return arena_copy(arena, path, slash == path ? 1 : (size_t)(slash - path));
}

/* Appends the components of `path` to the clean `result`. */
static size_t append_components(char *result, size_t length, const char *path)
{
	bool absolute = *result == '/';

	while (*path) {
		size_t size = strcspn(path, "/");
		size_t start;

		if (size == 2 && !memcmp(path, "..", 2)) {
			for (start = length; start > 0 && result[start - 1] != '/'; start--)
				;
			if (length > absolute && strcmp(result + start, "..")) {
				length = start > 1 ? start - 1 : absolute;
				result[length] = 0;
				size = 0;
			} else if (absolute) {
				size = 0; /* above the root is the root */
			}
		} else if (size == 1 && *path == '.') {
			path++;
			size = 0;
			path += *path == '/';
			continue;
		}
		if (size) {
			if (length && result[length - 1] != '/')
				result[length++] = '/';
			memcpy(result + length, path, size);
			length += size;
			result[length] = 0;
		}
		path += strcspn(path, "/");
		path += *path == '/';
	}
	return length;
}

char *path_join(struct arena *arena, const char *directory, const char *path)
{
	size_t length = 0;
	char *result = arena_alloc(arena, strlen(directory) + strlen(path) + 4);

	if (*path == '/' || *directory == '/')
		result[length++] = '/';
	if (*path != '/')
		length = append_components(result, length, directory);
	length = append_components(result, length, path);
	if (!length)
		result[0] = '.';
	return result;
}

static bool ends_with(const char *text, const char *ending)
{
	size_t length = strlen(text), size = strlen(ending);

	return length >= size && !strcmp(text + length - size, ending);
}

bool path_is_settings_file(const char *path)
{
	return ends_with(path, ".yml") || ends_with(path, ".json");
}

/* The whole file, in the arena. */
static int read_file(struct reading *reading, const char *path, char **text, size_t *length)
{
	/* Opening a FIFO would wait for a writer. */
	_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat status;
	size_t filled = 0;
	char *bytes;

	if (fd < 0 || fstat(fd, &status))
		return -errno;
	if (S_ISDIR(status.st_mode))
		return -EISDIR;
	if (!S_ISREG(status.st_mode))
		return -ENOTSUP;
	if (status.st_size > MOST_FILE_BYTES)
		return -EFBIG;
	bytes = arena_alloc(&reading->tree->arena, (size_t)status.st_size + 1);
	while (filled < (size_t)status.st_size) {
		ssize_t count = read(fd, bytes + filled, (size_t)status.st_size - filled);

		if (count < 0)
			return -errno;
		if (!count)
			break;
		filled += (size_t)count;
	}
	*text = bytes;
	*length = filled;
	return 0;
}

struct setting *text_process(struct reading *reading, const char *file, const char *path, const char *text,
			     size_t length)
{
	unsigned errors = reading->errors;
	struct setting *root;

	if (reading->open_count == MOST_NESTED_FILES) {
		reading_error(reading, file, 0, "more than %d files include each other", MOST_NESTED_FILES);
		return NULL;
	}
	reading->open_files[reading->open_count++] = path;
	root = ends_with(path, ".json") ? json_file_parse(reading, file, text, length) :
					  yaml_file_parse(reading, file, text, length);
	if (root)
		root = includes_expand(reading, root, path);
	/* What could not be included may be what a reference or a variable needs:
	 * more messages would only hide the first. */
	if (root && reading->errors == errors)
		root = references_resolve(reading, root);
	if (root && reading->errors == errors)
		variables_apply(reading, root, file, path);
	reading->open_count--;
	return root;
}

static const char *read_problem(int error)
{
	return error == -ENOTSUP ? "it is no regular file" : strerror(-error);
}

struct setting *file_process(struct reading *reading, const char *file, const char *path, const struct setting *site)
{
	size_t length = 0;
	char *text = NULL;
	int error = read_file(reading, path, &text, &length);

	if (error) {
		if (site)
			reading_error(reading, site->file, site->line, "cannot include %s: %s", file,
				      read_problem(error));
		else
			reading_error(reading, file, 0, "cannot be read: %s", read_problem(error));
		return NULL;
	}
	return text_process(reading, file, path, text, length);
}

static void merge_root(struct reading *reading, struct setting *root, const char *file)
{
	if (!root)
		return;
	if (root->type != SETTING_MAP && root->type != SETTING_NULL) {
		reading_error(reading, file, root->line, "the top level must be a map, not %s",
			      setting_type_name(root->type));
		return;
	}
	if (!reading->tree->root->file) { /* what is missing at the top is missing in the first file */
		reading->tree->root->file = root->file;
		reading->tree->root->line = root->line;
	}
	settings_merge(reading, reading->tree->root, root);
}

static void load_file(struct reading *reading, const char *file, const char *path)
{
	if (!path_is_settings_file(path)) {
		reading_error(reading, file, 0, "settings are .yml and .json files, and folders of them");
		return;
	}
	merge_root(reading, file_process(reading, file, path, NULL), file);
}

static int is_settings_entry(const struct dirent *entry)
{
	return path_is_settings_file(entry->d_name);
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void load_directory(struct reading *reading, const char *file, const char *path)
{
	struct arena *arena = &reading->tree->arena;
	struct dirent **entries;
	int count = scandir(path, &entries, is_settings_entry, by_bytes);

	if (count < 0) {
		reading_error(reading, file, 0, "the folder cannot be read: %s", strerror(errno));
		return;
	}
	if (!count) /* often the other spelling, .yaml */
		reading_warning(reading, file, 0, "the folder holds no .yml and no .json files");
	for (int i = 0; i < count; i++) {
		const char *inner = path_join(arena, path, entries[i]->d_name);
		const char *name = path_join(arena, file, entries[i]->d_name);
		struct stat status;

		if (stat(inner, &status)) /* editors leave links that lead nowhere as locks */
			reading_warning(reading, name, 0, "left out, it cannot be opened: %s", strerror(errno));
		else if (S_ISREG(status.st_mode))
			load_file(reading, name, inner);
		free(entries[i]);
	}
	free(entries);
}

static void load_part(struct reading *reading, const char *file)
{
	struct arena *arena = &reading->tree->arena;
	char working[PATH_MAX] = "/";
	struct stat status;
	const char *path;

	if (*file != '/' && !getcwd(working, sizeof(working))) {
		reading_error(reading, file, 0, "the working directory is not known: %s", strerror(errno));
		return;
	}
	path = path_join(arena, working, file);
	if (stat(path, &status))
		reading_error(reading, file, 0, "cannot be opened: %s", strerror(errno));
	else if (S_ISDIR(status.st_mode))
		load_directory(reading, file, path);
	else
		load_file(reading, file, path);
}

static struct settings_tree *tree_create(struct reading *reading, settings_report report, void *context)
{
	struct settings_tree *tree = calloc(1, sizeof(*tree));

	if (!tree)
		return NULL;
	memset(reading, 0, sizeof(*reading));
	reading->tree = tree;
	reading->report = report ? report : settings_report_to_log;
	reading->context = context;
	tree->root = setting_create(reading, SETTING_MAP, NULL, 0);
	return tree;
}

static int finish(struct reading *reading, struct settings_tree **result)
{
	if (reading->errors) {
		settings_tree_free(reading->tree);
		return -EINVAL;
	}
	*result = reading->tree;
	return 0;
}

int settings_tree_load(const char *search_path, settings_report report, void *context, struct settings_tree **result)
{
	struct reading reading;

	if (!tree_create(&reading, report, context))
		return -ENOMEM;
	while (*search_path) {
		size_t length = strcspn(search_path, ":");

		if (length)
			load_part(&reading, arena_copy(&reading.tree->arena, search_path, length));
		search_path += length + (search_path[length] == ':');
	}
	return finish(&reading, result);
}

int settings_tree_load_text(const char *file, const char *text, size_t length, settings_report report, void *context,
			    struct settings_tree **result)
{
	struct reading reading;
	const char *path;

	if (!tree_create(&reading, report, context))
		return -ENOMEM;
	file = arena_copy(&reading.tree->arena, file, strlen(file));
	path = path_join(&reading.tree->arena, "/", file);
	merge_root(&reading, text_process(&reading, file, path, text, length), file);
	return finish(&reading, result);
}

void settings_tree_free(struct settings_tree *tree)
{
	if (!tree)
		return;
	arena_free(&tree->arena);
	free(tree);
}
