// SPDX-License-Identifier: Apache-2.0
/* Structured hash: the worked examples of protocol page 3.4, and what is Null. */
#include "directory_vectors.h"

#include "base/encoding.h"
#include "directory/structured_hash.h"

static void assert_hash_is(const char *json, const char *expected)
{
	json_t *value = json_of(json);
	char text[STRUCTURED_HASH_TEXT_SIZE];

	assert_int_equal(structured_hash_text_of(value, text), 0);
	assert_string_equal(text, expected);
	json_decref(value);
}

static void hashes_a_map_of_one_string(void **state)
{
	(void)state;
	assert_hash_is("{\"foo\":\"bar\"}", "0b5fc2d446003559b3ac936910088919478f12199600457b3df53650fd69cb98");
}

static void hashes_every_kind_of_value(void **state)
{
	static const char json[] = "{\"a\":1.5,\"b\":true,\"c\":0,\"d\":false,\"e\":[],\"f\":{},\"g\":null,\"h\":[\"x\",\"\",\"y\"]}";
	json_t *value = json_of(json);
	struct structured_hash *hash = structured_hash_new();
	uint8_t digest[STRUCTURED_HASH_SIZE];

	(void)state;
	structured_hash_json(hash, value);
	assert_int_equal(structured_hash_length(hash), 132);
	assert_int_equal(structured_hash_finish(hash, digest), 0);
	assert_hash_is(json, "013225dcc90b225f5abef5951d6c8ee3390d9b71cb6cd9ce601d386f2c29902f");
	json_decref(value);
}

static void hashes_lists_in_order(void **state)
{
	(void)state;
	assert_hash_is("[\"foo\",\"bar\",\"baz\"]", "38a0cbaec6a2856baaacf8ee0c95bd3accfbcf5b3ad402cd651adcb3ff407609");
	assert_hash_is("[\"bar\",\"foo\",\"baz\"]", "06dfda4c1a7fc5cb8afffefe2662f46d984296eb536a0424703ddad487fb95ba");
}

/* One key of the map of example 6, which holds raw bytes. */
static void put_pair(struct structured_hash *hash, const char *key, const char *json)
{
	json_t *value = json_of(json);

	structured_hash_json(hash, value);
	structured_hash_key(hash, key);
	json_decref(value);
}

static void assert_mixed_map_is(bool with_test, bool with_substruct, const char *expected)
{
	static const uint8_t raw[] = { 10, 32, 111, 54, 63 };
	struct structured_hash *hash = structured_hash_new();
	uint8_t digest[STRUCTURED_HASH_SIZE];
	char text[STRUCTURED_HASH_TEXT_SIZE];

	structured_hash_map(hash);
	put_pair(hash, "bar", "{\"Map\":{\"foo\":\"bar\"},\"Ptr\":{\"foo\":\"bara\"},\"List\":[\"a\",\"b\",\"c\"]}");
	put_pair(hash, "foo", "\"bar\"");
	structured_hash_bytes(hash, raw, sizeof(raw));
	structured_hash_key(hash, "fooz");
	if (with_substruct)
		put_pair(hash, "substruct", "{\"foo\":\"barbara\",\"test\":\"another one\"}");
	if (with_test)
		put_pair(hash, "test", "\"another\"");
	put_pair(hash, "value", "\"another\"");
	put_pair(hash, "zoo", "\"db\"");
	assert_int_equal(structured_hash_finish(hash, digest), 0);
	hex_encode(digest, sizeof(digest), text);
	assert_string_equal(text, expected);
}

static void hashes_raw_bytes_and_structs(void **state)
{
	(void)state;
	assert_mixed_map_is(false, false, "dbf143e52c047fa158191c3a051d93ee76bf938cd1791fcba802a098ea23fe50");
	assert_mixed_map_is(true, false, "c5df0f122a227df97e64713d3b715731ec8945e0015bfa67c5ff3de948672b57");
	assert_mixed_map_is(true, true, "b965657ee739fbc9246772647dafa6b3f88f809f5a1b120291405883b09a9d1a");
}

static void assert_same(const char *a, const char *b, bool same)
{
	json_t *first = json_of(a), *second = json_of(b);
	char first_text[STRUCTURED_HASH_TEXT_SIZE], second_text[STRUCTURED_HASH_TEXT_SIZE];

	assert_int_equal(structured_hash_text_of(first, first_text), 0);
	assert_int_equal(structured_hash_text_of(second, second_text), 0);
	assert_int_equal(!strcmp(first_text, second_text), same);
	json_decref(first);
	json_decref(second);
}

static void null_values_leave_no_trace(void **state)
{
	(void)state;
	assert_same("{\"a\":null,\"b\":\"\",\"c\":0,\"d\":0.0,\"e\":false,\"f\":[]}", "{}", true);
	assert_same("{\"a\":{}}", "{}", false);
	assert_same("{\"a\":-0.0}", "{}", false);
	assert_same("[null]", "[\"\"]", true);
	assert_same("[null]", "[]", false);
	assert_same("{\"n\":5}", "{\"n\":5.0}", true);
	assert_same("{\"b\":\"2\",\"a\":\"1\"}", "{\"a\":\"1\",\"b\":\"2\"}", true);
}

static void keys_sort_as_bytes(void **state)
{
	json_t *value = json_of("{\"\xc3\xa4\":\"x\",\"z\":\"y\",\"Z\":\"w\"}");
	struct structured_hash *hash = structured_hash_new();
	uint8_t digest[STRUCTURED_HASH_SIZE], expected[STRUCTURED_HASH_SIZE];

	(void)state;
	structured_hash_map(hash);
	put_pair(hash, "Z", "\"w\"");
	put_pair(hash, "z", "\"y\"");
	put_pair(hash, "\xc3\xa4", "\"x\"");
	assert_int_equal(structured_hash_finish(hash, expected), 0);
	assert_int_equal(structured_hash_of(value, digest), 0);
	assert_memory_equal(digest, expected, sizeof(digest));
	json_decref(value);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hashes_a_map_of_one_string), cmocka_unit_test(hashes_every_kind_of_value),
		cmocka_unit_test(hashes_lists_in_order),      cmocka_unit_test(hashes_raw_bytes_and_structs),
		cmocka_unit_test(null_values_leave_no_trace), cmocka_unit_test(keys_sort_as_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
