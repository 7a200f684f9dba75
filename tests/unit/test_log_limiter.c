// SPDX-License-Identifier: Apache-2.0
/* Lines that strangers cause are held back, counted, and let through again. */
#include "base/instant.h"
#include "base/log_limiter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

static void a_flood_is_cut_and_counted(void **state)
{
	struct log_limiter limiter;
	uint64_t held_back = 99;
	unsigned written = 0;

	(void)state;
	log_limiter_init(&limiter, 3, 1);
	for (int i = 0; i < 100; i++)
		written += log_limiter_take(&limiter, &held_back);
	assert_in_range(written, 3, 4); /* 4: a second has passed */
	assert_int_equal(log_limiter_flush(&limiter), 100 - written);
	assert_int_equal(log_limiter_flush(&limiter), 0);
	log_limiter_clear(&limiter);
}

static void the_next_line_tells_of_those_held_back(void **state)
{
	struct log_limiter limiter;
	uint64_t held_back = 99, tries = 0, deadline = clock_now_ms() + 5000;

	(void)state;
	log_limiter_init(&limiter, 1, 20);
	assert_true(log_limiter_take(&limiter, &held_back));
	assert_int_equal(held_back, 0);
	while (!log_limiter_take(&limiter, &held_back)) {
		tries++;
		assert_true(clock_now_ms() < deadline);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	assert_true(tries > 0);
	assert_int_equal(held_back, tries);
	log_limiter_clear(&limiter);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_flood_is_cut_and_counted),
		cmocka_unit_test(the_next_line_tells_of_those_held_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
