// SPDX-License-Identifier: Apache-2.0
/* JSON text: numbers, order of keys, escapes; and the recorded answers of a
 * running installation, which must come out byte for byte. */
#include "base/instant.h"
#include "base/json.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void numbers_are_the_shortest_text(void **state)
{
	static const struct {
		double value;
		const char *text;
	} vectors[] = {
		{ 0, "0" },
		{ -0.0, "-0" },
		{ 5, "5" },
		{ -5, "-5" },
		{ 0.1, "0.1" },
		{ -1.5, "-1.5" },
		{ 1.0 / 3, "0.3333333333333333" },
		{ 100.25, "100.25" },
		{ 123456.789, "123456.789" },
		{ 1e-6, "0.000001" },
		{ 1.5e-6, "0.0000015" },
		{ 9.99e-7, "9.99e-7" },
		{ 1e-7, "1e-7" },
		{ -1.25e-10, "-1.25e-10" },
		{ 9007199254740991.0, "9007199254740991" },
		{ 9007199254740992.0, "9007199254740992" },
		{ 9007199254740994.0, "9007199254740994" },
		{ 1e20, "100000000000000000000" },
		{ 123456789012345678901.0, "123456789012345680000" },
		{ 999999999999999900000.0, "999999999999999900000" },
		{ 1e21, "1e+21" },
		{ 1.5e300, "1.5e+300" },
		{ DBL_MAX, "1.7976931348623157e+308" },
		{ DBL_MIN, "2.2250738585072014e-308" },
		{ 5e-324, "5e-324" },
		{ 5.684341886080802e-14, "5.684341886080802e-14" }, /* a power of two */
		{ 2147483647, "2147483647" },
		{ 0.30000000000000004, "0.30000000000000004" },
	};
	char text[32];

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
		assert_string_equal(json_number_text(vectors[i].value, text), vectors[i].text);
}

static void every_number_reads_back(void **state)
{
	uint64_t random = 88172645463325252ULL;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		double value;
		char text[32];

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		memcpy(&value, &random, sizeof(value));
		if (!isfinite(value))
			continue;
		if (strtod(json_number_text(value, text), NULL) != value)
			fail_msg("%.17g became %s", value, text);
	}
}

static void assert_written(const char *input, const char *expected)
{
	json_error_t error;
	json_t *value = json_read(input, strlen(input), &error);
	size_t length;
	char *text;

	assert_non_null(value);
	text = json_write(value, &length);
	assert_string_equal(text, expected);
	assert_int_equal(length, strlen(expected));
	free(text);
	json_decref(value);
}

static void keys_are_sorted_by_bytes(void **state)
{
	(void)state;
	assert_written("{\"b\":1,\"a\":2,\"B\":3,\"\":4,\"ab\":5,\"\\u00e9\":6}",
		       "{\"\":4,\"B\":3,\"a\":2,\"ab\":5,\"b\":1,\"\u00e9\":6}");
	assert_written("{ \"x\" : { \"z\" : [ ] , \"y\" : { } } , \"a\" : [ { \"d\":1,\"c\":[true,false,null] } ] }",
		       "{\"a\":[{\"c\":[true,false,null],\"d\":1}],\"x\":{\"y\":{},\"z\":[]}}");
}

static void large_objects_are_sorted_too(void **state)
{
	json_t *object = json_object();
	char *text, key[16], *place;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "k%03d", i * 7 % 1000);
		json_object_set_new(object, key, json_integer(i));
	}
	text = place = json_write(object, NULL);
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "\"k%03d\":", i);
		place = strstr(place, key);
		assert_non_null(place);
	}
	free(text);
	json_decref(object);
}

static void strings_are_escaped(void **state)
{
	(void)state;
	assert_written("[\"\\u0001\\b\\f\\n\\r\\t\\\"\\\\\\/\\u007f\\u00e9\\ud83d\\ude00\"]",
		       "[\"\\u0001\\u0008\\u000c\\n\\r\\t\\\"\\\\/\x7f\u00e9\U0001F600\"]");
}

static void long_strings_cross_the_piece_size(void **state)
{
	char *text, raw[10001], *expected = malloc(20010), *out = expected;
	json_t *value;
	size_t length;

	(void)state;
	*out++ = '"';
	for (int i = 0; i < 10000; i++) {
		raw[i] = i % 3 ? 'x' : '"';
		if (i % 3 == 0)
			*out++ = '\\';
		*out++ = raw[i];
	}
	raw[10000] = 0;
	strcpy(out, "\"");
	value = json_string(raw);
	text = json_write(value, &length);
	assert_string_equal(text, expected);
	free(text);
	free(expected);
	json_decref(value);
}

static void integral_doubles_come_out_as_integers(void **state)
{
	(void)state;
	assert_written("{\"a\":5,\"b\":5.0,\"c\":-3e2,\"d\":1e2}", "{\"a\":5,\"b\":5,\"c\":-300,\"d\":100}");
	assert_written("12345678901234567890", "12345678901234567000");
}

static void exact_reading_keeps_integers(void **state)
{
	json_error_t error;
	json_t *value = json_read_exact("{\"id\":9007199254740993,\"x\":1.5} behind", 38, &error);
	char *text;

	(void)state;
	assert_non_null(value);
	assert_true(json_is_integer(json_object_get(value, "id")));
	text = json_write(value, NULL);
	assert_string_equal(text, "{\"id\":9007199254740993,\"x\":1.5}");
	free(text);
	json_decref(value);
}

static void what_follows_the_first_value_is_ignored(void **state)
{
	assert_written("{\"a\":1} and more }", "{\"a\":1}");
	(void)state;
}

static void what_is_no_json_has_a_reason(void **state)
{
	static const char *const wrong[] = { "", "{", "{\"a\"}", "[1,]", "nul", "\"\xff\"", "{\"a\":1e999}", "'a'" };

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		json_error_t error = { .text = "" };

		assert_null(json_read(wrong[i], strlen(wrong[i]), &error));
		assert_true(error.text[0]);
	}
}

static void too_many_values_are_refused_before_they_take_memory(void **state)
{
	static const char marks[] = "{\"a,,\\\",[\":[1,2,{\"b\":\"{{{{[[[[\"}]}"; /* 7 values and keys */
	size_t length = 15 << 20, at;
	char *text = malloc(length + 1);
	json_error_t error;
	json_t *value;

	(void)state;
	value = json_read_bounded(marks, sizeof(marks) - 1, 8, &error);
	assert_non_null(value);
	json_decref(value);
	assert_null(json_read_bounded(marks, sizeof(marks) - 1, 6, &error));
	assert_string_equal(error.text, "more than 6 values");
	memcpy(text, "{\"a\":[{", 6);
	for (at = 6; at + 3 < length; at += 3)
		memcpy(text + at, "{},", 3);
	uint64_t start = clock_now_ms();
	assert_null(json_read_bounded(text, at, 200000, &error));
	assert_true(clock_now_ms() - start < 500);
	/* A long text is no reason. */
	memset(text, 'x', length);
	text[0] = text[length - 1] = '"';
	value = json_read_bounded(text, length, 1, &error);
	assert_int_equal(json_string_length(value), length - 2);
	json_decref(value);
	free(text);
}

static void values_without_text_are_refused(void **state)
{
	json_t *deep = json_array();

	(void)state;
	assert_null(json_write(NULL, NULL));
	for (int i = 0; i < 3000; i++) {
		json_t *outer = json_array();

		json_array_append_new(outer, deep);
		deep = outer;
	}
	assert_null(json_write(deep, NULL));
	json_decref(deep);
}

static void text_of_a_member(void **state)
{
	json_error_t error;
	json_t *value = json_read("{\"a\":\"x\",\"b\":1}", 15, &error);

	(void)state;
	assert_string_equal(json_text(value, "a"), "x");
	assert_null(json_text(value, "b"));
	assert_null(json_text(value, "c"));
	assert_null(json_text(NULL, "c"));
	json_decref(value);
}

static void people_get_indentation(void **state)
{
	json_error_t error;
	json_t *value = json_read("{\"b\":[1,{}],\"a\":[]}", 19, &error);
	char *text = json_write_indented(value);

	(void)state;
	assert_string_equal(text, "{\n  \"a\": [],\n  \"b\": [\n    1,\n    {}\n  ]\n}");
	free(text);
	json_decref(value);
}

static char *read_vector(const char *name, size_t *length)
{
	const char *folder = getenv("TEST_VECTORS");
	char path[512], *text;
	FILE *file;
	long size;

	snprintf(path, sizeof(path), "%s/%s", folder ? folder : "tests/vectors", name);
	file = fopen(path, "r");
	if (!file)
		skip();
	fseek(file, 0, SEEK_END);
	size = ftell(file);
	rewind(file);
	text = malloc((size_t)size + 1);
	*length = fread(text, 1, (size_t)size, file);
	text[*length] = 0;
	fclose(file);
	return text;
}

/* Only inside `result` are keys sorted on the recorded side; the envelope has
 * an order of its own. */
static void the_recorded_answer_comes_out_byte_for_byte(void **state)
{
	json_error_t error;
	size_t length, written;
	char *recorded = read_vector("ping-answer.json", &length), *text, *start;
	json_t *value = json_read(recorded, length, &error);

	(void)state;
	assert_non_null(value);
	text = json_write(json_object_get(value, "result"), &written);
	start = strstr(recorded, "\"result\":");
	assert_non_null(start);
	assert_memory_equal(start + strlen("\"result\":"), text, written);
	free(text);
	free(recorded);
	json_decref(value);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_the_shortest_text),
		cmocka_unit_test(every_number_reads_back),
		cmocka_unit_test(keys_are_sorted_by_bytes),
		cmocka_unit_test(large_objects_are_sorted_too),
		cmocka_unit_test(strings_are_escaped),
		cmocka_unit_test(long_strings_cross_the_piece_size),
		cmocka_unit_test(integral_doubles_come_out_as_integers),
		cmocka_unit_test(exact_reading_keeps_integers),
		cmocka_unit_test(what_follows_the_first_value_is_ignored),
		cmocka_unit_test(what_is_no_json_has_a_reason),
		cmocka_unit_test(too_many_values_are_refused_before_they_take_memory),
		cmocka_unit_test(values_without_text_are_refused),
		cmocka_unit_test(text_of_a_member),
		cmocka_unit_test(people_get_indentation),
		cmocka_unit_test(the_recorded_answer_comes_out_byte_for_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
