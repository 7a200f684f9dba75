// SPDX-License-Identifier: Apache-2.0
/* The HTTP client against the server and against scripted peers on raw
 * sockets, so that two mistakes cannot agree with each other. */
#include "http_script.h"

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
			run_until(&outcome.done);
			assert_string_equal(outcome.body, "late");
			assert_int_equal(http_server_open_requests(served.server), 0);
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

static void send_the_expected_request(void **state)
{
	struct script script = { .steps = { OK_ANSWER } };
	struct outcome outcome = { 0 };
	struct asking asking;
	char expected[300];

	(void)state;
	ask_script(&asking, &script, "/jsonrpc?a=b");
	post_ok(&asking, "{}", &outcome);
	end_asking(&asking, &script, &outcome);
	snprintf(expected, sizeof(expected),
		 "POST /jsonrpc?a=b HTTP/1.1\r\nHost: localhost:%u\r\nContent-Length: 2\r\nAccept: application/json\r\n"
		 "Content-Type: application/json\r\n\r\n{}",
		 script.port);
	assert_string_equal(script.request, expected);
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

		ask_script(&asking, &script, "/");
		post(&asking, "{}", &outcome);
		if (forms[i].body)
			assert_string_equal(outcome.body, forms[i].body);
		else if (!outcome.error || !strstr(outcome.error, forms[i].error))
			fail_msg("%s: %s", forms[i].text, outcome.error);
		assert_false(outcome.closed_early);
		end_asking(&asking, &script, &outcome);
	}
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
		cmocka_unit_test(give_up_and_cancel_in_every_phase),
		cmocka_unit_test(refuse_urls_that_are_not_ours),
	};
	return cmocka_run_group_tests_name("http client", tests, set_up, tear_down);
}
