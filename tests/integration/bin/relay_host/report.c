// SPDX-License-Identifier: Apache-2.0
/* Pure conversions; the names are those of relay.h, so that the test program fills
 * the same structs again. */
#include "report.h"

#include <stdlib.h>
#include <string.h>

static int port_of(const struct relay_party_report *party)
{
	const char *colon = strrchr(party->address, ':');

	return colon ? atoi(colon + 1) : 0;
}

static json_t *counts(const uint64_t *values, size_t count)
{
	json_t *list = json_array();

	for (size_t at = 0; at < count; at++)
		json_array_append_new(list, json_integer((json_int_t)values[at]));
	return list;
}

static json_t *direction(const struct direction_report *report)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:b}",
			 "bytes", (json_int_t)report->bytes, "packets", (json_int_t)report->packets,
			 "redirected", (json_int_t)report->redirected_bytes, "spilled", (json_int_t)report->spilled_bytes,
			 "closings", counts(report->closings, CLOSING_COUNT), "openings", (json_int_t)report->openings,
			 "holds", (json_int_t)report->holds, "gatherings", (json_int_t)report->gatherings,
			 "trims", (json_int_t)report->trims, "breaks", (json_int_t)report->breaks,
			 "credit", (json_int_t)report->credit_bytes, "in_flight", (json_int_t)report->in_flight_bytes,
			 "gate", (int)report->gate, "ended", report->ended);
}

json_t *report_of_pair(const struct pair_report *report)
{
	return json_pack("{s:I, s:i, s:i, s:I, s:s, s:s, s:s, s:[i, i], s:[o, o]}",
			 "id", (json_int_t)report->id, "plane", (int)report->plane, "outcome", (int)report->outcome,
			 "age_ms", (json_int_t)report->age_ms, "reason", report->plane_reason, "detail", report->detail,
			 "word", outcome_word(report->outcome),
			 "ports", port_of(&report->parties[0]), port_of(&report->parties[1]),
			 "directions", direction(&report->directions[0]), direction(&report->directions[1]));
}

json_t *report_of_gates(const struct pair_report *report)
{
	return json_pack("[i, i, I, i, i, i]", port_of(&report->parties[0]), port_of(&report->parties[1]),
			 (json_int_t)report->id, (int)report->plane,
			 (int)report->directions[0].gate, (int)report->directions[1].gate);
}

json_t *report_of_totals(const struct relay_totals *totals)
{
	return json_pack("{s:I, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			 "live", (json_int_t)totals->pairs_live, "joined", (json_int_t)totals->pairs_joined,
			 "ended", counts(totals->ended, OUTCOME_COUNT), "by_plane", counts(totals->pairs_by_plane, PLANE_COUNT),
			 "bytes", (json_int_t)totals->bytes, "redirected", (json_int_t)totals->redirected_bytes,
			 "spilled", (json_int_t)totals->spilled_bytes, "packets", (json_int_t)totals->packets,
			 "closings", counts(totals->closings, CLOSING_COUNT), "openings", (json_int_t)totals->openings,
			 "holds", (json_int_t)totals->holds,
			 "trims", (json_int_t)totals->trims, "breaks", (json_int_t)totals->breaks,
			 "late_records", (json_int_t)totals->late_records, "found_by_sweep", (json_int_t)totals->found_by_sweep,
			 "books_checked", (json_int_t)totals->books_checked, "books_wrong", (json_int_t)totals->books_wrong,
			 "lent", (json_int_t)totals->credit_lent_bytes, "budget", (json_int_t)totals->credit_budget_bytes,
			 "buffers_lent", (json_int_t)totals->buffers_lent_bytes,
			 "buffers_budget", (json_int_t)totals->buffers_budget_bytes);
}
