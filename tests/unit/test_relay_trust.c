// SPDX-License-Identifier: Apache-2.0
/* Which relayed connections still get calls, with ages given by hand. */
#include "router/relay_trust.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int setup(void **state)
{
	return relay_trust_create((struct relay_trust **)state);
}

static int teardown(void **state)
{
	relay_trust_free(*state);
	return 0;
}

static void unknown_proxy_gets_three_seconds(void **state)
{
	struct relay_trust *trust = *state;
	assert_true(relay_trust_admits(trust, "p", 0));
	assert_true(relay_trust_admits(trust, "p", 2999));
	assert_false(relay_trust_admits(trust, "p", 3000));
	assert_false(relay_trust_admits(trust, "p", 60000));
}

static void connection_is_kept_unused_until_six_seconds(void **state)
{
	struct relay_trust *trust = *state;
	assert_true(relay_trust_is_learning(trust, "p", 3000));
	assert_true(relay_trust_is_learning(trust, "p", 5999));
	assert_false(relay_trust_is_learning(trust, "p", 6000));
}

static void passing_six_seconds_earns_trust(void **state)
{
	struct relay_trust *trust = *state;
	assert_int_equal(relay_trust_note_alive(trust, "p", 5999), RELAY_LESSON_NONE);
	assert_false(relay_trust_has(trust, "p"));
	assert_int_equal(relay_trust_note_alive(trust, "p", 6000), RELAY_LESSON_TRUSTED);
	assert_int_equal(relay_trust_note_alive(trust, "p", 7000), RELAY_LESSON_NONE);
	assert_true(relay_trust_admits(trust, "p", 3600000));
	assert_false(relay_trust_is_learning(trust, "p", 100));
}

static void trust_is_per_proxy(void **state)
{
	struct relay_trust *trust = *state;
	relay_trust_note_alive(trust, "p", 6000);
	relay_trust_note_alive(trust, "q", 6000);
	assert_false(relay_trust_admits(trust, "r", 4000));
	assert_int_equal(relay_trust_note_cut(trust, "p", 5000), RELAY_LESSON_DISTRUSTED);
	assert_false(relay_trust_has(trust, "p"));
	assert_true(relay_trust_has(trust, "q"));
}

static void cut_around_five_seconds_loses_trust(void **state)
{
	struct relay_trust *trust = *state;
	relay_trust_note_alive(trust, "p", 6500);
	assert_int_equal(relay_trust_note_cut(trust, "p", 4000), RELAY_LESSON_NONE);
	assert_int_equal(relay_trust_note_cut(trust, "p", 20000), RELAY_LESSON_NONE);
	assert_true(relay_trust_has(trust, "p"));
	assert_int_equal(relay_trust_note_cut(trust, "p", 4990), RELAY_LESSON_DISTRUSTED);
	assert_false(relay_trust_admits(trust, "p", 4000));
	/* And it can be earned again. */
	assert_int_equal(relay_trust_note_alive(trust, "p", 6001), RELAY_LESSON_TRUSTED);
	/* Slow brokering comes on top of the 5 s. */
	assert_int_equal(relay_trust_note_cut(trust, "p", 6800), RELAY_LESSON_DISTRUSTED);
}

static void cut_of_an_unknown_proxy_is_no_news(void **state)
{
	struct relay_trust *trust = *state;
	assert_int_equal(relay_trust_note_cut(trust, "p", 5000), RELAY_LESSON_NONE);
	assert_true(relay_trust_admits(trust, "p", 100));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(unknown_proxy_gets_three_seconds),     TEST(connection_is_kept_unused_until_six_seconds),
		TEST(passing_six_seconds_earns_trust),      TEST(trust_is_per_proxy),
		TEST(cut_around_five_seconds_loses_trust),  TEST(cut_of_an_unknown_proxy_is_no_news),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
