// SPDX-License-Identifier: Apache-2.0
/* Directory entries (protocol page 3.2, 5.4): integration against the recorded
 * answer, permissions, channel look-ups. */
#include "directory_vectors.h"

#include "directory/entry.h"

#include <errno.h>

/* Builds an entry from the records inside a recorded one; they must be equal. */
static void assert_rebuilds(const json_t *entry)
{
	json_t *entries = json_object(), *record;
	size_t i;

	json_array_foreach(json_object_get(entry, "records"), i, record)
	{
		char problem[RECORD_PROBLEM_SIZE];
		json_t *normalised = signed_record_normalise(record, problem);

		if (!normalised)
			fail_msg("record %zu: %s", i, problem);
		assert_int_equal(entries_integrate(entries, normalised), 0);
		json_decref(normalised);
	}
	if (!json_equal(json_object_get(entries, json_text(entry, "name")), entry)) {
		_free_ char *text = json_dumps(json_object_get(entries, json_text(entry, "name")), JSON_SORT_KEYS);

		fail_msg("%s", text);
	}
	json_decref(entries);
}

static void entries_equal_the_recorded_answer(void **state)
{
	json_t *answer = vector_json("ping-answer.json");
	const json_t *result = json_object_get(answer, "result");

	(void)state;
	assert_rebuilds(json_object_get(result, "serverInfo"));
	assert_rebuilds(json_object_get(json_object_get(json_object_get(result, "params"), "_client"), "entry"));
	json_decref(answer);
}

static json_t *recorded_entries(void)
{
	json_t *records = vector_records(), *entries = json_object(), *record;
	size_t i;

	json_array_foreach(records, i, record)
		assert_int_equal(entries_integrate(entries, record), 0);
	json_decref(records);
	return entries;
}

static void the_recorded_directory_has_its_permissions(void **state)
{
	json_t *entries = recorded_entries();
	const json_t *hd_1 = json_object_get(entries, "hd-1"), *hd_2 = json_object_get(entries, "hd-2");
	const json_t *proxy = json_object_get(entries, "public-proxy-1.ga");
	const json_t *private_proxy = json_object_get(entries, "private-proxy-1.ga"), *ls = json_object_get(entries, "ls-1");

	(void)state;
	assert_true(entry_permits(hd_1, hd_2, "_ping"));
	assert_true(entry_permits(proxy, hd_2, "_connectionRequest"));
	assert_false(entry_permits(hd_1, hd_2, "_connectionRequest"));
	assert_false(entry_permits(proxy, hd_2, "_ping"));
	assert_false(entry_permits(hd_1, hd_2, "unknown"));
	assert_true(entry_permits(hd_1, proxy, "requestConnection"));
	assert_true(entry_permits(private_proxy, proxy, "announceConnections"));
	assert_false(entry_permits(hd_1, proxy, "announceConnections"));
	assert_true(entry_permits(ls, private_proxy, "_ping")); /* group * */
	assert_true(entry_permits(hd_1, private_proxy, "announceConnection")); /* permission of the method */
	assert_false(entry_permits(ls, private_proxy, "announceConnection"));
	assert_true(entry_permits(hd_1, ls, "lookup"));
	assert_false(entry_permits(NULL, hd_2, "_ping"));
	assert_false(entry_permits(hd_1, NULL, "_ping"));
	assert_true(entry_has_group(hd_1, "health-departments"));
	assert_false(entry_has_group(hd_1, "proxy-users"));
	json_decref(entries);
}

static void only_the_first_service_with_the_method_counts(void **state)
{
	json_t *caller = json_of("{\"groups\":[\"g\"]}");
	json_t *callee = json_of(
		"{\"services\":[{\"name\":\"a\",\"permissions\":[],\"methods\":[{\"name\":\"m\",\"permissions\":[]}]},{\"name\":\"b\","
		"\"permissions\":[{\"group\":\"g\",\"rights\":[\"call\"]}],\"methods\":[{\"name\":\"m\",\"permissions\":[]},{\"name\":"
		"\"n\",\"permissions\":[]}]},{\"name\":\"c\",\"permissions\":[{\"group\":\"*\",\"rights\":[]}],\"methods\":[{\"name\":"
		"\"o\",\"permissions\":[]}]}]}");

	(void)state;
	assert_false(entry_permits(caller, callee, "m"));
	assert_true(entry_permits(caller, callee, "n"));
	assert_false(entry_permits(caller, callee, "o")); /* no right to call */
	json_decref(caller);
	json_decref(callee);
}

static void a_later_record_replaces_the_section(void **state)
{
	json_t *entries = json_object();
	json_t *first = json_of("{\"record\":{\"name\":\"a\",\"section\":\"groups\",\"data\":[\"x\",\"y\"]}}");
	json_t *second = json_of("{\"record\":{\"name\":\"a\",\"section\":\"groups\",\"data\":[\"z\"]}}");
	json_t *preferences = json_of("{\"record\":{\"name\":\"a\",\"section\":\"preferences\",\"data\":[{\"operator\":\"o\",\"service\":"
				      "\"\",\"environment\":\"\",\"settings\":{\"k\":1}}]}}");
	json_t *expected = json_of("[{\"operator\":\"o\",\"service\":\"\",\"environment\":\"\",\"preferences\":null}]");
	json_t *old;

	(void)state;
	assert_int_equal(entries_integrate(entries, first), 0);
	old = json_incref(json_object_get(entries, "a"));
	assert_int_equal(entries_integrate(entries, second), 0);
	assert_int_equal(entries_integrate(entries, preferences), 0);
	assert_true(entry_has_group(old, "x")); /* readers keep what they hold */
	assert_false(entry_has_group(json_object_get(entries, "a"), "x"));
	assert_true(entry_has_group(json_object_get(entries, "a"), "z"));
	assert_int_equal(json_array_size(json_object_get(json_object_get(entries, "a"), "records")), 3);
	assert_int_equal(json_array_size(json_object_get(old, "records")), 1);
	assert_true(json_equal(json_object_get(json_object_get(entries, "a"), "preferences"), expected));
	json_decref(old);
	json_decref(first);
	json_decref(second);
	json_decref(preferences);
	json_decref(expected);
	json_decref(entries);
}

static void reads_grpc_server_channels(void **state)
{
	json_t *entries = recorded_entries();
	struct grpc_server_entry server;
	json_t *entry;

	(void)state;
	assert_int_equal(entry_grpc_server(json_object_get(entries, "hd-2"), &server), 0);
	assert_string_equal(server.address, "localhost:8889");
	assert_string_equal(server.proxy, "public-proxy-1.ga");
	assert_false(server.internal);
	assert_int_equal(entry_grpc_server(json_object_get(entries, "public-proxy-1.ga"), &server), 0);
	assert_string_equal(server.proxy, "");
	assert_int_equal(entry_grpc_server(json_object_get(entries, "op-1"), &server), -ENOENT);
	assert_int_equal(entry_grpc_server(NULL, &server), -ENOENT);
	assert_true(json_is_null(entry_channel(json_object_get(entries, "hd-1"), "grpc_client")));
	entry = json_of("{\"channels\":[{\"type\":\"grpc_server\",\"settings\":{\"address\":\"a:1\",\"internal\":true,\"proxy\":null}}]}");
	assert_int_equal(entry_grpc_server(entry, &server), 0);
	assert_true(server.internal);
	json_decref(entry);
	entry = json_of("{\"channels\":[{\"type\":\"grpc_server\",\"settings\":{\"address\":1}}]}");
	assert_int_equal(entry_grpc_server(entry, &server), -EINVAL);
	json_decref(entry);
	entry = json_of("{\"channels\":[{\"type\":\"grpc_server\",\"settings\":null}]}");
	assert_int_equal(entry_grpc_server(entry, &server), -EINVAL);
	json_decref(entry);
	json_decref(entries);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_equal_the_recorded_answer),
		cmocka_unit_test(the_recorded_directory_has_its_permissions),
		cmocka_unit_test(only_the_first_service_with_the_method_counts),
		cmocka_unit_test(a_later_record_replaces_the_section),
		cmocka_unit_test(reads_grpc_server_channels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
