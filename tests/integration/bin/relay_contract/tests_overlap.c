// SPDX-License-Identifier: Apache-2.0
/* Retransmissions that overlap bytes already taken, in every state of the gate. The
 * same bytes come twice in TCP; the reader must see them once. */
#include "forge.h"
#include "pair.h"
#include "tests.h"

#include "base/instant.h"

#include <errno.h>
#include <string.h>

#define BEFORE 150000 /* bytes that a direction has carried before each forgery */
#define FRESH 1000    /* new bytes behind the old ones in the forged segment */

enum gate_at { GATE_IS_OPEN, GATE_IS_CLOSED, GATE_IS_OPENING, GATE_CASES };
enum size_of { OLD_FEW, OLD_MANY, OLD_ALL, SIZE_CASES };

static const char *const gate_names[] = { "open", "closed", "opening" };
static const char *const size_names[] = { "100 bytes", "60 KB", "wholly old" };

static bool forger_is_quiet(void *context)
{
	const struct pair *pair = context;
	const struct end *from = &pair->ends[0];

	return from->error || (from->sent == from->limit && !forge_unacknowledged(from));
}

static bool gate_is_closed(void *context)
{
	struct pair *pair = context;

	if (!test_poll_is_due(pair->test, 2))
		return false;
	return !pairs_poll_gates(pair->test) || pair->report.directions[0].gate != GATE_STATE_OPEN;
}

static bool is_settled(void *context)
{
	struct pair *pair = context;

	if (!test_poll_is_due(pair->test, 2))
		return false;
	return !pairs_poll_gates(pair->test) || pair_is_settled(pair);
}

static bool is_received(void *context)
{
	const struct pair *pair = context;

	return pair->ends[0].error || pair->ends[1].error || pair->ends[1].wrong ||
	       (pair->ends[0].sent == pair->ends[0].limit && pair->ends[1].received >= pair->ends[0].sent);
}

static bool is_through(void *context)
{
	const struct pair *pair = context;

	return pair->ends[1].eof_seen || pair->ends[1].error || pair->ends[1].wrong;
}

/* Brings the direction into the state in which the forgery shall meet it. */
static bool overlap_prepare(struct pair *pair, enum gate_at gate)
{
	struct test *test = pair->test;
	struct end *from = &pair->ends[0];
	char text[480];

	if (!test_wait(test, is_settled, pair, 5000, "open gates"))
		return false;
	pair_release(pair, 0, from->sent + BEFORE);
	if (!test_wait(test, is_received, pair, 5000, "the bytes before a forgery") || !test_wait(test, is_settled, pair, 5000, "open gates"))
		return false;
	if (gate != GATE_IS_OPEN) {
		/* More than the reader's buffer and the credit take, less than the relay's window. */
		pair_stop_reader(pair, 0, true);
		if (test->plane == PLANE_SOCKMAP) {
			for (int step = 0; step < 40 && pair->report.directions[0].gate == GATE_STATE_OPEN; step++) {
				pair_release(pair, 0, from->sent + 64 * KIB);
				if (!test_wait(test, forger_is_quiet, pair, 5000, "acknowledgement") || !pairs_poll_gates(test))
					return false;
			}
			if (!test_wait(test, gate_is_closed, pair, 5000, "a closed gate"))
				return false;
			if (gate == GATE_IS_OPENING) /* so much that it takes a while */
				pair_release(pair, 0, from->sent + 150 * KIB);
		} else {
			pair_release(pair, 0, from->sent + 200000);
		}
	}
	if (!test_wait(test, forger_is_quiet, pair, 5000, "acknowledgement of all bytes"))
		return false;
	return !from->error || test_fail(test, "before a forgery: %s", pair_text(pair, text, sizeof text));
}

/* The reader goes on, not too fast, so that opening takes a few milliseconds from the moment that
 * the daemon moves what was handed up; the forgery shall fall somewhere in them. */
static bool overlap_start_opening(struct pair *pair)
{
	struct test *test = pair->test;
	const struct direction_report *report = &pair->report.directions[0];

	if (!pairs_poll_reports(test))
		return false;
	uint64_t spilled = report->spilled_bytes, deadline_ns = clock_now_ns() + 5000000000u * test->patience;
	pair->ends[1].in_pace = (struct pace){ .rate = 50 * MB, .next_ns = clock_now_ns() };
	pair_stop_reader(pair, 0, false);
	while (test->plane == PLANE_SOCKMAP && report->spilled_bytes == spilled && report->gate != GATE_STATE_OPEN) {
		engine_run_for(&test->engine, 0);
		if (!pairs_poll_reports(test))
			return false;
		if (clock_now_ns() > deadline_ns)
			return test_fail(test, "a gate did not begin to open within 5 s");
	}
	uint64_t until_ns = clock_now_ns() + engine_random_between(&test->engine, 0, 1000) * 1000;
	while (clock_now_ns() < until_ns)
		engine_run_for(&test->engine, 0);
	return true;
}

static uint32_t overlap_size(struct engine *engine, enum size_of size)
{
	switch (size) {
	case OLD_FEW:
		return 100;
	case OLD_MANY:
		return 60000;
	case OLD_ALL:
	case SIZE_CASES:
		break;
	}
	return (uint32_t)engine_random_between(engine, 1, 60000);
}

/* True: forged and, as far as can be said, well received. `spoilt` gets true if the pair is
 * wrong or reset, which only the control expects. */
static bool overlap_forge(struct pair *pair, enum gate_at gate, enum size_of size, bool *spoilt)
{
	struct test *test = pair->test;
	struct end *from = &pair->ends[0];

	if (!overlap_prepare(pair, gate))
		return false;
	uint64_t position = from->sent;
	int error = forge_step_back(from, overlap_size(&test->engine, size));
	if (error)
		return test_fail(test, "TCP_REPAIR: %s", strerror(-error));
	if (gate == GATE_IS_OPENING && !overlap_start_opening(pair))
		return false;
	if (size == OLD_ALL) {
		from->total = position;
		error = forge_send_with_fin(from);
		if (error)
			return test_fail(test, "old bytes with FIN: %s", strerror(-error));
	} else {
		pair_release(pair, 0, position + FRESH);
	}
	if (gate == GATE_IS_OPENING) {
		engine_run_for(&test->engine, 0);
		if (!pairs_poll_gates(test))
			return false;
		pair->marks[0] = pair->report.directions[0].gate;
		pair->ends[1].in_pace = (struct pace){ 0 };
	}
	if (gate == GATE_IS_CLOSED) {
		if (!test_wait(test, forger_is_quiet, pair, 5000, "acknowledgement of the forged segment"))
			return false;
		pair_stop_reader(pair, 0, false);
	}
	if (!test_wait(test, size == OLD_ALL ? is_through : is_received, pair, 10000, "the bytes behind a forgery"))
		return false;
	*spoilt = pair->ends[0].error || pair->ends[1].error || pair->ends[1].wrong || pair->ends[1].received != position + (size == OLD_ALL ? 0 : FRESH);
	return true;
}

static bool overlap_start(struct test *test, struct host_settings *settings)
{
	if (forge_is_permitted())
		return test_start_host(test, settings);
	test_skip(test, "TCP_REPAIR needs CAP_NET_ADMIN");
	return false;
}

static struct pair *overlap_open(struct test *test)
{
	struct pair_plan plan = {
		.flows = { { .total = FOREVER, .holds = true }, { .total = 0 } },
		.send_buffer = 1 << 20, .receive_buffer = TEST_BUFFER,
	};

	return pair_open(test, &plan);
}

static bool overlap_end(struct pair *pair, const char *gate, const char *size)
{
	struct test *test = pair->test;

	if (pair->ends[0].total == FOREVER)
		pair_cut(pair, 0, FINISH_SHUTDOWN);
	pair_cut(pair, 1, FINISH_SHUTDOWN);
	if (!pairs_wait_through(test, 5000) || !pairs_wait_ended(test, 5000) || !pair_check_happy(pair) || !pair_check_redirected(pair)) {
		test_note(test, "gate %s, %s", gate, size);
		return false;
	}
	return true;
}

static void overlap(struct test *test)
{
	/* Little credit, so that opening takes several turns. */
	struct host_settings settings = { .pair_memory_bytes = 4 << 20 };
	unsigned rounds = (unsigned)test_size(test, test->is_full ? 50 : 8, 1), forged = 0, before_opened = 0;
	uint64_t trims = 0;
	char text[480];

	if (!overlap_start(test, &settings))
		return;
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned gate = 0; gate < GATE_CASES; gate++) {
			for (unsigned size = 0; size < SIZE_CASES; size++) {
				/* Several forgeries on one pair; one with FIN is the last. */
				struct pair *pair = overlap_open(test);
				for (unsigned at = 0; pair && at < (size == OLD_ALL ? 1 : 5); at++) {
					bool spoilt = false;
					if (!overlap_forge(pair, (enum gate_at)gate, (enum size_of)size, &spoilt))
						return;
					before_opened += gate == GATE_IS_OPENING && pair->marks[0] != GATE_STATE_OPEN;
					require(test, !spoilt, "gate %s, %s old: %s", gate_names[gate], size_names[size],
						pair_text(pair, text, sizeof text));
					forged++;
				}
				if (!pair || !overlap_end(pair, gate_names[gate], size_names[size]))
					return;
				trims += pair->report.directions[0].trims;
			}
		}
	}
	test_note(test, "%u forged overlaps, %llu trimmed, %u sent before an opening gate was open", forged, (unsigned long long)trims,
		  test->plane == PLANE_SOCKMAP ? before_opened : 0);
	require(test, test->plane != PLANE_SOCKMAP || trims * 2 > forged, "%llu trims only: the forgeries did not reach the program",
		(unsigned long long)trims);
}

/* The control: without the trim the same forgeries must do harm, else they prove nothing. */
static void overlap_control(struct test *test)
{
	struct host_settings settings = { .no_trim = true };
	unsigned rounds = (unsigned)test_size(test, 14, 4), harmed = 0;

	test->expects_unhappy = test->expects_wrong_books = true;
	if (!overlap_start(test, &settings))
		return;
	for (unsigned round = 0; round < rounds; round++) {
		bool spoilt = false;
		struct pair *pair = overlap_open(test);
		if (!pair || !overlap_forge(pair, GATE_IS_OPEN, round & 1 ? OLD_MANY : OLD_FEW, &spoilt))
			return;
		harmed += spoilt;
		pair_abandon(pair);
	}
	test_note(test, "%u of %u did harm without the trim", harmed, rounds);
	require(test, harmed * 2 > rounds, "only %u of %u forgeries did harm without the trim", harmed, rounds);
}

const struct test_case overlap_cases[] = {
	{ "overlap", "forged overlapping retransmissions: gate open, closed, opening; 100 bytes, 60 KB, wholly old", ON_ALL, overlap, false },
	{ "overlap-control", "the same without the trim must fail", ON_SOCKMAP, overlap_control, false },
	{ 0 },
};
