// SPDX-License-Identifier: Apache-2.0
/* What p2pctl and the log show of pairs and tickets. */
#include "base/json.h"
#include "proxy/ending.h"
#include "proxy/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct pair_report some_pair(void)
{
	struct pair_report report = {.id = 7, .worker = 1, .age_ms = 61234, .plane = PLANE_SOCKMAP,
				     .plane_reason = "both transports are plain TCP", .outcome = OUTCOME_HAPPY};

	strcpy(report.parties[0].address, "192.0.2.1:4000");
	strcpy(report.parties[0].operator_name, "hd-2");
	report.parties[0].transport = TRANSPORT_HANDED_OFF;
	strcpy(report.parties[1].address, "[2001:db8::1]:4001");
	strcpy(report.parties[1].operator_name, "hd-1");
	report.directions[0] = (struct direction_report){.bytes = 1ull << 40, .packets = 3, .redirected_bytes = 100,
							 .spilled_bytes = 5, .openings = 2, .holds = 1, .gate = GATE_STATE_OPEN,
							 .closings = {1, 2, 3, 4, 5}, .gatherings = 6, .credit_bytes = 65536};
	report.directions[1] = (struct direction_report){.bytes = 8, .gate = GATE_STATE_CLOSED, .ended = true};
	return report;
}

static void a_pair_shows_everything_about_both_directions(void **unused)
{
	struct pair_report report = some_pair();
	json_t *view = view_pair(&report);
	const json_t *there, *back;

	(void)unused;
	assert_non_null(view);
	assert_int_equal(json_integer_value(json_object_get(view, "id")), 7);
	assert_string_equal(json_text(view, "plane"), "sockmap");
	assert_string_equal(json_text(view, "plane_reason"), "both transports are plain TCP");
	assert_string_equal(json_text(json_array_get(json_object_get(view, "parties"), 1), "operator"), "hd-1");
	assert_string_equal(json_text(json_array_get(json_object_get(view, "parties"), 1), "address"), "[2001:db8::1]:4001");
	const json_t *identified = json_array_get(json_object_get(view, "parties"), 0);
	const json_t *plain = json_array_get(json_object_get(view, "parties"), 1);
	assert_true(json_is_true(json_object_get(identified, "identified")));
	assert_string_equal(json_text(identified, "transport"), "handed off");
	assert_false(json_is_true(json_object_get(plain, "identified")));
	assert_string_equal(json_text(plain, "transport"), "plain TCP");
	there = json_array_get(json_object_get(view, "directions"), 0);
	back = json_array_get(json_object_get(view, "directions"), 1);
	assert_int_equal(json_integer_value(json_object_get(there, "bytes")), 1ll << 40);
	assert_int_equal(json_integer_value(json_object_get(there, "redirected_bytes")), 100);
	assert_int_equal(json_integer_value(json_object_get(there, "credit_bytes")), 65536);
	assert_int_equal(json_integer_value(json_object_get(there, "holds")), 1);
	assert_int_equal(json_integer_value(json_object_get(there, "gatherings")), 6);
	assert_string_equal(json_text(there, "gate"), "open");
	assert_int_equal(json_object_size(json_object_get(there, "closings")), CLOSING_COUNT);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(there, "closings"), closing_reason_name(CLOSING_PILE))), 3);
	assert_string_equal(json_text(back, "gate"), "closed");
	assert_true(json_is_true(json_object_get(back, "ended")));
	json_decref(view);
}

static void a_ticket_shows_no_token(void **unused)
{
	struct ticket ticket = {.id = 3, .requester = "hd-1", .callee = "hd-2", .state = TICKET_OPEN, .issued_ms = 1000,
				.deadline_ms = 9000};
	json_t *view = view_ticket(&ticket, 4000);

	(void)unused;
	assert_int_equal(json_object_size(view), 6);
	assert_int_equal(json_integer_value(json_object_get(view, "age_ms")), 3000);
	assert_int_equal(json_integer_value(json_object_get(view, "expires_in_ms")), 5000);
	assert_string_equal(json_text(view, "state"), "open");
	json_decref(view);
	view = view_ticket(&ticket, 9500); /* not swept yet */
	assert_int_equal(json_integer_value(json_object_get(view, "expires_in_ms")), 0);
	json_decref(view);
}

static void totals_name_what_happened_only(void **unused)
{
	struct broker_totals broker = {.issued = 5, .matched = 3, .open = 1};
	struct relay_totals relay = {.pairs_live = 2, .buffers_lent_bytes = 7, .buffers_budget_bytes = 8};

	(void)unused;
	broker.ended[OUTCOME_LONELY] = 1;
	relay.ended[OUTCOME_HAPPY] = 9;
	json_t *tickets = view_broker_totals(&broker), *pairs = view_relay_totals(&relay);
	assert_int_equal(json_object_size(json_object_get(tickets, "ended")), 1);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(tickets, "ended"), "lonely")), 1);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(pairs, "ended"), "happy")), 9);
	assert_int_equal(json_object_size(json_object_get(pairs, "by_plane")), PLANE_COUNT);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(pairs, "buffers"), "lent_bytes")), 7);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(pairs, "buffers"), "budget_bytes")), 8);
	json_decref(tickets);
	json_decref(pairs);
}

static void a_probe_says_yes_no_and_why(void **unused)
{
	struct probe_report report = {.count = 2, .items = {{"sockmap", PROBE_NO, "no privilege"}, {"splice", PROBE_YES, "ok"}}};

	(void)unused;
	report.planes[PLANE_SPLICE] = report.planes[PLANE_COPY] = true;
	json_t *view = view_probe(&report);
	assert_true(json_is_false(json_object_get(json_object_get(view, "planes"), "sockmap")));
	assert_true(json_is_true(json_object_get(json_object_get(view, "planes"), "copy")));
	assert_string_equal(json_text(json_array_get(json_object_get(view, "items"), 0), "state"), "no");
	assert_string_equal(json_text(json_array_get(json_object_get(view, "items"), 0), "sentence"), "no privilege");
	json_decref(view);
}

static void one_line_says_how_a_pair_ended(void **unused)
{
	struct pair_report report = some_pair();
	char line[ENDING_LINE_SIZE];

	(void)unused;
	assert_string_equal(ending_format(&report, line),
			    "pair 7 ended happy: hd-2 (192.0.2.1:4000, identified, handed off) and hd-1 ([2001:db8::1]:4001, plain TCP), 61.234 s, bytes "
			    "1099511627776 and 8, plane sockmap, spills 5 and 0");
	*report.parties[0].operator_name = 0;
	report.outcome = OUTCOME_BOOKS_WRONG;
	strcpy(report.detail, "3 bytes missing");
	assert_string_equal(ending_format(&report, line),
			    "pair 7 ended books-wrong: unknown (192.0.2.1:4000, identified, handed off) and hd-1 ([2001:db8::1]:4001, plain TCP), 61.234 s, bytes "
			    "1099511627776 and 8, plane sockmap, spills 5 and 0, 3 bytes missing");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pair_shows_everything_about_both_directions),
		cmocka_unit_test(a_ticket_shows_no_token),
		cmocka_unit_test(totals_name_what_happened_only),
		cmocka_unit_test(a_probe_says_yes_no_and_why),
		cmocka_unit_test(one_line_says_how_a_pair_ended),
	};
	return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}
