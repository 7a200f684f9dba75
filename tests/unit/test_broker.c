// SPDX-License-Identifier: Apache-2.0
/* The ticket desk with a fake clock, every race in both orders, and then all
 * of them at once from several threads. */
#include "broker/broker.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ACCEPT_MS 10000u
#define ASK_MS 35000u

struct desk {
	struct broker *broker;
	uint64_t now_ms;
	struct ticket_ending endings[64];
	unsigned ended;
};

struct held {
	struct token token;
	struct token_key key;
	uint64_t id;
};

static int setup(void **state)
{
	struct broker_limits limits = {ACCEPT_MS, ASK_MS, 8, 4, 5};
	struct desk *desk = calloc(1, sizeof *desk);
	desk->now_ms = 1000000;
	*state = desk;
	return broker_create(&limits, &desk->broker);
}

static int teardown(void **state)
{
	struct desk *desk = *state;
	broker_free(desk->broker);
	free(desk);
	return 0;
}

static struct held issue(struct desk *desk)
{
	struct ticket_request request = {"hd-1", "hd-2"};
	struct held held;
	assert_int_equal(broker_issue(desk->broker, &request, desk->now_ms, &held.token, &held.key, &held.id), 0);
	return held;
}

static enum arrival arrive(struct desk *desk, const struct held *held, void *party, struct ticket_match *match)
{
	struct token_key key = broker_key(desk->broker, &held->token);
	assert_true(token_key_is_equal(&key, &held->key));
	return broker_arrive(desk->broker, &key, party, desk->now_ms, match);
}

static void note_ending(const struct ticket_ending *ending, void *context)
{
	struct desk *desk = context;
	assert_true(desk->ended < 64);
	desk->endings[desk->ended++] = *ending;
}

static bool expire_after(struct desk *desk, uint64_t ms)
{
	desk->now_ms += ms;
	return broker_expire(desk->broker, desk->now_ms, note_ending, desk);
}

static unsigned open_tickets(struct desk *desk)
{
	struct broker_totals totals;
	broker_totals(desk->broker, &totals);
	return totals.open;
}

static int first, second, third; /* parties are pointers, nothing else */

static void callee_comes_while_asked_then_requester(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	struct held held = issue(desk);

	assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_WAITS);
	assert_int_equal(match.ticket.id, held.id);
	assert_int_equal(broker_agree(desk->broker, &held.key, desk->now_ms), 0);
	desk->now_ms += 70;
	assert_int_equal(arrive(desk, &held, &second, &match), ARRIVAL_MATCHED);
	assert_ptr_equal(match.first, &first);
	assert_int_equal(match.waited_ms, 70);
	assert_int_equal(match.ticket.state, TICKET_MATCHED);
	assert_string_equal(match.ticket.requester, "hd-1");
	assert_string_equal(match.ticket.callee, "hd-2");
	assert_int_equal(open_tickets(desk), 0);
	/* one time only */
	assert_int_equal(arrive(desk, &held, &third, &match), ARRIVAL_UNKNOWN);
	assert_false(expire_after(desk, 1000000));
	assert_int_equal(desk->ended, 0);
}

static void both_come_after_the_answer(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	struct held held = issue(desk);

	assert_int_equal(broker_agree(desk->broker, &held.key, desk->now_ms), 0);
	assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_WAITS);
	assert_int_equal(arrive(desk, &held, &second, &match), ARRIVAL_MATCHED);
	assert_ptr_equal(match.first, &first);
}

static void both_come_before_the_answer(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	struct held held = issue(desk);

	assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_WAITS);
	assert_int_equal(arrive(desk, &held, &second, &match), ARRIVAL_MATCHED);
	assert_int_equal(broker_agree(desk->broker, &held.key, desk->now_ms), -ENOENT);
	struct ticket_ending ending;
	assert_int_equal(broker_refuse(desk->broker, &held.key, &ending), -ENOENT);
}

static void strangers_and_other_tables_are_unknown(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	struct held held = issue(desk), stranger = held;

	stranger.token.bytes[31] ^= 1;
	stranger.key = broker_key(desk->broker, &stranger.token);
	assert_int_equal(arrive(desk, &stranger, &first, &match), ARRIVAL_UNKNOWN);
	assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_WAITS);
}

static void nobody_comes(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	struct held held = issue(desk);

	/* The time runs from the callee's answer, not from the issue. */
	desk->now_ms += 20000;
	assert_int_equal(broker_agree(desk->broker, &held.key, desk->now_ms), 0);
	assert_true(expire_after(desk, ACCEPT_MS - 1));
	assert_false(expire_after(desk, 1));
	assert_int_equal(desk->ended, 1);
	assert_int_equal(desk->endings[0].outcome, OUTCOME_UNCLAIMED);
	assert_int_equal(desk->endings[0].ticket.id, held.id);
	assert_null(desk->endings[0].party);
	assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_UNKNOWN);
}

static void only_one_comes(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	struct held held = issue(desk);

	assert_int_equal(broker_agree(desk->broker, &held.key, desk->now_ms), 0);
	desk->now_ms += 9000;
	assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_WAITS);
	assert_true(expire_after(desk, ACCEPT_MS - 1)); /* its own time begins with it */
	assert_false(expire_after(desk, 1));
	assert_int_equal(desk->ended, 1);
	assert_int_equal(desk->endings[0].outcome, OUTCOME_LONELY);
	assert_ptr_equal(desk->endings[0].party, &first);
	/* the party notices its own end after that: it is not the broker's any more */
	struct ticket_ending ending;
	assert_int_equal(broker_leave(desk->broker, &held.key, &first, &ending), -ENOENT);
}

static void a_call_that_hangs_is_bounded(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	struct held alone = issue(desk), waited_for = issue(desk);

	assert_int_equal(arrive(desk, &waited_for, &first, &match), ARRIVAL_WAITS);
	assert_true(expire_after(desk, ACCEPT_MS));
	assert_int_equal(desk->ended, 1);
	assert_int_equal(desk->endings[0].outcome, OUTCOME_LONELY);
	assert_false(expire_after(desk, ASK_MS - ACCEPT_MS));
	assert_int_equal(desk->ended, 2);
	assert_int_equal(desk->endings[1].outcome, OUTCOME_REFUSED);
	assert_int_equal(desk->endings[1].ticket.id, alone.id);
	assert_int_equal(broker_agree(desk->broker, &alone.key, desk->now_ms), -ENOENT);
}

static void a_refusal_voids_the_token(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	struct ticket_ending ending;
	struct held held = issue(desk);

	assert_int_equal(broker_refuse(desk->broker, &held.key, &ending), 0);
	assert_int_equal(ending.outcome, OUTCOME_REFUSED);
	assert_null(ending.party);
	assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_UNKNOWN);
	assert_int_equal(broker_refuse(desk->broker, &held.key, &ending), -ENOENT);
	assert_int_equal(open_tickets(desk), 0);
}

static void a_refusal_lets_a_waiting_party_go(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	struct ticket_ending ending;
	struct held held = issue(desk);

	assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_WAITS);
	assert_int_equal(broker_refuse(desk->broker, &held.key, &ending), 0);
	assert_ptr_equal(ending.party, &first);
	assert_int_equal(broker_leave(desk->broker, &held.key, &first, &ending), -ENOENT);
}

static void a_first_party_that_leaves_ends_the_ticket(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	struct ticket_ending ending;

	for (int agreed = 0; agreed < 2; agreed++) {
		struct held held = issue(desk);
		assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_WAITS);
		if (agreed)
			assert_int_equal(broker_agree(desk->broker, &held.key, desk->now_ms), 0);
		assert_int_equal(broker_leave(desk->broker, &held.key, &second, &ending), -ENOENT); /* not the one */
		assert_int_equal(broker_leave(desk->broker, &held.key, &first, &ending), 0);
		assert_int_equal(ending.outcome, OUTCOME_IMPATIENT);
		assert_int_equal(arrive(desk, &held, &second, &match), ARRIVAL_UNKNOWN);
		assert_int_equal(broker_agree(desk->broker, &held.key, desk->now_ms), -ENOENT);
	}
}

/* Match and leave, either first: the party has exactly one owner. */
static void match_against_leave(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	struct ticket_ending ending;
	struct held held = issue(desk);

	assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_WAITS);
	assert_int_equal(arrive(desk, &held, &second, &match), ARRIVAL_MATCHED);
	assert_int_equal(broker_leave(desk->broker, &held.key, &first, &ending), -ENOENT);

	held = issue(desk);
	assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_WAITS);
	assert_int_equal(broker_leave(desk->broker, &held.key, &first, &ending), 0);
	assert_int_equal(arrive(desk, &held, &second, &match), ARRIVAL_UNKNOWN);
}

/* An arrival behind the deadline is too late even before the sweep has come;
 * the sweep then releases who waited. */
static void expiry_against_arrival(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	struct held open = issue(desk), waiting = issue(desk), asking = issue(desk);

	assert_int_equal(broker_agree(desk->broker, &open.key, desk->now_ms), 0);
	assert_int_equal(arrive(desk, &waiting, &first, &match), ARRIVAL_WAITS);
	desk->now_ms += ACCEPT_MS;
	assert_int_equal(arrive(desk, &open, &second, &match), ARRIVAL_UNKNOWN);
	assert_int_equal(arrive(desk, &waiting, &second, &match), ARRIVAL_UNKNOWN);
	assert_int_equal(broker_agree(desk->broker, &waiting.key, desk->now_ms), -ENOENT);
	assert_true(expire_after(desk, 0));
	assert_int_equal(desk->ended, 2);
	desk->now_ms += ASK_MS;
	assert_int_equal(broker_agree(desk->broker, &asking.key, desk->now_ms), -ENOENT);
	assert_int_equal(arrive(desk, &asking, &second, &match), ARRIVAL_UNKNOWN);
	assert_false(expire_after(desk, 0));
	assert_int_equal(desk->ended, 3);
}

static void limits_hold_and_are_given_back(void **state)
{
	struct desk *desk = *state;
	struct ticket_request a = {"a", "x"}, b = {"b", "x"}, c = {"c", "x"};
	struct ticket_match match;
	struct held held[8], more;
	struct broker_totals totals;

	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(broker_issue(desk->broker, &a, desk->now_ms, &held[i].token, &held[i].key, &held[i].id), 0);
	assert_int_equal(broker_issue(desk->broker, &a, desk->now_ms, &more.token, &more.key, &more.id), -EDQUOT);
	for (unsigned i = 4; i < 8; i++)
		assert_int_equal(broker_issue(desk->broker, &b, desk->now_ms, &held[i].token, &held[i].key, &held[i].id), 0);
	assert_int_equal(broker_issue(desk->broker, &c, desk->now_ms, &more.token, &more.key, &more.id), -ENOSPC);
	broker_totals(desk->broker, &totals);
	assert_int_equal(totals.open, 8);
	assert_int_equal(totals.turned_away, 2);

	/* each way to end gives the place back */
	struct ticket_ending ending;
	assert_int_equal(broker_refuse(desk->broker, &held[0].key, &ending), 0);
	assert_int_equal(arrive(desk, &held[1], &first, &match), ARRIVAL_WAITS);
	assert_int_equal(arrive(desk, &held[1], &second, &match), ARRIVAL_MATCHED);
	assert_int_equal(arrive(desk, &held[2], &first, &match), ARRIVAL_WAITS);
	assert_int_equal(broker_leave(desk->broker, &held[2].key, &first, &ending), 0);
	assert_false(expire_after(desk, ASK_MS));
	broker_totals(desk->broker, &totals);
	assert_int_equal(totals.open, 0);
	assert_int_equal(totals.issued, 8);
	assert_int_equal(totals.matched, 1);
	assert_int_equal(totals.ended[OUTCOME_REFUSED], 6);
	assert_int_equal(totals.ended[OUTCOME_IMPATIENT], 1);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(broker_issue(desk->broker, &a, desk->now_ms, &held[i].token, &held[i].key, &held[i].id), 0);
}

static void pairs_of_a_requester_are_limited(void **state)
{
	struct desk *desk = *state;
	struct ticket_request other = {"other", "hd-2"}, own = {"hd-1", "hd-2"};
	struct ticket_match match;
	struct held more;

	for (unsigned i = 0; i < 5; i++) {
		struct held held = issue(desk);
		assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_WAITS);
		assert_int_equal(arrive(desk, &held, &second, &match), ARRIVAL_MATCHED);
	}
	assert_int_equal(broker_issue(desk->broker, &own, desk->now_ms, &more.token, &more.key, &more.id), -EUSERS);
	assert_int_equal(broker_issue(desk->broker, &other, desk->now_ms, &more.token, &more.key, &more.id), 0);
	broker_pair_over(desk->broker, match.ticket.requester);
	issue(desk);
	assert_int_equal(broker_issue(desk->broker, &own, desk->now_ms, &more.token, &more.key, &more.id), -EUSERS);
}

static void count_tickets(const struct ticket *ticket, void *context)
{
	unsigned *seen = context;
	assert_string_equal(ticket->requester, "hd-1");
	seen[ticket->state]++;
}

static void open_tickets_are_shown(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	unsigned seen[TICKET_STATE_COUNT] = {0};
	struct held a = issue(desk), b = issue(desk), c = issue(desk);

	assert_int_equal(broker_agree(desk->broker, &a.key, desk->now_ms), 0);
	assert_int_equal(arrive(desk, &b, &first, &match), ARRIVAL_WAITS);
	(void)c;
	broker_visit_tickets(desk->broker, count_tickets, seen);
	assert_int_equal(seen[TICKET_OPEN], 1);
	assert_int_equal(seen[TICKET_ASKING_WAITING], 1);
	assert_int_equal(seen[TICKET_ASKING], 1);
	broker_pair_ended(desk->broker, OUTCOME_HAPPY);
	struct broker_totals totals;
	broker_totals(desk->broker, &totals);
	assert_int_equal(totals.pairs_ended[OUTCOME_HAPPY], 1);
}

static void long_names_are_cut_between_characters(void **state)
{
	struct desk *desk = *state;
	struct ticket_match match;
	char name[300];
	struct held held;

	for (unsigned i = 0; i + 2 < sizeof name; i += 2)
		memcpy(name + i, "\xc3\xa4", 3); /* a letter of two bytes */
	struct ticket_request request = {name, "x"};
	assert_int_equal(broker_issue(desk->broker, &request, desk->now_ms, &held.token, &held.key, &held.id), 0);
	assert_int_equal(arrive(desk, &held, &first, &match), ARRIVAL_WAITS);
	assert_int_equal(strlen(match.ticket.requester), 126);
}

static void many_tickets_expire_in_order(void **state)
{
	enum { COUNT = 5000 };
	struct broker_limits limits = {ACCEPT_MS, ASK_MS, COUNT, COUNT, 0};
	struct ticket_request request = {"hd-1", "hd-2"};
	struct held *held = calloc(COUNT, sizeof *held);
	struct ticket_match match;
	struct desk desk = {.now_ms = 1};

	(void)state;
	assert_int_equal(broker_create(&limits, &desk.broker), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(broker_issue(desk.broker, &request, i, &held[i].token, &held[i].key, &held[i].id), 0);
		assert_int_equal(broker_agree(desk.broker, &held[i].key, i), 0);
	}
	for (unsigned i = 0; i < COUNT; i += 2) {
		desk.now_ms = i;
		assert_int_equal(arrive(&desk, &held[i], &first, &match), ARRIVAL_WAITS);
		assert_int_equal(arrive(&desk, &held[i], &second, &match), ARRIVAL_MATCHED);
	}
	unsigned left = COUNT / 2;
	for (uint64_t now = ACCEPT_MS + 32; left > 0; now += 64) {
		desk.ended = 0;
		bool more = broker_expire(desk.broker, now, note_ending, &desk);
		for (unsigned i = 0; i < desk.ended; i++)
			assert_true(desk.endings[i].ticket.deadline_ms <= now);
		left -= desk.ended;
		assert_int_equal(more, left > 0);
	}
	broker_free(desk.broker);
	free(held);
}

/* ---- threads ----
 * One issues, agrees, refuses and expires; others show tokens, twice each and
 * from different threads, and leave again. Each party must end exactly once. */

enum { STRESS_TICKETS = 20000, STRESS_THREADS = 3, STRESS_LAG = 24 };

struct party {
	struct token_key key;
	atomic_int ends;
	atomic_bool has_arrived;
};

struct stress {
	struct broker *broker;
	struct party (*parties)[2];
	struct token_key *keys;
	atomic_uint published;
	atomic_uint matched, left, released, unknown;
};

static void stress_released(const struct ticket_ending *ending, void *context)
{
	struct stress *stress = context;
	if (ending->party) {
		atomic_fetch_add(&((struct party *)ending->party)->ends, 1);
		atomic_fetch_add(&stress->released, 1);
	}
}

static void stress_visit(const struct ticket *ticket, void *context)
{
	*(uint64_t *)context += ticket->id;
}

struct stress_thread {
	struct stress *stress;
	unsigned index;
};

static void *stress_arrive(void *context)
{
	struct stress_thread *thread = context;
	struct stress *stress = thread->stress;

	for (unsigned i = 0; i < STRESS_TICKETS; i++) {
		while (atomic_load(&stress->published) <= i)
			sched_yield();
		for (unsigned which = 0; which < 2; which++) {
			if ((i + which) % STRESS_THREADS != thread->index)
				continue;
			struct party *party = &stress->parties[i][which];
			struct ticket_match match;
			struct ticket_ending ending;
			party->key = stress->keys[i];
			switch (broker_arrive(stress->broker, &party->key, party, i, &match)) {
			case ARRIVAL_TAKEN: /* only parties that proved a name */
			case ARRIVAL_UNKNOWN:
				atomic_fetch_add(&party->ends, 1);
				atomic_fetch_add(&stress->unknown, 1);
				break;
			case ARRIVAL_MATCHED:
				atomic_fetch_add(&party->ends, 1);
				atomic_fetch_add(&((struct party *)match.first)->ends, 1);
				atomic_fetch_add(&stress->matched, 1);
				break;
			case ARRIVAL_WAITS:
				if (i % 5 == 0 && broker_leave(stress->broker, &party->key, party, &ending) == 0) {
					atomic_fetch_add(&party->ends, 1);
					atomic_fetch_add(&stress->left, 1);
				}
				break;
			}
		}
	}
	return NULL;
}

static void threads_race_for_every_ticket(void **unused)
{
	struct broker_limits limits = {STRESS_LAG, STRESS_LAG * 2, STRESS_TICKETS, STRESS_TICKETS, 0};
	struct stress stress = {0};
	struct stress_thread threads[STRESS_THREADS];
	pthread_t ids[STRESS_THREADS];
	struct ticket_request request = {"hd-1", "hd-2"};
	struct broker_totals totals;
	uint64_t sum = 0;

	(void)unused;
	stress.parties = calloc(STRESS_TICKETS, sizeof *stress.parties);
	stress.keys = calloc(STRESS_TICKETS, sizeof *stress.keys);
	assert_int_equal(broker_create(&limits, &stress.broker), 0);
	for (unsigned i = 0; i < STRESS_THREADS; i++) {
		threads[i] = (struct stress_thread){&stress, i};
		assert_int_equal(pthread_create(&ids[i], NULL, stress_arrive, &threads[i]), 0);
	}
	for (unsigned i = 0; i < STRESS_TICKETS; i++) {
		struct token token;
		uint64_t id;
		struct ticket_ending ending;
		assert_int_equal(broker_issue(stress.broker, &request, i, &token, &stress.keys[i], &id), 0);
		atomic_store(&stress.published, i + 1);
		if (i % 3 == 0 && i > 2 && broker_refuse(stress.broker, &stress.keys[i - 2], &ending) == 0)
			stress_released(&ending, &stress);
		else
			broker_agree(stress.broker, &stress.keys[i], i);
		if (i % 64 == 0)
			broker_visit_tickets(stress.broker, stress_visit, &sum);
		if (i % 8 == 0)
			broker_expire(stress.broker, i, stress_released, &stress);
	}
	for (unsigned i = 0; i < STRESS_THREADS; i++)
		pthread_join(ids[i], NULL);
	assert_false(broker_expire(stress.broker, STRESS_TICKETS * 4, stress_released, &stress));

	for (unsigned i = 0; i < STRESS_TICKETS; i++)
		for (unsigned which = 0; which < 2; which++)
			assert_int_equal(atomic_load(&stress.parties[i][which].ends), 1);
	broker_totals(stress.broker, &totals);
	assert_int_equal(totals.open, 0);
	assert_int_equal(totals.matched, atomic_load(&stress.matched));
	uint64_t ended = totals.matched;
	for (unsigned i = 0; i < OUTCOME_COUNT; i++)
		ended += totals.ended[i];
	assert_int_equal(ended, STRESS_TICKETS);
	print_message("matched %u, left %u, released %u, unknown %u\n", stress.matched, stress.left, stress.released,
		      stress.unknown);
	broker_free(stress.broker);
	free(stress.parties);
	free(stress.keys);
}

int main(void)
{
#define WITH_DESK(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_DESK(callee_comes_while_asked_then_requester),
		WITH_DESK(both_come_after_the_answer),
		WITH_DESK(both_come_before_the_answer),
		WITH_DESK(strangers_and_other_tables_are_unknown),
		WITH_DESK(nobody_comes),
		WITH_DESK(only_one_comes),
		WITH_DESK(a_call_that_hangs_is_bounded),
		WITH_DESK(a_refusal_voids_the_token),
		WITH_DESK(a_refusal_lets_a_waiting_party_go),
		WITH_DESK(a_first_party_that_leaves_ends_the_ticket),
		WITH_DESK(match_against_leave),
		WITH_DESK(expiry_against_arrival),
		WITH_DESK(limits_hold_and_are_given_back),
		WITH_DESK(pairs_of_a_requester_are_limited),
		WITH_DESK(open_tickets_are_shown),
		WITH_DESK(long_names_are_cut_between_characters),
		cmocka_unit_test(many_tickets_expire_in_order),
		cmocka_unit_test(threads_race_for_every_ticket),
	};
	return cmocka_run_group_tests_name("broker", tests, NULL, NULL);
}
