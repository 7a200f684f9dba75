// SPDX-License-Identifier: Apache-2.0
/* A relay that is made to fail, to show that its nets hold: announcements that are lost,
 * packets that are lost. */
#include "pair.h"
#include "tests.h"

#include "base/instant.h"

#include <errno.h>

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
	struct pair_plan plan = { .flows = { { .total = total, .finish = FINISH_SHUTDOWN, .holds = true }, { .total = 0 } } };
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

/* A direction breaks and nobody is told: idle behind an open gate, under traffic, and
 * before a reader that has stopped. */
static void lost_record_of_break(struct test *test)
{
	struct host_settings settings = { 0 };
	uint64_t longest_ns = 0;

	test->expects_unhappy = test->expects_wrong_books = true;
	if (!test_start_host(test, &settings))
		return;
	for (int state = 0; state < 3; state++) {
		struct pair *pair = lossy_open(test, FOREVER);
		if (!pair)
			return;
		if (state == 2)
			pair_stop_reader(pair, 0, true);
		if (state > 0)
			pair_release(pair, 0, FOREVER);
		engine_run_for(&test->engine, 200);
		json_decref(host_ask(&test->host, "break"));
		uint64_t start_ns = clock_now_ns();
		if (!lossy_check(pair, OUTCOME_GATE_BROKEN))
			return;
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
	{ "lost-records", "every third announcement lost, under bursts", ON_SOCKMAP, lost_records },
	{ "lost-record-of-break", "a broken direction that is not announced", ON_SOCKMAP, lost_record_of_break },
	{ "lost-packet", "a packet lost on purpose: the books catch it", ON_SOCKMAP, lost_packet },
	{ 0 },
};
