// SPDX-License-Identifier: Apache-2.0
/* Hex and base64: the vectors of RFC 4648, and what must be refused. */
#include "base/encoding.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void hex_goes_both_ways(void **state)
{
	static const uint8_t bytes[] = { 0x00, 0x7f, 0xab, 0xff };
	uint8_t back[4];
	char text[9];

	(void)state;
	hex_encode(bytes, sizeof(bytes), text);
	assert_string_equal(text, "007fabff");
	assert_int_equal(hex_decode("007FabFF", 8, back, 4), 0);
	assert_memory_equal(back, bytes, 4);
	hex_encode(NULL, 0, text);
	assert_string_equal(text, "");
}

static void hex_of_wrong_length_or_digits_is_refused(void **state)
{
	uint8_t back[4];

	(void)state;
	assert_int_equal(hex_decode("007fab", 6, back, 4), -EINVAL);
	assert_int_equal(hex_decode("007fabf", 7, back, 4), -EINVAL);
	assert_int_equal(hex_decode("007fabfff0", 10, back, 4), -EINVAL);
	assert_int_equal(hex_decode("007fabfg", 8, back, 4), -EINVAL);
	assert_int_equal(hex_decode("007fab f", 8, back, 4), -EINVAL);
}

static void base64_has_the_rfc_vectors(void **state)
{
	static const struct {
		const char *plain, *coded;
	} vectors[] = {
		{ "", "" },	       { "f", "Zg==" },	      { "fo", "Zm8=" },		 { "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		uint8_t back[16];
		char text[32];
		size_t size = strlen(vectors[i].plain);

		assert_int_equal(base64_encode((const uint8_t *)vectors[i].plain, size, text),
				 strlen(vectors[i].coded));
		assert_string_equal(text, vectors[i].coded);
		assert_int_equal(base64_decode(text, strlen(text), back, sizeof(back)), size);
		assert_memory_equal(back, vectors[i].plain, size);
	}
}

static void base64_skips_line_breaks_and_refuses_the_rest(void **state)
{
	static const char *const wrong[] = { "Zg", "Zg=", "Z", "Z===", "====", "Zg==Zg==", "Zg==x", "Zm 9v", "Zm9v!", "Zm-_",
					     "Z=g=" };
	uint8_t back[16];

	(void)state;
	assert_int_equal(base64_decode("Zm\r\n9v\nYg=\n=\n", 13, back, sizeof(back)), 4);
	assert_memory_equal(back, "foob", 4);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(base64_decode(wrong[i], strlen(wrong[i]), back, sizeof(back)), -EINVAL);
	assert_int_equal(base64_decode("Zm9v", 4, back, 2), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hex_goes_both_ways),
		cmocka_unit_test(hex_of_wrong_length_or_digits_is_refused),
		cmocka_unit_test(base64_has_the_rfc_vectors),
		cmocka_unit_test(base64_skips_line_breaks_and_refuses_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
