// SPDX-License-Identifier: Apache-2.0
/* The two seats of a ticket: who may arrive after whom. */
#include "broker/broker.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static enum arrival arrive_for(struct broker *broker, const struct token_key *key, unsigned seats,
			       struct ticket_match *match)
{
	static int somebody;
	return broker_arrive_for(broker, key, seats, &somebody, 1, match);
}

/* Which two arrivals belong together, and who is the callee then. */
static void each_operator_has_one_seat(void **unused)
{
	static const struct {
		unsigned first, second;
		enum arrival arrival;
		bool first_is_callee;
	} cases[] = {
		{SEAT_ANY, SEAT_ANY, ARRIVAL_MATCHED, true},
		{SEAT_CALLEE, SEAT_REQUESTER, ARRIVAL_MATCHED, true},
		{SEAT_REQUESTER, SEAT_CALLEE, ARRIVAL_MATCHED, false},
		{SEAT_CALLEE, SEAT_ANY, ARRIVAL_MATCHED, true},
		{SEAT_REQUESTER, SEAT_ANY, ARRIVAL_MATCHED, false},
		{SEAT_ANY, SEAT_CALLEE, ARRIVAL_MATCHED, false},
		{SEAT_ANY, SEAT_REQUESTER, ARRIVAL_MATCHED, true},
		{SEAT_CALLEE, SEAT_CALLEE, ARRIVAL_TAKEN, false},
		{SEAT_REQUESTER, SEAT_REQUESTER, ARRIVAL_TAKEN, false},
	};
	struct broker_limits limits = {1000, 1000, 100, 100, 0};
	struct ticket_request request = {"hd-1", "hd-2"};
	struct broker *broker;
	(void)unused;

	assert_int_equal(broker_create(&limits, &broker), 0);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct token token;
		struct token_key key;
		struct ticket_match match;
		struct ticket ticket;
		uint64_t id;
		assert_int_equal(broker_issue(broker, &request, 0, &token, &key, &id), 0);
		assert_int_equal(broker_agree(broker, &key, 0), 0);
		assert_int_equal(broker_find(broker, &key, 1, &ticket), 0);
		assert_string_equal(ticket.callee, "hd-2");
		assert_int_equal(arrive_for(broker, &key, cases[i].first, &match), ARRIVAL_WAITS);
		assert_int_equal(arrive_for(broker, &key, cases[i].second, &match), cases[i].arrival);
		if (cases[i].arrival == ARRIVAL_TAKEN) /* nothing has changed: the right one is matched */
			assert_int_equal(arrive_for(broker, &key, SEAT_ANY & ~cases[i].first, &match), ARRIVAL_MATCHED);
		else
			assert_int_equal(match.first_is_callee, cases[i].first_is_callee);
		assert_int_equal(broker_find(broker, &key, 1, &ticket), -ENOENT);
	}
	broker_free(broker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_operator_has_one_seat),
	};
	return cmocka_run_group_tests_name("broker seats", tests, NULL, NULL);
}
