// SPDX-License-Identifier: Apache-2.0
/* Any text as a settings file, YAML or JSON by its first byte, through every
 * step and into the typed settings of each program. */
#include "settings/form.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A variable may ask: nobody answers. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	int nothing = open("/dev/null", O_RDONLY);

	(void)argc, (void)argv;
	if (nothing >= 0)
		dup2(nothing, STDIN_FILENO);
	return 0;
}

static void swallow(bool is_error, const char *file, unsigned line, const char *text, void *context)
{
	(void)is_error, (void)file, (void)line, (void)text, (void)context;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct form_shape *const shapes[] = { &hyper_shape, &proxy_shape, &sd_shape };
	const char *file = size && data[0] == '{' ? "no-such-folder/x.json" : "no-such-folder/x.yml";

	for (int i = 0; i < 3; i++) {
		struct settings_tree *tree;

		if (settings_tree_load_text(file, (const char *)data, size, swallow, NULL, &tree))
			return 0;
		json_decref(setting_to_json(settings_tree_root(tree)));
		form_free(form_load_tree(tree, swallow, NULL, shapes[i]));
	}
	return 0;
}
