// SPDX-License-Identifier: Apache-2.0
/* Many bytes through one pair: as fast as it goes, and behind a reader of 5 MB/s. */
#include "pair.h"
#include "tests.h"

#include "base/instant.h"

#define READER_RATE (5 * MB)
#define PAUSE_AFTER (64 * KIB) /* a full-speed sender pauses here once, so that the gate opens */

static void both_ways(struct test *test)
{
	uint64_t size = test_size(test, 1000 * MB, 4 * MB);
	struct pair_plan plan = { .flows = {
		{ .total = size, .limit = PAUSE_AFTER, .finish = FINISH_SHUTDOWN },
		{ .total = size, .limit = PAUSE_AFTER, .finish = FINISH_SHUTDOWN },
	} };
	struct host_settings settings = { 0 };

	if (!test_start_host(test, &settings))
		return;
	test->engine.keeps_checksums = true;
	struct pair *pair = pair_open(test, &plan);
	if (!pair || !pairs_warm_up(test, 5000))
		return;
	uint64_t start_ns = clock_now_ns(), cpu_ns = host_cpu_ns(&test->host);
	pair_release(pair, 0, size);
	pair_release(pair, 1, size);
	if (!pairs_wait_through(test, 120000))
		return;
	double seconds = (double)(clock_now_ns() - start_ns) / 1e9;
	cpu_ns = host_cpu_ns(&test->host) - cpu_ns;
	if (!pairs_wait_ended(test, 5000) || !pairs_check_happy(test) || !pair_check_redirected(pair))
		return;
	for (int stream = 0; stream < 2; stream++)
		require(test, pair->ends[stream].checksum_out == pair->ends[!stream].checksum_in, "checksums differ");
	const struct direction_report *d = pair->report.directions;
	test_note(test, "%.0f MB each way, %.2f GB/s, daemon %.2f CPU s/GB, redirected %.1f/%.1f %%, checksums %08x %08x",
		  (double)size / MB, 2 * (double)size / seconds / 1e9, (double)cpu_ns / (2 * (double)size),
		  100 * (double)d[0].redirected_bytes / (double)d[0].bytes,
		  100 * (double)d[1].redirected_bytes / (double)d[1].bytes, pair->ends[1].checksum_in, pair->ends[0].checksum_in);
}

static void slow_reader(struct test *test)
{
	struct host_settings settings = { 0 };
	struct pair_plan plan = {
		.flows = {
			{ .total = FOREVER, .limit = PAUSE_AFTER, .reader = { .rate = READER_RATE } },
			{ .total = FOREVER, .limit = PAUSE_AFTER },
		},
		.send_buffer = TEST_BUFFER, .receive_buffer = TEST_BUFFER,
	};

	if (!test_start_host(test, &settings))
		return;
	struct memory_watch *memory = memory_watch_start(test, PAIR_MEMORY + MEMORY_SLACK);
	struct pair *pair = pair_open(test, &plan);
	if (!pair || !pairs_warm_up(test, 5000))
		goto out;
	pair_release(pair, 0, FOREVER);
	memory_watch_observe(memory, test->is_full ? 60000 : (unsigned)test_size(test, 10000, 2000));
	uint64_t held = pair->ends[0].sent - pair->ends[1].received;
	if (held > PAIR_MEMORY + 4 * TEST_BUFFER) {
		test_fail(test, "%.1f MB are under way behind a slow reader", (double)held / MB);
		goto out;
	}
	pair->ends[1].in_pace.rate = 0; /* the rest faster */
	pair_cut(pair, 0, FINISH_SHUTDOWN);
	pair_cut(pair, 1, FINISH_SHUTDOWN);
	if (!pairs_wait_through(test, 30000) || !pairs_wait_ended(test, 5000) || !pairs_check_happy(test) ||
	    !pair_check_redirected(pair))
		goto out;
	const struct direction_report *d = &pair->report.directions[0];
	if (test->plane == PLANE_SOCKMAP && !report_closings(d))
		test_fail(test, "the gate was never closed");
	test_note(test, "%.1f MB under way, %.1f MB moved, redirected %.1f %%, closings %llu", (double)held / MB, (double)d->bytes / MB, 100 * (double)d->redirected_bytes / (double)d->bytes,
		  (unsigned long long)report_closings(d));
out:
	memory_watch_finish(memory);
}

/* ---- bursts ---- */

struct bursts {
	struct test *test;
	struct pair *pair;
	uint64_t wanted;    /* closings and openings, in each direction */
	uint64_t count[2];
	uint64_t due_ns[2]; /* of the next burst, when the last one has arrived */
	bool is_waiting[2];
};

/* A new burst begins a random moment after the last one has arrived whole: bigger than
 * all that fits between the gate and the reader. */
static void bursts_go_on(struct bursts *bursts, unsigned stream)
{
	struct engine *engine = &bursts->test->engine;
	struct end *from = &bursts->pair->ends[stream], *to = &bursts->pair->ends[!stream];
	uint64_t credit = bursts->pair->report.directions[stream].credit_bytes;

	if (from->sent < from->limit || to->received < from->sent)
		return;
	if (!bursts->is_waiting[stream]) {
		bursts->is_waiting[stream] = true;
		bursts->due_ns[stream] = engine->now_ns + engine_random_between(engine, 0, 20) * 1000000;
	}
	if (engine->now_ns < bursts->due_ns[stream])
		return;
	bursts->is_waiting[stream] = false;
	bursts->count[stream]++;
	pair_release(bursts->pair, stream, from->sent + credit + 2 * TEST_BUFFER + engine_random_between(engine, 1, 256 * KIB));
}

static bool bursts_are_enough(void *context)
{
	struct bursts *bursts = context;
	struct test *test = bursts->test;

	if (bursts->pair->ends[0].error || bursts->pair->ends[1].error || bursts->pair->ends[0].wrong || bursts->pair->ends[1].wrong)
		return true;
	if (test_poll_is_due(test, 20) && !pairs_poll_reports(test))
		return true;
	for (unsigned stream = 0; stream < 2; stream++)
		bursts_go_on(bursts, stream);
	for (unsigned stream = 0; stream < 2; stream++) {
		const struct direction_report *report = &bursts->pair->report.directions[stream];
		if (bursts->count[stream] < bursts->wanted)
			return false;
		if (test->plane == PLANE_SOCKMAP && (report_closings(report) < bursts->wanted || report->openings < bursts->wanted))
			return false;
	}
	return true;
}

void bursts_run(struct test *test, struct host_settings *settings)
{
	struct pair_plan plan = {
		.flows = {
			{ .total = FOREVER, .limit = PAUSE_AFTER, .reader = { .rate = READER_RATE } },
			{ .total = FOREVER, .limit = PAUSE_AFTER, .reader = { .rate = READER_RATE } },
		},
		.send_buffer = TEST_BUFFER, .receive_buffer = TEST_BUFFER,
	};

	settings->pair_memory_bytes = 4 << 20; /* small credit, so that a burst need not be large */
	if (!test_start_host(test, settings))
		return;
	struct memory_watch *memory = memory_watch_start(test, settings->pair_memory_bytes + MEMORY_SLACK);
	struct bursts bursts = { .test = test, .pair = pair_open(test, &plan), .wanted = test_size(test, 100, 10) };
	if (!bursts.pair || !pairs_warm_up(test, 5000))
		goto out;
	if (!test_wait(test, bursts_are_enough, &bursts, 150000, "the wanted number of gate closings"))
		goto out;
	for (int again = 0; again < 3 && !memory_watch_observe(memory, 0); again++) {
		bursts.wanted += bursts.wanted / 4 + 1;
		memory_watch_restart(memory);
		if (!test_wait(test, bursts_are_enough, &bursts, 60000, "more bursts"))
			goto out;
	}
	for (unsigned stream = 0; stream < 2; stream++) {
		bursts.pair->ends[!stream].in_pace.rate = 0;
		pair_cut(bursts.pair, stream, FINISH_SHUTDOWN);
	}
	if (!pairs_wait_through(test, 30000) || !pairs_wait_ended(test, 5000) || !pairs_check_happy(test) ||
	    !pair_check_redirected(bursts.pair))
		goto out;
	const struct direction_report *d = bursts.pair->report.directions;
	test_note(test, "%llu/%llu bursts, closings %llu/%llu, openings %llu/%llu, %.1f/%.1f MB, redirected %.0f/%.0f %%",
		  (unsigned long long)bursts.count[0], (unsigned long long)bursts.count[1],
		  (unsigned long long)report_closings(&d[0]), (unsigned long long)report_closings(&d[1]),
		  (unsigned long long)d[0].openings, (unsigned long long)d[1].openings, (double)d[0].bytes / MB, (double)d[1].bytes / MB,
		  100 * (double)d[0].redirected_bytes / (double)d[0].bytes, 100 * (double)d[1].redirected_bytes / (double)d[1].bytes);
out:
	memory_watch_finish(memory);
}

static void bursts(struct test *test)
{
	struct host_settings settings = { 0 };

	bursts_run(test, &settings);
}

const struct test_case bulk_cases[] = {
	{ "both-ways", "1 GB each way at once, with checksums", ON_ALL, both_ways, true },
	{ "slow-reader", "a reader of 5 MB/s behind a full-speed writer; memory is bounded", ON_ALL, slow_reader, true },
	{ "bursts", "the same reader behind random bursts: 100 closings and openings each way", ON_ALL, bursts, true },
	{ 0 },
};
