// SPDX-License-Identifier: Apache-2.0
/* The connections of the HTTP client: kept ones, lost ones, and those through a
 * proxy. */
#include "http_script.h"

static void use_no_kept_connection_that_has_closed(void **state)
{
	/* Answers and closes without saying so. */
	struct script script = { .steps = { OK_ANSWER, OK_ANSWER, "", OK_ANSWER }, .closes = true };
	struct outcome outcome = { 0 };
	struct asking asking;

	(void)state;
	ask_script(&asking, &script, "/");
	post_ok(&asking, "1", &outcome);
	await_closed(&script, 1);
	post_ok(&asking, "2", &outcome);
	http_client_free(asking.client);
	ask(&asking, "http", script.port, "/", 0, NULL, NULL, 0);
	post(&asking, "3", &outcome); /* a new connection: not repeated */
	assert_true(outcome.closed_early);
	assert_non_null(strstr(outcome.error, "localhost:"));
	post_ok(&asking, "4", &outcome);
	end_asking(&asking, &script, &outcome);
	assert_int_equal(script.connections, 4);
}

static void send_nothing_twice_that_a_peer_has_taken(void **state)
{
	struct script script = { .steps = { OK_ANSWER, TAKE_AND_CLOSE, OK_ANSWER } };
	struct outcome outcome = { 0 };
	struct asking asking;

	(void)state;
	ask_script(&asking, &script, "/");
	post_ok(&asking, "1", &outcome);
	post(&asking, "pay", &outcome);
	assert_non_null(outcome.error);
	assert_non_null(strstr(outcome.error, "connection closed when it had the request"));
	assert_false(outcome.closed_early);
	assert_int_equal(script.requests, 2);
	post_ok(&asking, "3", &outcome);
	assert_string_equal(script.request + strlen(script.request) - 1, "3");
	end_asking(&asking, &script, &outcome);
	assert_int_equal(script.requests, 3);
}

static void use_one_connection_for_many_requests(void **state)
{
	struct script script = { .steps = { OK_ANSWER, OK_ANSWER, OK_ANSWER } };
	struct outcome outcome = { 0 };
	struct asking asking;

	(void)state;
	ask_script(&asking, &script, "/");
	for (int i = 0; i < 3; i++)
		post_ok(&asking, "x", &outcome);
	end_asking(&asking, &script, &outcome);
	assert_int_equal(script.connections, 1);
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
	end_asking(&asking, &tunnel, &outcome);
	snprintf(expected, sizeof(expected),
		 "CONNECT localhost:%u HTTP/1.1\r\nHost: localhost:%u\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n",
		 http_server_port(served.server), http_server_port(served.server));
	assert_string_equal(tunnel.request, expected);

	struct script refusal = { .steps = { "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n" } };
	start_script(&refusal);
	ask(&asking, "https", http_server_port(served.server), "/", refusal.port, &client_tls, NULL, 0);
	post(&asking, "through", &outcome);
	assert_non_null(strstr(outcome.error, "proxy: refused to connect (status 403)"));
	end_asking(&asking, &refusal, &outcome);

	struct script plain = { .steps = { OK_ANSWER } };
	start_script(&plain);
	ask(&asking, "http", 81, "/x", plain.port, NULL, NULL, 0);
	post_ok(&asking, "{}", &outcome);
	end_asking(&asking, &plain, &outcome);
	assert_int_equal(strncmp(plain.request, "POST http://localhost:81/x HTTP/1.1\r\nHost: localhost:81\r\n", 57), 0);
	assert_non_null(strstr(plain.request, "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"));
	stop_serving(&served);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(use_no_kept_connection_that_has_closed),
		cmocka_unit_test(send_nothing_twice_that_a_peer_has_taken),
		cmocka_unit_test(use_one_connection_for_many_requests),
		cmocka_unit_test(go_through_a_proxy),
	};
	return cmocka_run_group_tests_name("http link", tests, set_up, tear_down);
}
