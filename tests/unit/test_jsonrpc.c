// SPDX-License-Identifier: Apache-2.0
/* JSON-RPC over HTTP: what a server answers byte by byte, and its client (protocol
 * page 4). */
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

/* ---- the server ---- */

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
	for (uint64_t end = clock_now_ms() + 5000; jsonrpc_server_open_calls(server);) {
		assert_true(clock_now_ms() < end); /* until the answer is written, or the caller seen to be gone */
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
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
		cmocka_unit_test(answer_byte_by_byte),
		cmocka_unit_test(apply_cors),
		cmocka_unit_test(refuse_settings_that_cannot_work),
		cmocka_unit_test(call_a_server),
		cmocka_unit_test(an_http_endpoint_with_tls_settings_is_called_plainly),
	};
	return cmocka_run_group_tests_name("jsonrpc", tests, start_server, stop_server);
}
