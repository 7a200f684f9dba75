// SPDX-License-Identifier: Apache-2.0
/* Forms of the brokering calls, against the recorded exchange and against what
 * strangers may send. */
#include "base/json.h"
#include "proxy/request_form.h"

#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The JSON of the first request in a recorded exchange. Between the pieces of a
 * stream the recording has lines with the next piece's length. */
static json_t *recorded_request(const char *name)
{
	const char *folder = getenv("TEST_VECTORS");
	char path[512], line[65536];
	char *body = calloc(1, 1 << 20);
	size_t length = 0;
	bool is_body = false, is_piece = false;

	snprintf(path, sizeof path, "%s/%s", folder ? folder : "tests/vectors", name);
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof line, file)) {
		line[strcspn(line, "\r\n")] = 0;
		if (line[0] == '{')
			is_body = true;
		bool is_length = line[0] == '\t';
		if (is_body && !is_piece && isdigit((unsigned char)line[0]))
			break; /* the answer's length */
		if (is_body && !is_length)
			length += (size_t)sprintf(body + length, "%s", line);
		is_piece = is_length;
	}
	fclose(file);
	json_error_t error;
	json_t *request = json_read(body, length, &error);
	if (!request)
		fail_msg("%s: %s", name, error.text);
	free(body);
	return request;
}

static void recorded_request_gives_the_recorded_connection_request(void **unused)
{
	json_t *request = recorded_request("http-requestConnection.txt");
	json_t *expected = recorded_request("http-_connectionRequest.txt");
	json_t *wanted = json_object_get(expected, "params");
	struct connection_request form;
	json_t *problems;

	(void)unused;
	assert_int_equal(connection_request_read(json_object_get(request, "params"), &form, &problems), 0);
	assert_null(problems);
	assert_string_equal(form.to, "hd-2");
	assert_string_equal(form.channel, "grpc_server");
	assert_string_equal(form.requester, "hd-1");
	assert_string_equal(json_text(expected, "method"), "hd-2._connectionRequest");

	struct told_endpoints endpoints = {.plain = json_text(wanted, "endpoint")};
	const char *token = json_text(wanted, "token");
	json_t *params = connection_request_params(&form, &endpoints, token);
	if (!json_equal(params, wanted))
		fail_msg("%s\n%s", json_write(params, NULL), json_write(wanted, NULL));
	json_decref(params);

	/* Next to a TLS endpoint nothing else changes. */
	endpoints.tls = "relay.example:9998";
	endpoints.server_name = "public-proxy-1.ga";
	params = connection_request_params(&form, &endpoints, token);
	json_object_set_new(wanted, "relay_tls", json_pack("{s:s, s:s, s:i}", "endpoint", "relay.example:9998", "server_name",
							   "public-proxy-1.ga", "version", 1));
	assert_true(json_equal(params, wanted));
	json_decref(params);
	connection_request_clear(&form);
	json_decref(request);
	json_decref(expected);
}

/* As the recorded answer has it: {"endpoint": …, "token": …}. */
static void the_answer_has_nothing_but_what_was_recorded(void **unused)
{
	struct told_endpoints endpoints = {.plain = "localhost:9999"};
	json_t *answer = connection_answer(&endpoints, "tHwXJ5a3Cl/2MyVYE/3pM1nfvXVf+YgLU/V7IsRUvls=");
	json_t *wanted = json_loads("{\"endpoint\":\"localhost:9999\","
				    "\"token\":\"tHwXJ5a3Cl/2MyVYE/3pM1nfvXVf+YgLU/V7IsRUvls=\"}", 0, NULL);

	(void)unused;
	assert_true(json_equal(answer, wanted));
	json_decref(answer);
	endpoints.tls = "localhost:9998";
	endpoints.server_name = "proxy";
	answer = connection_answer(&endpoints, "t");
	json_t *offer = json_object_get(answer, "relay_tls");
	assert_int_equal(json_object_size(answer), 3);
	assert_string_equal(json_text(offer, "endpoint"), "localhost:9998");
	assert_string_equal(json_text(offer, "server_name"), "proxy");
	json_decref(answer);
	json_decref(wanted);
}

/* A valid request, then one change. */
static json_t *params_with(const char *change)
{
	json_t *params = json_pack("{s:s, s:s, s:{s:s, s:{s:s, s:[{s:s}]}}}", "to", "hd-2", "channel", "grpc_server", "_client",
				   "name", "hd-1", "entry", "name", "hd-1", "channels", "type", "grpc_client");
	json_t *changes = json_loads(change, 0, NULL);

	assert_non_null(changes);
	json_t *entry = json_object_get(json_object_get(params, "_client"), "entry");
	json_object_update(entry, json_object_get(changes, "entry"));
	json_object_update(params, json_object_get(changes, "params"));
	json_decref(changes);
	return params;
}

static void refused(const char *change, const char *field)
{
	json_t *params = params_with(change), *problems = NULL;
	struct connection_request form;

	if (connection_request_read(params, &form, &problems) != -EINVAL)
		fail_msg("accepted: %s", change);
	if (!json_object_get(problems, field))
		fail_msg("%s: no problem at %s but %s", change, field, json_write(problems, NULL));
	json_decref(problems);
	connection_request_clear(&form);
	json_decref(params);
}

static void wrong_params_name_their_field(void **unused)
{
	(void)unused;
	refused("{\"params\":{\"to\":null}}", "to");
	refused("{\"params\":{\"to\":5}}", "to");
	refused("{\"params\":{\"channel\":[]}}", "channel");
	refused("{\"params\":{\"_client\":null}}", "_client");
	refused("{\"params\":{\"_client\":\"hd-1\"}}", "_client");
	refused("{\"params\":{\"_client\":{\"entry\":{}}}}", "_client.name");
	refused("{\"params\":{\"_client\":{\"name\":\"hd-1\"}}}", "_client.entry");
	refused("{\"params\":{\"_client\":{\"name\":\"hd-1\",\"entry\":{\"channels\":[]}}}}", "_client.entry.name");
	refused("{\"params\":{\"_client\":{\"name\":\"hd-1\",\"entry\":{\"name\":\"hd-1\"}}}}", "_client.entry.channels");
	refused("{\"entry\":{\"channels\":{}}}", "_client.entry.channels");
	refused("{\"entry\":{\"channels\":[{\"settings\":{}}]}}", "_client.entry.channels");
	refused("{\"entry\":{\"services\":[{\"name\":1}]}}", "_client.entry.services");
	refused("{\"entry\":{\"services\":5}}", "_client.entry.services");
	refused("{\"entry\":{\"certificates\":[{\"fingerprint\":\"x\"}]}}", "_client.entry.certificates");
	refused("{\"entry\":{\"settings\":[{\"operator\":\"x\"}]}}", "_client.entry.settings");
	refused("{\"entry\":{\"preferences\":[5]}}", "_client.entry.preferences");
	refused("{\"entry\":{\"preferences\":true}}", "_client.entry.preferences");
}

static void several_problems_are_all_named(void **unused)
{
	json_t *params = json_pack("{s:i}", "to", 1), *problems = NULL;
	struct connection_request form;

	(void)unused;
	assert_int_equal(connection_request_read(params, &form, &problems), -EINVAL);
	assert_int_equal(json_object_size(problems), 3);
	json_decref(problems);
	connection_request_clear(&form);
	json_decref(params);
}

static json_t *client_entry(const char *change, struct connection_request *form)
{
	json_t *params = params_with(change), *problems = NULL;
	int error = connection_request_read(params, form, &problems);

	if (error)
		fail_msg("%s: %s", change, json_write(problems, NULL));
	json_decref(params); /* `to` and `channel` of the form are gone with it */
	return json_object_get(form->client, "entry");
}

static void missing_lists_are_empty_and_dropped_members_null(void **unused)
{
	struct connection_request form;

	(void)unused;
	json_t *entry = client_entry("{\"entry\":{\"groups\":[\"a\"],\"records\":[1],\"properties\":{\"x\":1},\"other\":5,"
				     "\"services\":null,\"certificates\":\"\"}}", &form);
	json_t *wanted = json_loads("{\"name\":\"hd-1\",\"groups\":null,\"records\":null,\"properties\":null,\"services\":[],"
				    "\"certificates\":[],\"settings\":[],\"preferences\":[],"
				    "\"channels\":[{\"type\":\"grpc_client\",\"settings\":null}]}", 0, NULL);
	assert_true(json_equal(entry, wanted));
	json_decref(wanted);
	connection_request_clear(&form);
}

/* An entry's preferences have no settings any more; programs that validate want
 * the map there. */
static void preferences_of_an_entry_are_accepted(void **unused)
{
	struct connection_request form;

	(void)unused;
	json_t *entry = client_entry("{\"entry\":{\"preferences\":[{\"operator\":\"o\",\"service\":\"s\",\"environment\":\"\","
				     "\"preferences\":null}]}}", &form);
	json_t *wanted = json_loads("[{\"operator\":\"o\",\"service\":\"s\",\"environment\":\"\",\"preferences\":null,"
				    "\"settings\":{}}]", 0, NULL);
	assert_true(json_equal(json_object_get(entry, "preferences"), wanted));
	json_decref(wanted);
	connection_request_clear(&form);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recorded_request_gives_the_recorded_connection_request),
		cmocka_unit_test(the_answer_has_nothing_but_what_was_recorded),
		cmocka_unit_test(wrong_params_name_their_field),
		cmocka_unit_test(several_problems_are_all_named),
		cmocka_unit_test(missing_lists_are_empty_and_dropped_members_null),
		cmocka_unit_test(preferences_of_an_entry_are_accepted),
	};
	return cmocka_run_group_tests_name("request form", tests, NULL, NULL);
}
