// SPDX-License-Identifier: Apache-2.0
/* Which streams of records from the kernel's TLS are gathered, and how long they wait. */
#include "relay/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void few_records_are_not_gathered(void **state)
{
	(void)state;
	assert_int_equal(session_gather_delay(0, 0), 0);
	assert_int_equal(session_gather_delay(63 * 1000, 63), 0);
	assert_int_not_equal(session_gather_delay(64 * 1000, 64), 0);
}

static void large_records_are_not_gathered(void **state)
{
	(void)state;
	assert_int_equal(session_gather_delay(100 * 16384, 100), 0);
	assert_int_equal(session_gather_delay(100 * 4096 + 1, 100), 0);
	assert_int_not_equal(session_gather_delay(100 * 4096, 100), 0);
}

static void the_delay_is_bounded_and_shrinks_with_the_speed(void **state)
{
	(void)state;
	assert_int_equal(session_gather_delay(64, 64), 400000);
	assert_int_equal(session_gather_delay(270000, 270), 400000);
	/* 64 KB within it. */
	assert_in_range(session_gather_delay(6553600, 6553), 95000, 105000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(few_records_are_not_gathered),
		cmocka_unit_test(large_records_are_not_gathered),
		cmocka_unit_test(the_delay_is_bounded_and_shrinks_with_the_speed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
