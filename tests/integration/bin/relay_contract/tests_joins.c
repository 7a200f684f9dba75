// SPDX-License-Identifier: Apache-2.0
/* The moment of joining: under full traffic, with a party that has ended before, and
 * long before the first byte. */
#include "pair.h"
#include "tests.h"

#include "base/instant.h"

#define WINDOW 4
#define AFTER (300 * KIB) /* sent behind the pause, through open gates */

/* ---- both parties send at full speed while they are joined ---- */

enum rush_stage { RUSH_FLOWS, RUSH_PAUSES, RUSH_GOES_ON };

struct rush {
	struct test *test;
	size_t count, finished, joined_flowing;
	struct pair *active[WINDOW];
};

static struct pair *rush_open(struct test *test)
{
	struct pair_plan plan = { .flows = { { .total = FOREVER, .finish = FINISH_SHUTDOWN }, { .total = FOREVER, .finish = FINISH_SHUTDOWN } } };

	for (int side = 0; side < 2; side++)
		plan.token_modes[side] = engine_random(&test->engine) & 1 ? TOKEN_WITH_DATA : TOKEN_ALONE;
	if (engine_random(&test->engine) & 1)
		plan.send_buffer = plan.receive_buffer = TEST_BUFFER;
	return pair_open(test, &plan);
}

/* Both pause once the pair is joined (or has carried much without), go on when the gates
 * are open, and end. */
static bool rush_step(struct rush *rush, struct pair *pair)
{
	struct end *ends = pair->ends;

	switch ((enum rush_stage)pair->stage) {
	case RUSH_FLOWS:
		if (!pair->is_joined || pair->report.plane != rush->test->plane) {
			if (ends[0].sent < 64 * MB || ends[1].sent < 64 * MB)
				return false;
		} else {
			rush->joined_flowing++;
		}
		pair->stage = RUSH_PAUSES;
		for (unsigned stream = 0; stream < 2; stream++)
			pair_release(pair, stream, ends[stream].sent);
		return false;
	case RUSH_PAUSES:
		if (!pair_is_settled(pair))
			return false;
		pair->stage = RUSH_GOES_ON;
		for (unsigned stream = 0; stream < 2; stream++) {
			ends[stream].total = ends[stream].sent + engine_random_between(&rush->test->engine, 1, AFTER);
			pair_release(pair, stream, FOREVER);
		}
		return false;
	case RUSH_GOES_ON:
		return end_is_through(&ends[0]) && end_is_through(&ends[1]);
	}
	return false;
}

static bool rush_is_over(void *context)
{
	struct rush *rush = context;
	struct test *test = rush->test;

	if (test_poll_is_due(test, 2) && (!pairs_poll_gates(test) || !pairs_poll_ended(test)))
		return true;
	for (size_t place = 0; place < WINDOW; place++) {
		struct pair *pair = rush->active[place];
		if (!pair && test->pair_count < rush->count)
			rush->active[place] = pair = rush_open(test);
		if (!pair)
			continue;
		if (rush_step(rush, pair)) {
			rush->active[place] = NULL;
			rush->finished++;
		}
		if (!pair_check_bytes(pair))
			return true;
	}
	return rush->finished == rush->count || test_failed(test);
}

static void join_at_full_speed(struct test *test)
{
	struct host_settings settings = { 0 };
	struct rush rush = { .test = test, .count = test_size(test, 500, 20) };
	double bytes = 0;

	if (!test_start_host(test, &settings))
		return;
	if (!test_wait(test, rush_is_over, &rush, 300000, "the end of all pairs") || test_failed(test) ||
	    !pairs_wait_ended(test, 10000) || !pairs_check_happy(test))
		return;
	for (size_t at = 0; at < test->pair_count; at++) {
		if (!pair_check_redirected(test->pairs[at]))
			return;
		bytes += (double)(test->pairs[at]->ends[0].sent + test->pairs[at]->ends[1].sent);
	}
	test_note(test, "%zu joins, %zu of them with both at full speed, %.0f MB", rush.count, rush.joined_flowing, bytes / MB);
	require(test, rush.joined_flowing * 2 >= rush.count, "only %zu of %zu pairs were joined while both sent", rush.joined_flowing,
		rush.count);
}

/* ---- a second party that has sent FIN before it is joined ---- */

static void early_fin(struct test *test)
{
	struct host_settings settings = { 0 };
	size_t count = test_size(test, 50, 10), on_plane = 0;

	if (!test_start_host(test, &settings))
		return;
	for (size_t at = 0; at < count; at++) {
		struct pair_plan plan = {
			.flows = { { .total = 200000, .finish = FINISH_SHUTDOWN, .holds = true },
				   { .total = at % 2 ? 20000 : 0, .finish = FINISH_SHUTDOWN } },
			.second_comes_later = true, .token_modes = { TOKEN_ALONE, TOKEN_WITH_END },
		};
		struct pair *pair = pair_open(test, &plan);
		if (!pair || !tokens_wait_waiting(test, 1) || !pair_connect_second(pair))
			return;
		pair_release(pair, 0, FOREVER);
		if (!pairs_wait_through(test, 10000))
			return;
	}
	if (!pairs_wait_ended(test, 5000) || !pairs_check_happy(test))
		return;
	for (size_t at = 0; at < count; at++)
		on_plane += test->pairs[at]->report.plane == test->plane;
	test_note(test, "%zu pairs, %zu on the plane", count, on_plane);
}

/* ---- parties of different families ---- */

static void families(struct test *test)
{
	struct host_settings settings = { .both_families = true };

	if (!test_start_host(test, &settings))
		return;
	for (unsigned at = 0; at < 8; at++) {
		struct pair_plan plan = {
			.flows = { { .total = 3 * MB, .limit = 1000, .finish = FINISH_SHUTDOWN }, { .total = MB, .limit = 1000, .finish = FINISH_SHUTDOWN } },
			.uses_ipv6 = { at & 1, at & 2 },
		};
		if (!pair_open(test, &plan))
			return;
	}
	if (!pairs_warm_up(test, 5000))
		return;
	for (size_t at = 0; at < test->pair_count; at++)
		for (unsigned stream = 0; stream < 2; stream++)
			pair_release(test->pairs[at], stream, FOREVER);
	if (!pairs_wait_through(test, 10000) || !pairs_wait_ended(test, 5000) || !pairs_check_happy(test))
		return;
	for (size_t at = 0; at < test->pair_count; at++)
		if (!pair_check_redirected(test->pairs[at]))
			return;
	test_note(test, "IPv4 and IPv6, each with each");
}

/* ---- idle first ---- */

static void idle_then_used(struct test *test)
{
	/* Every timeout of the joining phase is over many times before the first byte. */
	unsigned timeout_ms = test->is_full ? 0 : 500 * test->patience;
	struct host_settings settings = { .accept_timeout_ms = timeout_ms, .token_timeout_ms = timeout_ms };
	struct pair_plan plan = { .flows = { { .total = MB, .finish = FINISH_SHUTDOWN, .holds = true },
					     { .total = MB, .finish = FINISH_SHUTDOWN, .holds = true } } };
	unsigned idle_ms = test->is_full ? 30000 : 3000 * test->patience;

	if (!test_start_host(test, &settings))
		return;
	for (int at = 0; at < 10; at++)
		if (!pair_open(test, &plan))
			return;
	if (!pairs_wait_settled(test, 5000))
		return;
	uint64_t cpu_ns = host_cpu_ns(&test->host);
	engine_run_for(&test->engine, idle_ms);
	cpu_ns = host_cpu_ns(&test->host) - cpu_ns;
	for (size_t at = 0; at < test->pair_count; at++) {
		if (!pair_check_bytes(test->pairs[at]))
			return;
		pair_release(test->pairs[at], 0, FOREVER);
		pair_release(test->pairs[at], 1, FOREVER);
	}
	if (!pairs_wait_through(test, 10000) || !pairs_wait_ended(test, 5000) || !pairs_check_happy(test))
		return;
	for (size_t at = 0; at < test->pair_count; at++)
		if (!pair_check_redirected(test->pairs[at]))
			return;
	test_note(test, "%zu pairs, idle for %.1f s, daemon %.2f %% of a core meanwhile", test->pair_count, (double)idle_ms / 1000,
		  (double)cpu_ns / idle_ms / 1e4);
}

const struct test_case join_cases[] = {
	{ "join-at-full-speed", "500 joins while both parties send at full speed", ON_ALL, join_at_full_speed, true },
	{ "early-fin", "the second party has sent FIN before it is joined", ON_ALL, early_fin, true },
	{ "families", "parties over IPv4 and IPv6, each with each", ON_ALL, families, false },
	{ "idle-then-used", "a pair idle for longer than every timeout of joining, then used", ON_ALL, idle_then_used, true },
	{ 0 },
};
