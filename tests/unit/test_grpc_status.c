// SPDX-License-Identifier: Apache-2.0
/* Status names and the percent-encoding of status messages. */
#include "grpc/status.h"

#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void messages_are_percent_encoded(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{ "", "" },
		{ "plain text ~", "plain text ~" },
		{ "100%", "100%25" },
		{ "a\nb\t", "a%0Ab%09" },
		{ "gr\xc3\xbc\xc3\x9f", "gr%C3%BC%C3%9F" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char *encoded = grpc_message_encode(cases[i][0]);
		char *decoded = grpc_message_decode(encoded, strlen(encoded));

		assert_string_equal(encoded, cases[i][1]);
		assert_string_equal(decoded, cases[i][0]);
		free(encoded);
		free(decoded);
	}
}

static void wrong_escapes_stay_and_wrong_text_is_replaced(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{ "%", "%" }, { "%4", "%4" }, { "%zz", "%zz" }, { "%41%", "A%" }, { "%c3%bc", "\xc3\xbc" }, { "a%ffb", "a?b" },
		{ "x%00y", "x?y" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char *decoded = grpc_message_decode(cases[i][0], strlen(cases[i][0]));

		assert_string_equal(decoded, cases[i][1]);
		free(decoded);
	}
}

static void long_messages_are_cut_between_characters(void **state)
{
	(void)state;
	char text[9001];

	for (size_t i = 0; i + 3 <= 9000; i += 3)
		memcpy(text + i, "\xe2\x82\xac", 3);
	text[9000] = 0;
	for (size_t shift = 0; shift < 3; shift++) {
		/* One, two or no plain bytes in front move the place of the cut. */
		char shifted[9004] = "xx";

		strcpy(shifted + shift, text);
		char *encoded = grpc_message_encode(shifted);
		size_t length = strlen(encoded);

		assert_in_range(length, 5900, 6000);
		assert_int_equal((length - shift) % 9, 0);
		free(encoded);
	}
}

static void codes_are_mapped(void **state)
{
	(void)state;
	assert_string_equal(grpc_status_name(0), "OK");
	assert_string_equal(grpc_status_name(16), "Unauthenticated");
	assert_string_equal(grpc_status_name(17), "Unknown");
	assert_string_equal(grpc_status_name(-1), "Unknown");
	assert_int_equal(grpc_status_of_http(503), GRPC_STATUS_UNAVAILABLE);
	assert_int_equal(grpc_status_of_http(404), GRPC_STATUS_UNIMPLEMENTED);
	assert_int_equal(grpc_status_of_http(302), GRPC_STATUS_UNKNOWN);
	assert_int_equal(grpc_status_of_reset(NGHTTP2_REFUSED_STREAM), GRPC_STATUS_UNAVAILABLE);
	assert_int_equal(grpc_status_of_reset(NGHTTP2_FLOW_CONTROL_ERROR), GRPC_STATUS_INTERNAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_percent_encoded),
		cmocka_unit_test(wrong_escapes_stay_and_wrong_text_is_replaced),
		cmocka_unit_test(long_messages_are_cut_between_characters),
		cmocka_unit_test(codes_are_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
