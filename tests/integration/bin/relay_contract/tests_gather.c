// SPDX-License-Identifier: Apache-2.0
/* Gathering: a one-way stream of small segments is moved by the daemon, many with one call, and
 * nothing else is. */
#include "pair.h"
#include "tests.h"

#include "base/instant.h"

#define SEGMENT 1000
#define PAUSE_AFTER (64 * KIB) /* a full-speed sender pauses here once, so that the gate opens */
#define MESSAGE 64
#define CHATS 2

static uint64_t gatherings(const struct pair *pair)
{
	const struct direction_report *d = pair->report.directions;

	return d[0].gatherings + d[0].closings[CLOSING_SMALL] + d[1].gatherings + d[1].closings[CLOSING_SMALL];
}

/* An emulated machine does not reach the speed from which on it is worth it. */
static bool is_quick(const struct test *test)
{
	return test->divisor == 1 && test->patience == 1;
}

/* Stream 0 moves `bytes` more in segments of this size, and the gates open. */
static bool move(struct pair *pair, unsigned segment_bytes, uint64_t bytes)
{
	struct test *test = pair->test;

	pair->ends[0].segment_bytes = segment_bytes;
	pair_release(pair, 0, pair->ends[0].sent + bytes);
	return pairs_wait_received(test, 60000) && pairs_wait_settled(test, 5000) && pairs_poll_reports(test);
}

static void gather_stream(struct test *test)
{
	struct host_settings settings = { 0 };
	struct pair_plan plan = { .flows = { { .total = FOREVER, .limit = PAUSE_AFTER }, { .total = FOREVER, .limit = PAUSE_AFTER } } };
	uint64_t size = test_size(test, 50 * MB, 2 * MB);

	if (!test_start_host(test, &settings))
		return;
	struct pair *pair = pair_open(test, &plan);
	if (!pair || !pairs_warm_up(test, 5000) || !pairs_poll_reports(test))
		return;
	const struct direction_report *report = &pair->report.directions[0];
	struct direction_report before = *report;
	uint64_t start_ns = clock_now_ns(), cpu_ns = host_cpu_ns(&test->host);
	if (!move(pair, SEGMENT, size))
		return;
	double seconds = (double)(clock_now_ns() - start_ns) / 1e9;
	cpu_ns = host_cpu_ns(&test->host) - cpu_ns;
	double share = (double)(report->redirected_bytes - before.redirected_bytes) / (double)size;
	if (is_quick(test)) {
		require(test, report->gatherings, "a stream of small segments was not gathered");
		require(test, share < 0.5, "%.0f %% of it was redirected all the same", 100 * share);
	}
	/* The gate is open again: what comes at leisure stays in the kernel, as do large segments. */
	engine_run_for(&test->engine, 100);
	before = *report;
	if (!move(pair, SEGMENT, PAUSE_AFTER / 2))
		return;
	require(test, report->spilled_bytes == before.spilled_bytes, "after a pause %llu bytes were not redirected",
		(unsigned long long)(report->spilled_bytes - before.spilled_bytes));
	uint64_t count = report->gatherings;
	if (!move(pair, SEGMENT, size / 4) || !move(pair, 0, 16 * KIB))
		return;
	before = *report;
	if (!move(pair, 0, size))
		return;
	require(test, report->redirected_bytes > before.redirected_bytes, "nothing of large segments was redirected");
	require(test, report->gatherings <= before.gatherings + 1, "large segments were gathered");
	require(test, !is_quick(test) || report->gatherings > count, "the second stream was not gathered");
	pair_cut(pair, 0, FINISH_SHUTDOWN);
	pair_cut(pair, 1, FINISH_SHUTDOWN);
	if (!pairs_wait_through(test, 30000) || !pairs_wait_ended(test, 5000) || !pairs_check_happy(test))
		return;
	test_note(test, "%.0f MB in segments of %d bytes at %.0f MB/s, daemon %.2f CPU s/GB, redirected %.1f %%, gathered %llu times",
		  (double)size / MB, SEGMENT, (double)size / seconds / 1e6, (double)cpu_ns / (double)size, 100 * share,
		  (unsigned long long)report->gatherings);
}

/* Both ends send `mark` messages once all of the last ones have come. */
static bool chats_go_on(void *context)
{
	struct test *test = context;
	size_t through = 0;

	for (size_t at = 0; at < test->pair_count; at++) {
		struct pair *pair = test->pairs[at];
		struct end *a = &pair->ends[0], *b = &pair->ends[1];

		if (!pair_check_bytes(pair))
			return true;
		if (b->received < a->sent || a->received < b->sent || a->sent < a->limit || b->sent < b->limit)
			continue;
		through += a->sent >= pair->marks[0];
		/* One message: in turns. */
		if (pair->mark > 1 || pair->stage == 0)
			pair_release(pair, 0, a->sent + pair->mark * MESSAGE);
		if (pair->mark > 1 || pair->stage == 1)
			pair_release(pair, 1, b->sent + pair->mark * MESSAGE);
		pair->stage = !pair->stage;
	}
	return through == test->pair_count;
}

static void gather_chats(struct test *test)
{
	static const uint64_t batches[CHATS] = { 1, 50 };
	static const uint64_t messages[CHATS] = { 3000, 30000 };
	struct host_settings settings = { 0 };
	struct pair_plan plan = { .flows = { { .total = FOREVER, .limit = MESSAGE, .segment_bytes = MESSAGE },
					     { .total = FOREVER, .limit = MESSAGE, .segment_bytes = MESSAGE } } };

	if (!test_start_host(test, &settings))
		return;
	for (size_t at = 0; at < CHATS; at++) {
		struct pair *pair = pair_open(test, &plan);
		if (!pair)
			return;
		pair->mark = batches[at];
		pair->marks[0] = test_size(test, messages[at], 1000) * MESSAGE;
	}
	if (!pairs_warm_up(test, 5000))
		return;
	uint64_t start_ns = clock_now_ns();
	if (!test_wait(test, chats_go_on, test, 120000, "the messages") || !pairs_wait_received(test, 5000) || !pairs_poll_reports(test))
		return;
	double seconds = (double)(clock_now_ns() - start_ns) / 1e9, packets = 0;
	for (size_t at = 0; at < CHATS; at++) {
		const struct pair *pair = test->pairs[at];
		require(test, !gatherings(pair), "a chat was gathered %llu times", (unsigned long long)gatherings(pair));
		packets += (double)pair->report.directions[0].packets;
	}
	for (size_t at = 0; at < CHATS; at++) {
		pair_cut(test->pairs[at], 0, FINISH_SHUTDOWN);
		pair_cut(test->pairs[at], 1, FINISH_SHUTDOWN);
	}
	if (!pairs_wait_through(test, 30000) || !pairs_wait_ended(test, 5000) || !pairs_check_happy(test))
		return;
	test_note(test, "%.0f messages a second each way, never gathered", packets / seconds);
}

const struct test_case gather_cases[] = {
	{ "gather-stream", "a one-way stream of small segments is gathered; pauses and large segments end it", ON_SOCKMAP, gather_stream, false },
	{ "gather-chats", "request and response, and messages in both directions: never gathered", ON_SOCKMAP, gather_chats, false },
	{ 0 },
};
