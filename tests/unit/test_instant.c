// SPDX-License-Identifier: Apache-2.0
/* RFC 3339 instants as the protocol's records carry them. */
#include "base/instant.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void texts_come_out_as_rfc3339nano(void **state)
{
	static const struct {
		const char *in, *out;
		int64_t seconds;
		int32_t nanoseconds;
	} vectors[] = {
		{ "2021-05-17T10:00:00Z", "2021-05-17T10:00:00Z", 1621245600, 0 },
		{ "2023-07-26T11:36:28.5+02:00", "2023-07-26T11:36:28.5+02:00", 1690364188, 500000000 },
		{ "2023-07-26T11:36:28.500000000-00:30", "2023-07-26T11:36:28.5-00:30", 1690373188, 500000000 },
		{ "2026-11-22T17:22:41.069486907Z", "2026-11-22T17:22:41.069486907Z", 1795368161, 69486907 },
		{ "2026-11-22T17:22:41.0694869079999Z", "2026-11-22T17:22:41.069486907Z", 1795368161, 69486907 },
		{ "2000-02-29T00:00:00+00:00", "2000-02-29T00:00:00Z", 951782400, 0 },
		{ "2000-02-29T00:00:00-00:00", "2000-02-29T00:00:00Z", 951782400, 0 },
		{ "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z", 0, 0 },
		{ "1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.25Z", -1, 250000000 },
		{ "0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", -62135596800, 0 },
		{ "0000-01-01T00:00:00+23:59", "0000-01-01T00:00:00+23:59", -62167305540, 0 },
		{ "9999-12-31T23:59:59.999999999-23:59", "9999-12-31T23:59:59.999999999-23:59", 253402387139,
		  999999999 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		struct instant value;
		char text[INSTANT_TEXT_SIZE];

		assert_int_equal(instant_parse(vectors[i].in, strlen(vectors[i].in), &value), 0);
		assert_int_equal(value.seconds, vectors[i].seconds);
		assert_int_equal(value.nanoseconds, vectors[i].nanoseconds);
		assert_string_equal(instant_format(value, text), vectors[i].out);
	}
}

static void what_is_no_instant_is_refused(void **state)
{
	static const char *const wrong[] = {
		"", "2021", "2021-05-17", "2021-05-17 10:00:00Z", "2021-05-17T10:00:00", "2021-05-17T10:00Z",
		"2021-13-01T10:00:00Z", "2021-00-01T10:00:00Z", "2021-02-29T10:00:00Z", "1900-02-29T10:00:00Z",
		"2021-04-31T10:00:00Z", "2021-04-00T10:00:00Z", "2021-05-17T24:00:00Z", "2021-05-17T10:60:00Z",
		"2021-05-17T10:00:60Z", "2021-05-17T10:00:00.Z", "2021-05-17T10:00:00z", "2021-05-17t10:00:00Z",
		"2021-05-17T10:00:00+2:00", "2021-05-17T10:00:00+0200", "2021-05-17T10:00:00+24:00",
		"2021-05-17T10:00:00+02:60", "2021-05-17T10:00:00Z ", "2021-05-17T10:00:00+02:00x",
		" 2021-05-17T10:00:00Z", "+021-05-17T10:00:00Z", "20210-5-17T10:00:00Z", "2021-5-17T10:00:00Z",
	};
	struct instant value;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(instant_parse(wrong[i], strlen(wrong[i]), &value), -EINVAL);
	assert_int_equal(instant_parse("2021-05-17T10:00:00Z", 19, &value), -EINVAL);
}

static struct instant parsed(const char *text)
{
	struct instant value = { 0 };

	assert_int_equal(instant_parse(text, strlen(text), &value), 0);
	return value;
}

static void order_does_not_depend_on_the_zone(void **state)
{
	(void)state;
	assert_int_equal(instant_compare(parsed("2021-05-17T10:00:00Z"), parsed("2021-05-17T12:00:00+02:00")), 0);
	assert_true(instant_compare(parsed("2021-05-17T10:00:00Z"), parsed("2021-05-17T10:00:00.000000001Z")) < 0);
	assert_true(instant_compare(parsed("2021-05-17T11:00:00Z"), parsed("2021-05-17T12:00:00+02:00")) > 0);
	assert_true(instant_is_zero(parsed("0001-01-01T00:00:00Z")));
	assert_true(instant_is_zero(parsed("0001-01-01T01:00:00+01:00")));
	assert_false(instant_is_zero(parsed("0001-01-01T00:00:00.1Z")));
	assert_false(instant_is_zero(parsed("1970-01-01T00:00:00Z")));
}

/* Every day of four centuries against the C library. */
static void the_calendar_is_that_of_the_c_library(void **state)
{
	(void)state;
	for (time_t day = -146097; day < 146097; day++) {
		struct instant value = { .seconds = day * 86400 + 12345 };
		time_t seconds = day * 86400 + 12345;
		char text[INSTANT_TEXT_SIZE], expected[INSTANT_TEXT_SIZE];
		struct tm broken;

		gmtime_r(&seconds, &broken);
		strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%SZ", &broken);
		instant_format(value, text);
		if (strcmp(text, expected))
			assert_string_equal(text, expected);
		if (parsed(text).seconds != seconds)
			fail_msg("%s", text);
	}
}

static void now_is_in_the_local_zone(void **state)
{
	char text[INSTANT_TEXT_SIZE];
	struct instant now;

	(void)state;
	setenv("TZ", "XST-05:30", 1);
	tzset();
	now = instant_now();
	assert_int_equal(now.offset_minutes, 330);
	assert_non_null(strstr(instant_format(now, text), "+05:30"));
	assert_in_range(now.seconds - time(NULL) + 2, 0, 4);
	assert_true(clock_now_ns() / 1000000 <= clock_now_ms());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_come_out_as_rfc3339nano),
		cmocka_unit_test(what_is_no_instant_is_refused),
		cmocka_unit_test(order_does_not_depend_on_the_zone),
		cmocka_unit_test(the_calendar_is_that_of_the_c_library),
		cmocka_unit_test(now_is_in_the_local_zone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
