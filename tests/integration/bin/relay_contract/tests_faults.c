// SPDX-License-Identifier: Apache-2.0
/* A relay that is made to fail, to show that its nets hold: announcements that are lost,
 * packets that are lost. */
#include "pair.h"
#include "tests.h"

#include "base/instant.h"

#include <errno.h>

#define BREAK_EVERY 24u
#define BREAK_PIECE 4096u /* fits the credit sixteen times */

static void lost_records(struct test *test)
{
	struct host_settings settings = { .lose_record_every = 3 };
	struct relay_totals totals;

	bursts_run(test, &settings);
	if (test_failed(test) || *test->skipped || !host_totals(&test->host, &totals, NULL))
		return;
	test_note(test, "%llu closed gates found by the sweep", (unsigned long long)totals.found_by_sweep);
	require(test, totals.found_by_sweep, "the sweep found no gate whose announcement was lost");
}

static bool both_have_failed(void *context)
{
	const struct pair *pair = context;

	return (pair->ends[0].error || pair->ends[0].eof_seen) && (pair->ends[1].error || pair->ends[1].eof_seen);
}

/* An open pair, whose stream 0 then loses packets. */
static struct pair *lossy_open(struct test *test, uint64_t total)
{
	struct pair_plan plan = {
		.flows = { { .total = total, .finish = FINISH_SHUTDOWN, .holds = true }, { .total = 0 } },
		.receive_buffer = BREAK_PIECE,
	};
	struct pair *pair = pair_open(test, &plan);

	return pair && pairs_wait_settled(test, 5000) ? pair : NULL;
}

static bool lossy_check(struct pair *pair, enum outcome outcome)
{
	struct test *test = pair->test;
	char text[480];

	if (!test_wait(test, both_have_failed, pair, 5000, "a reset of both ends") || !pairs_wait_ended(test, 5000) ||
	    !pair_check_reset(pair, 0) || !pair_check_reset(pair, 1))
		return false;
	return pair->report.outcome == outcome ||
	       test_fail(test, "the outcome is not %s: %s", outcome_word(outcome), pair_text(pair, text, sizeof text));
}

static bool all_is_sent(void *context)
{
	const struct pair *pair = context;

	return pair->ends[0].sent == pair->ends[0].limit;
}

/* Sends the packets before the one that breaks, each on its own. */
static bool break_prepare(struct pair *pair)
{
	bool is_stopped = pair->ends[1].stopped;

	for (unsigned piece = 1; piece < BREAK_EVERY; piece++) {
		pair_release(pair, 0, piece * BREAK_PIECE);
		if (!test_wait(pair->test, all_is_sent, pair, 5000, "a packet behind those that are on their way") ||
		    (!is_stopped && !pairs_wait_received(pair->test, 5000)))
			return false;
	}
	if (is_stopped && (!pairs_poll_gates(pair->test) || pair->report.directions[0].gate == GATE_STATE_OPEN))
		return test_fail(pair->test, "the gate is open in front of a reader that has stopped");
	return true;
}

/* The program breaks a direction and no announcement comes through: idle behind an open
 * gate after the packet that broke it, under traffic, and before a reader that has stopped. */
static void lost_record_of_break(struct test *test)
{
	struct host_settings settings = { .lose_record_every = 1, .break_packet_every = BREAK_EVERY };
	enum { IDLE, BUSY, STOPPED, STATES };
	uint64_t longest_ns = 0;

	test->expects_unhappy = test->expects_wrong_books = true;
	if (!test_start_host(test, &settings))
		return;
	for (int state = 0; state < STATES; state++) {
		struct pair *pair = lossy_open(test, FOREVER);
		if (!pair)
			return;
		pair_stop_reader(pair, 0, state == STOPPED);
		if (state != BUSY && !break_prepare(pair))
			return;
		uint64_t start_ns = clock_now_ns();
		pair_release(pair, 0, state == BUSY ? FOREVER : BREAK_EVERY * BREAK_PIECE);
		if (!lossy_check(pair, OUTCOME_GATE_BROKEN))
			return;
		require(test, pair->report.directions[0].breaks == 1, "the program broke the direction %llu times",
			(unsigned long long)pair->report.directions[0].breaks);
		if (clock_now_ns() - start_ns > longest_ns)
			longest_ns = clock_now_ns() - start_ns;
	}
	test_note(test, "idle, busy and stopped: both ends reset after at most %.0f ms", (double)longest_ns / 1e6);
}

/* The last packet before FIN is lost: only the books can tell. */
static void lost_packet(struct test *test)
{
	struct host_settings settings = { .lose_packet_every = 1 };
	struct relay_totals totals;

	test->expects_unhappy = test->expects_wrong_books = true;
	if (!test_start_host(test, &settings))
		return;
	struct pair *pair = lossy_open(test, 1000);
	if (!pair)
		return;
	pair_release(pair, 0, FOREVER);
	if (!lossy_check(pair, OUTCOME_BOOKS_WRONG) || !host_totals(&test->host, &totals, NULL))
		return;
	require(test, totals.books_wrong == 1, "the books were wrong %llu times", (unsigned long long)totals.books_wrong);
	test_note(test, "caught by the books");
}

const struct test_case fault_cases[] = {
	{ "lost-records", "every third announcement lost, under bursts", ON_SOCKMAP, lost_records, false },
	{ "lost-record-of-break", "a direction that the program breaks without an announcement", ON_SOCKMAP, lost_record_of_break, false },
	{ "lost-packet", "a packet lost on purpose: the books catch it", ON_SOCKMAP, lost_packet, false },
	{ 0 },
};
