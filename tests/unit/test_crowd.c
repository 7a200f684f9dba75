// SPDX-License-Identifier: Apache-2.0
/* Who has to go, who is next and when, and where connections come from. */
#include "proxy/crowd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 64, STEPS = 20000 };

static struct source source_number(unsigned number)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a000000 ^ number)};
	struct source source;

	assert_true(source_of((struct sockaddr *)&address, &source));
	return source;
}

static void enter(struct crowd *crowd, struct crowd_member *member, unsigned number)
{
	struct source source = source_number(number);

	assert_int_equal(crowd_enter(crowd, member, &source), 0);
}

static void leave_all(struct crowd *crowd, struct crowd_member *members, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		crowd_leave(crowd, &members[i]);
	assert_null(crowd_victim(crowd));
	assert_null(crowd_next(crowd));
	crowd_close(crowd);
}

/* ---- sources ---- */

static struct source source_text(const char *text)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6};
	struct source source;

	assert_int_equal(inet_pton(AF_INET6, text, &address.sin6_addr), 1);
	assert_true(source_of((struct sockaddr *)&address, &source));
	return source;
}

static void assert_same(const char *one, const char *other, bool same)
{
	struct source a = source_text(one), b = source_text(other);

	assert_int_equal(source_equals(&a, &b), same);
	assert_int_equal(source_hash(&a, 7) == source_hash(&b, 7), same);
}

static void a_source_is_an_address_or_a_network(void **state)
{
	struct sockaddr unknown = {.sa_family = AF_UNIX};
	struct source source, mapped = source_text("::ffff:10.0.0.5"), plain = source_number(5);

	(void)state;
	assert_same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true);
	assert_same("2001:db8:0:1::1", "2001:db8:0:2::1", false);
	assert_same("::ffff:192.0.2.1", "::ffff:192.0.2.2", false);
	assert_true(source_equals(&mapped, &plain));
	assert_false(source_of(&unknown, &source));
	assert_false(source_is_loopback(&unknown));
}

/* Chains are short although addresses differ in one byte only, whichever it is. */
static void neighbours_are_spread(void **state)
{
	unsigned used[4][256] = {0};

	(void)state;
	for (unsigned byte = 0; byte < 4; byte++) {
		unsigned buckets = 0;
		for (unsigned i = 0; i < 256; i++) {
			struct source source = source_number(i << 8 * byte);
			unsigned bucket = (unsigned)source_hash(&source, 12345) & 255;
			buckets += used[byte][bucket]++ == 0;
		}
		assert_in_range(buckets, 128, 256); /* about 162 by chance */
	}
}

/* ---- the victim ---- */

static void the_one_who_has_most_gives_up_the_oldest(void **state)
{
	struct crowd crowd;
	struct crowd_member members[8] = {0};
	static const unsigned sources[] = {1, 2, 3, 2, 1, 2};

	(void)state;
	assert_int_equal(crowd_open(&crowd, 6), 0);
	assert_null(crowd_victim(&crowd));
	for (unsigned i = 0; i < 6; i++)
		enter(&crowd, &members[i], sources[i]);
	assert_true(crowd_is_full(&crowd));
	struct source source = source_number(9);
	assert_int_equal(crowd_enter(&crowd, &members[6], &source), -ENOSPC);
	/* 2 has three, then 1 and 2 have two, then everybody has one. */
	static const unsigned order[] = {1, 0, 3, 2, 4, 5};
	for (unsigned i = 0; i < 6; i++) {
		assert_ptr_equal(crowd_victim(&crowd), &members[order[i]]);
		crowd_leave(&crowd, &members[order[i]]);
		crowd_leave(&crowd, &members[order[i]]); /* of one that is in none */
	}
	leave_all(&crowd, members, 8);
}

static void a_flood_from_one_source_takes_from_itself(void **state)
{
	struct crowd crowd;
	struct crowd_member honest[10] = {0}, flood[1000] = {0};

	(void)state;
	assert_int_equal(crowd_open(&crowd, MOST), 0);
	for (unsigned i = 0; i < 10; i++)
		enter(&crowd, &honest[i], 1 + i % 5);
	for (unsigned i = 0; i < 1000; i++) {
		enter(&crowd, &flood[i], 77);
		if (crowd_is_full(&crowd))
			crowd_leave(&crowd, crowd_victim(&crowd));
	}
	for (unsigned i = 0; i < 10; i++)
		assert_non_null(honest[i].source);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(flood[i].source != NULL, i >= 1000 - (MOST - 1 - 10));
	for (unsigned i = 0; i < 1000; i++)
		crowd_leave(&crowd, &flood[i]);
	leave_all(&crowd, honest, 10);
}

/* ---- against a model ---- */

static unsigned count_of(const struct crowd_member *members, const unsigned *sources, unsigned wanted)
{
	unsigned count = 0;

	for (unsigned i = 0; i < MOST; i++)
		count += members[i].source && sources[i] == wanted;
	return count;
}

static struct crowd_member *expected_victim(struct crowd_member *members, const unsigned *sources)
{
	struct crowd_member *victim = NULL;
	unsigned most = 0;

	for (unsigned i = 0; i < MOST; i++) {
		unsigned count = members[i].source ? count_of(members, sources, sources[i]) : 0;
		if (count > most || (count > 0 && count == most && members[i].number < victim->number)) {
			most = count;
			victim = &members[i];
		}
	}
	return victim;
}

static void any_order_of_steps(void **state)
{
	struct crowd crowd;
	struct crowd_member members[MOST] = {0};
	unsigned sources[MOST] = {0}, in = 0;

	(void)state;
	srand(1);
	assert_int_equal(crowd_open(&crowd, MOST), 0);
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)rand() % MOST;
		if (members[i].source && rand() % 3 == 0) {
			crowd_wait(&crowd, &members[i]);
		} else if (members[i].source) {
			crowd_leave(&crowd, &members[i]);
			in--;
		} else {
			sources[i] = (unsigned)rand() % (1 + step % 20);
			enter(&crowd, &members[i], sources[i]);
			in++;
		}
		assert_int_equal(crowd.member_count, in);
		assert_ptr_equal(crowd_victim(&crowd), expected_victim(members, sources));
	}
	leave_all(&crowd, members, MOST);
}

/* ---- turns ---- */

static void each_source_has_its_turn(void **state)
{
	struct crowd crowd;
	struct crowd_member members[7] = {0};
	static const unsigned sources[] = {1, 1, 1, 1, 2, 3, 3};

	(void)state;
	assert_int_equal(crowd_open(&crowd, MOST), 0);
	assert_false(crowd_has_waiting(&crowd));
	for (unsigned i = 0; i < 7; i++) {
		enter(&crowd, &members[i], sources[i]);
		crowd_wait(&crowd, &members[i]);
		crowd_wait(&crowd, &members[i]); /* once is enough */
	}
	crowd_leave(&crowd, &members[1]);
	static const unsigned order[] = {0, 4, 5, 2, 6, 3};
	for (unsigned i = 0; i < 6; i++) {
		assert_true(crowd_has_waiting(&crowd));
		assert_ptr_equal(crowd_next(&crowd), &members[order[i]]);
	}
	assert_false(crowd_has_waiting(&crowd));
	crowd_wait(&crowd, &members[3]);
	crowd_leave(&crowd, &members[3]); /* takes its source's last turn with it */
	assert_null(crowd_next(&crowd));
	leave_all(&crowd, members, 7);
}

static void others_have_half_of_the_time(void **state)
{
	struct crowd crowd;
	const uint64_t start = 1000000000, step = 800000, round = 100000, empty = 2000;

	(void)state;
	assert_int_equal(crowd_open(&crowd, 1), 0);
	assert_true(crowd_is_due(&crowd, start));
	crowd_served(&crowd, start, start + step);
	uint64_t now = start + step;
	/* Others are busy in each round: eight of these are as long as the step. */
	for (unsigned i = 0; i < 7; i++)
		assert_false(crowd_is_due(&crowd, now += round));
	assert_true(crowd_is_due(&crowd, now += round));
	crowd_served(&crowd, now, now + step);
	now += step;
	assert_false(crowd_is_due(&crowd, now += round));
	/* Nobody else has anything to do any more. */
	assert_true(crowd_is_due(&crowd, now += empty));
	crowd_served(&crowd, now, now + step);
	assert_true(crowd_is_due(&crowd, now + step + empty));
	/* One long round is enough. */
	crowd_served(&crowd, now, now + step);
	assert_true(crowd_is_due(&crowd, now + 10 * step));
	crowd_close(&crowd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_source_is_an_address_or_a_network),
		cmocka_unit_test(neighbours_are_spread),
		cmocka_unit_test(the_one_who_has_most_gives_up_the_oldest),
		cmocka_unit_test(a_flood_from_one_source_takes_from_itself),
		cmocka_unit_test(any_order_of_steps),
		cmocka_unit_test(each_source_has_its_turn),
		cmocka_unit_test(others_have_half_of_the_time),
	};

	return cmocka_run_group_tests_name("crowd", tests, NULL, NULL);
}
