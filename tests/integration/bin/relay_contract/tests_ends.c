// SPDX-License-Identifier: Apache-2.0
/* How streams end: half-close, reset, and thousands of streams that are short. */
#include "pair.h"
#include "tests.h"

#include "base/instant.h"

#include <errno.h>

#define PAUSE_AFTER 1000
#define WINDOW 64 /* pairs at once, where there are thousands in all */

/* ---- half-close ---- */

#define FLOW_ON (4 * MB) /* that the other direction carries after one has ended */

/* Stream pair->stage % 2 ends first, while the other one goes on. */
static bool half_close_step(struct pair *pair)
{
	unsigned first = (unsigned)pair->stage & 1, second = !first;
	struct end *reader = &pair->ends[second];

	if (!reader->eof_seen)
		return false;
	if (!pair->mark)
		pair->mark = pair->ends[first].received + FLOW_ON / pair->test->divisor;
	if (pair->ends[first].received >= pair->mark && pair->ends[second].total == FOREVER) {
		if (pair->ends[second].fin_sent)
			return !test_fail(pair->test, "a half-close ended the other direction too");
		pair_cut(pair, second, FINISH_SHUTDOWN);
	}
	return end_is_through(&pair->ends[0]) && end_is_through(&pair->ends[1]);
}

static bool half_closes_are_done(void *context)
{
	struct test *test = context;
	bool are_done = true;

	for (size_t at = 0; at < test->pair_count; at++) {
		struct pair *pair = test->pairs[at];
		if (pair->ends[0].error || pair->ends[1].error || pair->ends[0].wrong || pair->ends[1].wrong)
			return true;
		are_done = half_close_step(pair) && are_done;
	}
	return are_done || test_failed(test);
}

static void half_close(struct test *test)
{
	struct host_settings settings = { 0 };
	size_t count = test_size(test, 40, 8);

	if (!test_start_host(test, &settings))
		return;
	for (size_t at = 0; at < count; at++) {
		/* The stream that ends first is short and meets a slow reader, a fast one, a full buffer. */
		static const uint64_t rates[] = { 0, 20 * MB, 100 * MB };
		static const uint64_t sizes[] = { PAUSE_AFTER, 100 * KIB, 2 * MB };
		unsigned first = at & 1;
		struct pair_plan plan = { .send_buffer = at % 4 < 2 ? TEST_BUFFER : 0, .receive_buffer = at % 4 < 2 ? TEST_BUFFER : 0 };
		plan.flows[first] = (struct flow){ .total = sizes[at / 2 % 3], .limit = PAUSE_AFTER, .finish = FINISH_SHUTDOWN,
						   .reader = { .rate = rates[at / 6 % 3] } };
		plan.flows[!first] = (struct flow){ .total = FOREVER, .limit = PAUSE_AFTER, .reader = { .rate = at % 5 ? 50 * MB : 0 } };
		if (sizes[at / 2 % 3] == PAUSE_AFTER) /* the FIN must not come before the join */
			plan.flows[first].total += PAUSE_AFTER;
		struct pair *pair = pair_open(test, &plan);
		if (!pair)
			return;
		pair->stage = (int)first;
	}
	if (!pairs_warm_up(test, 10000))
		return;
	for (size_t at = 0; at < count; at++) {
		pair_release(test->pairs[at], 0, FOREVER);
		pair_release(test->pairs[at], 1, FOREVER);
	}
	if (!test_wait(test, half_closes_are_done, test, 60000, "the end of half-closed pairs"))
		return;
	if (!pairs_wait_ended(test, 5000) || !pairs_check_happy(test))
		return;
	for (size_t at = 0; at < count; at++)
		if (!pair_check_redirected(test->pairs[at]))
			return;
	test_note(test, "%zu pairs, each way first, %.1f MB behind each half-close", count, (double)FLOW_ON / test->divisor / MB);
}

/* ---- reset ---- */

enum reset_case {
	RESET_IDLE,        /* nothing under way */
	RESET_BUSY,        /* both directions at full speed */
	RESET_STOPPED,     /* much under way to a reader that does not read */
	RESET_SECOND,      /* the other party resets, at full speed */
	RESET_HALF_CLOSED, /* after its own FIN, while the other sends */
	RESET_UNREAD,      /* closes with bytes unread, which is a reset too */
	RESET_CASES
};

/* Have all seen it, so that the outcome of each can be asked for? */
static bool resets_are_seen(void *context)
{
	struct test *test = context;

	for (size_t at = 0; at < test->pair_count; at++) {
		const struct pair *pair = test->pairs[at];
		const struct end *other = &pair->ends[pair->stage == RESET_SECOND ? 0 : 1];
		if (!other->error && !(other->eof_seen && pair->stage != RESET_HALF_CLOSED))
			return false;
	}
	return true;
}

static bool reset_is_ready(const struct pair *pair)
{
	const struct end *ends = pair->ends;
	uint64_t some = 2 * MB / pair->test->divisor;

	switch ((enum reset_case)pair->stage) {
	case RESET_IDLE:
		return true;
	case RESET_BUSY:
	case RESET_SECOND:
		return ends[0].received > some && ends[1].received > some;
	case RESET_STOPPED:
		return ends[0].blocked && ends[0].sent > 4 * TEST_BUFFER;
	case RESET_HALF_CLOSED:
		return ends[1].eof_seen && ends[0].received > some;
	case RESET_UNREAD:
		return ends[1].blocked;
	case RESET_CASES:
		break;
	}
	return true;
}

static bool resets_are_ready(void *context)
{
	struct test *test = context;

	for (size_t at = 0; at < test->pair_count; at++)
		if (!reset_is_ready(test->pairs[at]))
			return false;
	return true;
}

static void reset_start(struct pair *pair)
{
	switch ((enum reset_case)pair->stage) {
	case RESET_IDLE:
	case RESET_CASES:
		return;
	case RESET_STOPPED:
		pair_stop_reader(pair, 0, true);
		pair_release(pair, 0, FOREVER);
		return;
	case RESET_HALF_CLOSED:
		pair_cut(pair, 0, FINISH_SHUTDOWN);
		pair_release(pair, 1, FOREVER);
		return;
	case RESET_UNREAD:
		pair_stop_reader(pair, 1, true);
		pair_release(pair, 1, FOREVER);
		return;
	case RESET_BUSY:
	case RESET_SECOND:
		pair_release(pair, 0, FOREVER);
		pair_release(pair, 1, FOREVER);
		return;
	}
}

static bool reset_check(struct pair *pair)
{
	unsigned other = pair->stage == RESET_SECOND ? 0 : 1;
	char text[480];

	if (pair->stage == RESET_HALF_CLOSED) {
		/* Its stream had ended before; a reset after that reads as EPIPE here. */
		const struct end *end = &pair->ends[1];
		if (end->wrong || (end->error != ECONNRESET && end->error != EPIPE))
			return test_fail(pair->test, "reset after FIN: %s", pair_text(pair, text, sizeof text));
	} else if (!pair_check_reset(pair, other)) {
		return false;
	}
	if (!pair->is_ended || pair->report.outcome != OUTCOME_RESET_BY_PARTY)
		return test_fail(pair->test, "the relay does not say reset-by-party: %s", pair_text(pair, text, sizeof text));
	return pair_check_redirected(pair);
}

static void reset(struct test *test)
{
	struct host_settings settings = { 0 };
	size_t count = test_size(test, 10 * RESET_CASES, RESET_CASES);
	struct pair_plan plan = {
		.flows = { { .total = FOREVER, .limit = PAUSE_AFTER }, { .total = FOREVER, .limit = PAUSE_AFTER } },
		.send_buffer = TEST_BUFFER, .receive_buffer = TEST_BUFFER,
	};

	test->expects_unhappy = true;
	if (!test_start_host(test, &settings))
		return;
	for (size_t at = 0; at < count; at++) {
		struct pair *pair = pair_open(test, &plan);
		if (!pair)
			return;
		pair->stage = (int)(at % RESET_CASES);
	}
	if (!pairs_warm_up(test, 10000))
		return;
	for (size_t at = 0; at < count; at++)
		reset_start(test->pairs[at]);
	if (!test_wait(test, resets_are_ready, test, 30000, "traffic to be reset"))
		return;
	for (size_t at = 0; at < count; at++) {
		struct pair *pair = test->pairs[at];
		struct end *end = &pair->ends[pair->stage == RESET_SECOND];
		if (pair->stage == RESET_UNREAD)
			end_close(end);
		else
			end_reset(end);
	}
	if (!test_wait(test, resets_are_seen, test, 10000, "ECONNRESET at every other end") || !pairs_wait_ended(test, 5000))
		return;
	for (size_t at = 0; at < count; at++)
		if (!reset_check(test->pairs[at]))
			return;
	test_note(test, "%zu pairs in %d situations", count, RESET_CASES);
}

/* ---- thousands ---- */

/* Keeps WINDOW pairs going until `count` are through. Nobody sends FIN before the join: the
 * endpoint takes that for a first party that has left. */
enum parade_stage { PARADE_WAITS_FOR_GATES, PARADE_WAITS_FOR_JOIN, PARADE_RUNS, PARADE_OVER };
struct parade {
	struct test *test;
	size_t count, finished, opened_gates;
	struct pair *active[WINDOW];
	struct pair *(*open)(struct test *test, size_t number);
	void (*release)(struct pair *pair);
	bool (*is_over)(struct pair *pair); /* both ends are closed, or it has failed */
};

static bool parade_step(struct parade *parade, size_t place)
{
	struct pair *pair = parade->active[place];
	struct test *test = parade->test;

	if (!pair) {
		if (test->pair_count == parade->count)
			return true;
		parade->active[place] = pair = parade->open(test, test->pair_count);
		if (!pair)
			return false;
	}
	if (pair->stage == PARADE_WAITS_FOR_GATES ? pair_is_settled(pair) : pair->stage == PARADE_WAITS_FOR_JOIN && pair->is_joined) {
		pair->mark = pair->stage == PARADE_WAITS_FOR_GATES;
		parade->opened_gates += pair->mark;
		pair->stage = PARADE_RUNS;
		parade->release(pair);
	}
	if (parade->is_over(pair)) {
		if (!pair_check_bytes(pair))
			return false;
		pair->stage = PARADE_OVER;
		parade->active[place] = NULL;
		parade->finished++;
	}
	return true;
}

static bool parade_is_over(void *context)
{
	struct parade *parade = context;

	if (test_poll_is_due(parade->test, 2) && (!pairs_poll_gates(parade->test) || !pairs_poll_ended(parade->test)))
		return true;
	for (size_t place = 0; place < WINDOW; place++)
		if (!parade_step(parade, place))
			return true;
	return parade->finished == parade->count;
}

/* Sum of all, and the check that those who waited for open gates went through them. */
static bool parade_check(struct parade *parade)
{
	struct test *test = parade->test;
	uint64_t bytes = 0, redirected = 0, on_plane = 0;

	for (size_t at = 0; at < parade->count; at++) {
		struct pair *pair = test->pairs[at];
		if (!pair_check_happy(pair) || (pair->mark && !pair_check_redirected(pair)))
			return false;
		on_plane += pair->report.plane == test->plane;
		for (int stream = 0; stream < 2; stream++) {
			bytes += pair->report.directions[stream].bytes;
			redirected += pair->report.directions[stream].redirected_bytes;
		}
	}
	test_note(test, "%zu pairs, %.0f MB, %llu on the plane, %zu after both gates were open, redirected %.0f %%", parade->count,
		  (double)bytes / MB, (unsigned long long)on_plane, parade->opened_gates, 100 * (double)redirected / (double)bytes);
	return parade->opened_gates * 2 >= parade->count || test_fail(test, "too few pairs had open gates");
}

static void parade_run(struct test *test, struct parade *parade)
{
	struct host_settings settings = { .workers = 2 };

	if (!test_start_host(test, &settings))
		return;
	uint64_t start_ns = clock_now_ns();
	if (!test_wait(test, parade_is_over, parade, 300000, "the end of all pairs") || test_failed(test))
		return;
	double seconds = (double)(clock_now_ns() - start_ns) / 1e9;
	if (pairs_wait_ended(test, 10000) && parade_check(parade))
		test_note(test, "%.0f pairs/s", (double)parade->count / seconds);
}

static uint64_t short_size(struct engine *engine)
{
	static const uint64_t classes[] = { 100, 2000, 30000, 200000, 1000000 };

	return engine_random_between(engine, 1, classes[engine_random(engine) % 5]);
}

static struct pair *short_open(struct test *test, size_t number)
{
	struct pair_plan plan = {
		.flows = { { .total = short_size(&test->engine), .finish = FINISH_CLOSE, .holds = true }, { 0 } },
	};
	struct pair *pair = pair_open(test, &plan);

	if (pair)
		pair->stage = number % 5 < 3 ? PARADE_WAITS_FOR_GATES : PARADE_WAITS_FOR_JOIN;
	return pair;
}

static void short_release(struct pair *pair)
{
	pair_release(pair, 0, FOREVER);
}

static bool short_is_over(struct pair *pair)
{
	struct end *reader = &pair->ends[1];

	if (reader->eof_seen)
		end_close(reader);
	return reader->eof_seen || reader->error || reader->wrong || pair->ends[0].error;
}

static void short_streams(struct test *test)
{
	struct parade parade = { .test = test, .count = test_size(test, 10000, 200),
				 .open = short_open, .release = short_release, .is_over = short_is_over };

	parade_run(test, &parade);
}

static struct pair *two_way_open(struct test *test, size_t number)
{
	struct engine *engine = &test->engine;
	struct pair_plan plan = { .send_buffer = number % 3 ? 0 : TEST_BUFFER, .receive_buffer = number % 3 ? 0 : TEST_BUFFER };

	for (unsigned stream = 0; stream < 2; stream++)
		plan.flows[stream] = (struct flow){
			.total = engine_random(engine) % 8 ? engine_random_between(engine, 1, 500000) : 1,
			.finish = FINISH_SHUTDOWN, .holds = true,
			.writer = { .chunk_max = 60000, .pause_after_max = 60000, .pause_max_us = 3000 },
			.reader = { .chunk_max = 60000, .pause_after_max = 80000, .pause_max_us = 3000 },
		};
	struct pair *pair = pair_open(test, &plan);
	if (pair)
		pair->stage = number % 4 ? PARADE_WAITS_FOR_GATES : PARADE_WAITS_FOR_JOIN;
	return pair;
}

static void two_way_release(struct pair *pair)
{
	pair_release(pair, 0, FOREVER);
	pair_release(pair, 1, FOREVER);
}

static bool two_way_is_over(struct pair *pair)
{
	const struct end *ends = pair->ends;

	return (end_is_through(&ends[0]) && end_is_through(&ends[1])) || ends[0].error || ends[1].error || ends[0].wrong ||
	       ends[1].wrong;
}

static void two_way(struct test *test)
{
	struct parade parade = { .test = test, .count = test_size(test, 2000, 100),
				 .open = two_way_open, .release = two_way_release, .is_over = two_way_is_over };

	parade_run(test, &parade);
}

const struct test_case end_cases[] = {
	{ "half-close", "one direction ends while bytes flow on in the other", ON_ALL, half_close },
	{ "reset", "a reset on one side is ECONNRESET on the other, never an end", ON_ALL, reset },
	{ "short-streams", "10,000 streams of random size, closed at once by the writer", ON_ALL, short_streams },
	{ "two-way", "2,000 two-way pairs with random pauses and early FIN", ON_ALL, two_way },
	{ 0 },
};
