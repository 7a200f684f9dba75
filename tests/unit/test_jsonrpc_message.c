// SPDX-License-Identifier: Apache-2.0
/* JSON-RPC: forms of messages, read and written (protocol page 4). */
#include "base/json.h"
#include "jsonrpc/message.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *id_of(const char *id_member)
{
	struct jsonrpc_request request;
	char text[2000], *detail, *id;

	snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{}%s%s}", *id_member ? ",\"id\":" : "",
		 id_member);
	assert_int_equal(jsonrpc_request_read(text, strlen(text), &request, &detail), 0);
	assert_null(detail);
	id = strdup(request.id);
	jsonrpc_request_clear(&request);
	return id;
}

static void carry_ids(void **state)
{
	/* incoming member, internal id, member of the answer; NULL: random digits */
	static const char *const table[][3] = {
		{ "5", "n:5", "5" },
		{ "-2147483648", "n:-2147483648", "-2147483648" },
		{ "2147483647", "n:2147483647", "2147483647" },
		{ "5.0", "n:5", "5" },
		{ "-0", "n:0", "0" },
		{ "\"n:5\"", "nn:5", "\"n:5\"" },
		{ "\"n:-5\"", "nn:-5", "\"n:-5\"" },
		{ "\"nn:5\"", "nnnn:5", "\"nn:5\"" },
		{ "\"nnn:007\"", "nnnnnn:007", "\"nnn:007\"" },
		{ "\"n:\"", "n:", "\"n:\"" },
		{ "\"n:5x\"", "n:5x", "\"n:5x\"" },
		{ "\"n:--5\"", "n:--5", "\"n:--5\"" },
		{ "\"n:123456789012345678901234567890123\"", "n:123456789012345678901234567890123",
		  "\"n:123456789012345678901234567890123\"" },
		{ "\"abc\"", "abc", "\"abc\"" },
		{ "\"a(b)\\u00e4\"", "a(b)\xc3\xa4", "\"a(b)\xc3\xa4\"" },
		{ "", NULL, NULL },
		{ "null", NULL, NULL },
		{ "\"\"", NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		char *id = id_of(table[i][0]), *text;
		json_t *json = jsonrpc_id_to_json(id);

		text = json_write(json, NULL);
		if (table[i][1]) {
			assert_string_equal(id, table[i][1]);
			assert_string_equal(text, table[i][2]);
		} else {
			assert_int_equal(strspn(id, "0123456789abcdef"), 32);
			assert_int_equal(strlen(id), 32);
			assert_memory_equal(text + 1, id, 32);
		}
		json_decref(json);
		free(text);
		free(id);
	}
	json_t *json = jsonrpc_id_to_json("n:99999999999999999999");
	assert_string_equal(json_string_value(json), "n:99999999999999999999");
	json_decref(json);
	json = jsonrpc_id_to_json(NULL);
	assert_true(json_is_null(json));
}

static void refuse_requests_of_very_many_values(void **state)
{
	static const char head[] = "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{\"a\":[0", tail[] = "]}}";
	struct jsonrpc_request request;
	char *detail, *text = malloc(600000), *at;

	(void)state;
	for (int count = 190000; count <= 200000; count += 10000) {
		at = stpcpy(text, head);
		for (int i = 0; i < count; i++)
			at = stpcpy(at, ",0");
		strcpy(at, tail);
		assert_int_equal(jsonrpc_request_read(text, strlen(text), &request, &detail),
				 count < 200000 ? 0 : JSONRPC_PARSE_ERROR);
		if (count < 200000)
			assert_null(detail);
		else
			assert_string_equal(detail, "JSON required");
		free(detail);
		jsonrpc_request_clear(&request);
	}
	free(text);
}

static void need_params_only_of_peers(void **state)
{
	static const char text[] = "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}";
	struct jsonrpc_request request;
	json_t *faults;
	char *detail;

	(void)state;
	assert_int_equal(jsonrpc_request_read(text, strlen(text), &request, &detail), 0);
	assert_null(detail);
	assert_true(json_is_object(request.params));
	assert_int_equal(json_object_size(request.params), 0);
	jsonrpc_request_clear(&request);
	assert_int_equal(jsonrpc_request_parse(text, strlen(text), &request, &faults), JSONRPC_INVALID_REQUEST);
	assert_int_equal(json_object_size(faults), 1);
	assert_string_equal(json_string_value(json_object_get(faults, "params")), "is required");
	json_decref(faults);
	jsonrpc_request_clear(&request);
}

static void refuse_malformed_requests(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *detail;
	} bad[] = {
		{ "", JSONRPC_PARSE_ERROR, "JSON required" },
		{ "{", JSONRPC_PARSE_ERROR, "JSON required" },
		{ "[{}]", JSONRPC_PARSE_ERROR, "JSON required" },
		{ "5", JSONRPC_PARSE_ERROR, "JSON required" },
		{ "{\"a\":\"\xff\"}", JSONRPC_PARSE_ERROR, "JSON required" },
		{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[]}", JSONRPC_INVALID_REQUEST,
		  "invalid input data: params(expected an object)" },
		{ "{\"jsonrpc\":2.0,\"method\":\"\",\"params\":{},\"id\":1.5}", JSONRPC_INVALID_REQUEST,
		  "invalid input data: jsonrpc(expected a string), method(must have 1 to 100 bytes), "
		  "id(must be a string of at most 1024 bytes or a 32-bit integer)" },
		{ "{\"jsonrpc\":\"1.0\",\"method\":5,\"params\":null,\"id\":2147483648}", JSONRPC_INVALID_REQUEST,
		  "invalid input data: jsonrpc(must be '2.0'), method(expected a string), params(expected an object), "
		  "id(must be a string of at most 1024 bytes or a 32-bit integer)" },
		{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{},\"id\":[]}", JSONRPC_INVALID_REQUEST,
		  "invalid input data: id(must be a string of at most 1024 bytes or a 32-bit integer)" },
	};
	struct jsonrpc_request request;
	char *detail, *text;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(jsonrpc_request_read(bad[i].text, strlen(bad[i].text), &request, &detail), bad[i].code);
		assert_string_equal(detail, bad[i].detail);
		free(detail);
		jsonrpc_request_clear(&request);
	}
	for (int length = 100; length <= 101; length++) {
		assert_true(asprintf(&text, "{\"jsonrpc\":\"2.0\",\"method\":\"%0*d\",\"params\":{}} behind", length, 7) > 0);
		assert_int_equal(jsonrpc_request_read(text, strlen(text), &request, &detail),
				 length == 100 ? 0 : JSONRPC_INVALID_REQUEST);
		jsonrpc_request_clear(&request);
		free(detail);
		free(text);
	}
	for (int length = 1024; length <= 1025; length++) {
		assert_true(asprintf(&text, "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{},\"id\":\"%0*d\"}", length, 7) > 0);
		assert_int_equal(jsonrpc_request_read(text, strlen(text), &request, &detail),
				 length == 1024 ? 0 : JSONRPC_INVALID_REQUEST);
		jsonrpc_request_clear(&request);
		free(detail);
		free(text);
	}
}

static void expect_text(char *text, size_t length, const char *expected)
{
	assert_non_null(text);
	assert_string_equal(text, expected);
	assert_int_equal(length, strlen(expected));
	free(text);
}

static void write_answers(void **state)
{
	json_t *value = json_pack("{s:i, s:f, s:n, s:s}", "b", 1, "a", 2.0, "c", "d", "\"\n");
	size_t length;
	char *text;

	(void)state;
	text = jsonrpc_result_text(value, "n:5", &length);
	expect_text(text, length, "{\"jsonrpc\":\"2.0\",\"result\":{\"a\":2,\"b\":1,\"c\":null,\"d\":\"\\\"\\n\"},\"id\":5}");
	text = jsonrpc_result_text(NULL, "x", &length);
	expect_text(text, length, "{\"jsonrpc\":\"2.0\",\"id\":\"x\"}");
	text = jsonrpc_result_text(json_null(), "x", &length);
	expect_text(text, length, "{\"jsonrpc\":\"2.0\",\"result\":null,\"id\":\"x\"}");
	text = jsonrpc_error_text(-32601, "method \"x\"", NULL, NULL, &length);
	expect_text(text, length, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32601,\"message\":\"method \\\"x\\\"\"},\"id\":null}");
	text = jsonrpc_error_text(1, "e", value, "nn:1", &length);
	expect_text(text, length,
		    "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":\"e\",\"data\":{\"a\":2,\"b\":1,\"c\":null,"
		    "\"d\":\"\\\"\\n\"}},\"id\":\"n:1\"}");
	text = jsonrpc_error_text(1, "\xff not UTF-8", NULL, "1", &length);
	expect_text(text, length, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":\"error\"},\"id\":\"1\"}");
	text = jsonrpc_request_text("requestConnection", value, "", &length);
	expect_text(text, length,
		    "{\"jsonrpc\":\"2.0\",\"method\":\"requestConnection\",\"params\":{\"a\":2,\"b\":1,\"c\":null,"
		    "\"d\":\"\\\"\\n\"},\"id\":\"\"}");
	text = jsonrpc_request_text("m", NULL, "1", &length);
	expect_text(text, length, "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{},\"id\":\"1\"}");
	json_decref(value);

	json_t *fields = json_pack("{s:s, s:{s:s}}", "to", "is required", "client", "name", "is required");
	json_t *form = jsonrpc_form_error(fields);
	text = json_write(form, &length);
	expect_text(text, length,
		    "{\"code\":\"FORM-ERROR\",\"data\":{\"client\":{\"name\":\"is required\"},\"to\":\"is required\"},"
		    "\"message\":\"invalid input data: to(is required), client({\\\"name\\\":\\\"is required\\\"})\","
		    "\"traceback\":[]}");
	json_decref(form);
	json_decref(fields);
}

static void read_answers(void **state)
{
	struct jsonrpc_answer answer;
	char *detail;

	(void)state;
#define READ(text) jsonrpc_answer_read(text, strlen(text), &answer, &detail)
	assert_int_equal(READ("{\"jsonrpc\":\"2.0\",\"result\":{\"a\":1},\"id\":5} tail"), 0);
	assert_false(answer.is_error);
	assert_true(json_is_real(json_object_get(answer.result, "a")));
	jsonrpc_answer_clear(&answer);
	assert_int_equal(READ("{\"jsonrpc\":\"2.0\",\"result\":null,\"id\":5}"), 0);
	assert_true(json_is_null(answer.result));
	jsonrpc_answer_clear(&answer);
	assert_int_equal(READ("{\"jsonrpc\":\"2.0\",\"id\":5}"), 0);
	assert_null(answer.result);
	jsonrpc_answer_clear(&answer);
	assert_int_equal(READ("{\"jsonrpc\":\"2.0,\",\"error\":{\"code\":-32700,\"message\":\"JSON required\"},\"id\":null}"), 0);
	assert_true(answer.is_error);
	assert_int_equal(answer.code, JSONRPC_PARSE_ERROR);
	assert_string_equal(answer.message, "JSON required");
	assert_null(answer.data);
	jsonrpc_answer_clear(&answer);
	assert_int_equal(READ("{\"error\":{\"code\":1,\"message\":\"m\",\"data\":{}}}"), 0);
	assert_true(json_is_object(answer.data));
	jsonrpc_answer_clear(&answer);
	static const char *const bad[] = { "", "[]", "<html>", "{\"message\":\"not found\"}", "{\"error\":5}",
					   "{\"error\":{\"code\":\"1\"}}", "{\"error\":{\"code\":1e300}}",
					   "{\"error\":{\"code\":1.5}}", "{\"error\":{\"message\":1}}" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(READ(bad[i]), -EINVAL);
		assert_non_null(detail);
		free(detail);
		jsonrpc_answer_clear(&answer);
	}
}

static void read_recorded_exchanges(void **state)
{
	static const struct {
		const char *file, *member, *value;
	} recorded[] = {
		{ "http-requestConnection.txt", "endpoint", "localhost:9999" },
		{ "http-_connectionRequest.txt", NULL, NULL },
	};
	const char *vectors = getenv("TEST_VECTORS") ? getenv("TEST_VECTORS") : "tests/vectors";

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		static char text[65536], body[65536];
		struct jsonrpc_answer answer;
		char path[300], *detail, *start;

		snprintf(path, sizeof(path), "%s/%s", vectors, recorded[i].file);
		FILE *file = fopen(path, "r");
		if (!file)
			skip();
		text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
		fclose(file);
		start = strstr(text, "HTTP/1.1 200");
		assert_non_null(start);
		start = strstr(start, "\n\n");
		snprintf(body, sizeof(body), "%s", start + 2);
		assert_int_equal(jsonrpc_answer_read(body, strlen(body), &answer, &detail), 0);
		assert_true(json_is_object(answer.result));
		if (recorded[i].member)
			assert_string_equal(json_text(answer.result, recorded[i].member), recorded[i].value);
		/* Written again with the recorded id, it is what was recorded. */
		if (recorded[i].member) {
			size_t length;
			char *again = jsonrpc_result_text(answer.result,
							  "public-proxy-1.ga.requestConnection(48e11f06de37e7ec)", &length);
			assert_memory_equal(again, body, length);
			free(again);
		}
		jsonrpc_answer_clear(&answer);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(carry_ids),
		cmocka_unit_test(refuse_requests_of_very_many_values),
		cmocka_unit_test(need_params_only_of_peers),
		cmocka_unit_test(refuse_malformed_requests),
		cmocka_unit_test(write_answers),
		cmocka_unit_test(read_answers),
		cmocka_unit_test(read_recorded_exchanges),
	};
	return cmocka_run_group_tests_name("jsonrpc message", tests, NULL, NULL);
}
