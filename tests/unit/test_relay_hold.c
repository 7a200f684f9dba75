// SPDX-License-Identifier: Apache-2.0
/* The sizes that the hold gives a sender's receive buffer. */
#include "relay/hold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void a_window_holds_two_segments_within_limits(void **state)
{
	(void)state;
	assert_int_equal(hold_window_for(1460), 64 << 10);
	assert_int_equal(hold_window_for(65483), 2 * 65483 + (8 << 10));
	assert_int_equal(hold_window_for(1 << 20), 136 << 10);
	/* The kernel tells of a window only if it is twice what is left, which is less than a segment. */
	for (uint32_t segment = 536; segment <= 65483; segment += 97)
		assert_true(hold_window_for(segment) >= 2 * segment);
}

static void buffers_grow_with_what_they_are_for(void **state)
{
	uint32_t window = 64 << 10, charged = 5000;

	(void)state;
	for (int64_t room = -100000; room < 4 << 20; room += 33333) {
		struct hold_sizes sizes = hold_sizes_for(window, room, charged);

		assert_true(sizes.calm > window + charged);
		assert_true(sizes.closed >= sizes.calm);
		assert_true(sizes.wide >= window + charged && sizes.wide <= sizes.whole);
		assert_int_equal(sizes.whole, window + charged + (room > 0 ? room : 0));
	}
	assert_true(hold_sizes_for(window, 4 << 20, 0).wide < 300 << 10);
}

static void a_shut_window_leaves_room_for_what_may_come(void **state)
{
	(void)state;
	assert_int_equal(hold_shut_size(0, 100000), 100000);
	assert_true(hold_shut_size(1000, 100000) >= 101000);
	/* Not twice as much: the kernel would tell of it. */
	assert_true(hold_shut_size(1000, 100000) < 102000);
	assert_true(hold_shut_size(0, 0) > 0);
}

static void a_window_grows_while_half_of_it_is_free(void **state)
{
	uint32_t window = 100000, size = 180000;

	(void)state;
	assert_true(hold_window_may_grow(window, size, 0));
	assert_true(hold_window_may_grow(window, size, 130000));
	assert_false(hold_window_may_grow(window, size, 130001));
	assert_false(hold_window_may_grow(window, size, 200000));
	assert_true(hold_window_may_grow(window, 80000, 40000));
	assert_false(hold_window_may_grow(window, 80000, 40001));
}

static void small_segments_are_known_by_their_memory(void **state)
{
	(void)state;
	assert_false(hold_has_small_segments(0, 0));
	assert_false(hold_has_small_segments(1 << 20, 1 << 20));
	assert_false(hold_has_small_segments(100, 128 << 10)); /* the rest of a large packet */
	assert_true(hold_has_small_segments(100 << 10, 700 << 10));
}

static void what_a_long_way_holds_stays_in_flight(void **state)
{
	(void)state;
	assert_int_equal(hold_low_mark(2 << 20, 0.05, 0), 512 << 10);
	/* 1 MB in a round trip. */
	assert_int_equal(hold_low_mark(4 << 20, 0.05, 20000000), 1250000);
	/* Too much for this credit. */
	assert_true(hold_low_mark(4 << 20, 0.2, 20000000) > 4 << 20);
}

static void a_round_on_a_long_way_is_over_before_the_sender_asks(void **state)
{
	(void)state;
	for (double pace = 0.01; pace < 0.1; pace += 0.005)
		assert_true((4 << 20) - (double)hold_low_mark(4 << 20, pace, 5000000) <= pace * 150e6 + 1);
	assert_int_equal(hold_low_mark(4 << 20, 0.001, 20000000), (4 << 20) - (1280 << 10));
	assert_int_equal(hold_low_mark(1 << 20, 0.001, 20000000), 256 << 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_window_holds_two_segments_within_limits),
		cmocka_unit_test(buffers_grow_with_what_they_are_for),
		cmocka_unit_test(a_shut_window_leaves_room_for_what_may_come),
		cmocka_unit_test(a_window_grows_while_half_of_it_is_free),
		cmocka_unit_test(what_a_long_way_holds_stays_in_flight),
		cmocka_unit_test(a_round_on_a_long_way_is_over_before_the_sender_asks),
		cmocka_unit_test(small_segments_are_known_by_their_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
