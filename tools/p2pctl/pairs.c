// SPDX-License-Identifier: Apache-2.0
/* `p2pctl pairs`: each live pair in two lines, one per direction, and a third
 * that says why it has its plane. An address stands only where its party sends:
 * two of IPv6 in a line are wider than most terminals. */
#include "ask.h"
#include "format.h"
#include "table.h"

#include <inttypes.h>
#include <stdio.h>

static void add_direction(struct table *table, const json_t *pair, unsigned from)
{
	const json_t *parties = json_object_get(pair, "parties");
	const json_t *sender = json_array_get(parties, from), *receiver = json_array_get(parties, !from);
	const json_t *direction = json_array_get(json_object_get(pair, "directions"), from);
	bool is_ended = json_is_true(json_object_get(direction, "ended"));
	char text[256], name[FORMAT_NAME_SIZE];

	table_cell_f(table, "%s %s", format_name(text_of(sender, "operator"), name), text_of(sender, "address"));
	table_cell(table, format_name(text_of(receiver, "operator"), name));
	table_cell(table, format_bytes(number_of(direction, "bytes"), text));
	table_cell_f(table, "%" PRIu64, number_of(direction, "packets"));
	table_cell(table, format_bytes(number_of(direction, "spilled_bytes"), text));
	table_cell(table, is_ended ? "ended" : text_of(direction, "gate"));
	table_cell(table, format_bytes(number_of(direction, "credit_bytes"), text));
	table_cell(table, format_counts(json_object_get(direction, "closings"), "-", text, sizeof text));
}

static void print_pairs(const json_t *pairs)
{
	static const char *const headings[] = {">PAIR", ">AGE", "FROM", "TO", ">BYTES", ">PACKETS",
					       ">SPILLED", "GATE", ">CREDIT", "CLOSINGS", NULL};
	struct table *table = table_new(headings);
	size_t index;
	json_t *pair;

	json_array_foreach((json_t *)pairs, index, pair) {
		char text[FORMAT_SIZE], note[512];
		table_cell_f(table, "%" PRIu64, number_of(pair, "id"));
		table_cell(table, format_duration(number_of(pair, "age_ms"), text));
		add_direction(table, pair, 0);
		table_cell(table, "");
		table_cell(table, "");
		add_direction(table, pair, 1);
		const json_t *parties = json_object_get(pair, "parties");
		snprintf(note, sizeof note, "      plane %s: %s; transports: %s and %s", text_of(pair, "plane"),
			 text_of(pair, "plane_reason"), text_of(json_array_get(parties, 0), "transport"),
			 text_of(json_array_get(parties, 1), "transport"));
		table_note(table, note);
	}
	table_print(table);
}

static bool is_sound(const json_t *answer)
{
	return has_list(answer, "pairs");
}

int command_pairs(const struct options *options, char **arguments)
{
	json_t *answer = ask(options, "pairs", NULL, is_sound);
	const json_t *pairs = json_object_get(answer, "pairs");
	int result = 0;

	(void)arguments;
	if (!answer)
		return 1;
	if (options->json)
		result = print_json(answer);
	else if (json_array_size(pairs) == 0)
		puts("No pair is joined.");
	else
		print_pairs(pairs);
	json_decref(answer);
	return result;
}
