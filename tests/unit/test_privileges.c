// SPDX-License-Identifier: Apache-2.0
/* Dropping privileges: what a thread has afterwards, read from /proc, and that
 * the other threads are left alone. */
#include "proxy/privileges.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define RESOURCE_BIT (1ull << 24) /* CAP_SYS_RESOURCE */

/* A hexadecimal or decimal line of the calling thread's status. */
static uint64_t status_of(const char *key)
{
	FILE *file = fopen("/proc/thread-self/status", "re");
	unsigned long long value = ~0ull;
	char line[256];

	assert_non_null(file);
	while (fgets(line, sizeof line, file)) {
		if (strncmp(line, key, strlen(key)) == 0)
			sscanf(line + strlen(key), ": %llx", &value);
	}
	fclose(file);
	return value;
}

static void *drop(void *context)
{
	uint64_t before = status_of("CapPrm");
	char text[PRIVILEGES_TEXT_SIZE];
	int *error = context;

	*error = privileges_drop();
	assert_int_equal(status_of("CapPrm"), before & RESOURCE_BIT);
	assert_int_equal(status_of("CapEff"), before & RESOURCE_BIT);
	assert_int_equal(status_of("CapInh"), 0);
	assert_int_equal(status_of("NoNewPrivs"), 1);
	assert_non_null(strstr(privileges_describe(text), "no_new_privs set"));
	assert_true(!strstr(text, "CAP_SYS_RESOURCE") == !(before & RESOURCE_BIT));
	return NULL;
}

static void a_thread_drops_its_own_privileges(void **state)
{
	uint64_t permitted = status_of("CapPrm"), effective = status_of("CapEff");
	pthread_t thread;
	int error = -1;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, drop, &error), 0);
	pthread_join(thread, NULL);
	assert_int_equal(error, 0);
	assert_int_equal(status_of("CapPrm"), permitted);
	assert_int_equal(status_of("CapEff"), effective);
}

static void dropping_twice_is_fine(void **state)
{
	int error = -1;

	(void)state;
	drop(&error);
	assert_int_equal(error, 0);
	drop(&error);
	assert_int_equal(error, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_drops_its_own_privileges),
		cmocka_unit_test(dropping_twice_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
