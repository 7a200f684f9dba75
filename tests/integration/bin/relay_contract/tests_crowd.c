// SPDX-License-Identifier: Apache-2.0
/* Many pairs at once, and slots that are used again while records of their last
 * pairs are still under way. */
#include "pair.h"
#include "tests.h"

#include "base/instant.h"

#define SLOTS 64
#define WINDOW 16
#define COPIED_NS 300000000ull /* whoever is not in the kernel's map then will not be */

static void thousand_pairs(struct test *test)
{
	struct host_settings settings = { .workers = 2 };
	size_t count = test_size(test, 1000, 50);
	struct pair_plan plan = { .send_buffer = TEST_BUFFER, .receive_buffer = TEST_BUFFER };

	for (int stream = 0; stream < 2; stream++)
		plan.flows[stream] = (struct flow){
			.total = 200000, .finish = FINISH_SHUTDOWN, .holds = true,
			.writer = { .chunk_max = 20000, .pause_after_max = 50000, .pause_max_us = 5000 },
			.reader = { .chunk_max = 40000, .pause_after_max = 50000, .pause_max_us = 5000 },
		};
	if (!test_start_host(test, &settings))
		return;
	uint64_t resident = host_resident_bytes(&test->host), memory = memory_available();
	if (!pairs_open(test, count, &plan) || !pairs_wait_settled(test, 30000))
		return;
	uint64_t left = memory_available();
	test_note(test, "%zu idle pairs: %.0f bytes resident and %.1f KB of kernel memory each", count,
		  ((double)host_resident_bytes(&test->host) - (double)resident) / (double)count,
		  left < memory ? (double)(memory - left) / 1000 / (double)count : 0.0);
	uint64_t start_ns = clock_now_ns();
	for (size_t at = 0; at < count; at++)
		for (unsigned stream = 0; stream < 2; stream++)
			pair_release(test->pairs[at], stream, FOREVER);
	if (!pairs_wait_through(test, 60000) || !pairs_wait_ended(test, 10000) || !pairs_check_happy(test))
		return;
	for (size_t at = 0; at < count; at++)
		if (!pair_check_redirected(test->pairs[at]))
			return;
	test_note(test, "%.0f MB in %.1f s", 2.0 * (double)count * 200000 / MB, (double)(clock_now_ns() - start_ns) / 1e9);
}

/* ---- churn ---- */

/* Half of the pairs close their gate and are reset in the same moment, so that their ring
 * records come when the pair is gone; the others carry bytes on the same slots. */
enum churn_stage { CHURN_OPENS, CHURN_FLOWS, CHURN_OVER };

struct churn {
	struct test *test;
	size_t count, finished, on_plane;
	struct pair *active[WINDOW];
};

static struct pair *churn_open(struct test *test)
{
	bool dies = engine_random(&test->engine) & 1;
	struct pair_plan plan = {
		.flows = { { .total = dies ? 2 * MB : 300000, .limit = 100, .finish = FINISH_SHUTDOWN, .reader_is_stopped = dies },
			   { .total = 100000, .limit = 100, .finish = FINISH_SHUTDOWN } },
		.send_buffer = TEST_BUFFER, .receive_buffer = TEST_BUFFER,
	};
	struct pair *pair = pair_open(test, &plan);

	if (pair) {
		pair->mark = dies;
		pair->marks[0] = engine_random_between(&test->engine, 100 * KIB, 400 * KIB);
		pair->marks[1] = clock_now_ns() + COPIED_NS;
	}
	return pair;
}

static bool churn_step(struct churn *churn, struct pair *pair)
{
	struct end *ends = pair->ends;

	if (pair->stage == CHURN_OPENS) {
		/* A slot may still wait for its grace period: then the pair is copied, and not only while it is young. */
		if (!pair->is_joined || (!pair_gates_are_open(pair) && clock_now_ns() < pair->marks[1]))
			return false;
		churn->on_plane += pair->report.plane == churn->test->plane;
		pair->stage = CHURN_FLOWS;
		pair_release(pair, 0, FOREVER);
		pair_release(pair, 1, FOREVER);
		return false;
	}
	if (!pair->mark)
		return end_is_through(&ends[0]) && end_is_through(&ends[1]);
	if (ends[0].sent < pair->marks[0] && !ends[0].blocked)
		return false;
	end_reset(&ends[engine_random(&churn->test->engine) & 1]);
	return true;
}

static bool churn_is_over(void *context)
{
	struct churn *churn = context;
	struct test *test = churn->test;

	if (test_poll_is_due(test, 2) && (!pairs_poll_gates(test) || !pairs_poll_ended(test)))
		return true;
	for (size_t place = 0; place < WINDOW; place++) {
		struct pair *pair = churn->active[place];
		if (!pair && test->pair_count < churn->count)
			churn->active[place] = pair = churn_open(test);
		if (!pair || pair->stage == CHURN_OVER)
			continue;
		if (churn_step(churn, pair)) {
			pair->stage = CHURN_OVER;
			churn->active[place] = NULL;
			churn->finished++;
			if (pair->mark)
				pair_abandon(pair);
		}
		if (!pair->mark && !pair_check_bytes(pair))
			return true;
		if (pair->ends[0].wrong || pair->ends[1].wrong)
			return !pair_check_bytes(pair);
	}
	return churn->finished == churn->count || test_failed(test);
}

/* Records that the host holds back come when their slots belong to others. */
static bool record_came_late(void *context)
{
	struct test *test = context;
	struct relay_totals totals;

	return test_poll_is_due(test, 20) && (!host_totals(&test->host, &totals, NULL) || totals.late_records);
}

static void churn(struct test *test)
{
	struct host_settings settings = { .max_pairs = SLOTS, .late_record_every = 2, .workers = 2 };
	struct churn churn = { .test = test, .count = test_size(test, test->is_full ? 30000 : 3000, 200) };
	struct relay_totals totals;

	test->expects_unhappy = true;
	if (!test_start_host(test, &settings))
		return;
	if (!test_wait(test, churn_is_over, &churn, 120000, "the end of all pairs") || test_failed(test) ||
	    !pairs_wait_ended(test, 10000) || !test_wait(test, record_came_late, test, 5000, "a late ring record") || !host_totals(&test->host, &totals, NULL))
		return;
	for (size_t at = 0; at < test->pair_count; at++)
		if (!test->pairs[at]->mark && !pair_check_happy(test->pairs[at]))
			return;
	test_note(test, "%zu pairs on %d slots, %zu on the plane, %llu late records", churn.count, SLOTS, churn.on_plane,
		  (unsigned long long)totals.late_records);
	require(test, churn.on_plane * 2 > churn.count, "only %zu of %zu pairs were on the plane", churn.on_plane, churn.count);
}

const struct test_case crowd_cases[] = {
	{ "thousand-pairs", "1,000 pairs at once", ON_ALL, thousand_pairs, true },
	{ "churn", "slots used again, with ring records that come late", ON_SOCKMAP, churn, false },
	{ 0 },
};
