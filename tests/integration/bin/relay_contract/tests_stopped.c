// SPDX-License-Identifier: Apache-2.0
/* Readers that stop: one for a long time, a thousand at once. */
#include "pair.h"
#include "sockets.h"
#include "tests.h"

#include "base/instant.h"

#define PAUSE_AFTER (16 * KIB)
#define QUIET_NS 500000000ull /* without a byte; an emulated machine may pause for longer */
#define BUSY_PAIRS 10
#define RATE_WINDOW_MS 1000
#define RATE_KEPT 0.7
#define BUDGET_BYTES (8ull << 20)
/* Beyond the budgets: of each pair what its directions start with, doubled because packets are larger
 * than their bytes, and of the relay one large receive buffer. */
#define FIRST_SLACK_BYTES (384ull << 10)
#define RELAY_SLACK_BYTES (8ull << 20)

/* Next to nothing has been sent for half a second, by anyone but the first `skip` pairs. (Nothing
 * at all is not to be had: of tiny segments the receiving kernel makes fewer and larger buffers,
 * and takes a few more.) */
struct quiet {
	struct test *test;
	size_t skip;
	uint64_t sent, since_ns;
};

static bool writers_are_quiet(void *context)
{
	struct quiet *quiet = context;
	uint64_t sent = 0;

	for (size_t at = quiet->skip; at < quiet->test->pair_count; at++)
		sent += quiet->test->pairs[at]->ends[0].sent;
	if (sent > quiet->sent + quiet->sent / 100 || !quiet->since_ns) {
		quiet->sent = sent;
		quiet->since_ns = quiet->test->engine.now_ns;
	}
	return quiet->test->engine.now_ns - quiet->since_ns > QUIET_NS * (quiet->test->patience > 1 ? 4 : 1);
}

bool stopped_wait_quiet(struct test *test, size_t skip, unsigned deadline_ms)
{
	struct quiet quiet = { .test = test, .skip = skip };

	return test_wait(test, writers_are_quiet, &quiet, deadline_ms, "writers that stop behind stopped readers");
}

static void stopped_reader(struct test *test)
{
	struct host_settings settings = { 0 };
	struct pair_plan plan = {
		.flows = { { .total = FOREVER, .limit = PAUSE_AFTER }, { .total = FOREVER, .limit = PAUSE_AFTER } },
		.send_buffer = TEST_BUFFER, .receive_buffer = TEST_BUFFER,
	};
	uint64_t stop_ms = test->is_full ? 300000 : test_size(test, 30000, 2000);

	if (!test_start_host(test, &settings))
		return;
	struct memory_watch *memory = memory_watch_start(test, PAIR_MEMORY + MEMORY_SLACK);
	struct pair *pair = pair_open(test, &plan);
	if (!pair || !pairs_warm_up(test, 5000))
		goto out;
	pair_stop_reader(pair, 0, true);
	uint64_t start_ms = clock_now_ms();
	pair_release(pair, 0, FOREVER);
	if (!stopped_wait_quiet(test, 0, 20000))
		goto out;
	uint64_t cpu_ns = host_cpu_ns(&test->host), idle_start_ns = clock_now_ns(), sent = pair->ends[0].sent;
	memory_watch_observe(memory, 1000);
	uint64_t elapsed_ms = clock_now_ms() - start_ms;
	if (elapsed_ms < stop_ms)
		engine_run_for(&test->engine, (unsigned)(stop_ms - elapsed_ms));
	double idle_share = (double)(host_cpu_ns(&test->host) - cpu_ns) / (double)(clock_now_ns() - idle_start_ns);
	if (!pair_check_bytes(pair))
		goto out;
	/* A window that was closed by little buffers opens again by little, when the kernel makes them fewer. */
	if (pair->ends[0].sent > sent + sent / 20 + 4 * TEST_BUFFER) {
		test_fail(test, "a writer behind a stopped reader went on by %llu bytes", (unsigned long long)(pair->ends[0].sent - sent));
		goto out;
	}
	/* Goes on, with more than was under way. */
	pair_stop_reader(pair, 0, false);
	pair->ends[0].total = sent + test_size(test, 100 * MB, MB);
	pair->ends[0].finish = FINISH_SHUTDOWN;
	pair_release(pair, 0, FOREVER);
	pair_cut(pair, 1, FINISH_SHUTDOWN);
	if (!pairs_wait_through(test, 30000) || !pairs_wait_ended(test, 5000) || !pairs_check_happy(test) ||
	    !pair_check_redirected(pair))
		goto out;
	if (test->plane == PLANE_SOCKMAP && !report_closings(&pair->report.directions[0]))
		test_fail(test, "the gate was never closed");
	test_note(test, "stopped for %.1f s at %.1f MB, daemon %.2f %% of a core", (double)stop_ms / 1000,
		  (double)sent / MB, 100 * idle_share);
out:
	memory_watch_finish(memory);
}

/* ---- a thousand ---- */

/* MB/s that the busy pairs receive now. Rates of a shared machine vary. */
static double busy_rate(struct test *test)
{
	uint64_t before = 0, after = 0, start_ns = clock_now_ns();

	for (size_t at = 0; at < BUSY_PAIRS; at++)
		before += test->pairs[at]->ends[1].received;
	engine_run_for(&test->engine, RATE_WINDOW_MS);
	for (size_t at = 0; at < BUSY_PAIRS; at++)
		after += test->pairs[at]->ends[1].received;
	return (double)(after - before) * 1000 / (double)(clock_now_ns() - start_ns);
}

static bool both_ends_failed(void *context)
{
	const struct pair *pair = context;

	return (pair->ends[0].error || pair->ends[0].eof_seen) && (pair->ends[1].error || pair->ends[1].eof_seen);
}

/* The middle one of three rates. */
static double busy_rate_middle(struct test *test)
{
	double rates[3];

	for (int at = 0; at < 3; at++)
		rates[at] = busy_rate(test);
	double low = rates[0] < rates[1] ? rates[0] : rates[1], high = rates[0] < rates[1] ? rates[1] : rates[0];
	return rates[2] < low ? low : rates[2] > high ? high : rates[2];
}

/* Several measurements beside the stopped ones; the best one counts. */
static double busy_rate_beside(struct test *test, double enough)
{
	double best = 0;

	for (int attempt = 0; attempt < 8 && best < enough; attempt++) {
		double rate = busy_rate(test);
		best = rate > best ? rate : best;
	}
	return best;
}

static bool stopped_are_through(void *context)
{
	const struct test *test = context;

	for (size_t at = BUSY_PAIRS; at < test->pair_count; at++)
		if (!end_is_through(&test->pairs[at]->ends[0]) || !end_is_through(&test->pairs[at]->ends[1]))
			return test->pairs[at]->ends[0].error || test->pairs[at]->ends[1].error;
	return true;
}

/* All from `first` on go on to a clean end. */
static bool stopped_go_on(struct test *test, size_t first, size_t end)
{
	for (size_t at = first; at < end; at++) {
		if (!pair_check_bytes(test->pairs[at]))
			return false;
		pair_stop_reader(test->pairs[at], 0, false);
		pair_cut(test->pairs[at], 0, FINISH_SHUTDOWN);
		pair_cut(test->pairs[at], 1, FINISH_SHUTDOWN);
	}
	return true;
}

/* Seventy percent of the rate alone, before or, on a machine that others have begun to use,
 * afterwards. */
static bool thousand_check_rate(struct test *test, double before, double beside)
{
	double after = 0;

	for (size_t at = 0; at < BUSY_PAIRS; at++)
		pair_release(test->pairs[at], 0, FOREVER);
	if (beside < before * RATE_KEPT)
		after = busy_rate_middle(test);
	test_note(test, "ten busy pairs %.0f MB/s alone, %.0f (%.0f %%) beside", before, beside, 100 * beside / before);
	if (after > 0)
		test_note(test, "%.0f (%.0f %%) afterwards", after, 100 * beside / after);
	return beside >= before * RATE_KEPT || beside >= after * RATE_KEPT ||
	       test_fail(test, "ten busy pairs made %.0f MB/s alone, %.0f beside the stopped ones, %.0f afterwards", before, beside, after);
}

static bool thousand_check_idle(struct test *test)
{
	double share = 1, most = 0.02 * test->patience;

	for (size_t at = 0; at < BUSY_PAIRS; at++)
		pair_release(test->pairs[at], 0, test->pairs[at]->ends[0].sent);
	engine_run_for(&test->engine, 500); /* what was under way arrives */
	for (int attempt = 0; attempt < 3 && share >= most; attempt++) {
		uint64_t cpu_ns = host_cpu_ns(&test->host), start_ns = clock_now_ns();
		engine_run_for(&test->engine, 3000);
		share = (double)(host_cpu_ns(&test->host) - cpu_ns) / (double)(clock_now_ns() - start_ns);
	}
	test_note(test, "daemon idle %.2f %% of a core", 100 * share);
	return share < most || test_fail(test, "the daemon uses %.1f %% of a core for stopped pairs", 100 * share);
}

static void thousand_stopped(struct test *test)
{
	struct host_settings settings = { 0 };
	size_t count = test_size(test, 1000, 20);
	struct pair_plan busy = {
		.flows = { { .total = FOREVER, .limit = PAUSE_AFTER }, { .total = FOREVER, .limit = PAUSE_AFTER } },
		.send_buffer = TEST_BUFFER, .receive_buffer = TEST_BUFFER,
	}, stopped = busy; /* as soon as they are warm */

	if (!test_start_host(test, &settings))
		return;
	uint64_t memory = memory_available();
	if (!pairs_open(test, BUSY_PAIRS, &busy) || !pairs_open(test, count, &stopped) || !pairs_warm_up(test, 20000))
		return;
	for (size_t at = 0; at < BUSY_PAIRS; at++)
		pair_release(test->pairs[at], 0, FOREVER);
	engine_run_for(&test->engine, 500);
	double rate = busy_rate_middle(test);
	for (size_t at = BUSY_PAIRS; at < test->pair_count; at++) {
		pair_stop_reader(test->pairs[at], 0, true);
		pair_release(test->pairs[at], 0, FOREVER);
	}
	if (!stopped_wait_quiet(test, BUSY_PAIRS, 60000))
		return;
	double beside = busy_rate_beside(test, rate * RATE_KEPT);
	if (!thousand_check_idle(test))
		return;
	uint64_t left = memory_available();
	test_note(test, "%zu stopped, memory +%.0f MB, daemon %.1f MB resident", count, left < memory ? (double)(memory - left) / MB : 0.0,
		  (double)host_resident_bytes(&test->host) / MB);
	/* No reset. */
	if (!stopped_go_on(test, BUSY_PAIRS, test->pair_count) ||
	    !test_wait(test, stopped_are_through, test, 60000, "the end of the stopped pairs") ||
	    !thousand_check_rate(test, rate, beside) || !stopped_go_on(test, 0, BUSY_PAIRS) || !pairs_wait_through(test, 30000) ||
	    !pairs_wait_ended(test, 10000) || !pairs_check_happy(test))
		return;
	for (size_t at = 0; at < test->pair_count; at++) {
		if (!pair_check_redirected(test->pairs[at]))
			return;
		require(test, test->plane != PLANE_SOCKMAP || at < BUSY_PAIRS || report_closings(&test->pairs[at]->report.directions[0]),
			"a gate before a stopped reader was never closed");
	}
}

/* Readers that stop when their pairs have all the window they get: what waits for them in the relay's
 * sockets has a bound for all together. */
static void budget_test(struct test *test, uint64_t pair_memory_bytes)
{
	struct host_settings settings = {
		.pair_memory_bytes = pair_memory_bytes, .credit_budget_bytes = BUDGET_BYTES, .buffer_budget_bytes = BUDGET_BYTES,
	};
	size_t count = test_size(test, 200, 20);
	uint64_t run = test_size(test, 8 * MB, 4 * MB), peak = 0;
	uint64_t bound = 2 * BUDGET_BYTES + RELAY_SLACK_BYTES + count * FIRST_SLACK_BYTES;
	struct sockets_memory held;
	struct pair_plan busy = {
		.flows = { { .total = FOREVER, .limit = PAUSE_AFTER }, { .total = FOREVER, .limit = PAUSE_AFTER } },
		.send_buffer = TEST_BUFFER, .receive_buffer = TEST_BUFFER,
	}, stopped = { .flows = { busy.flows[0], busy.flows[1] } };

	if (!test_start_host(test, &settings))
		return;
	if (!pairs_open(test, BUSY_PAIRS, &busy) || !pairs_open(test, count, &stopped) || !pairs_warm_up(test, 20000))
		return;
	for (size_t at = BUSY_PAIRS; at < test->pair_count; at++)
		pair_release(test->pairs[at], 0, run);
	if (!pairs_wait_received(test, 60000))
		return;
	for (size_t at = 0; at < BUSY_PAIRS; at++)
		pair_release(test->pairs[at], 0, FOREVER);
	engine_run_for(&test->engine, 500);
	double rate = busy_rate_middle(test);
	for (size_t at = BUSY_PAIRS; at < test->pair_count; at++) {
		pair_stop_reader(test->pairs[at], 0, true);
		pair_release(test->pairs[at], 0, FOREVER);
	}
	for (int at = 0; at < 10; at++) {
		engine_run_for(&test->engine, 100);
		held = sockets_memory(test->host.port);
		peak = held.received + held.to_send > peak ? held.received + held.to_send : peak;
	}
	if (!stopped_wait_quiet(test, BUSY_PAIRS, 60000))
		return;
	double beside = busy_rate_beside(test, rate * RATE_KEPT);
	if (!thousand_check_idle(test))
		return;
	held = sockets_memory(test->host.port);
	peak = held.received + held.to_send > peak ? held.received + held.to_send : peak;
	test_note(test, "%zu stopped hold %.1f MB received and %.1f MB to send, at most %.1f MB of %.1f MB", count, (double)held.received / MB,
		  (double)held.to_send / MB, (double)peak / MB, (double)bound / MB);
	if (peak > bound)
		test_fail(test, "the relay's sockets held %.1f MB, %.1f MB are allowed", (double)peak / MB, (double)bound / MB);
	if (!peak)
		test_note(test, "this kernel has no sock_diag, memory not seen");
	if (!stopped_go_on(test, BUSY_PAIRS, test->pair_count) ||
	    !test_wait(test, stopped_are_through, test, 60000, "the end of the stopped pairs") ||
	    !thousand_check_rate(test, rate, beside) || !stopped_go_on(test, 0, BUSY_PAIRS) || !pairs_wait_through(test, 30000) ||
	    !pairs_wait_ended(test, 10000) || !pairs_check_happy(test))
		return;
	struct relay_totals totals;
	require(test, host_totals(&test->host, &totals, NULL) && !totals.buffers_lent_bytes,
		"%llu bytes of buffers are booked without a pair", (unsigned long long)totals.buffers_lent_bytes);
}

static void stopped_budget(struct test *test)
{
	budget_test(test, 0);
}

/* With so much for a pair the kernel's own tuning is left on. */
static void stopped_budget_tuned(struct test *test)
{
	budget_test(test, 512 << 20);
}

/* With a stall limit a pair whose reader has stopped is reset, one that is silent is not. */
static void stall_limit(struct test *test)
{
	struct host_settings settings = { .stall_limit_ms = 500 * test->patience };
	struct pair_plan plan = {
		.flows = { { .total = FOREVER, .limit = PAUSE_AFTER }, { .total = FOREVER, .limit = PAUSE_AFTER } },
		.send_buffer = TEST_BUFFER, .receive_buffer = TEST_BUFFER,
	};
	char text[480];

	test->expects_unhappy = true;
	if (!test_start_host(test, &settings) || !pairs_open(test, 2, &plan) || !pairs_warm_up(test, 5000))
		return;
	struct pair *silent = test->pairs[0], *stopped = test->pairs[1];
	uint64_t start_ms = clock_now_ms();
	pair_stop_reader(stopped, 0, true);
	pair_release(stopped, 0, FOREVER);
	if (!test_wait(test, both_ends_failed, stopped, 10000, "a reset of the stalled pair") || !pair_check_reset(stopped, 0) ||
	    !pair_check_reset(stopped, 1))
		return;
	test_note(test, "reset after %.1f s", (double)(clock_now_ms() - start_ms) / 1000);
	if (!pair_check_bytes(silent))
		return;
	pair_release(silent, 0, FOREVER);
	engine_run_for(&test->engine, 100);
	pair_cut(silent, 0, FINISH_SHUTDOWN);
	pair_cut(silent, 1, FINISH_SHUTDOWN);
	if (!pairs_wait_through(test, 5000) || !pairs_wait_ended(test, 5000) || !pair_check_happy(silent))
		return;
	require(test, stopped->report.outcome == OUTCOME_STALLED, "the outcome is not stalled: %s", pair_text(stopped, text, sizeof text));
}

const struct test_case stopped_cases[] = {
	{ "stall-limit", "a stopped reader is reset after the stall limit, a silent pair is not", ON_ALL, stall_limit, false },
	{ "thousand-stopped", "1,000 stopped readers; ten other pairs keep 70 % of their rate", ON_ALL, thousand_stopped, true },
	{ "stopped-budget", "200 readers stop at full speed; all sockets together keep to the budgets", ON_ALL, stopped_budget, true },
	{ "stopped-budget-tuned", "the same where the kernel tunes receive buffers", ON_ALL, stopped_budget_tuned, false },
	{ "stopped-reader", "a reader stops for 30 s (5 minutes at full size) and goes on", ON_ALL, stopped_reader, true },
	{ 0 },
};
