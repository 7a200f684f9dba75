// SPDX-License-Identifier: Apache-2.0
/* `p2pctl probe`: what this kernel can do for the relay. A running proxy is
 * asked for what it found at its start; without one, or with --here, the probe
 * is made by this process with its own privileges. */
#include "ask.h"
#include "table.h"

#include "proxy/view.h"

#include <stdio.h>

static void print_probe(const json_t *probe, bool is_ours)
{
	static const char *const headings[] = {"CAPABILITY", "STATE", "WHAT CAME OF IT", NULL};
	struct table *table = table_new(headings);
	const json_t *items = json_object_get(probe, "items"), *planes = json_object_get(probe, "planes");
	json_t *item;
	size_t index;

	printf("%s\n", is_ours ? "Probed now, with the privileges of this command:"
			       : "What the running proxy found at its start:");
	json_array_foreach((json_t *)items, index, item) {
		table_cell(table, text_of(item, "name"));
		table_cell(table, text_of(item, "state"));
		table_cell(table, text_of(item, "sentence"));
	}
	table_print(table);
	printf("Planes for pairs:");
	/* In an order of its own: that of members changes on the way. */
	for (enum plane plane = 0; plane < PLANE_COUNT; plane++)
		printf("  %s %s", plane_name(plane), json_is_true(json_object_get(planes, plane_name(plane))) ? "yes" : "no");
	printf("\n");
}

static bool is_sound(const json_t *answer)
{
	return has_list(answer, "items") && json_is_object(json_object_get(answer, "planes"));
}

int command_probe(const struct options *options, char **arguments)
{
	json_t *probe = options->here ? NULL : ask_quietly(options, "probe", is_sound);
	bool is_ours = !probe;
	int result = 0;

	(void)arguments;
	if (!probe) {
		struct probe_report report = {0};
		relay_probe(PLANE_MASK_ALL, &report);
		probe = view_probe(&report);
	}
	if (options->json) {
		json_object_set_new(probe, "by", json_string(is_ours ? "p2pctl" : "proxy"));
		result = print_json(probe);
	} else {
		print_probe(probe, is_ours);
	}
	json_decref(probe);
	return result;
}
