// SPDX-License-Identifier: Apache-2.0
/* The shapes of the control protocol, one function each; units stand in the
 * names of members. `docs/` describes them, p2pctl prints them with --json as
 * they are. */
#include "proxy/view.h"

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *by_reason(const uint64_t closings[CLOSING_COUNT])
{
	json_t *result = json_object();
	for (unsigned i = 0; i < CLOSING_COUNT; i++)
		json_object_set_new(result, closing_reason_name(i), number(closings[i]));
	return result;
}

/* Outcomes that never occurred are left out. */
static json_t *by_outcome(const uint64_t counts[OUTCOME_COUNT])
{
	json_t *result = json_object();
	for (unsigned i = 0; i < OUTCOME_COUNT; i++)
		if (counts[i] > 0)
			json_object_set_new(result, outcome_word(i), number(counts[i]));
	return result;
}

static const char *gate_name(enum gate_state gate)
{
	switch (gate) {
	case GATE_STATE_CLOSED:
		return "closed";
	case GATE_STATE_OPEN:
		return "open";
	case GATE_STATE_BROKEN:
		return "broken";
	default:
		return "none";
	}
}

static json_t *view_party(const struct relay_party_report *party)
{
	/* Parties of the plain endpoint are known by holding the token; their names
	 * follow from the order in which they came. Those that came over TLS are
	 * identified by their certificate. */
	return json_pack("{s:s, s:s, s:s, s:b}", "operator", party->operator_name, "address", party->address, "transport",
			 transport_name(party->transport), "identified", party->transport != TRANSPORT_PLAIN);
}

static json_t *view_direction(const struct direction_report *direction)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "bytes", number(direction->bytes),
			 "packets", number(direction->packets), "redirected_bytes", number(direction->redirected_bytes),
			 "spilled_bytes", number(direction->spilled_bytes), "gate", gate_name(direction->gate), "closings",
			 by_reason(direction->closings), "openings", number(direction->openings), "holds",
			 number(direction->holds), "gatherings", number(direction->gatherings),
			 "trims", number(direction->trims), "breaks", number(direction->breaks), "credit_bytes",
			 number(direction->credit_bytes), "in_flight_bytes", number(direction->in_flight_bytes), "ended",
			 (int)direction->ended);
}

json_t *view_pair(const struct pair_report *report)
{
	return json_pack("{s:o, s:i, s:o, s:s, s:s, s:[o, o], s:[o, o]}", "id", number(report->id), "worker",
			 (int)report->worker, "age_ms", number(report->age_ms), "plane", plane_name(report->plane),
			 "plane_reason", report->plane_reason, "parties", view_party(&report->parties[0]),
			 view_party(&report->parties[1]), "directions", view_direction(&report->directions[0]),
			 view_direction(&report->directions[1]));
}

json_t *view_ticket(const struct ticket *ticket, uint64_t now_ms)
{
	return json_pack("{s:o, s:s, s:s, s:s, s:o, s:o}", "id", number(ticket->id), "requester", ticket->requester,
			 "callee", ticket->callee, "state", ticket_state_name(ticket->state), "age_ms",
			 number(now_ms > ticket->issued_ms ? now_ms - ticket->issued_ms : 0), "expires_in_ms",
			 number(ticket->deadline_ms > now_ms ? ticket->deadline_ms - now_ms : 0));
}

json_t *view_broker_totals(const struct broker_totals *totals)
{
	return json_pack("{s:i, s:o, s:o, s:o, s:o}", "open", (int)totals->open, "issued", number(totals->issued),
			 "matched", number(totals->matched), "turned_away", number(totals->turned_away), "ended",
			 by_outcome(totals->ended));
}

json_t *view_relay_totals(const struct relay_totals *totals)
{
	json_t *by_plane = json_object();
	for (unsigned i = 0; i < PLANE_COUNT; i++)
		json_object_set_new(by_plane, plane_name(i), number(totals->pairs_by_plane[i]));

	json_t *credit = json_pack("{s:o, s:o}", "lent_bytes", number(totals->credit_lent_bytes), "budget_bytes",
				   number(totals->credit_budget_bytes));
	json_t *buffers = json_pack("{s:o, s:o}", "lent_bytes", number(totals->buffers_lent_bytes), "budget_bytes",
				    number(totals->buffers_budget_bytes));
	json_t *gates = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "closings", by_reason(totals->closings),
				  "openings", number(totals->openings), "holds", number(totals->holds), "trims",
				  number(totals->trims), "breaks",
				  number(totals->breaks), "late_records", number(totals->late_records), "found_by_sweep",
				  number(totals->found_by_sweep), "books_checked", number(totals->books_checked),
				  "books_wrong", number(totals->books_wrong));
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "live", number(totals->pairs_live),
			 "joined", number(totals->pairs_joined), "by_plane", by_plane, "ended",
			 by_outcome(totals->ended), "bytes", number(totals->bytes), "redirected_bytes",
			 number(totals->redirected_bytes), "spilled_bytes", number(totals->spilled_bytes), "packets",
			 number(totals->packets), "credit", credit, "buffers", buffers, "gates",
			 gates);
}

static const char *probe_state_name(enum probe_state state)
{
	return state == PROBE_YES ? "yes" : state == PROBE_NO ? "no" : "forbidden";
}

json_t *view_probe(const struct probe_report *report)
{
	json_t *items = json_array(), *planes = json_object();

	for (unsigned i = 0; i < report->count && i < PROBE_ITEMS_MAX; i++)
		json_array_append_new(items, json_pack("{s:s, s:s, s:s}", "name", report->items[i].name, "state",
						       probe_state_name(report->items[i].state), "sentence",
						       report->items[i].sentence));
	for (unsigned i = 0; i < PLANE_COUNT; i++)
		json_object_set_new(planes, plane_name(i), json_boolean(report->planes[i]));
	return json_pack("{s:o, s:o}", "planes", planes, "items", items);
}
