// SPDX-License-Identifier: Apache-2.0
/* Arithmetic of lent credit, slots that are used again, and the index that the kernel program reads. */
#include "relay/credit.h"
#include "relay/object.h"
#include "relay/pair.h"
#include "relay/slots.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void a_loan_doubles_up_to_its_limit(void **state)
{
	struct credit_budget budget;
	uint64_t most = 1000000, loan;

	(void)state;
	credit_budget_init(&budget, 100 << 20, CREDIT_PART);
	loan = credit_lend_first(&budget, most);
	assert_int_equal(loan, CREDIT_FIRST_BYTES);
	for (unsigned i = 0; i < 10; i++) {
		uint64_t next = credit_lend_more(&budget, loan, most);

		assert_int_equal(next, loan * 2 < most ? loan * 2 : most);
		loan = next;
		assert_int_equal(budget.lent, loan);
	}
	assert_int_equal(loan, most);
	loan = credit_take_back(&budget, loan);
	assert_int_equal(loan, CREDIT_FIRST_BYTES);
	assert_int_equal(credit_take_back(&budget, loan), CREDIT_FIRST_BYTES);
	credit_return(&budget, loan);
	assert_int_equal(budget.lent, 0);
}

static void a_small_send_buffer_limits_the_first_loan(void **state)
{
	struct credit_budget budget;

	(void)state;
	credit_budget_init(&budget, 100 << 20, CREDIT_PART);
	assert_int_equal(credit_lend_first(&budget, 1000), 1000);
	assert_int_equal(credit_lend_more(&budget, 1000, 1000), 1000);
	assert_int_equal(credit_take_back(&budget, 1000), 1000);
	credit_return(&budget, 1000);
	assert_int_equal(budget.lent, 0);
}

static void an_exhausted_budget_lends_no_more_but_first_loans(void **state)
{
	struct credit_budget budget;
	uint64_t one, other;

	(void)state;
	credit_budget_init(&budget, 3 * CREDIT_FIRST_BYTES, CREDIT_PART);
	one = credit_lend_first(&budget, 1 << 30);
	other = credit_lend_first(&budget, 1 << 30);
	one = credit_lend_more(&budget, one, 1 << 30);
	assert_int_equal(one, 2 * CREDIT_FIRST_BYTES);
	assert_int_equal(credit_lend_more(&budget, other, 1 << 30), other);
	assert_int_equal(credit_lend_first(&budget, 1 << 30), CREDIT_FIRST_BYTES); /* nobody starves */
	assert_int_equal(budget.lent, 4 * CREDIT_FIRST_BYTES);
	credit_return(&budget, one);
	assert_int_equal(credit_lend_more(&budget, other, 1 << 30), 2 * CREDIT_FIRST_BYTES);
}

static void the_default_budget_follows_the_kernel(void **state)
{
	struct credit_budget budget;

	(void)state;
	credit_budget_init(&budget, 0, CREDIT_PART);
	assert_true(budget.total > 1 << 20);
}

static void the_budget_of_buffers_is_a_smaller_part(void **state)
{
	struct credit_budget credit, buffers;

	(void)state;
	credit_budget_init(&credit, 0, CREDIT_PART);
	credit_budget_init(&buffers, 0, BUFFERS_PART);
	assert_in_range(buffers.total, credit.total / 2 - 1, credit.total / 2 + 1);
}

static void a_buffer_may_have_half_of_what_is_left(void **state)
{
	const uint64_t first = BUFFER_FIRST_BYTES;
	struct credit_budget budget;
	uint32_t booked;

	(void)state;
	credit_budget_init(&budget, 8 << 20, BUFFERS_PART);
	assert_int_equal(credit_buffer_most(&budget), first + (4 << 20));
	booked = credit_book_buffer(&budget, 0, first + (4 << 20));
	assert_int_equal(booked, 4 << 20);
	assert_int_equal(credit_buffer_most(&budget), first + (2 << 20));
	booked = credit_book_buffer(&budget, booked, first + (1 << 20)); /* smaller */
	assert_int_equal(booked, 1 << 20);
	assert_int_equal(budget.lent, 1 << 20);
	booked = credit_book_buffer(&budget, booked, first - 1);
	assert_int_equal(booked, 0);
	assert_int_equal(budget.lent, 0);
}

static void what_the_kernel_has_promised_is_booked_beyond_the_budget(void **state)
{
	struct credit_budget budget;
	uint32_t one, other;

	(void)state;
	credit_budget_init(&budget, 1 << 20, BUFFERS_PART);
	one = credit_book_buffer(&budget, 0, 6 << 20);
	other = credit_book_buffer(&budget, 0, BUFFER_FIRST_BYTES);
	assert_int_equal(other, 0); /* the first size is not of the budget */
	assert_int_equal(budget.lent, (6 << 20) - BUFFER_FIRST_BYTES);
	assert_int_equal(credit_buffer_most(&budget), BUFFER_FIRST_BYTES);
	credit_book_buffer(&budget, one, 0);
	assert_int_equal(budget.lent, 0);
}

/* As lend_receive_buffer() goes about it: twice as much while that is within the limit. */
static void equal_buffers_come_to_equal_sizes_and_leave_something(void **state)
{
	struct credit_budget budget;
	uint64_t sizes[20];
	uint32_t booked[20] = { 0 };

	(void)state;
	credit_budget_init(&budget, 14 << 20, BUFFERS_PART);
	for (unsigned at = 0; at < 20; at++)
		sizes[at] = BUFFER_FIRST_BYTES;
	for (unsigned round = 0; round < 8; round++)
		for (unsigned at = 0; at < 20; at++) {
			uint64_t most = credit_buffer_most(&budget);

			if (2 * sizes[at] <= most)
				sizes[at] *= 2;
			else if (sizes[at] > 2 * most)
				sizes[at] /= 2;
			booked[at] = credit_book_buffer(&budget, booked[at], sizes[at]);
		}
	for (unsigned at = 1; at < 20; at++)
		assert_in_range(sizes[at], sizes[0] / 2, sizes[0] * 2);
	assert_in_range(sizes[0], 256 << 10, 1 << 20);
	assert_true(budget.lent < budget.total);
}

static void only_a_long_way_with_need_of_it_has_more_than_the_usual_limit(void **state)
{
	uint64_t near_most = credit_most_near(4 << 20, 8 << 20);

	(void)state;
	assert_int_equal(near_most, 2 << 20);
	assert_int_equal(credit_most_near(104 << 10, 8 << 20), 104 << 10); /* without SO_SNDBUFFORCE */
	assert_int_equal(credit_most(near_most, 4 << 20, 0), near_most);
	assert_int_equal(credit_most(near_most, 4 << 20, 1 << 20), near_most);
	assert_int_equal(credit_most(near_most, 4 << 20, 1250000), 2500000);
	assert_int_equal(credit_most(near_most, 4 << 20, 100 << 20), 4 << 20);
	assert_int_equal(credit_most(104 << 10, 104 << 10, 100 << 20), 104 << 10);
}

static void a_long_round_trip_is_no_slowness(void **state)
{
	(void)state;
	assert_true(credit_is_brisk(CREDIT_BRISK_NS, 100));
	assert_false(credit_is_brisk(CREDIT_BRISK_NS + 1, 100));
	assert_false(credit_is_brisk(CREDIT_BRISK_NS + 1, 100000));
	assert_true(credit_is_brisk(1100000000, 600000));
	assert_false(credit_is_brisk(1300000000, 600000));
}

/* When is a plain pair's first send buffer too small? */
static void a_stopped_or_near_or_slow_reader_keeps_the_small_buffer(void **state)
{
	struct tcp_facts facts = { .least_rtt_us = 100000, .path_bytes = 60000 };

	(void)state;
	assert_true(buffers_are_short(&facts, 100000));
	assert_false(buffers_are_short(&facts, 65535)); /* the first window of a reader that never reads */
	facts.path_bytes = 20000;
	assert_false(buffers_are_short(&facts, 1 << 20));
	facts.path_bytes = 60000;
	facts.least_rtt_us = FAR_RTT_US;
	assert_false(buffers_are_short(&facts, 1 << 20));
}

static void few_packets_may_wait_on_a_small_credit(void **state)
{
	(void)state;
	assert_int_equal(credit_packets(0), CREDIT_PACKETS_LEAST);
	assert_int_equal(credit_packets(2 << 20), 2048);
}

static void *lend_and_return(void *argument)
{
	struct credit_budget *budget = argument;

	for (unsigned i = 0; i < 20000; i++) {
		uint64_t loan = credit_lend_first(budget, 1 << 30);

		loan = credit_lend_more(budget, loan, 1 << 30);
		loan = credit_lend_more(budget, loan, 1 << 30);
		credit_return(budget, loan);
	}
	return NULL;
}

static void workers_share_a_budget(void **state)
{
	struct credit_budget budget;
	pthread_t threads[4];

	(void)state;
	credit_budget_init(&budget, 10 * CREDIT_FIRST_BYTES, CREDIT_PART);
	for (unsigned i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, lend_and_return, &budget);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(budget.lent, 0);
}

/* ---- slots ---- */

static void a_retired_slot_is_free_only_after_the_grace_period(void **state)
{
	struct slots slots;
	uint32_t index, generation, other, other_generation;

	(void)state;
	assert_int_equal(slots_init(&slots, 2), 0);
	assert_int_equal(slots_take(&slots, &index, &generation), 0);
	assert_int_equal(slots_take(&slots, &other, &other_generation), 0);
	assert_int_equal(index % 2, 0);
	assert_int_not_equal(index, other);
	assert_int_equal(slots_take(&slots, &index, &generation), -ENOSPC);
	slots_retire(&slots, other);
	assert_int_equal(slots_take(&slots, &index, &generation), -ENOSPC);
	assert_int_equal(slots_begin_grace(&slots), 1);
	assert_int_equal(slots_take(&slots, &index, &generation), -ENOSPC);
	slots_end_grace(&slots);
	assert_int_equal(slots_take(&slots, &index, &generation), 0);
	assert_int_equal(index, other);
	assert_int_equal(generation, other_generation + 1); /* late records carry the old one */
	slots_destroy(&slots);
}

static void what_is_retired_during_a_grace_period_waits_for_the_next(void **state)
{
	struct slots slots;
	uint32_t first, second, index, generation;

	(void)state;
	assert_int_equal(slots_init(&slots, 2), 0);
	slots_take(&slots, &first, &generation);
	slots_take(&slots, &second, &generation);
	slots_retire(&slots, first);
	assert_int_equal(slots_begin_grace(&slots), 1);
	slots_retire(&slots, second);
	slots_end_grace(&slots);
	assert_int_equal(slots_free_count(&slots), 1);
	assert_int_equal(slots_take(&slots, &index, &generation), 0);
	assert_int_equal(index, first);
	assert_int_equal(slots_take(&slots, &index, &generation), -ENOSPC);
	assert_int_equal(slots_begin_grace(&slots), 1);
	slots_end_grace(&slots);
	assert_int_equal(slots_take(&slots, &index, &generation), 0);
	assert_int_equal(index, second);
	slots_destroy(&slots);
}

static void generations_grow_with_every_use(void **state)
{
	struct slots slots;
	uint32_t seen[4] = { 0 };

	(void)state;
	assert_int_equal(slots_init(&slots, 4), 0);
	for (unsigned round = 0; round < 100; round++) {
		uint32_t index, generation;

		assert_int_equal(slots_take(&slots, &index, &generation), 0);
		assert_true(generation > seen[index / 2]);
		seen[index / 2] = generation;
		slots_retire(&slots, index);
		slots_begin_grace(&slots);
		slots_end_grace(&slots);
	}
	assert_int_equal(slots_free_count(&slots), 4);
	slots_destroy(&slots);
}

/* As the kernel program looks. */
static int find_index(const struct gate_object *object, uint64_t cookie)
{
	const struct gate_bucket *bucket = &object->buckets[cookie & (object->bucket_count - 1)];

	for (unsigned i = 0; i < GATE_BUCKET_ENTRIES; i++)
		if (bucket->entries[i] >> 32 == (uint32_t)cookie && (uint32_t)bucket->entries[i])
			return (int)(uint32_t)bucket->entries[i] - 1;
	return -1;
}

static void a_bucket_of_the_index_fills_and_empties(void **state)
{
	static struct gate_direction directions[16];
	static struct gate_bucket buckets[2];
	struct gate_object object = { .directions = directions, .buckets = buckets, .slots = 16, .bucket_count = 2 };
	uint64_t first = 0x700000000ull; /* its low half is 0 */

	(void)state;
	for (uint32_t i = 0; i < GATE_BUCKET_ENTRIES; i++)
		assert_int_equal(gate_object_enter(&object, i, first + 2 * i), 0);
	for (uint32_t i = 0; i < GATE_BUCKET_ENTRIES; i++)
		assert_int_equal(find_index(&object, first + 2 * i), i);
	assert_int_equal(gate_object_enter(&object, 8, first + 100), -ENOSPC);
	assert_int_equal(gate_object_enter(&object, 8, first + 1), 0); /* the other bucket */
	assert_int_equal(find_index(&object, first + 100), -1);
	gate_object_leave(&object, 8);
	gate_object_leave(&object, 8);
	assert_int_equal(find_index(&object, first + 1), -1);
	gate_object_leave(&object, 3);
	assert_int_equal(find_index(&object, first + 6), -1);
	assert_int_equal(gate_object_enter(&object, 9, 0x900000000ull), -EEXIST); /* the program could not tell it from 0 */
	assert_int_equal(gate_object_enter(&object, 9, first + 100), 0);
	assert_int_equal(find_index(&object, first + 100), 9);
	for (uint32_t i = 0; i < 10; i++)
		gate_object_leave(&object, i);
	for (unsigned i = 0; i < 2 * GATE_BUCKET_ENTRIES; i++)
		assert_int_equal(buckets[i / GATE_BUCKET_ENTRIES].entries[i % GATE_BUCKET_ENTRIES], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_loan_doubles_up_to_its_limit),
		cmocka_unit_test(a_small_send_buffer_limits_the_first_loan),
		cmocka_unit_test(an_exhausted_budget_lends_no_more_but_first_loans),
		cmocka_unit_test(the_default_budget_follows_the_kernel),
		cmocka_unit_test(the_budget_of_buffers_is_a_smaller_part),
		cmocka_unit_test(a_buffer_may_have_half_of_what_is_left),
		cmocka_unit_test(what_the_kernel_has_promised_is_booked_beyond_the_budget),
		cmocka_unit_test(equal_buffers_come_to_equal_sizes_and_leave_something),
		cmocka_unit_test(only_a_long_way_with_need_of_it_has_more_than_the_usual_limit),
		cmocka_unit_test(a_long_round_trip_is_no_slowness),
		cmocka_unit_test(a_stopped_or_near_or_slow_reader_keeps_the_small_buffer),
		cmocka_unit_test(few_packets_may_wait_on_a_small_credit),
		cmocka_unit_test(workers_share_a_budget),
		cmocka_unit_test(a_retired_slot_is_free_only_after_the_grace_period),
		cmocka_unit_test(what_is_retired_during_a_grace_period_waits_for_the_next),
		cmocka_unit_test(generations_grow_with_every_use),
		cmocka_unit_test(a_bucket_of_the_index_fills_and_empties),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
