// SPDX-License-Identifier: Apache-2.0
/* The control protocol's methods, a table of them. Answers are copies; nothing
 * here changes the proxy, and no answer holds a token. */
#include "proxy/control.h"

#include "base/cleanup.h"
#include "base/instant.h"
#include "base/program.h"
#include "proxy/view.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOT_FOUND 404
#define MUCH 100 /* members of a list */

/* Resident memory of this process in bytes; 0: unknown. */
static uint64_t resident_bytes(void)
{
	_fclose_ FILE *file = fopen("/proc/self/statm", "re");
	unsigned long long size, resident;

	if (!file || fscanf(file, "%llu %llu", &size, &resident) != 2)
		return 0;
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void answer(struct jsonrpc_call *call, json_t *result)
{
	if (result)
		jsonrpc_call_result(call, result);
	else
		jsonrpc_call_error(call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
}

static json_t *view_endpoint(const struct control *control)
{
	struct endpoint_totals totals;
	json_t *refused = json_object();

	endpoint_totals(control->endpoint_listener, &totals);
	for (unsigned i = 0; i < OUTCOME_COUNT; i++) {
		uint64_t count = refusals_count(control->refusals, i);
		if (count > 0)
			json_object_set_new(refused, outcome_word(i), json_integer((json_int_t)count));
	}
	json_t *result = json_pack("{s:s, s:s, s:I, s:i, s:i, s:i, s:o}", "listens_on",
				   endpoint_address(control->endpoint_listener), "told_to_peers", control->endpoint,
				   "accepted", (json_int_t)totals.accepted, "reading_token", (int)totals.reading, "waiting",
				   (int)totals.waiting, "settling", (int)totals.settling, "refused", refused);
	if (control->tls_endpoint)
		json_object_set_new(result, "tls",
				    json_pack("{s:s, s:s, s:I}", "listens_on",
					      endpoint_tls_address(control->endpoint_listener), "told_to_peers",
					      control->tls_endpoint, "accepted", (json_int_t)totals.tls_accepted));
	return result;
}

static void status(struct control *control, struct jsonrpc_call *call)
{
	struct relay_totals relay;
	struct broker_totals broker;

	relay_totals(control->relay, &relay);
	broker_totals(control->broker, &broker);
	answer(call, json_pack("{s:s, s:s, s:i, s:I, s:b, s:I, s:i, s:o, s:o, s:o}", "name", control->name, "version",
			       PROGRAM_VERSION, "pid", (int)getpid(), "uptime_ms",
			       (json_int_t)(clock_now_ms() - control->started_ms), "stopping", (int)control->is_stopping,
			       "resident_bytes", (json_int_t)resident_bytes(), "workers",
			       (int)relay_worker_count(control->relay), "endpoint", view_endpoint(control), "tickets",
			       view_broker_totals(&broker), "pairs", view_relay_totals(&relay)));
}

static void add_pair(const struct pair_report *report, void *context)
{
	json_array_append_new(context, view_pair(report));
}

static int compare_ids(const void *a, const void *b)
{
	json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "id"));
	json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "id"));

	return (x > y) - (x < y);
}

/* Workers and shards give their parts in any order; people read by age. */
static json_t *sorted_by_id(json_t *list)
{
	size_t count = json_array_size(list);
	_free_ json_t **items = calloc(count + 1, sizeof(json_t *));
	json_t *result = json_array();

	for (size_t i = 0; items && i < count; i++)
		items[i] = json_array_get(list, i);
	if (items)
		qsort(items, count, sizeof *items, compare_ids);
	for (size_t i = 0; items && i < count; i++)
		json_array_append(result, items[i]);
	json_decref(list);
	return result;
}

static void pairs(struct control *control, struct jsonrpc_call *call)
{
	json_t *list = json_array();

	relay_visit_pairs(control->relay, add_pair, list);
	control->has_said_much |= json_array_size(list) > MUCH;
	answer(call, json_pack("{s:o}", "pairs", sorted_by_id(list)));
}

static void pair(struct control *control, struct jsonrpc_call *call)
{
	const json_t *id = json_object_get(call->params, "id");
	double value = json_number_value(id);
	struct pair_report report;

	if (!json_is_number(id) || value < 0 || value > 9e15 || floor(value) != value) {
		json_t *fields = json_pack("{s:s}", "id", "expected the number of a pair");
		jsonrpc_call_error(call, JSONRPC_INVALID_PARAMS, "invalid params", jsonrpc_form_error(fields));
		json_decref(fields);
	} else if (relay_find_pair(control->relay, (uint64_t)value, &report)) {
		jsonrpc_call_error(call, NOT_FOUND, "no such pair (it may have ended: see the log)", NULL);
	} else {
		answer(call, view_pair(&report));
	}
}

struct ticket_list {
	json_t *list;
	uint64_t now_ms;
};

static void add_ticket(const struct ticket *ticket, void *context)
{
	struct ticket_list *tickets = context;

	json_array_append_new(tickets->list, view_ticket(ticket, tickets->now_ms));
}

static void tickets(struct control *control, struct jsonrpc_call *call)
{
	struct ticket_list open = {json_array(), clock_now_ms()};

	broker_visit_tickets(control->broker, add_ticket, &open);
	control->has_said_much |= json_array_size(open.list) > MUCH;
	answer(call, json_pack("{s:o}", "tickets", sorted_by_id(open.list)));
}

static void probe(struct control *control, struct jsonrpc_call *call)
{
	answer(call, view_probe(relay_probed(control->relay)));
}

static const struct {
	const char *name;
	void (*handle)(struct control *control, struct jsonrpc_call *call);
} methods[] = {
	{"status", status}, {"pairs", pairs}, {"pair", pair}, {"tickets", tickets}, {"probe", probe},
};

void control_handle(struct jsonrpc_call *call, void *context)
{
	for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
		if (strcmp(call->method, methods[i].name) == 0) {
			methods[i].handle(context, call);
			return;
		}
	}
	jsonrpc_call_error(call, JSONRPC_METHOD_NOT_FOUND, "method not found", NULL);
}
