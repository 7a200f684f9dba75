// SPDX-License-Identifier: Apache-2.0
/* The HTTP client against the server and against scripted peers on raw
 * sockets, so that two mistakes cannot agree with each other. */
#include "http_loopback.h"

#include <stdatomic.h>

struct outcome {
	bool done;
	unsigned calls;
	char *error;
	bool closed_early;
	int status;
	char *body;
	struct http_client *free_this;
};

static void note_outcome(const struct http_answer *answer, void *context)
{
	struct outcome *outcome = context;

	free(outcome->error);
	free(outcome->body);
	outcome->error = answer->error ? strdup(answer->error) : NULL;
	outcome->body = answer->body ? strndup(answer->body, answer->length) : NULL;
	outcome->closed_early = answer->closed_early;
	outcome->status = answer->status;
	outcome->calls++;
	outcome->done = true;
	http_client_free(outcome->free_this);
}

static void clear_outcome(struct outcome *outcome)
{
	free(outcome->error);
	free(outcome->body);
	memset(outcome, 0, sizeof(*outcome));
}

struct asking {
	struct http_client *client;
	SSL_CTX *tls;
	char url[100], proxy[100];
};

static void ask(struct asking *asking, const char *scheme, uint16_t port, const char *path, uint16_t proxy_port,
		const struct tls_settings *tls, const char *server_name, unsigned timeout_ms)
{
	memset(asking, 0, sizeof(*asking));
	snprintf(asking->url, sizeof(asking->url), "%s://localhost:%u%s", scheme, port, path);
	snprintf(asking->proxy, sizeof(asking->proxy), "http://us%%65r:pass@127.0.0.1:%u", proxy_port);
	if (tls)
		asking->tls = tls_context_client(tls, "http/1.1");
	const struct http_client_options options = {
		.url = asking->url,
		.proxy_url = proxy_port ? asking->proxy : NULL,
		.server_name = server_name,
		.tls = asking->tls,
		.timeout_ms = timeout_ms ? timeout_ms : PATIENCE_MS,
		.max_body_bytes = 100000,
	};
	assert_int_equal(http_client_create(base, &options, &asking->client), 0);
}

static void stop_asking(struct asking *asking)
{
	http_client_free(asking->client);
	SSL_CTX_free(asking->tls);
	event_base_loop(base, EVLOOP_NONBLOCK); /* libevent closes sockets from its loop */
}

static void post(struct asking *asking, const char *body, struct outcome *outcome)
{
	outcome->done = false;
	assert_int_equal(http_client_post(asking->client, body, strlen(body), note_outcome, outcome, NULL), 0);
	assert_false(outcome->done);
	run_until(&outcome->done);
}

static void exchange_over_tls(void **state)
{
	struct outcome outcome = { 0 };
	struct served served;
	struct asking asking;
	char big[90001];

	(void)state;
	memset(big, 'y', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	serve(&served, &server_tls, (struct http_server_options){ 0 });
	ask(&asking, "https", http_server_port(served.server), "/p", 0, &client_tls, "server-1", 0);
	for (int i = 0; i < 5; i++) {
		post(&asking, i % 2 ? big : "hello", &outcome);
		assert_null(outcome.error);
		assert_int_equal(outcome.status, 200);
		assert_string_equal(outcome.body, i % 2 ? big : "hello");
	}
	stop_asking(&asking);
	/* A name that the certificate does not have. */
	ask(&asking, "https", http_server_port(served.server), "/p", 0, &client_tls, "server-2", 0);
	post(&asking, "hello", &outcome);
	assert_non_null(strstr(outcome.error, "TLS handshake failed: certificate verify failed (hostname mismatch)"));
	assert_false(outcome.closed_early);
	stop_asking(&asking);
	/* Without a certificate of its own. */
	ask(&asking, "https", http_server_port(served.server), "/p", 0, &foreign_tls, NULL, 0);
	post(&asking, "hello", &outcome);
	assert_non_null(outcome.error);
	assert_false(outcome.closed_early);
	stop_asking(&asking);
	clear_outcome(&outcome);
	stop_serving(&served);
}

static void delay_nobody_for_a_slow_one(void **state)
{
	struct outcome outcome = { 0 };
	struct served served;
	struct asking asking;
	int slow[20];

	(void)state;
	serve(&served, &server_tls, (struct http_server_options){ 0 });
	for (int i = 0; i < 20; i++) {
		slow[i] = connect_raw(http_server_port(served.server));
		assert_int_equal(send(slow[i], "\x16\x03\x01\x02", (size_t)i % 5, 0), i % 5);
	}
	ask(&asking, "https", http_server_port(served.server), "/", 0, &client_tls, NULL, 0);
	uint64_t start = clock_now_ms();
	post(&asking, "quick", &outcome);
	assert_string_equal(outcome.body, "quick");
	assert_true(clock_now_ms() - start < 2000);
	for (int i = 0; i < 20; i++)
		close(slow[i]);
	clear_outcome(&outcome);
	stop_asking(&asking);
	stop_serving(&served);
}

static void close_without_a_byte_at_the_rate_limit(void **state)
{
	const struct rate_rule rule = { RATE_WINDOW_HOUR, 1 };
	struct http_server_options options = { 0 };
	struct outcome outcome = { 0 };
	struct served served;
	struct asking asking;

	(void)state;
	for (int secure = 0; secure < 2; secure++) {
		assert_int_equal(rate_limiter_create(&rule, 1, false, &options.limiter), 0);
		serve(&served, secure ? &server_tls : NULL, options);
		ask(&asking, secure ? "https" : "http", http_server_port(served.server), "/", 0,
		    secure ? &client_tls : NULL, NULL, 0);
		post(&asking, "one", &outcome);
		assert_string_equal(outcome.body, "one");
		stop_asking(&asking);
		ask(&asking, secure ? "https" : "http", http_server_port(served.server), "/", 0,
		    secure ? &client_tls : NULL, NULL, 0);
		post(&asking, "two", &outcome);
		assert_non_null(outcome.error);
		assert_true(outcome.closed_early);
		stop_asking(&asking);
		stop_serving(&served);
		rate_limiter_free(options.limiter);
	}
	clear_outcome(&outcome);
}

static void answer_late(void **state)
{
	struct outcome outcome = { 0 };
	struct served served;
	struct asking asking;

	(void)state;
	for (int gone = 0; gone < 3; gone++) {
		struct http_exchange *exchange;

		serve(&served, NULL, (struct http_server_options){ 0 });
		ask(&asking, "http", http_server_port(served.server), "/hold", 0, NULL, NULL, 0);
		outcome.done = false;
		assert_int_equal(http_client_post(asking.client, "x", 1, note_outcome, &outcome, &exchange), 0);
		run_until(&served.has_held);
		assert_int_equal(http_server_open_requests(served.server), 1);
		if (gone == 1)
			http_exchange_cancel(exchange);
		if (gone == 2)
			stop_serving(&served);
		else
			http_server_stop(served.server);
		http_request_answer(served.held, 200, "late", 4);
		if (gone == 0) {
			assert_int_equal(http_server_open_requests(served.server), 0);
			run_until(&outcome.done);
			assert_string_equal(outcome.body, "late");
		} else if (gone == 2) {
			run_until(&outcome.done);
			assert_true(outcome.closed_early);
		} else {
			event_base_loop(base, EVLOOP_NONBLOCK);
			assert_false(outcome.done);
		}
		if (gone != 2)
			stop_serving(&served);
		stop_asking(&asking);
	}
	clear_outcome(&outcome);
}

/* ---- scripted peers of the client: a thread with a blocking socket ---- */

#define TAKE_AND_CLOSE "-"

struct script {
	/* Per connection: what to answer; "": close at once; TAKE_AND_CLOSE: after a request; NULL: end of the script. */
	const char *steps[8];
	int listener;
	uint16_t port;
	pthread_t thread;
	char request[4096]; /* the last one */
	unsigned connections, requests;
	atomic_uint closed; /* connections */
	bool closes; /* after each answer */
	uint16_t tunnel_port; /* forwards bytes there after the answer */
};

static void forward(int fd, uint16_t port)
{
	int other = connect_raw(port);
	bool open = true;

	while (open) {
		fd_set set;
		char buffer[8192];
		ssize_t count;

		FD_ZERO(&set);
		FD_SET(fd, &set);
		FD_SET(other, &set);
		if (select((fd > other ? fd : other) + 1, &set, NULL, NULL, NULL) < 0)
			break;
		for (int i = 0; i < 2 && open; i++) {
			int from = i ? other : fd, to = i ? fd : other;

			if (!FD_ISSET(from, &set))
				continue;
			count = recv(from, buffer, sizeof(buffer), 0);
			open = count > 0 && send(to, buffer, (size_t)count, MSG_NOSIGNAL) == count;
		}
	}
	close(other);
}

/* Returns whether a request came. */
static bool read_request(int fd, char *request, size_t size)
{
	size_t length = 0;

	memset(request, 0, size);
	while (length + 1 < size) {
		ssize_t count = recv(fd, request + length, size - 1 - length, 0);
		char *end, *body_length;

		if (count <= 0)
			return false;
		length += (size_t)count;
		end = strstr(request, "\r\n\r\n");
		body_length = strstr(request, "Content-Length: ");
		if (end && strlen(end + 4) >= (body_length ? strtoul(body_length + 16, NULL, 10) : 0))
			return true;
	}
	return false;
}

static void *play(void *context)
{
	struct script *script = context;

	for (int step = 0; script->steps[step];) {
		int fd = accept(script->listener, NULL, NULL);

		if (fd < 0)
			break;
		script->connections++;
		while (script->steps[step]) {
			const char *answer = script->steps[step];

			if (!*answer) {
				step++;
				break;
			}
			if (!read_request(fd, script->request, sizeof(script->request)))
				break;
			step++;
			script->requests++;
			if (strcmp(answer, TAKE_AND_CLOSE) == 0)
				break;
			assert(send(fd, answer, strlen(answer), MSG_NOSIGNAL) >= 0);
			if (script->tunnel_port)
				forward(fd, script->tunnel_port);
			if (script->closes || script->tunnel_port)
				break;
		}
		close(fd);
		script->closed++;
	}
	return NULL;
}

/* Without the loop: the client does not notice. */
static void await_closed(struct script *script, unsigned count)
{
	uint64_t end = clock_now_ms() + PATIENCE_MS;

	while (script->closed < count) {
		assert_true(clock_now_ms() < end);
		usleep(1000);
	}
}

static void start_script(struct script *script)
{
	struct sockaddr_in bound;
	socklen_t length = sizeof(bound);

	script->listener = socket(AF_INET, SOCK_STREAM, 0);
	bound = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_int_equal(bind(script->listener, (struct sockaddr *)&bound, sizeof(bound)), 0);
	assert_int_equal(listen(script->listener, 8), 0);
	getsockname(script->listener, (struct sockaddr *)&bound, &length);
	script->port = ntohs(bound.sin_port);
	assert_int_equal(pthread_create(&script->thread, NULL, play, script), 0);
}

static void end_script(struct script *script)
{
	shutdown(script->listener, SHUT_RDWR);
	pthread_join(script->thread, NULL);
	close(script->listener);
}

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static void send_the_expected_request(void **state)
{
	struct script script = { .steps = { OK_ANSWER } };
	struct outcome outcome = { 0 };
	struct asking asking;
	char expected[300];

	(void)state;
	start_script(&script);
	ask(&asking, "http", script.port, "/jsonrpc?a=b", 0, NULL, NULL, 0);
	post(&asking, "{}", &outcome);
	assert_string_equal(outcome.body, "ok");
	end_script(&script);
	snprintf(expected, sizeof(expected),
		 "POST /jsonrpc?a=b HTTP/1.1\r\nHost: localhost:%u\r\nContent-Length: 2\r\nAccept: application/json\r\n"
		 "Content-Type: application/json\r\n\r\n{}",
		 script.port);
	assert_string_equal(script.request, expected);
	stop_asking(&asking);
	clear_outcome(&outcome);
}

static void read_every_form_of_answer(void **state)
{
	static const struct {
		const char *text, *body, *error;
	} forms[] = {
		{ "HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nbad", "bad", NULL },
		{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789"
		  "\r\n0\r\n\r\n",
		  "abc0123456789", NULL },
		{ "HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end", NULL },
		{ "HTTP/1.1 204 No Content\r\n\r\n", "", NULL },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", NULL, "connection closed" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", NULL, "connection closed" },
		{ "HTTP/1.1 200 OK\r\nContent-Le", NULL, "connection closed" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n", NULL, "too large" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", NULL, "malformed" },
		{ "SSH-2.0-something\r\n\r\n", NULL, "malformed status line" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		struct script script = { .steps = { forms[i].text }, .closes = true };
		struct outcome outcome = { 0 };
		struct asking asking;

		start_script(&script);
		ask(&asking, "http", script.port, "/", 0, NULL, NULL, 0);
		post(&asking, "{}", &outcome);
		if (forms[i].body)
			assert_string_equal(outcome.body, forms[i].body);
		else if (!outcome.error || !strstr(outcome.error, forms[i].error))
			fail_msg("%s: %s", forms[i].text, outcome.error);
		assert_false(outcome.closed_early);
		end_script(&script);
		stop_asking(&asking);
		clear_outcome(&outcome);
	}
}

static void use_no_kept_connection_that_has_closed(void **state)
{
	/* Answers and closes without saying so. */
	struct script script = { .steps = { OK_ANSWER, OK_ANSWER, "", OK_ANSWER }, .closes = true };
	struct outcome outcome = { 0 };
	struct asking asking;

	(void)state;
	start_script(&script);
	ask(&asking, "http", script.port, "/", 0, NULL, NULL, 0);
	post(&asking, "1", &outcome);
	assert_string_equal(outcome.body, "ok");
	await_closed(&script, 1);
	post(&asking, "2", &outcome);
	assert_string_equal(outcome.body, "ok");
	http_client_free(asking.client);
	ask(&asking, "http", script.port, "/", 0, NULL, NULL, 0);
	post(&asking, "3", &outcome); /* a new connection: not repeated */
	assert_true(outcome.closed_early);
	assert_non_null(strstr(outcome.error, "localhost:"));
	post(&asking, "4", &outcome);
	assert_string_equal(outcome.body, "ok");
	end_script(&script);
	assert_int_equal(script.connections, 4);
	stop_asking(&asking);
	clear_outcome(&outcome);
}

static void send_nothing_twice_that_a_peer_has_taken(void **state)
{
	struct script script = { .steps = { OK_ANSWER, TAKE_AND_CLOSE, OK_ANSWER } };
	struct outcome outcome = { 0 };
	struct asking asking;

	(void)state;
	start_script(&script);
	ask(&asking, "http", script.port, "/", 0, NULL, NULL, 0);
	post(&asking, "1", &outcome);
	assert_string_equal(outcome.body, "ok");
	post(&asking, "pay", &outcome);
	assert_non_null(outcome.error);
	assert_non_null(strstr(outcome.error, "connection closed when it had the request"));
	assert_false(outcome.closed_early);
	assert_int_equal(script.requests, 2);
	post(&asking, "3", &outcome);
	assert_string_equal(outcome.body, "ok");
	assert_string_equal(script.request + strlen(script.request) - 1, "3");
	end_script(&script);
	assert_int_equal(script.requests, 3);
	stop_asking(&asking);
	clear_outcome(&outcome);
}

static void use_one_connection_for_many_requests(void **state)
{
	struct script script = { .steps = { OK_ANSWER, OK_ANSWER, OK_ANSWER } };
	struct outcome outcome = { 0 };
	struct asking asking;

	(void)state;
	start_script(&script);
	ask(&asking, "http", script.port, "/", 0, NULL, NULL, 0);
	for (int i = 0; i < 3; i++)
		post(&asking, "x", &outcome);
	end_script(&script);
	assert_int_equal(script.connections, 1);
	stop_asking(&asking);
	clear_outcome(&outcome);
}

static void go_through_a_proxy(void **state)
{
	struct outcome outcome = { 0 };
	struct served served;
	struct asking asking;
	char expected[200];

	(void)state;
	serve(&served, &server_tls, (struct http_server_options){ 0 });
	struct script tunnel = { .steps = { "HTTP/1.1 200 Connection established\r\n\r\n" },
				 .tunnel_port = http_server_port(served.server) };
	start_script(&tunnel);
	ask(&asking, "https", http_server_port(served.server), "/", tunnel.port, &client_tls, NULL, 0);
	post(&asking, "through", &outcome);
	assert_null(outcome.error);
	assert_string_equal(outcome.body, "through");
	stop_asking(&asking);
	end_script(&tunnel);
	snprintf(expected, sizeof(expected),
		 "CONNECT localhost:%u HTTP/1.1\r\nHost: localhost:%u\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n",
		 http_server_port(served.server), http_server_port(served.server));
	assert_string_equal(tunnel.request, expected);

	struct script refusal = { .steps = { "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n" } };
	start_script(&refusal);
	ask(&asking, "https", http_server_port(served.server), "/", refusal.port, &client_tls, NULL, 0);
	post(&asking, "through", &outcome);
	assert_non_null(strstr(outcome.error, "proxy: refused to connect (status 403)"));
	stop_asking(&asking);
	end_script(&refusal);

	struct script plain = { .steps = { OK_ANSWER } };
	start_script(&plain);
	ask(&asking, "http", 81, "/x", plain.port, NULL, NULL, 0);
	post(&asking, "{}", &outcome);
	assert_string_equal(outcome.body, "ok");
	stop_asking(&asking);
	end_script(&plain);
	assert_int_equal(strncmp(plain.request, "POST http://localhost:81/x HTTP/1.1\r\nHost: localhost:81\r\n", 57), 0);
	assert_non_null(strstr(plain.request, "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"));
	stop_serving(&served);
	clear_outcome(&outcome);
}

/* A listener that accepts nothing, or accepts and says nothing. */
static void give_up_and_cancel_in_every_phase(void **state)
{
	static const char *const reasons[] = { "no answer within", "no TLS handshake within",
					       "no answer from the proxy within" };
	struct served served;

	(void)state;
	serve(&served, NULL, (struct http_server_options){ 0 });
	int silent = address_listen("localhost:0", false, 16);
	struct sockaddr_in bound;
	socklen_t length = sizeof(bound);
	getsockname(silent, (struct sockaddr *)&bound, &length);
	uint16_t port = ntohs(bound.sin_port);

	for (int phase = 0; phase < 3; phase++) {
		struct outcome outcome = { 0 };
		struct http_exchange *exchange;
		struct asking asking;

		ask(&asking, phase ? "https" : "http", port, "/", phase == 2 ? port : 0, phase ? &client_tls : NULL,
		    NULL, 100);
		post(&asking, "x", &outcome);
		assert_non_null(outcome.error);
		assert_non_null(strstr(outcome.error, reasons[phase]));
		assert_false(outcome.closed_early);
		/* Cancelled at once, and after the loop has carried it further. */
		for (int rounds = 0; rounds < 6; rounds++) {
			assert_int_equal(http_client_post(asking.client, "x", 1, note_outcome, &outcome, &exchange), 0);
			for (int i = 0; i < rounds; i++)
				event_base_loop(base, EVLOOP_NONBLOCK);
			http_exchange_cancel(exchange);
		}
		assert_int_equal(http_client_post(asking.client, "x", 1, note_outcome, &outcome, &exchange), 0);
		event_base_loop(base, EVLOOP_NONBLOCK);
		stop_asking(&asking); /* cancels, too */
		event_base_loop(base, EVLOOP_NONBLOCK);
		assert_int_equal(outcome.calls, 1);
		clear_outcome(&outcome);
	}
	close(silent);

	struct outcome outcome = { 0 };
	struct asking asking;
	ask(&asking, "http", port, "/", 0, NULL, NULL, 0);
	post(&asking, "x", &outcome);
	assert_non_null(strstr(outcome.error, "refused"));
	stop_asking(&asking);
	/* The callback may free the client. */
	ask(&asking, "http", http_server_port(served.server), "/", 0, NULL, NULL, 0);
	outcome.free_this = asking.client;
	post(&asking, "x", &outcome);
	assert_string_equal(outcome.body, "x");
	clear_outcome(&outcome);
	stop_serving(&served);
}

static void refuse_urls_that_are_not_ours(void **state)
{
	static const char *const urls[] = { "ftp://a/", "localhost:80", "http://", "http://a:0/", "http://a:99999/",
					    "http://user@a/", "" };
	struct http_client *client;

	(void)state;
	for (size_t i = 0; i < sizeof(urls) / sizeof(*urls); i++) {
		const struct http_client_options options = { .url = urls[i] };

		assert_int_equal(http_client_create(base, &options, &client), -EINVAL);
	}
	const struct http_client_options options = { .url = "http://a/", .proxy_url = "https://proxy" };
	assert_int_equal(http_client_create(base, &options, &client), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exchange_over_tls),
		cmocka_unit_test(delay_nobody_for_a_slow_one),
		cmocka_unit_test(close_without_a_byte_at_the_rate_limit),
		cmocka_unit_test(answer_late),
		cmocka_unit_test(send_the_expected_request),
		cmocka_unit_test(read_every_form_of_answer),
		cmocka_unit_test(use_no_kept_connection_that_has_closed),
		cmocka_unit_test(send_nothing_twice_that_a_peer_has_taken),
		cmocka_unit_test(use_one_connection_for_many_requests),
		cmocka_unit_test(go_through_a_proxy),
		cmocka_unit_test(give_up_and_cancel_in_every_phase),
		cmocka_unit_test(refuse_urls_that_are_not_ours),
	};
	return cmocka_run_group_tests_name("http client", tests, set_up, tear_down);
}
