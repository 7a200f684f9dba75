// SPDX-License-Identifier: Apache-2.0
/* The pairing state machine, every state with every event, and tokens. */
#include "base/encoding.h"
#include "broker/pairing.h"
#include "broker/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct expected {
	enum ticket_state state;
	enum ticket_event event;
	enum ticket_state next;
	enum ticket_wait wait;
	enum outcome outcome; /* of TICKET_OVER */
	bool releases_party;
};

/* What is not listed here must be impossible. */
static const struct expected transitions[] = {
	{TICKET_ASKING, TICKET_EVENT_AGREED, TICKET_OPEN, TICKET_WAIT_ACCEPT, 0, false},
	{TICKET_ASKING, TICKET_EVENT_ARRIVAL, TICKET_ASKING_WAITING, TICKET_WAIT_ACCEPT, 0, false},
	{TICKET_ASKING, TICKET_EVENT_REFUSED, TICKET_OVER, TICKET_WAIT_NONE, OUTCOME_REFUSED, false},
	{TICKET_ASKING, TICKET_EVENT_DEADLINE, TICKET_OVER, TICKET_WAIT_NONE, OUTCOME_REFUSED, false},
	{TICKET_ASKING_WAITING, TICKET_EVENT_AGREED, TICKET_WAITING, TICKET_WAIT_SAME, 0, false},
	{TICKET_ASKING_WAITING, TICKET_EVENT_ARRIVAL, TICKET_MATCHED, TICKET_WAIT_NONE, 0, false},
	{TICKET_ASKING_WAITING, TICKET_EVENT_REFUSED, TICKET_OVER, TICKET_WAIT_NONE, OUTCOME_REFUSED, true},
	{TICKET_ASKING_WAITING, TICKET_EVENT_LEFT, TICKET_OVER, TICKET_WAIT_NONE, OUTCOME_IMPATIENT, false},
	{TICKET_ASKING_WAITING, TICKET_EVENT_DEADLINE, TICKET_OVER, TICKET_WAIT_NONE, OUTCOME_LONELY, true},
	{TICKET_OPEN, TICKET_EVENT_ARRIVAL, TICKET_WAITING, TICKET_WAIT_ACCEPT, 0, false},
	{TICKET_OPEN, TICKET_EVENT_DEADLINE, TICKET_OVER, TICKET_WAIT_NONE, OUTCOME_UNCLAIMED, false},
	{TICKET_WAITING, TICKET_EVENT_ARRIVAL, TICKET_MATCHED, TICKET_WAIT_NONE, 0, false},
	{TICKET_WAITING, TICKET_EVENT_LEFT, TICKET_OVER, TICKET_WAIT_NONE, OUTCOME_IMPATIENT, false},
	{TICKET_WAITING, TICKET_EVENT_DEADLINE, TICKET_OVER, TICKET_WAIT_NONE, OUTCOME_LONELY, true},
};

static const struct expected *find(enum ticket_state state, enum ticket_event event)
{
	for (size_t i = 0; i < sizeof transitions / sizeof *transitions; i++)
		if (transitions[i].state == state && transitions[i].event == event)
			return &transitions[i];
	return NULL;
}

static void each_state_answers_each_event(void **unused)
{
	(void)unused;
	for (unsigned state = 0; state < TICKET_STATE_COUNT; state++) {
		for (unsigned event = 0; event < TICKET_EVENT_COUNT; event++) {
			struct ticket_step step = ticket_next(state, event);
			const struct expected *expected = find(state, event);
			assert_int_equal(step.is_possible, expected != NULL);
			if (!expected) {
				assert_int_equal(step.state, state);
				assert_int_equal(step.wait, TICKET_WAIT_SAME);
				assert_false(step.releases_party);
				continue;
			}
			assert_int_equal(step.state, expected->next);
			assert_int_equal(step.wait, expected->wait);
			assert_int_equal(step.releases_party, expected->releases_party);
			if (step.state == TICKET_OVER)
				assert_int_equal(step.outcome, expected->outcome);
		}
	}
}

/* Whatever happens, a party that waits ends in exactly one way: it is matched,
 * it left by itself, or somebody is told to release it. */
static void a_waiting_party_is_never_forgotten(void **unused)
{
	(void)unused;
	for (unsigned state = 0; state < TICKET_STATE_COUNT; state++) {
		for (unsigned event = 0; event < TICKET_EVENT_COUNT; event++) {
			struct ticket_step step = ticket_next(state, event);
			if (!ticket_state_has_party(state)) {
				assert_false(step.releases_party);
				continue;
			}
			bool is_accounted_for = ticket_state_has_party(step.state) || step.state == TICKET_MATCHED ||
						event == TICKET_EVENT_LEFT || step.releases_party;
			assert_true(is_accounted_for);
		}
	}
}

static void names_are_distinct(void **unused)
{
	(void)unused;
	for (unsigned a = 0; a < TICKET_STATE_COUNT; a++)
		for (unsigned b = 0; b < a; b++)
			assert_string_not_equal(ticket_state_name(a), ticket_state_name(b));
}

static void tokens_differ_and_read_back(void **unused)
{
	struct token a, b;
	char text[TOKEN_TEXT_SIZE];
	uint8_t bytes[TOKEN_SIZE];

	(void)unused;
	assert_int_equal(token_generate(&a), 0);
	assert_int_equal(token_generate(&b), 0);
	assert_memory_not_equal(&a, &b, sizeof a);
	token_to_text(&a, text);
	assert_int_equal(strlen(text), 44);
	assert_int_equal(base64_decode(text, 44, bytes, sizeof bytes), TOKEN_SIZE);
	assert_memory_equal(bytes, a.bytes, TOKEN_SIZE);

	static const uint8_t zeros[TOKEN_SIZE];
	token_wipe(&a);
	assert_memory_equal(a.bytes, zeros, TOKEN_SIZE);
	token_wipe_text(text);
	assert_memory_equal(text, zeros, TOKEN_SIZE);
}

static void keys_depend_on_secret_and_every_bit_of_the_token(void **unused)
{
	struct token_secret secret, other;
	struct token token;

	(void)unused;
	assert_int_equal(token_secret_generate(&secret), 0);
	assert_int_equal(token_secret_generate(&other), 0);
	assert_int_equal(token_generate(&token), 0);
	struct token_key key = token_key_of(&secret, &token), again = token_key_of(&secret, &token);
	assert_true(token_key_is_equal(&key, &again));
	assert_memory_not_equal(key.bytes, token.bytes, TOKEN_SIZE);
	struct token_key foreign = token_key_of(&other, &token);
	assert_false(token_key_is_equal(&key, &foreign));
	for (unsigned bit = 0; bit < TOKEN_SIZE * 8; bit++) {
		struct token changed = token;
		changed.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		struct token_key changed_key = token_key_of(&secret, &changed);
		assert_false(token_key_is_equal(&key, &changed_key));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_state_answers_each_event),
		cmocka_unit_test(a_waiting_party_is_never_forgotten),
		cmocka_unit_test(names_are_distinct),
		cmocka_unit_test(tokens_differ_and_read_back),
		cmocka_unit_test(keys_depend_on_secret_and_every_bit_of_the_token),
	};
	return cmocka_run_group_tests_name("pairing", tests, NULL, NULL);
}
