// SPDX-License-Identifier: Apache-2.0
/* Streams in segments of one byte: what they hold in the kernel is hundreds of times
 * what they carry. */
#include "pair.h"
#include "tests.h"

#include "base/instant.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define PAUSE_AFTER 1000

/* `gathers`: the relay may. */
static struct pair *segments_open(struct test *test, bool gathers)
{
	struct host_settings settings = { .no_gathering = !gathers };
	struct pair_plan plan = {
		.flows = { { .total = FOREVER, .limit = PAUSE_AFTER, .segment_bytes = 1 }, { .total = FOREVER, .limit = PAUSE_AFTER, .segment_bytes = 1 } },
		.send_buffer = TEST_BUFFER, .receive_buffer = TEST_BUFFER,
	};

	if (!test_start_host(test, &settings))
		return NULL;
	struct pair *pair = pair_open(test, &plan);
	if (!pair || !pairs_warm_up(test, 5000))
		return NULL;
	return pair;
}

static void segments_finish(struct pair *pair, const char *how, double seconds)
{
	struct test *test = pair->test;

	pair_cut(pair, 0, FINISH_SHUTDOWN);
	pair_cut(pair, 1, FINISH_SHUTDOWN);
	if (!pairs_wait_through(test, 60000) || !pairs_wait_ended(test, 5000) || !pairs_check_happy(test) ||
	    !pair_check_redirected(pair))
		return;
	const struct direction_report *d = &pair->report.directions[0];
	test_note(test, "%s: %llu bytes in %.1f s, %llu packets, redirected %.0f %%, closings credit %llu memory %llu pile %llu small %llu",
		  how, (unsigned long long)d->bytes, seconds, (unsigned long long)d->packets,
		  100 * (double)d->redirected_bytes / (double)d->bytes, (unsigned long long)d->closings[CLOSING_CREDIT],
		  (unsigned long long)d->closings[CLOSING_MEMORY], (unsigned long long)d->closings[CLOSING_PILE], (unsigned long long)d->closings[CLOSING_SMALL]);
}

static void single_bytes_with(struct test *test, bool gathers)
{
	struct memory_watch *memory = memory_watch_start(test, PAIR_MEMORY + MEMORY_SLACK);
	struct pair *pair = segments_open(test, gathers);

	if (!pair)
		goto out;
	uint64_t start_ns = clock_now_ns();
	pair->ends[0].total = PAUSE_AFTER + test_size(test, 1000000, 20000);
	pair_release(pair, 0, FOREVER);
	if (!pairs_wait_received(test, 120000))
		goto out;
	double seconds = (double)(clock_now_ns() - start_ns) / 1e9;
	if (!memory_watch_observe(memory, 0)) {
		/* Again, to tell the relay's memory from that of other programs. */
		pair->ends[0].total = FOREVER;
		pair_release(pair, 0, FOREVER);
		memory_watch_observe(memory, 2000);
	}
	segments_finish(pair, "reading", seconds);
	const struct direction_report *d = &pair->report.directions[0];
	if (!test_failed(test) && test->plane == PLANE_SOCKMAP && d->packets * 2 < d->redirected_bytes)
		test_fail(test, "%llu one-byte segments were counted as %llu packets", (unsigned long long)d->redirected_bytes,
			  (unsigned long long)d->packets);
out:
	memory_watch_finish(memory);
}

static void single_bytes(struct test *test)
{
	single_bytes_with(test, false);
}

static void single_bytes_gathered(struct test *test)
{
	single_bytes_with(test, true);
}

static void single_bytes_stopped_with(struct test *test, bool gathers)
{
	struct memory_watch *memory = memory_watch_start(test, PAIR_MEMORY + MEMORY_SLACK);
	struct pair *pair = segments_open(test, gathers);

	if (!pair)
		goto out;
	uint64_t start_ns = clock_now_ns();
	pair_stop_reader(pair, 0, true);
	pair_release(pair, 0, FOREVER);
	if (!stopped_wait_quiet(test, 0, 60000))
		goto out;
	memory_watch_observe(memory, 2000);
	pair_stop_reader(pair, 0, false);
	segments_finish(pair, "stopped", (double)(clock_now_ns() - start_ns) / 1e9);
	if (!test_failed(test) && test->plane == PLANE_SOCKMAP && !report_closings(&pair->report.directions[0]))
		test_fail(test, "the gate was never closed");
out:
	memory_watch_finish(memory);
}

static void single_bytes_stopped(struct test *test)
{
	single_bytes_stopped_with(test, false);
}

static void single_bytes_stopped_gathered(struct test *test)
{
	single_bytes_stopped_with(test, true);
}

/* Urgent bytes are bytes of the stream like all others. */
static void urgent_bytes(struct test *test)
{
	struct host_settings settings = { 0 };
	struct pair_plan plan = { .flows = { { .total = FOREVER, .limit = PAUSE_AFTER }, { .total = FOREVER, .limit = PAUSE_AFTER } } };

	if (!test_start_host(test, &settings))
		return;
	struct pair *pair = pair_open(test, &plan);
	if (!pair || !pairs_warm_up(test, 5000))
		return;
	struct end *from = &pair->ends[0];
	for (int round = 0; round < 50; round++) {
		require(test, send(from->fd, pattern_at(from->out_stream, from->sent), 1, MSG_OOB | MSG_DONTWAIT) == 1, "send: %s", strerror(errno));
		from->sent++;
		pair_release(pair, 0, from->sent + engine_random_between(&test->engine, 1, 5000));
		/* Sometimes the urgent byte has bytes behind it at once, sometimes it stands alone. */
		if (round & 1 && !pairs_wait_received(test, 5000))
			return;
	}
	pair_cut(pair, 0, FINISH_SHUTDOWN);
	pair_cut(pair, 1, FINISH_SHUTDOWN);
	if (!pairs_wait_through(test, 5000) || !pairs_wait_ended(test, 5000) || !pairs_check_happy(test) || !pair_check_redirected(pair))
		return;
	test_note(test, "50 among %llu bytes", (unsigned long long)from->sent);
}

const struct test_case segment_cases[] = {
	{ "urgent-bytes", "urgent bytes among others", ON_ALL, urgent_bytes, false },
	{ "single-bytes", "one-byte segments at full speed; memory is bounded", ON_ALL, single_bytes, true },
	{ "single-bytes-stopped", "one-byte segments at full speed against a stopped reader", ON_ALL, single_bytes_stopped, true },
	{ "single-bytes-gathered", "single-bytes where the relay gathers them", ON_SOCKMAP, single_bytes_gathered, true },
	{ "single-bytes-stopped-gathered", "single-bytes-stopped where the relay gathers them", ON_SOCKMAP, single_bytes_stopped_gathered, true },
	{ 0 },
};
