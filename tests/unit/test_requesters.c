// SPDX-License-Identifier: Apache-2.0
/* Who asks for how many tickets and has how many pairs, by name. */
#include "broker/requesters.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void requesters_are_counted_by_name(void **unused)
{
	struct requesters *requesters;
	char name[32];

	(void)unused;
	assert_int_equal(requesters_create(2, 3, &requesters), 0);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 1000; i++) {
			snprintf(name, sizeof name, "operator-%u", i);
			assert_int_equal(requesters_take(requesters, name), 0);
		}
	}
	assert_int_equal(requesters_take(requesters, "operator-7"), -EDQUOT);
	requesters_give_back(requesters, "operator-7");
	assert_int_equal(requesters_open(requesters, "operator-7"), 1);
	assert_int_equal(requesters_take(requesters, "operator-7"), 0);
	requesters_give_back(requesters, "nobody");

	/* 2 tickets become 2 pairs; a third place is left, for a ticket and then its pair */
	for (unsigned i = 0; i < 2; i++)
		requesters_pair(requesters, "operator-7");
	assert_int_equal(requesters_open(requesters, "operator-7"), 0);
	assert_int_equal(requesters_take(requesters, "operator-7"), 0);
	assert_int_equal(requesters_take(requesters, "operator-7"), -EUSERS);
	requesters_pair(requesters, "operator-7");
	assert_int_equal(requesters_take(requesters, "operator-7"), -EUSERS);
	assert_int_equal(requesters_take(requesters, "operator-8"), -EDQUOT);
	requesters_unpair(requesters, "operator-7");
	assert_int_equal(requesters_take(requesters, "operator-7"), 0);
	requesters_unpair(requesters, "nobody");
	requesters_free(requesters);
	assert_int_equal(requesters_create(0, 0, &requesters), 0);
	assert_int_equal(requesters_take(requesters, "x"), -EDQUOT);
	requesters_free(requesters);
}
int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requesters_are_counted_by_name),
	};
	return cmocka_run_group_tests_name("requesters", tests, NULL, NULL);
}
