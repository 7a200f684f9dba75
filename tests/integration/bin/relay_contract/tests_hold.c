// SPDX-License-Identifier: Apache-2.0
/* The hold: a sender that is faster than its reader stays in the kernel, without TCP having to
 * wait for a timer, and whatever comes in the middle of a hold is passed on as ever. */
#include "pair.h"
#include "tests.h"

#include "base/instant.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define READER_RATE (50 * MB)
#define PAUSE_AFTER (64 * KIB) /* a full-speed sender pauses here once, so that the gate opens */
#define WINDOWS_MOST 6

/* What TCP does only when it has lost something or waits in vain, of the whole namespace. */
static uint64_t troubles(void)
{
	static const char *const wanted[] = { "TCPTimeouts", "TCPWinProbe", "TCPRcvQDrop", "TCPBacklogDrop", "TCPZeroWindowDrop" };
	char *lines[2] = { NULL, NULL }, *saved[2];
	size_t sizes[2] = { 0 };
	uint64_t sum = 0;
	FILE *file = fopen("/proc/net/netstat", "re");

	if (file && getline(&lines[0], &sizes[0], file) > 0 && getline(&lines[1], &sizes[1], file) > 0) {
		char *name = strtok_r(lines[0], " \n", &saved[0]), *value = strtok_r(lines[1], " \n", &saved[1]);
		for (; name && value; name = strtok_r(NULL, " \n", &saved[0]), value = strtok_r(NULL, " \n", &saved[1]))
			for (size_t at = 0; at < sizeof wanted / sizeof *wanted; at++)
				if (!strcmp(name, wanted[at]))
					sum += strtoull(value, NULL, 10);
	}
	if (file)
		fclose(file);
	free(lines[0]);
	free(lines[1]);
	return sum;
}

/* The share of the bytes that went through the kernel in one of several windows of two seconds in
 * which nothing had to wait for a timer. One is enough: on a machine that is busy with other things
 * a sender or a reader may not run for longer than TCP waits. */
static void bulk_through(struct test *test, uint64_t rate, double wanted)
{
	struct host_settings settings = { 0 };
	struct pair_plan plan = {
		.flows = { { .total = FOREVER, .limit = PAUSE_AFTER, .reader = { .rate = rate } },
			   { .total = PAUSE_AFTER, .limit = PAUSE_AFTER, .finish = FINISH_SHUTDOWN, .holds = true } },
	};
	unsigned window_ms = (unsigned)test_size(test, 2000, 500);
	double share = 0, best = 0, speed = 0;
	uint64_t trouble = 0;
	unsigned windows = 0;

	if (!test_start_host(test, &settings))
		return;
	struct pair *pair = pair_open(test, &plan);
	if (!pair || !pairs_warm_up(test, 5000))
		return;
	pair_release(pair, 0, FOREVER);
	engine_run_for(&test->engine, 500); /* the credit grows */
	const struct direction_report *report = &pair->report.directions[0];
	for (; windows < WINDOWS_MOST && (share < wanted || trouble); windows++) {
		if (!pairs_poll_reports(test))
			return;
		uint64_t bytes = report->bytes, redirected = report->redirected_bytes, before = troubles(), start_ns = clock_now_ns();
		engine_run_for(&test->engine, window_ms);
		trouble = troubles() - before;
		if (!pair_check_bytes(pair) || !pairs_poll_reports(test))
			return;
		require(test, report->bytes > bytes, "nothing moved in %u ms", window_ms);
		speed = (double)(report->bytes - bytes) / (double)(clock_now_ns() - start_ns) * 1e3;
		share = (double)(report->redirected_bytes - redirected) / (double)(report->bytes - bytes);
		best = share > best ? share : best;
	}
	uint64_t holds = report->holds;
	pair->ends[1].in_pace.rate = 0;
	pair_cut(pair, 0, FINISH_SHUTDOWN);
	pair_release(pair, 1, PAUSE_AFTER);
	if (!pairs_wait_through(test, 30000) || !pairs_wait_ended(test, 5000) || !pairs_check_happy(test))
		return;
	/* An emulated machine does not reach such speeds. */
	if (test->divisor == 1 && test->patience == 1) {
		require(test, share >= wanted && !trouble, "in none of %u windows at least %.0f %% redirected without timeouts, probes and drops (at most %.1f %%)",
			windows, 100 * wanted, 100 * best);
		require(test, holds, "the sender was never held");
	}
	test_note(test, "%.1f %% redirected at %.0f MB/s, no timeouts, probes or drops, in the window no. %u; %llu holds", 100 * share,
		  speed, windows, (unsigned long long)holds);
}

static void hold_reader(struct test *test)
{
	bulk_through(test, READER_RATE, 0.9);
}

static void hold_full_speed(struct test *test)
{
	bulk_through(test, 0, 0.85);
}

/* ---- ends that are threads of their own ---- */

/* The sender fills its queue again while the relay announces window, as two hosts do: in the
 * engine's one thread it cannot. */
struct stream_threads {
	struct end *from, *to;
	atomic_bool stop;
	bool failed; /* reader's */
	uint64_t last_ns, longest_ns; /* without a byte; reader's */
	_Atomic uint64_t received;
};

static bool wait_for(int fd, short what)
{
	struct pollfd poller = { .fd = fd, .events = what };

	return poll(&poller, 1, 20) > 0;
}

static void *write_stream(void *context)
{
	struct stream_threads *threads = context;
	struct end *end = threads->from;

	while (!atomic_load(&threads->stop)) {
		if (!wait_for(end->fd, POLLOUT))
			continue;
		ssize_t size = send(end->fd, pattern_at(end->out_stream, end->sent), PATTERN_RUN, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (size < 0 && errno != EAGAIN)
			break;
		end->sent += size > 0 ? (uint64_t)size : 0;
	}
	return NULL;
}

static void *read_stream(void *context)
{
	struct stream_threads *threads = context;
	struct end *end = threads->to;
	uint8_t *scratch = malloc(PATTERN_RUN);

	threads->last_ns = clock_now_ns();
	while (scratch && !atomic_load(&threads->stop) && !threads->failed) {
		if (!wait_for(end->fd, POLLIN))
			continue;
		ssize_t size = recv(end->fd, scratch, PATTERN_RUN, MSG_DONTWAIT);
		if (size < 0 && errno == EAGAIN)
			continue;
		threads->failed = size <= 0 || pattern_compare(end->in_stream, end->received, scratch, (size_t)size) != (size_t)size;
		if (threads->failed)
			break;
		uint64_t now = clock_now_ns(), pause = now - threads->last_ns;
		threads->longest_ns = pause > threads->longest_ns ? pause : threads->longest_ns;
		threads->last_ns = now;
		end->received += (uint64_t)size;
		atomic_store(&threads->received, end->received);
	}
	free(scratch);
	return NULL;
}

/* Moves stream 0 for that long. False: a byte was wrong, or the connection ended. */
static bool run_threads(struct pair *pair, unsigned run_ms, uint64_t *longest_ns)
{
	struct stream_threads threads = { .from = &pair->ends[0], .to = &pair->ends[1] };
	pthread_t writer, reader;

	if (pthread_create(&reader, NULL, read_stream, &threads))
		return false;
	if (!pthread_create(&writer, NULL, write_stream, &threads)) {
		poll(NULL, 0, (int)run_ms);
		atomic_store(&threads.stop, true);
		pthread_join(writer, NULL);
	}
	atomic_store(&threads.stop, true);
	pthread_join(reader, NULL);
	*longest_ns = threads.longest_ns;
	return !threads.failed;
}

#define PAUSE_MOST_NS 150000000u /* TCP's timers wait for 200 ms at least */
#define THREADS_SHARE 0.6 /* in a second that begins before the hold; hold-full-speed looks at the share */

static void hold_threads(struct test *test)
{
	struct host_settings settings = { 0 };
	struct pair_plan plan = {
		.flows = { { .total = FOREVER, .limit = PAUSE_AFTER },
			   { .total = PAUSE_AFTER, .limit = PAUSE_AFTER, .finish = FINISH_SHUTDOWN, .holds = true } },
	};
	unsigned window_ms = (unsigned)test_size(test, 1000, 200), windows = 0;
	uint64_t longest_ns = 0, moved = 0;
	double share = 0;

	if (!test_start_host(test, &settings))
		return;
	struct pair *pair = pair_open(test, &plan);
	if (!pair || !pairs_warm_up(test, 5000))
		return;
	const struct direction_report *report = &pair->report.directions[0];
	for (; windows < WINDOWS_MOST && (!windows || longest_ns > PAUSE_MOST_NS || share < THREADS_SHARE); windows++) {
		if (!pairs_poll_reports(test))
			return;
		uint64_t bytes = report->bytes, redirected = report->redirected_bytes;
		for (unsigned i = 0; i < 2; i++)
			end_take_out(&pair->ends[i]);
		bool fine = run_threads(pair, window_ms, &longest_ns);
		require(test, fine, "a wrong byte, or an end, behind %llu bytes", (unsigned long long)pair->ends[1].received);
		for (unsigned i = 0; i < 2; i++)
			end_put_back(&pair->ends[i], pair->ends[i].fd);
		if (!pairs_wait_received(test, 10000) || !pairs_poll_reports(test))
			return;
		moved = report->bytes - bytes;
		share = (double)(report->redirected_bytes - redirected) / (double)moved;
	}
	pair_cut(pair, 0, FINISH_SHUTDOWN);
	pair_release(pair, 1, PAUSE_AFTER);
	if (!pairs_wait_through(test, 30000) || !pairs_wait_ended(test, 5000) || !pairs_check_happy(test))
		return;
	if (test->divisor == 1 && test->patience == 1)
		require(test, share >= THREADS_SHARE && longest_ns <= PAUSE_MOST_NS,
			"in none of %u windows %.0f %% redirected without a pause (at last %.1f %%, %.0f ms)", windows, 100 * THREADS_SHARE,
			100 * share, (double)longest_ns / 1e6);
	test_note(test, "%.1f %% redirected at %.0f MB/s, longest pause %.1f ms, in the window no. %u", 100 * share,
		  (double)moved / window_ms / 1e3, (double)longest_ns / 1e6, windows);
}

/* ---- what comes during a hold ---- */

enum hold_end { END_SHUTDOWN, END_BOTH, END_BY_READER, END_RESET, END_RESET_BY_READER, HOLD_ENDS };

static bool are_held(void *context)
{
	struct test *test = context;

	if (!test_poll_is_due(test, 20) || !pairs_poll_reports(test))
		return false;
	for (size_t at = 0; at < test->pair_count; at++)
		if (test->pairs[at]->report.directions[0].holds < 2)
			return false;
	return true;
}

static bool ends_are_seen(void *context)
{
	struct test *test = context;

	for (size_t at = 0; at < test->pair_count; at++) {
		const struct pair *pair = test->pairs[at];
		bool resets = pair->stage == END_RESET || pair->stage == END_RESET_BY_READER;
		const struct end *other = &pair->ends[pair->stage == END_RESET];
		if (resets ? !other->error : !end_is_through(&pair->ends[0]) || !end_is_through(&pair->ends[1]))
			return false;
	}
	return true;
}

static void end_now(struct pair *pair)
{
	switch ((enum hold_end)pair->stage) {
	case END_SHUTDOWN: /* the sender ends while it is held or not; the reader only then */
	case END_BOTH:
		pair_cut(pair, 0, FINISH_SHUTDOWN);
		break;
	case END_BY_READER: /* a half-close against the stream, which goes on for a while */
		pair_cut(pair, 1, FINISH_SHUTDOWN);
		pair_release(pair, 0, pair->ends[0].sent + 4 * MB);
		break;
	case END_RESET:
		end_reset(&pair->ends[0]);
		break;
	case END_RESET_BY_READER:
		end_reset(&pair->ends[1]);
		break;
	case HOLD_ENDS:
		break;
	}
	if (pair->stage == END_BOTH)
		pair_cut(pair, 1, FINISH_SHUTDOWN);
}

static bool streams_go_on(void *context)
{
	struct test *test = context;

	for (size_t at = 0; at < test->pair_count; at++) {
		struct pair *pair = test->pairs[at];
		if (pair->stage == END_SHUTDOWN && pair->ends[1].eof_seen && !pair->mark) {
			pair->mark = 1;
			pair_cut(pair, 1, FINISH_SHUTDOWN);
		}
		if (pair->stage == END_BY_READER && pair->ends[0].eof_seen && pair->ends[0].sent == pair->ends[0].limit && !pair->mark) {
			pair->mark = 1;
			pair_cut(pair, 0, FINISH_SHUTDOWN);
		}
	}
	return ends_are_seen(test);
}

static void hold_ends(struct test *test)
{
	struct host_settings settings = { 0 };
	size_t count = test_size(test, 8 * HOLD_ENDS, HOLD_ENDS);
	struct pair_plan plan = {
		.flows = { { .total = FOREVER, .limit = PAUSE_AFTER, .reader = { .rate = READER_RATE / 4 } },
			   { .total = FOREVER, .limit = PAUSE_AFTER } },
	};

	test->expects_unhappy = true;
	if (!test_start_host(test, &settings))
		return;
	for (size_t at = 0; at < count; at++) {
		struct pair *pair = pair_open(test, &plan);
		if (!pair)
			return;
		pair->stage = (int)(at % HOLD_ENDS);
	}
	if (!pairs_warm_up(test, 10000))
		return;
	for (size_t at = 0; at < count; at++)
		pair_release(test->pairs[at], 0, FOREVER);
	if (!test_wait(test, are_held, test, 60000, "two holds of every pair"))
		return;
	for (size_t at = 0; at < count; at++) {
		end_now(test->pairs[at]);
		engine_run_for(&test->engine, (unsigned)engine_random_between(&test->engine, 0, 15)); /* anywhere in a hold */
	}
	if (!test_wait(test, streams_go_on, test, 60000, "the ends of held streams") || !pairs_wait_ended(test, 5000))
		return;
	for (size_t at = 0; at < count; at++) {
		struct pair *pair = test->pairs[at];
		bool fine = pair->stage == END_RESET || pair->stage == END_RESET_BY_READER
				    ? pair_check_reset(pair, pair->stage == END_RESET) && pair_check_redirected(pair)
				    : pair_check_happy(pair) && pair_check_redirected(pair);
		if (!fine)
			return;
	}
	test_note(test, "%zu held pairs in %d situations", count, HOLD_ENDS);
}

const struct test_case hold_cases[] = {
	{ "hold-reader", "a reader of 50 MB/s behind a full-speed writer: nearly all stays in the kernel", ON_SOCKMAP, hold_reader, false },
	{ "hold-full-speed", "the same with a reader at full speed", ON_SOCKMAP, hold_full_speed, false },
	{ "hold-threads", "the same with ends that are threads of their own: no pause", ON_SOCKMAP, hold_threads, false },
	{ "hold-ends", "ends, half-closes and resets while the sender is held", ON_SOCKMAP, hold_ends, false },
	{ 0 },
};
