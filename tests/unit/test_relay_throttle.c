// SPDX-License-Identifier: Apache-2.0
/* The throttle on simulated paths: a sender that is far away and always has something to send, a
 * window that grows as the kernel's does, and a reader that takes bytes at a pace, in leaps. */
#include "relay/throttle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TICK_NS 250000ull
#define TICKS_PER_S 4000u
#define TICKS_MOST (1u << 16)
#define SEGMENT 1448u

struct path {
	uint64_t rtt_ns, reader_rtt_ns, credit;
	double pace;      /* of the reader: bytes in a nanosecond */
	uint64_t leap;    /* the least that it acknowledges */
	unsigned stop_at, go_on_at; /* ticks between which the reader stops; 0: never */
	double sender_pace; /* that it never passes; 0: none */
	/* outcomes, from `judged_from` on */
	unsigned judged_from, ticks;
	uint64_t taken;   /* by the reader */
	int64_t most_waiting;
	uint32_t last_window, least_window;
};

/* One tick after the other; the sender learns of a window, and its bytes arrive, half a round trip later each. */
static void simulate(struct path *path)
{
	/* By tick: the window's right edge as announced, and bytes that arrive. */
	static uint64_t edges[TICKS_MOST], arrivals[TICKS_MOST];
	struct throttle throttle = { .rtt_ns = path->rtt_ns, .least = 4 * SEGMENT, .most = 3u << 20, .window = 256u << 10 };
	struct throttle_sample sample = { .credit = path->credit, .reader_rtt_ns = path->reader_rtt_ns, .is_open = true };
	unsigned half = (unsigned)(path->rtt_ns / 2 / TICK_NS);
	uint64_t sent = 0, came = 0, acked = 0, edge = 64u << 10;
	double grown = 64u << 10, owed = 0;

	memset(edges, 0, sizeof edges);
	memset(arrivals, 0, sizeof arrivals);
	path->least_window = throttle.most;
	for (unsigned tick = 1; tick < path->ticks; tick++) {
		uint64_t may_send = tick > half ? edges[tick - half] : 64u << 10, arrived = arrivals[tick];

		/* The sender. */
		uint64_t burst = may_send > sent ? may_send - sent : 0;
		if (path->sender_pace && burst > path->sender_pace * TICK_NS)
			burst = (uint64_t)(path->sender_pace * TICK_NS);
		sent += burst;
		arrivals[tick + half] += burst;
		/* The relay's kernel: the announced window never shrinks. */
		came += arrived;
		grown += 2.0 * (double)arrived;
		grown = grown < throttle.window ? grown : throttle.window;
		edge = came + (uint64_t)grown > edge ? came + (uint64_t)grown : edge;
		edges[tick] = edge;
		/* The reader. */
		bool is_stopped = tick >= path->stop_at && tick < path->go_on_at;
		owed += is_stopped ? 0 : path->pace * TICK_NS;
		owed = owed < (double)path->leap + 4 * path->pace * TICK_NS ? owed : (double)path->leap + 4 * path->pace * TICK_NS;
		uint64_t take = came - acked < (uint64_t)owed ? came - acked : (uint64_t)owed;
		if (take >= path->leap || (take && take == came - acked)) {
			acked += take;
			owed -= (double)take;
			path->taken += tick >= path->judged_from ? take : 0;
		}
		sample.now_ns = tick * TICK_NS;
		if (sample.now_ns >= throttle.due_ns) {
			sample.acked = acked;
			sample.came = came;
			sample.waiting = (int64_t)(came - acked);
			path->last_window = throttle_step(&throttle, &sample);
		}
		if (tick >= path->judged_from && (int64_t)(came - acked) > path->most_waiting)
			path->most_waiting = (int64_t)(came - acked);
		if (tick >= path->judged_from && throttle.window < path->least_window)
			path->least_window = throttle.window;
	}
}

static double reached(const struct path *path)
{
	return (double)path->taken / ((path->ticks - path->judged_from) * (double)TICK_NS);
}

static void a_slow_reader_gets_all_it_can_take_and_no_gate_closes(void **state)
{
	static const double paces[] = { 0.002, 0.01, 0.02, 0.05 }; /* 2 to 50 MB/s */
	static const uint64_t trips_ms[] = { 2, 5, 20, 40 }, leaps[] = { 1, 64 << 10, 256 << 10 };

	(void)state;
	for (size_t pace = 0; pace < 4; pace++)
		for (size_t trip = 0; trip < 4; trip++)
			for (size_t leap = 0; leap < 3; leap++) {
				struct path path = { .rtt_ns = trips_ms[trip] * 1000000, .credit = 2u << 20, .pace = paces[pace],
						     .leap = leaps[leap], .judged_from = 4 * TICKS_PER_S, .ticks = 10 * TICKS_PER_S };

				/* Not less than the window may be, nor more than bursts leave room for in the credit. */
				if (path.pace * (double)path.rtt_ns < 10 * SEGMENT || path.pace * (double)path.rtt_ns > (double)path.credit / 2)
					continue;
				simulate(&path);
				assert_true(reached(&path) > 0.97 * path.pace); /* of 6 s, with leaps of up to 0.13 s */
				assert_true(path.most_waiting <= (int64_t)path.credit);
			}
}

static void a_reader_far_away_has_its_path_filled(void **state)
{
	struct path path = { .rtt_ns = 20000000, .reader_rtt_ns = 20000000, .credit = 4u << 20, .pace = 0.05, .leap = 1,
			     .judged_from = 4 * TICKS_PER_S, .ticks = 8 * TICKS_PER_S };

	(void)state;
	simulate(&path);
	assert_true(reached(&path) > 0.99 * path.pace);
	assert_true(path.most_waiting > 20000000 * path.pace && path.most_waiting <= (int64_t)path.credit);
}

static void a_reader_that_is_not_slower_is_not_throttled(void **state)
{
	struct path path = { .rtt_ns = 100000000, .credit = 2u << 20, .pace = 1, .leap = 1, .sender_pace = 0.0125,
			     .judged_from = 3 * TICKS_PER_S, .ticks = 8 * TICKS_PER_S };

	(void)state;
	simulate(&path);
	assert_true(reached(&path) > 0.99 * path.sender_pace);
}

static void a_reader_that_stops_stops_the_sender(void **state)
{
	struct path path = { .rtt_ns = 20000000, .credit = 2u << 20, .pace = 0.02, .leap = 1, .stop_at = 4 * TICKS_PER_S,
			     .go_on_at = 6 * TICKS_PER_S, .judged_from = 5 * TICKS_PER_S, .ticks = 6 * TICKS_PER_S };

	(void)state;
	simulate(&path);
	assert_int_equal(path.taken, 0);
	assert_true(path.last_window < 0.02 * 20000000 / 4);
	/* And goes on. */
	path = (struct path){ .rtt_ns = 20000000, .credit = 2u << 20, .pace = 0.02, .leap = 1, .stop_at = 4 * TICKS_PER_S,
			      .go_on_at = 6 * TICKS_PER_S, .judged_from = 8 * TICKS_PER_S, .ticks = 10 * TICKS_PER_S };
	simulate(&path);
	assert_true(reached(&path) > 0.99 * path.pace);
}

static void the_goal_fits_into_the_credit(void **state)
{
	(void)state;
	assert_int_equal(throttle_goal(2 << 20, 0), 512 << 10);
	assert_int_equal(throttle_goal(4 << 20, 1 << 20), 3 << 19);
	assert_int_equal(throttle_goal(2 << 20, 100 << 20), 3 << 19);
}

static void looks_end_with_the_bytes(void **state)
{
	struct throttle throttle = { .rtt_ns = 20000000, .least = 4 * SEGMENT, .most = 1 << 20, .window = 1 << 20 };
	struct throttle_sample sample = { .credit = 2 << 20, .is_open = true };

	(void)state;
	for (unsigned look = 0; look < 8; look++) {
		sample.now_ns += 10000000;
		sample.came += 100000;
		sample.acked += 100000;
		throttle_step(&throttle, &sample);
		assert_int_equal(throttle.idle, 0);
		assert_int_equal(throttle.due_ns, sample.now_ns + 10000000);
	}
	for (unsigned look = 0; look < 4; look++) {
		sample.now_ns += 10000000;
		throttle_step(&throttle, &sample);
	}
	assert_int_equal(throttle.idle, 4);
	/* A pause says nothing about the pace. */
	double pace = throttle.pace;
	sample.now_ns += 60000000000;
	sample.came += 1000;
	throttle_step(&throttle, &sample);
	assert_true(throttle.pace == pace);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slow_reader_gets_all_it_can_take_and_no_gate_closes),
		cmocka_unit_test(a_reader_far_away_has_its_path_filled),
		cmocka_unit_test(a_reader_that_is_not_slower_is_not_throttled),
		cmocka_unit_test(a_reader_that_stops_stops_the_sender),
		cmocka_unit_test(the_goal_fits_into_the_credit),
		cmocka_unit_test(looks_end_with_the_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
