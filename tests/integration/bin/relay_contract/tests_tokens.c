// SPDX-License-Identifier: Apache-2.0
/* The way in, through the real endpoint: tokens in pieces, with data behind them,
 * wrong, late, used; first parties that leave. */
#include "pair.h"
#include "tests.h"

#include <errno.h>
#include <string.h>

#define SHORT_TIMEOUT_MS 400

/* Token in single-byte segments or together with 64 KiB of data, by both parties. */
static void token_form(struct test *test, enum token_mode mode)
{
	struct host_settings settings = { 0 };
	size_t count = test_size(test, 20, 4);

	if (!test_start_host(test, &settings))
		return;
	for (size_t at = 0; at < count; at++) {
		struct pair_plan plan = {
			.flows = { { .total = 300000, .limit = 65536, .finish = FINISH_SHUTDOWN },
				   { .total = 300000, .limit = 65536, .finish = FINISH_SHUTDOWN } },
			.token_modes = { at % 3 == 2 ? TOKEN_ALONE : mode, at % 3 == 1 ? TOKEN_ALONE : mode },
		};
		if (!pair_open(test, &plan))
			return;
	}
	if (!pairs_warm_up(test, 10000))
		return;
	for (size_t at = 0; at < count; at++)
		for (unsigned stream = 0; stream < 2; stream++)
			pair_release(test->pairs[at], stream, FOREVER);
	if (!pairs_wait_through(test, 10000) || !pairs_wait_ended(test, 5000) || !pairs_check_happy(test))
		return;
	for (size_t at = 0; at < count; at++)
		if (!pair_check_redirected(test->pairs[at]))
			return;
	test_note(test, "%zu pairs", count);
}

static void token_bytes(struct test *test)
{
	token_form(test, TOKEN_BY_BYTES);
}

static void token_with_data(struct test *test)
{
	token_form(test, TOKEN_WITH_DATA);
}

/* ---- refused connections ---- */

/* One connection alone; the pair's other end stays unconnected unless the test wants it. */
static struct pair *visitor_open(struct test *test, const uint8_t *token)
{
	struct pair_plan plan = { .flows = { { .total = 0 }, { .total = 0 } }, .second_comes_later = true };
	struct pair *pair = pair_open(test, &plan);

	if (pair && token) {
		memcpy(pair->ends[0].token, token, TOKEN_SIZE);
		memcpy(pair->ends[1].token, token, TOKEN_SIZE);
	}
	return pair;
}

static bool end_was_closed(void *context)
{
	const struct end *end = context;

	return end->eof_seen || end->error;
}

/* Refusal is a close, without a byte. */
static bool wait_closed(struct test *test, struct end *end, const char *what)
{
	if (!test_wait(test, end_was_closed, end, 5000, what))
		return false;
	if (end->received)
		return test_fail(test, "%s: %llu bytes came before the close", what, (unsigned long long)end->received);
	if (end->error && end->error != ECONNRESET)
		return test_fail(test, "%s: %s", what, strerror(end->error));
	return true;
}

struct door_wait {
	struct test *test;
	enum outcome outcome;
	uint64_t count;
	unsigned waiting;
};

static bool door_has_come_to(void *context)
{
	struct door_wait *wait = context;
	struct relay_totals totals;
	struct host_door door;

	if (!test_poll_is_due(wait->test, 2))
		return false;
	if (!host_totals(&wait->test->host, &totals, &door))
		return true;
	return wait->outcome == OUTCOME_COUNT ? door.waiting == wait->waiting : door.refused[wait->outcome] >= wait->count;
}

static bool wait_refused(struct test *test, enum outcome outcome, uint64_t count)
{
	struct door_wait wait = { .test = test, .outcome = outcome, .count = count };

	return test_wait(test, door_has_come_to, &wait, 5000, outcome_word(outcome)) && !*test->host.error;
}

bool tokens_wait_waiting(struct test *test, unsigned waiting)
{
	struct door_wait wait = { .test = test, .outcome = OUTCOME_COUNT, .waiting = waiting };

	return test_wait(test, door_has_come_to, &wait, 5000, "a first party that waits") && !*test->host.error;
}

/* Each returns false after it failed the test. */

static bool refuse_unknown(struct test *test)
{
	uint8_t token[TOKEN_SIZE];

	memset(token, 0x5a, sizeof token);
	struct pair *pair = visitor_open(test, token);
	return pair && wait_closed(test, &pair->ends[0], "close of an unknown token") && wait_refused(test, OUTCOME_UNKNOWN_TOKEN, 1);
}

static bool refuse_slow_token(struct test *test)
{
	struct pair *pair = visitor_open(test, NULL);

	if (!pair)
		return false;
	pair->ends[0].token_mode = TOKEN_NONE;
	pair->ends[0].total = pair->ends[0].limit = 10; /* ten bytes of anything, then nothing */
	end_update(&pair->ends[0]);
	return wait_closed(test, &pair->ends[0], "close of a token that does not come") && wait_refused(test, OUTCOME_NO_TOKEN, 1);
}

static bool refuse_expired(struct test *test)
{
	uint8_t token[TOKEN_SIZE];

	/* A ticket that nobody used; those of the two tests before expire too. */
	if (!host_token(&test->host, 1, token))
		return test_fail(test, "no ticket");
	if (!wait_refused(test, OUTCOME_UNCLAIMED, 3))
		return false;
	struct pair *pair = visitor_open(test, token);
	return pair && wait_closed(test, &pair->ends[0], "close of an expired token") && wait_refused(test, OUTCOME_UNKNOWN_TOKEN, 2);
}

static bool refuse_lonely(struct test *test)
{
	struct pair *pair = visitor_open(test, NULL);

	return pair && wait_closed(test, &pair->ends[0], "close of a lonely party") && wait_refused(test, OUTCOME_LONELY, 1);
}

static bool first_leaves(struct test *test, bool resets, uint64_t number)
{
	struct pair *pair = visitor_open(test, NULL);

	if (!pair || !tokens_wait_waiting(test, 1))
		return false;
	if (resets)
		end_reset(&pair->ends[0]);
	else
		end_close(&pair->ends[0]);
	if (!wait_refused(test, OUTCOME_IMPATIENT, number) || !tokens_wait_waiting(test, 0) || !pair_connect_second(pair))
		return false;
	return wait_closed(test, &pair->ends[1], "close of the second party after the first left");
}

static void refused_tokens(struct test *test)
{
	struct host_settings settings = { .accept_timeout_ms = SHORT_TIMEOUT_MS * test->patience,
					  .token_timeout_ms = SHORT_TIMEOUT_MS * test->patience };

	test->tickets_at_once = 1;
	if (!test_start_host(test, &settings))
		return;
	if (!refuse_unknown(test) || !refuse_slow_token(test) || !refuse_expired(test) || !refuse_lonely(test) ||
	    !first_leaves(test, false, 1) || !first_leaves(test, true, 2))
		return;
	test_note(test, "unknown, incomplete, expired, lonely; first party closed, reset");
}

/* A token works once: not while its pair lives, not afterwards. */
static void reused_token(struct test *test)
{
	struct host_settings settings = { 0 };
	struct pair_plan plan = { .flows = { { .total = 200000, .limit = 1000, .finish = FINISH_SHUTDOWN },
					     { .total = 200000, .limit = 1000, .finish = FINISH_SHUTDOWN } } };

	if (!test_start_host(test, &settings))
		return;
	struct pair *pair = pair_open(test, &plan);
	if (!pair || !pairs_warm_up(test, 5000))
		return;
	struct pair *third = visitor_open(test, pair->ends[0].token);
	if (!third || !wait_closed(test, &third->ends[0], "close of a token that is in use"))
		return;
	third->is_ended = true; /* nobody waits for its report */
	pair_release(pair, 0, FOREVER);
	pair_release(pair, 1, FOREVER);
	if (!pairs_wait_through(test, 5000) || !pairs_wait_ended(test, 5000) || !pair_check_happy(pair) || !pair_check_redirected(pair))
		return;
	struct pair *fourth = visitor_open(test, pair->ends[0].token);
	if (!fourth || !wait_closed(test, &fourth->ends[0], "close of a used token") || !wait_refused(test, OUTCOME_UNKNOWN_TOKEN, 2))
		return;
	test_note(test, "refused while the pair lives and after it");
}

const struct test_case token_cases[] = {
	{ "token-bytes", "token in single-byte segments", ON_ALL, token_bytes },
	{ "token-with-data", "token and 64 KiB in one segment", ON_ALL, token_with_data },
	{ "refused-tokens", "unknown, incomplete, expired token; first party that dies while waiting", ON_ALL, refused_tokens },
	{ "reused-token", "a token works once", ON_ALL, reused_token },
	{ 0 },
};
