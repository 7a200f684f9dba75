// SPDX-License-Identifier: Apache-2.0
/* Fixed windows of the UTC clock, per address, rules in order. */
#include "base/rate_limit.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

static struct rate_limiter *limiter;

static bool admits(const char *text, int64_t now)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
		return rate_limiter_admit(limiter, (struct sockaddr *)&in, now);
	assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
	return rate_limiter_admit(limiter, (struct sockaddr *)&in6, now);
}

static void with(const struct rate_rule *rules, size_t count, bool exempt_loopback)
{
	rate_limiter_free(limiter);
	limiter = NULL;
	assert_int_equal(rate_limiter_create(rules, count, exempt_loopback, &limiter), 0);
}

static int teardown(void **state)
{
	(void)state;
	rate_limiter_free(limiter);
	limiter = NULL;
	return 0;
}

static void counts_per_address_and_window(void **state)
{
	(void)state;
	with((struct rate_rule[]){ { RATE_WINDOW_MINUTE, 2 } }, 1, false);
	assert_true(admits("192.0.2.1", 600));
	assert_true(admits("192.0.2.1", 659));
	assert_false(admits("192.0.2.1", 659));
	assert_true(admits("192.0.2.2", 659));
	assert_true(admits("2001:db8::1", 659));
	assert_true(admits("192.0.2.1", 660)); /* aligned to the clock, not to the first connection */
	assert_true(admits("192.0.2.1", 661));
	assert_false(admits("192.0.2.1", 719));
	assert_true(admits("192.0.2.1", 7200));
}

static void windows_are_second_minute_and_hour(void **state)
{
	static const struct {
		enum rate_window window;
		int64_t last, next;
	} windows[] = {
		{ RATE_WINDOW_SECOND, 3600, 3601 },
		{ RATE_WINDOW_MINUTE, 3659, 3660 },
		{ RATE_WINDOW_HOUR, 7199, 7200 },
	};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		with((struct rate_rule[]){ { windows[i].window, 1 } }, 1, false);
		assert_true(admits("192.0.2.1", 3600));
		assert_false(admits("192.0.2.1", windows[i].last));
		assert_true(admits("192.0.2.1", windows[i].next));
	}
}

/* The first exhausted rule refuses; those before it have counted already. */
static void earlier_rules_count_even_when_a_later_one_refuses(void **state)
{
	(void)state;
	with((struct rate_rule[]){ { RATE_WINDOW_MINUTE, 3 }, { RATE_WINDOW_SECOND, 1 } }, 2, false);
	assert_true(admits("192.0.2.1", 60));
	assert_false(admits("192.0.2.1", 60)); /* by the second rule, counted by the first */
	assert_true(admits("192.0.2.1", 61));
	assert_false(admits("192.0.2.1", 62)); /* by the first rule */
	assert_true(admits("192.0.2.1", 120));

	/* The other way round the refused one is not counted by what follows. */
	with((struct rate_rule[]){ { RATE_WINDOW_SECOND, 1 }, { RATE_WINDOW_MINUTE, 3 } }, 2, false);
	assert_true(admits("192.0.2.1", 60));
	assert_false(admits("192.0.2.1", 60));
	assert_true(admits("192.0.2.1", 61));
	assert_true(admits("192.0.2.1", 62));
	assert_false(admits("192.0.2.1", 63));
}

static void loopback_can_be_exempt(void **state)
{
	static const char *const loopback[] = { "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1" };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		with((struct rate_rule[]){ { RATE_WINDOW_HOUR, 1 } }, 1, true);
		assert_true(admits(loopback[i], 1) && admits(loopback[i], 1));
		assert_true(admits("192.0.2.1", 1));
		assert_false(admits("192.0.2.1", 1));
		with((struct rate_rule[]){ { RATE_WINDOW_HOUR, 1 } }, 1, false);
		assert_true(admits(loopback[i], 1));
		assert_false(admits(loopback[i], 1));
	}
}

static void mapped_addresses_are_ipv4(void **state)
{
	(void)state;
	with((struct rate_rule[]){ { RATE_WINDOW_HOUR, 1 } }, 1, false);
	assert_true(admits("192.0.2.1", 1));
	assert_false(admits("::ffff:192.0.2.1", 1));
}

static void an_ipv6_network_is_one_party(void **state)
{
	(void)state;
	with((struct rate_rule[]){ { RATE_WINDOW_HOUR, 1 } }, 1, true);
	assert_true(admits("2001:db8:1:2::1", 1));
	assert_false(admits("2001:db8:1:2:ffff:ffff:ffff:ffff", 1));
	assert_true(admits("2001:db8:1:3::1", 1));
	assert_true(admits("::2", 1)); /* of the network of ::1, which is exempt */
	assert_false(admits("::3", 1));
	assert_true(admits("::1", 1) && admits("::1", 1));
	assert_true(admits("192.0.2.1", 1));
	assert_true(admits("::ffff:192.0.2.2", 1));
}

static void no_rules_and_no_address_are_admitted(void **state)
{
	struct sockaddr_un local = { .sun_family = AF_UNIX };

	(void)state;
	with(NULL, 0, false);
	for (int i = 0; i < 100; i++)
		assert_true(admits("192.0.2.1", 1));
	assert_true(rate_limiter_admit(NULL, (struct sockaddr *)&local, 1));
	with((struct rate_rule[]){ { RATE_WINDOW_HOUR, 1 } }, 1, false);
	assert_true(rate_limiter_admit(limiter, (struct sockaddr *)&local, 1));
	assert_true(rate_limiter_admit(limiter, (struct sockaddr *)&local, 1));
}

static void a_clock_set_back_begins_anew(void **state)
{
	(void)state;
	with((struct rate_rule[]){ { RATE_WINDOW_SECOND, 1 } }, 1, false);
	assert_true(admits("192.0.2.1", 1000));
	assert_false(admits("192.0.2.1", 999)); /* a thread that is late by a moment */
	assert_true(admits("192.0.2.1", 500));
	assert_false(admits("192.0.2.1", 500));
}

static void many_addresses_are_told_apart(void **state)
{
	char text[64];

	(void)state;
	with((struct rate_rule[]){ { RATE_WINDOW_HOUR, 1 } }, 1, false);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 5000; i++) {
			snprintf(text, sizeof(text), "10.1.%d.%d", i / 250, i % 250);
			assert_int_equal(admits(text, 1), round == 0);
			snprintf(text, sizeof(text), "2001:db8:0:%x::1", i);
			assert_int_equal(admits(text, 1), round == 0);
		}
	}
}

static void *count_admitted(void *argument)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201) };
	long admitted = 0;

	(void)argument;
	for (int i = 0; i < 1000; i++)
		admitted += rate_limiter_admit(limiter, (struct sockaddr *)&in, 77);
	return (void *)admitted;
}

static void threads_share_one_count(void **state)
{
	pthread_t threads[4];
	long total = 0;

	(void)state;
	with((struct rate_rule[]){ { RATE_WINDOW_HOUR, 1500 } }, 1, false);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, count_admitted, NULL);
	for (int i = 0; i < 4; i++) {
		void *admitted;

		pthread_join(threads[i], &admitted);
		total += (long)admitted;
	}
	assert_int_equal(total, 1500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_per_address_and_window),
		cmocka_unit_test(windows_are_second_minute_and_hour),
		cmocka_unit_test(earlier_rules_count_even_when_a_later_one_refuses),
		cmocka_unit_test(loopback_can_be_exempt),
		cmocka_unit_test(mapped_addresses_are_ipv4),
		cmocka_unit_test(an_ipv6_network_is_one_party),
		cmocka_unit_test(no_rules_and_no_address_are_admitted),
		cmocka_unit_test(a_clock_set_back_begins_anew),
		cmocka_unit_test(many_addresses_are_told_apart),
		cmocka_unit_test(threads_share_one_count),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
