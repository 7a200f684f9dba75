// SPDX-License-Identifier: Apache-2.0
/* `p2pctl tickets`: who waits for whom. */
#include "ask.h"
#include "format.h"
#include "table.h"

#include <inttypes.h>
#include <stdio.h>

static bool is_sound(const json_t *answer)
{
	return has_list(answer, "tickets");
}

int command_tickets(const struct options *options, char **arguments)
{
	static const char *const headings[] = {">TICKET", "REQUESTER", "CALLEE", "STATE", ">AGE", ">EXPIRES IN", NULL};
	json_t *answer = ask(options, "tickets", NULL, is_sound);
	const json_t *tickets = json_object_get(answer, "tickets");
	int result = 0;

	(void)arguments;
	if (!answer)
		return 1;
	if (options->json) {
		result = print_json(answer);
	} else if (json_array_size(tickets) == 0) {
		puts("No ticket is open.");
	} else {
		struct table *table = table_new(headings);
		size_t index;
		json_t *ticket;
		json_array_foreach((json_t *)tickets, index, ticket) {
			char text[FORMAT_SIZE], name[FORMAT_NAME_SIZE];
			table_cell_f(table, "%" PRIu64, number_of(ticket, "id"));
			table_cell(table, format_name(text_of(ticket, "requester"), name));
			table_cell(table, format_name(text_of(ticket, "callee"), name));
			table_cell(table, text_of(ticket, "state"));
			table_cell(table, format_duration(number_of(ticket, "age_ms"), text));
			table_cell(table, format_duration(number_of(ticket, "expires_in_ms"), text));
		}
		table_print(table);
	}
	json_decref(answer);
	return result;
}
