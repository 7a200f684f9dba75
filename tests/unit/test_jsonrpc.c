// SPDX-License-Identifier: Apache-2.0
/* JSON-RPC: forms of messages, and what a server answers over HTTP byte by
 * byte (protocol page 4). */
#include "base/instant.h"
#include "base/json.h"
#include "base/log.h"
#include "jsonrpc/client.h"
#include "jsonrpc/message.h"
#include "jsonrpc/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- messages ---- */

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
		{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}", JSONRPC_INVALID_REQUEST,
		  "invalid input data: params(is required)" },
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

/* ---- over HTTP ---- */

static struct event_base *base;
static struct jsonrpc_server *server;
static struct jsonrpc_call *held;

static void handle(struct jsonrpc_call *call, void *context)
{
	(void)context;
	if (strcmp(call->method, "echo") == 0)
		jsonrpc_call_result(call, json_pack("{s:O, s:s}", "params", call->params, "id", call->id));
	else if (strcmp(call->method, "nothing") == 0)
		jsonrpc_call_result(call, NULL);
	else if (strcmp(call->method, "data") == 0)
		jsonrpc_call_error(call, 7, "with data", json_pack("{s:i}", "x", 1));
	else if (strcmp(call->method, "hold") == 0)
		held = call;
	else
		jsonrpc_call_error(call, JSONRPC_METHOD_NOT_FOUND, "method not found", NULL);
}

static int start_server(void **state)
{
	static char *hosts[] = { "^https://good\\.example$", "other" }, *headers[] = { "X-Token", "Authorization" },
		    *methods[] = { "GET", "POST" };
	static struct cors_settings cors = { { hosts, 2 }, { headers, 2 }, { methods, 2 } };
	struct jsonrpc_server_settings settings = { .bind_address = "localhost:0",
						    .path = "/jsonrpc",
						    .cors = &cors,
						    .max_body_bytes = 4096 };

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	base = event_base_new();
	return jsonrpc_server_start(base, "test", &settings, handle, NULL, &server);
}

static int stop_server(void **state)
{
	(void)state;
	jsonrpc_server_free(server);
	event_base_free(base);
	return 0;
}

/* The answer to one raw request on a connection of its own. Static buffer. */
static char *request_raw(const char *text)
{
	static char got[20000];
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(jsonrpc_server_port(server)) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	uint64_t end = clock_now_ms() + 10000;
	size_t length = 0;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
	for (;;) {
		ssize_t count;

		assert_true(clock_now_ms() < end);
		event_base_loop(base, EVLOOP_NONBLOCK);
		count = recv(fd, got + length, sizeof(got) - 1 - length, MSG_DONTWAIT);
		if (count == 0)
			break;
		if (count > 0)
			length += (size_t)count;
		else
			usleep(500);
	}
	got[length] = '\0';
	close(fd);
	return got;
}

static void expect_answer(const char *head, const char *body, const char *status, const char *answer)
{
	char request[3000], *got;
	const char *got_body;

	snprintf(request, sizeof(request), "%s\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", head, strlen(body),
		 body);
	got = request_raw(request);
	got_body = strstr(got, "\r\n\r\n");
	if (!got_body || strncmp(got + 9, status, 3) != 0 || strcmp(got_body + 4, answer) != 0)
		fail_msg("sent %s\ngot %s", request, got);
	if (*answer)
		assert_non_null(strstr(got, "\r\nContent-Type: application/json; charset=utf-8\r\n"));
}

#define POST_JSON "POST /jsonrpc HTTP/1.1\r\nContent-Type: application/json"

static void answer_byte_by_byte(void **state)
{
	static const char need_json[] =
		"{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32700,\"message\":\"JSON required\"},\"id\":null}";
	static const char call[] = "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":{\"b\":1.0,\"a\":[1,2.5]},\"id\":\"n:1\"}";
	static const char echoed[] =
		"{\"jsonrpc\":\"2.0\",\"result\":{\"id\":\"nn:1\",\"params\":{\"a\":[1,2.5],\"b\":1}},\"id\":\"n:1\"}";

	(void)state;
	expect_answer(POST_JSON, call, "200", echoed);
	expect_answer("GET /jsonrpc?x=y HTTP/1.1\r\ncontent-type: APPLICATION/JSON; charset=x", call, "200", echoed);
	expect_answer("PATCH /jsonrpc HTTP/1.1\r\nContent-Type: application/json;", call, "200", echoed);
	expect_answer("FROB /jsonrpc HTTP/1.1\r\nContent-Type: application/json", call, "200", echoed);
	expect_answer("OPTIONS /jsonrpc HTTP/1.1\r\nContent-Type: application/json", call, "200", echoed);
	expect_answer("POST /jsonrpc HTTP/1.1\r\nContent-Type: application/jsonx", call, "400", need_json);
	expect_answer("POST /jsonrpc HTTP/1.1\r\nContent-Type: text/plain", call, "400", need_json);
	expect_answer("POST /jsonrpc HTTP/1.1", call, "400", need_json);
	expect_answer(POST_JSON, "[]", "400", need_json);
	expect_answer(POST_JSON, "", "400", need_json);
	expect_answer(POST_JSON, "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":1}", "400",
		      "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32600,\"message\":\"invalid request: invalid input data: "
		      "params(is required)\",\"data\":{\"code\":\"FORM-ERROR\",\"data\":{\"params\":\"is required\"},"
		      "\"message\":\"invalid input data: params(is required)\",\"traceback\":[]}},\"id\":null}");
	expect_answer(POST_JSON, "{\"jsonrpc\":\"2.0\",\"method\":\"none\",\"params\":{},\"id\":7} tail", "400",
		      "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32601,\"message\":\"method not found\",\"data\":null},\"id\":7}");
	expect_answer(POST_JSON, "{\"jsonrpc\":\"2.0\",\"method\":\"data\",\"params\":{},\"id\":\"i\"}", "400",
		      "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":7,\"message\":\"with data\",\"data\":{\"x\":1}},\"id\":\"i\"}");
	expect_answer(POST_JSON, "{\"jsonrpc\":\"2.0\",\"method\":\"nothing\",\"params\":{},\"id\":\"i\"}", "200",
		      "{\"jsonrpc\":\"2.0\",\"id\":\"i\"}");
	expect_answer("POST / HTTP/1.1\r\nContent-Type: application/json", call, "404", "{\"message\":\"not found\"}");
	expect_answer("POST /jsonrpc/ HTTP/1.1\r\nContent-Type: application/json", call, "404",
		      "{\"message\":\"not found\"}");
}

static void apply_cors(void **state)
{
	char *got = request_raw("OPTIONS /jsonrpc HTTP/1.1\r\nOrigin: https://good.example\r\nConnection: close\r\n"
				"Access-Control-Request-Headers: Content-Type,X-A\r\n\r\n");

	(void)state;
	assert_int_equal(strncmp(got, "HTTP/1.1 200 OK\r\n", 17), 0);
	assert_non_null(strstr(got, "\r\nAccess-Control-Allow-Origin: https://good.example\r\n"));
	assert_non_null(strstr(got, "\r\nAccess-Control-Max-Age: 60\r\n"));
	assert_non_null(strstr(got, "\r\nAccess-Control-Allow-Headers: content-type,x-a, x-token, authorization\r\n"));
	assert_non_null(strstr(got, "\r\nAccess-Control-Allow-Methods: GET, POST\r\n"));
	assert_non_null(strstr(got, "\r\nContent-Length: 0\r\n"));
	assert_string_equal(strstr(got, "\r\n\r\n"), "\r\n\r\n");
	/* Unanchored where the expression is. */
	got = request_raw("OPTIONS /jsonrpc HTTP/1.1\r\nOrigin: http://nowhere.one\r\nConnection: close\r\n\r\n");
	assert_int_equal(strncmp(got, "HTTP/1.1 400 ", 13), 0);
	got = request_raw("OPTIONS /jsonrpc HTTP/1.1\r\nOrigin: http://other.one\r\nConnection: close\r\n\r\n");
	assert_int_equal(strncmp(got, "HTTP/1.1 200 ", 13), 0);
	assert_non_null(strstr(got, "\r\nAccess-Control-Allow-Headers: x-token, authorization\r\n"));
	/* A request of an allowed origin goes on and carries the headers. */
	got = request_raw("POST /jsonrpc HTTP/1.1\r\nOrigin: https://good.example\r\nConnection: close\r\n\r\n");
	assert_int_equal(strncmp(got, "HTTP/1.1 400 ", 13), 0);
	assert_non_null(strstr(got, "\r\nAccess-Control-Allow-Origin: https://good.example\r\n"));
	got = request_raw("POST /jsonrpc HTTP/1.1\r\nOrigin: https://good.example.evil\r\nConnection: close\r\n\r\n");
	assert_null(strstr(got, "Access-Control"));
}

static void refuse_settings_that_cannot_work(void **state)
{
	char *bad_pattern = "(";
	struct cors_settings cors = { .allowed_hosts = { &bad_pattern, 1 } };
	struct jsonrpc_server_settings settings = { .bind_address = "localhost:0", .path = "/", .cors = &cors };
	struct jsonrpc_server *other;

	(void)state;
	assert_int_equal(jsonrpc_server_start(base, "other", &settings, handle, NULL, &other), -EINVAL);
	settings.cors = NULL;
	settings.bind_address = "nonsense";
	assert_true(jsonrpc_server_start(base, "other", &settings, handle, NULL, &other) < 0);
	assert_null(other);
}

/* ---- the client ---- */

struct outcome {
	bool done, closed_early, is_error;
	int code;
	char *failure, *message, *id;
};

static void note_outcome(const struct jsonrpc_answer *answer, const char *failure, bool closed_early, void *context)
{
	struct outcome *outcome = context;

	free(outcome->failure);
	free(outcome->message);
	free(outcome->id);
	memset(outcome, 0, sizeof(*outcome));
	outcome->done = true;
	outcome->closed_early = closed_early;
	outcome->failure = failure ? strdup(failure) : NULL;
	if (!answer)
		return;
	outcome->is_error = answer->is_error;
	outcome->code = answer->code;
	outcome->message = answer->message ? strdup(answer->message) : NULL;
	outcome->id = json_text(answer->result, "id") ? strdup(json_text(answer->result, "id")) : NULL;
}

static void call_and_wait(struct jsonrpc_client *client, const char *method, struct outcome *outcome)
{
	uint64_t end = clock_now_ms() + 10000;

	outcome->done = false;
	assert_int_equal(jsonrpc_client_call(client, method, NULL, "an id", note_outcome, outcome, NULL), 0);
	while (!outcome->done) {
		assert_true(clock_now_ms() < end);
		event_base_loop(base, EVLOOP_ONCE);
	}
}

static void call_a_server(void **state)
{
	struct jsonrpc_client_settings settings = { .endpoint = "http://localhost:1/jsonrpc", .timeout_ms = 300 };
	struct jsonrpc_pending *pending;
	struct jsonrpc_client *client;
	struct outcome outcome = { 0 };
	char url[100];

	(void)state;
	snprintf(url, sizeof(url), "http://localhost:%u/jsonrpc", jsonrpc_server_port(server));
	assert_int_equal(jsonrpc_client_create(base, &settings, url, NULL, &client), 0);
	call_and_wait(client, "echo", &outcome);
	assert_null(outcome.failure);
	assert_string_equal(outcome.id, "an id");
	call_and_wait(client, "data", &outcome);
	assert_true(outcome.is_error);
	assert_int_equal(outcome.code, 7);
	assert_string_equal(outcome.message, "with data");
	call_and_wait(client, "hold", &outcome);
	assert_non_null(strstr(outcome.failure, "no answer within 300 ms"));
	jsonrpc_call_result(held, NULL); /* the caller has gone; the connection may not be closed yet */
	held = NULL;
	assert_int_equal(jsonrpc_client_call(client, "hold", NULL, "", note_outcome, &outcome, &pending), 0);
	while (!held)
		event_base_loop(base, EVLOOP_ONCE);
	jsonrpc_client_cancel(pending);
	assert_int_equal(jsonrpc_server_open_calls(server), 1);
	jsonrpc_call_error(held, 1, "x", NULL);
	assert_int_equal(jsonrpc_server_open_calls(server), 0);
	assert_int_equal(jsonrpc_client_call(client, "echo", NULL, "", note_outcome, &outcome, NULL), 0);
	jsonrpc_client_free(client);

	snprintf(url, sizeof(url), "http://localhost:%u/elsewhere", jsonrpc_server_port(server));
	assert_int_equal(jsonrpc_client_create(base, &settings, url, NULL, &client), 0);
	call_and_wait(client, "echo", &outcome);
	assert_string_equal(outcome.failure, "the answer is no JSON-RPC response (HTTP status 404)");
	jsonrpc_client_free(client);
	assert_int_equal(jsonrpc_client_create(base, &settings, NULL, NULL, &client), 0);
	call_and_wait(client, "echo", &outcome);
	assert_non_null(outcome.failure);
	assert_false(outcome.closed_early);
	jsonrpc_client_free(client);
	assert_int_equal(jsonrpc_client_create(base, &settings, "nonsense", NULL, &client), -EINVAL);
	free(outcome.failure);
	free(outcome.message);
	free(outcome.id);
}

/* What the settings say for https is not even loaded, but somebody may miss it. */
static void an_http_endpoint_with_tls_settings_is_called_plainly(void **state)
{
	struct tls_settings tls = { .certificate_file = (char[]){ "/nowhere/a.crt" },
				    .key_file = (char[]){ "/nowhere/a.key" },
				    .server_name = (char[]){ "else" } };
	struct jsonrpc_client_settings settings = { .timeout_ms = 3000, .tls = &tls };
	struct jsonrpc_client *client;
	struct outcome outcome = { 0 };
	char url[100], logged[1000] = "";
	int real_stderr = dup(STDERR_FILENO), pipe_fds[2];

	(void)state;
	assert_int_equal(pipe(pipe_fds), 0);
	snprintf(url, sizeof(url), "HTTP://localhost:%u/jsonrpc", jsonrpc_server_port(server));
	dup2(pipe_fds[1], STDERR_FILENO);
	log_configure(LOG_LEVEL_WARNING, LOG_FORMAT_TEXT, "TEST");
	int error = jsonrpc_client_create(base, &settings, url, NULL, &client);
	log_configure(LOG_LEVEL_FATAL, LOG_FORMAT_TEXT, "TEST");
	dup2(real_stderr, STDERR_FILENO);
	close(pipe_fds[1]);
	assert_int_equal(error, 0);
	assert_true(read(pipe_fds[0], logged, sizeof(logged) - 1) > 0);
	assert_non_null(strstr(logged, "is called without TLS"));
	assert_ptr_equal(strchr(logged, '\n') + 1, strchr(logged, 0)); /* once */
	call_and_wait(client, "echo", &outcome);
	assert_null(outcome.failure);
	assert_string_equal(outcome.id, "an id");
	jsonrpc_client_free(client);
	close(pipe_fds[0]);
	close(real_stderr);
	free(outcome.id);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(carry_ids),
		cmocka_unit_test(refuse_requests_of_very_many_values),
		cmocka_unit_test(refuse_malformed_requests),
		cmocka_unit_test(write_answers),
		cmocka_unit_test(read_answers),
		cmocka_unit_test(read_recorded_exchanges),
		cmocka_unit_test(answer_byte_by_byte),
		cmocka_unit_test(apply_cors),
		cmocka_unit_test(refuse_settings_that_cannot_work),
		cmocka_unit_test(call_a_server),
		cmocka_unit_test(an_http_endpoint_with_tls_settings_is_called_plainly),
	};
	return cmocka_run_group_tests_name("jsonrpc", tests, start_server, stop_server);
}
