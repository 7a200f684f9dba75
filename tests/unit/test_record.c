// SPDX-License-Identifier: Apache-2.0
/* Change records: forms and normalisation (protocol page 3.1), hashes and signing
 * digests (3.4, and of the recorded directory). */
#include "directory_vectors.h"

#include "base/encoding.h"

static json_t *normalised(const char *json)
{
	json_t *value = json_of(json), *result;
	char problem[RECORD_PROBLEM_SIZE];

	result = record_normalise(value, problem);
	if (!result)
		fail_msg("%s: %s", json, problem);
	json_decref(value);
	return result;
}

static json_t *signed_with(json_t *record, const char *parent)
{
	char hash[STRUCTURED_HASH_TEXT_SIZE];

	assert_int_equal(record_hash(record, hash), 0);
	return json_pack("{s:s, s:s, s:n, s:o}", "hash", hash, "parent_hash", parent, "signature", "record", record);
}

static void assert_digest_is(const json_t *signed_record, const char *hash, const char *expected)
{
	uint8_t digest[STRUCTURED_HASH_SIZE];
	char text[STRUCTURED_HASH_TEXT_SIZE];

	assert_string_equal(signed_record_hash(signed_record), hash);
	assert_int_equal(signed_record_digest(signed_record, digest), 0);
	hex_encode(digest, sizeof(digest), text);
	assert_string_equal(text, expected);
}

static void hashes_the_worked_examples(void **state)
{
	json_t *first = signed_with(normalised("{\"name\":\"hd-1\",\"section\":\"groups\",\"data\":[\"health-departments\"],"
					       "\"created_at\":\"2021-05-17T10:00:00Z\"}"),
				    "");
	json_t *second = signed_with(
		normalised("{\"name\":\"hd-1\",\"section\":\"channels\",\"created_at\":\"2023-07-26T11:36:28.500+02:00\",\"data\":"
			   "[{\"type\":\"grpc_client\"},{\"type\":\"grpc_server\",\"settings\":{\"address\":\"localhost:8888\","
			   "\"proxy\":\"public-proxy-1.ga\"}}]}"),
		signed_record_hash(first));
	json_t *third = normalised(
		"{\"name\":\"ls-1\",\"section\":\"services\",\"created_at\":\"2021-05-17T10:00:00+00:00\",\"data\":[{\"name\":"
		"\"locations\",\"permissions\":[{\"group\":\"health-departments\",\"rights\":[\"call\"]}],\"methods\":[{\"name\":"
		"\"add\",\"params\":[{\"name\":\"x\"}]},{\"name\":\"lookup\",\"permissions\":[{\"group\":\"health-departments\","
		"\"rights\":[\"call\"]}]}]}]}");
	char hash[STRUCTURED_HASH_TEXT_SIZE];

	(void)state;
	assert_digest_is(first, "d3eb785faac5fafa52a51a5fc044309b450090eca330ac432de660274fac1dc2",
			 "cdec6acac6b60074e169ce41538fecaabd6e4353ae3fba12212ff29bfb091453");
	assert_digest_is(second, "2b2b3c3065616fe84664eb6ae548c31cccd44d2c7bdd3b53da9e9c2225b287db",
			 "ebca0e3721e6fcf6358cea90cda558b79497af2644dd5803ad8af7fc3dd72f17");
	assert_int_equal(record_hash(third, hash), 0);
	assert_string_equal(hash, "d64370d8929928441e4a493cd2ba895dc88ce1892b7e22769c106662619d6821");
	json_decref(first);
	json_decref(second);
	json_decref(third);
}

static void hashes_the_recorded_directory(void **state)
{
	json_t *records = vector_records(), *record;
	char hash[STRUCTURED_HASH_TEXT_SIZE];
	size_t i;

	(void)state;
	json_array_foreach(records, i, record)
	{
		assert_int_equal(record_hash(signed_record_inner(record), hash), 0);
		assert_string_equal(hash, signed_record_hash(record));
	}
	json_decref(records);
}

static void the_zero_time_is_null(void **state)
{
	json_t *record = normalised("{\"name\":\"a\",\"section\":\"groups\",\"data\":[],\"created_at\":\"0001-01-01T00:00:00Z\"}");
	json_t *same = json_of("{\"name\":\"a\",\"section\":\"groups\"}");
	char hash[STRUCTURED_HASH_TEXT_SIZE], expected[STRUCTURED_HASH_TEXT_SIZE];

	(void)state;
	assert_int_equal(record_hash(record, hash), 0);
	assert_int_equal(structured_hash_text_of(same, expected), 0);
	assert_string_equal(hash, expected);
	json_decref(record);
	json_decref(same);
}

static void assert_becomes(const char *section, const char *data, const char *expected)
{
	_free_ char *text = NULL, *result = NULL;
	json_t *record, *expected_json = json_of(expected);
	size_t length;

	assert_true(asprintf(&text, "{\"name\":\"a\",\"section\":\"%s\",\"data\":%s,\"created_at\":\"2021-05-17T10:00:00Z\",\"x\":1}",
			     section, data) > 0);
	record = normalised(text);
	result = json_write(json_object_get(record, "data"), &length);
	if (!json_equal(json_object_get(record, "data"), expected_json))
		fail_msg("%s became %s", data, result);
	assert_null(json_object_get(record, "x"));
	json_decref(record);
	json_decref(expected_json);
}

static void normalises_every_section(void **state)
{
	(void)state;
	assert_becomes("channels", "[{\"type\":\"t\",\"settings\":null,\"z\":1},{\"type\":\"u\",\"settings\":{\"k\":[1.5]}}]",
		       "[{\"type\":\"t\"},{\"type\":\"u\",\"settings\":{\"k\":[1.5]}}]");
	assert_becomes("groups", "[\"a\",\"\"]", "[\"a\",\"\"]");
	assert_becomes("certificates", "[{\"fingerprint\":\"ab\",\"key_usage\":\"signing\",\"z\":[]}]",
		       "[{\"fingerprint\":\"ab\",\"key_usage\":\"signing\"}]");
	assert_becomes("services", "[{\"name\":\"s\"}]", "[{\"name\":\"s\",\"permissions\":[],\"methods\":[]}]");
	assert_becomes("services",
		       "[{\"name\":\"s\",\"permissions\":[{\"group\":\"*\",\"rights\":\"all\"},{\"group\":\"g\"}],\"methods\":[{\"name\":"
		       "\"m\",\"params\":[],\"parameters\":[{\"name\":\"p\",\"validators\":[{\"type\":\"v\",\"parameters\":{\"a\":true}}]},"
		       "{\"name\":\"q\",\"validators\":\"\"}]}]}]",
		       "[{\"name\":\"s\",\"permissions\":[{\"group\":\"*\",\"rights\":[]},{\"group\":\"g\",\"rights\":[]}],\"methods\":[{"
		       "\"name\":\"m\",\"permissions\":[],\"parameters\":[{\"name\":\"p\",\"validators\":[{\"type\":\"v\",\"parameters\":{"
		       "\"a\":true}}]},{\"name\":\"q\"}]}]}]");
	assert_becomes("settings", "[{\"operator\":null,\"service\":\"proxy\",\"settings\":{}}]",
		       "[{\"operator\":\"\",\"service\":\"proxy\",\"environment\":\"\",\"settings\":{}}]");
	assert_becomes("preferences", "[{\"settings\":{\"a\":1.0},\"preferences\":{}}]",
		       "[{\"operator\":\"\",\"service\":\"\",\"environment\":\"\",\"settings\":{\"a\":1.0}}]");
}

static void assert_refused(const char *json, const char *where)
{
	json_t *value = json_of(json);
	char problem[RECORD_PROBLEM_SIZE];
	json_t *result = record_normalise(value, problem);

	if (result)
		fail_msg("%s was accepted", json);
	if (strncmp(problem, where, strlen(where)))
		fail_msg("%s: \"%s\" does not begin with \"%s\"", json, problem, where);
	json_decref(value);
}

#define RECORD(section, data) \
	"{\"name\":\"a\",\"section\":\"" section "\",\"data\":" data ",\"created_at\":\"2021-05-17T10:00:00Z\"}"

static void names_the_place_of_a_problem(void **state)
{
	(void)state;
	assert_refused("[]", "must be a map");
	assert_refused("{\"section\":\"groups\",\"data\":[],\"created_at\":\"2021-05-17T10:00:00Z\"}", "name: ");
	assert_refused("{\"name\":\"a\",\"section\":\"groups\",\"data\":[]}", "created_at: ");
	assert_refused("{\"name\":\"a\",\"section\":\"groups\",\"data\":[],\"created_at\":\"yesterday\"}", "created_at: ");
	assert_refused(RECORD("properties", "[]"), "section: ");
	assert_refused(RECORD("groups", "{}"), "data: ");
	assert_refused(RECORD("groups", "[1]"), "data[0]: ");
	assert_refused(RECORD("channels", "[{\"type\":\"a\"},{\"settings\":{}}]"), "data[1].type: ");
	assert_refused(RECORD("channels", "[{\"type\":\"a\",\"settings\":[]}]"), "data[0].settings: ");
	assert_refused(RECORD("settings", "[{}]"), "data[0].settings: ");
	assert_refused(RECORD("services", "[{\"name\":\"s\",\"methods\":{}}]"), "data[0].methods: ");
	assert_refused(RECORD("services", "[{\"name\":\"s\",\"permissions\":[{\"group\":\"g\",\"rights\":[\"read\"]}]}]"),
		       "data[0].permissions[0].rights: ");
	assert_refused(RECORD("services", "[{\"name\":\"s\",\"permissions\":[{\"group\":\"g\",\"rights\":[\"call\",\"call\"]}]}]"),
		       "data[0].permissions[0].rights: ");
}

static void assert_signed_form(const char *key, json_t *value, bool accepted)
{
	json_t *records = vector_records();
	json_t *record = json_deep_copy(json_array_get(records, 1)), *result;
	char problem[RECORD_PROBLEM_SIZE];

	if (!strcmp(key, "r") || !strcmp(key, "c"))
		json_object_set_new(json_object_get(record, "signature"), key, value);
	else
		json_object_set_new(record, key, value);
	result = signed_record_normalise(record, problem);
	if (!!result != accepted)
		fail_msg("%s: %s", key, accepted ? problem : "accepted");
	json_decref(result);
	json_decref(record);
	json_decref(records);
}

static void checks_the_signed_form(void **state)
{
	(void)state;
	assert_signed_form("parent_hash", json_string(""), true);
	assert_signed_form("parent_hash", json_null(), true);
	assert_signed_form("parent_hash", json_string("ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789"), false);
	assert_signed_form("hash", json_string("abc"), false);
	assert_signed_form("hash", json_null(), false);
	assert_signed_form("signature", json_null(), false);
	assert_signed_form("record", json_array(), false);
	assert_signed_form("r", json_string("123456789"), false);
	assert_signed_form("r", json_string("12345678901"), true);
	assert_signed_form("r", json_string("-12345678901"), false);
	assert_signed_form("c", json_integer(1), false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hashes_the_worked_examples),  cmocka_unit_test(hashes_the_recorded_directory),
		cmocka_unit_test(the_zero_time_is_null),       cmocka_unit_test(normalises_every_section),
		cmocka_unit_test(names_the_place_of_a_problem), cmocka_unit_test(checks_the_signed_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
