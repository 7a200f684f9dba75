// SPDX-License-Identifier: Apache-2.0
/* Unary calls between our server and our client over loopback: deadlines, ends
 * of either side, pinning, and owners that free things from inside callbacks. */
#include "grpc_pair.h"

/* ---- calls ---- */

static void a_call_is_answered(void **state)
{
	struct pair *pair = *state;

	connect_both(pair);
	assert_int_equal(call_with(pair, NULL, 1000), -ENOTCONN);
	wait_for(pair, pair->is_ready);
	assert_string_equal(grpc_connection_identities(pair->connection)->items[0].name, "callee");
	assert_int_equal(call_with(pair, json_pack("{s:s}", "k", "v"), 5000), 0);
	assert_int_equal(pair->done_count, 0);
	assert_int_equal(grpc_connection_open_calls(pair->connection), 1);
	wait_for(pair, pair->done_count);
	assert_int_equal(pair->last_status, GRPC_STATUS_OK);
	assert_string_equal(json_string_value(json_object_get(pair->last_result, "k")), "v");
	assert_int_equal(pair->call_ended_count, 1);
	assert_int_equal(grpc_connection_open_calls(pair->connection), 0);
	wait_for(pair, !grpc_server_open_calls(pair->server));
}

static void a_failed_call_brings_its_message(void **state)
{
	struct pair *pair = *state;

	pair->fails_calls = true;
	connect_ready(pair);
	call_with(pair, NULL, 5000);
	wait_for(pair, pair->done_count);
	assert_int_equal(pair->last_status, GRPC_STATUS_UNKNOWN);
	assert_string_equal(pair->last_message, "error: 100% \xc3\xbc\nnext line");
	assert_int_equal(pair->undelivered_count, 0);
	assert_string_equal(grpc_status_name(14), "Unavailable");
}

static void calls_run_side_by_side_and_end_in_any_order(void **state)
{
	struct pair *pair = *state;

	pair->holds_calls = true;
	connect_ready(pair);
	for (int i = 0; i < 200; i++)
		assert_int_equal(call_with(pair, json_pack("{s:i}", "n", i), 8000), 0);
	wait_for(pair, pair->held_count == 200);
	assert_int_equal(grpc_server_open_calls(pair->server), 200);
	for (size_t i = 200; i-- > 0;)
		respond(pair->held[i]);
	pair->held_count = 0;
	wait_for(pair, pair->done_count == 200);
	assert_int_equal(pair->ok_count, 200);
}

static json_t *large_params(size_t size)
{
	char *text = malloc(size + 1);
	json_t *params;

	memset(text, 'x', size);
	text[size] = 0;
	params = json_pack("{s:s}", "text", text);
	free(text);
	return params;
}

static void messages_of_nearly_the_limit_pass(void **state)
{
	struct pair *pair = *state;
	const size_t size = GRPC_MESSAGE_MAX - 200;

	connect_ready(pair);
	for (int i = 0; i < 3; i++)
		assert_int_equal(call_with(pair, large_params(size), 8000), 0);
	wait_for(pair, pair->done_count == 3);
	assert_int_equal(pair->ok_count, 3);
	assert_int_equal(json_string_length(json_object_get(pair->last_result, "text")), size);
	assert_int_equal(call_with(pair, large_params(GRPC_MESSAGE_MAX), 8000), -EMSGSIZE);
}

static void a_deadline_ends_only_its_own_call(void **state)
{
	struct pair *pair = *state;

	pair->holds_calls = true;
	connect_ready(pair);
	call_with(pair, NULL, 50);
	call_with(pair, NULL, 8000);
	wait_for(pair, pair->done_count);
	assert_int_equal(pair->last_status, GRPC_STATUS_DEADLINE_EXCEEDED);
	assert_int_equal(pair->undelivered_count, 0);
	wait_for(pair, grpc_server_open_calls(pair->server) == 1);
	assert_int_equal(pair->held_count, 2);
	respond_to_held(pair); /* the first is dropped silently */
	wait_for(pair, pair->done_count == 2);
	assert_int_equal(pair->last_status, GRPC_STATUS_OK);
}

static void pending_calls_end_when_the_server_goes(void **state)
{
	struct pair *pair = *state;

	hold_a_call(pair);
	free_server(pair);
	wait_for(pair, pair->closed[0]);
	assert_int_equal(pair->done_count, 1);
	assert_int_equal(pair->last_status, GRPC_STATUS_UNAVAILABLE);
	assert_int_equal(pair->undelivered_count, 0);
	assert_string_equal(pair->closed, "error reading from server: EOF");
	assert_string_equal(grpc_call_identities(pair->held[0])->items[0].name, "caller");
	respond_to_held(pair);
}

static void freeing_the_connection_ends_calls_at_once(void **state)
{
	struct pair *pair = *state;

	hold_a_call(pair);
	call_with(pair, NULL, 8000);
	free_connection(pair);
	assert_int_equal(pair->done_count, 2);
	assert_int_equal(pair->last_status, GRPC_STATUS_UNAVAILABLE);
	assert_int_equal(pair->undelivered_count, 1); /* the second was not written yet */
	assert_string_equal(pair->closed, "");
	wait_for(pair, !grpc_server_open_calls(pair->server));
}

static void owners_may_free_from_inside_callbacks(void **state)
{
	struct pair *pair = *state;

	pair->frees_when_done = true;
	connect_ready(pair);
	for (int i = 0; i < 5; i++)
		call_with(pair, NULL, 8000);
	wait_for(pair, pair->done_count == 5);
	assert_null(pair->connection);
	wait_for(pair, !grpc_server_open_calls(pair->server));
}

static void the_connection_may_be_freed_when_ready(void **state)
{
	struct pair *pair = *state;

	pair->frees_when_ready = true;
	connect_ready(pair);
	assert_null(pair->connection);
	turn(pair);
}

static void the_server_may_be_freed_when_called(void **state)
{
	struct pair *pair = *state;

	pair->frees_server_when_called = true;
	connect_ready(pair);
	for (int i = 0; i < 3; i++)
		call_with(pair, NULL, 8000);
	wait_for(pair, pair->closed[0]);
	assert_int_equal(pair->done_count, 3);
}

static void finish_waits_for_open_calls(void **state)
{
	struct pair *pair = *state;

	hold_a_call(pair);
	grpc_connection_finish(pair->connection);
	assert_false(grpc_connection_accepts_calls(pair->connection));
	assert_int_equal(call_with(pair, NULL, 8000), -ESHUTDOWN);
	turn(pair);
	assert_string_equal(pair->closed, "");
	respond_to_held(pair);
	wait_for(pair, pair->closed[0]);
	assert_int_equal(pair->ok_count, 1);
}

static void a_stopping_server_lets_calls_end(void **state)
{
	struct pair *pair = *state;

	hold_a_call(pair);
	grpc_server_stop(pair->server);
	wait_for(pair, !grpc_connection_accepts_calls(pair->connection));
	assert_int_equal(call_with(pair, NULL, 8000), -ESHUTDOWN);
	respond_to_held(pair);
	wait_for(pair, pair->closed[0]);
	assert_int_equal(pair->ok_count, 1);
	assert_int_equal(grpc_server_open_calls(pair->server), 0);
}

static void a_call_behind_goaway_is_undelivered(void **state)
{
	struct pair *pair = *state;

	connect_ready(pair);
	grpc_server_stop(pair->server);
	/* GOAWAY is on its way; calls of this moment must be answered or be undelivered. */
	for (int i = 0; i < 20; i++) {
		if (pair->connection && grpc_connection_accepts_calls(pair->connection))
			call_with(pair, NULL, 8000);
		turn(pair);
	}
	wait_for(pair, pair->closed[0]);
	assert_int_equal(pair->ok_count + pair->undelivered_count, pair->done_count);
}

/* The peer reads nothing any more: no bytes move, deadlines do. */
static void a_stalled_write_meets_its_deadline(void **state)
{
	struct pair *pair = *state;
	struct event_base *frozen = start_frozen_server(pair);
	int fds[2];

	connect_sockets(fds, 4096);
	assert_int_equal(grpc_server_adopt(pair->server, fds[1]), 0);
	start_client(pair, fds[0], "callee");
	wait_for(pair, (event_base_loop(frozen, EVLOOP_NONBLOCK), pair->is_ready));
	call_with(pair, large_params(3 << 20), 200);
	call_with(pair, NULL, 300);
	wait_for(pair, pair->done_count == 2);
	assert_int_equal(pair->last_status, GRPC_STATUS_DEADLINE_EXCEEDED);
	assert_string_equal(pair->closed, "");
	/* It wakes up: the connection is as good as before. */
	call_with(pair, json_pack("{s:s}", "k", "v"), 8000);
	wait_for(pair, (event_base_loop(frozen, EVLOOP_NONBLOCK), pair->ok_count == 1));
	free_server(pair);
	event_base_free(frozen);
}

/* ---- handshake and pinning ---- */

static void a_peer_that_closes_at_once_is_an_eof(void **state)
{
	struct pair *pair = *state;
	int fds[2];

	connect_sockets(fds, 0);
	start_client(pair, fds[0], "callee");
	shutdown(fds[1], SHUT_WR);
	wait_for(pair, pair->closed[0]);
	assert_string_equal(pair->closed, "authentication handshake failed: EOF");
	close(fds[1]);
}

static void a_silent_peer_meets_the_handshake_deadline(void **state)
{
	struct pair *pair = *state;
	int fds[2];
	uint64_t before = clock_now_ms();

	connect_sockets(fds, 0);
	start_client(pair, fds[0], "callee");
	wait_for(pair, pair->closed[0]);
	assert_in_range(clock_now_ms() - before, 1900, 4000);
	assert_string_equal(pair->closed, "authentication handshake failed: context deadline exceeded");
	close(fds[1]);
}

static void another_operators_certificate_is_refused(void **state)
{
	struct pair *pair = *state;

	/* The certificate carries "callee.alias" too, the directory does not. */
	connect_both_as(pair, "callee.alias");
	wait_for(pair, pair->closed[0]);
	assert_string_equal(pair->closed, "authentication handshake failed: no name matched");
	assert_false(pair->is_ready);
}

static void a_wrong_server_name_fails_the_certificate_check(void **state)
{
	struct pair *pair = *state;

	connect_both_as(pair, "somebody");
	wait_for(pair, pair->closed[0]);
	assert_non_null(strstr(pair->closed, "authentication handshake failed: "));
	assert_false(pair->is_ready);
}

static void a_refused_fingerprint_closes_the_connection(void **state)
{
	struct pair *pair = *state;

	pair->server_mode = REFUSE;
	connect_both(pair);
	wait_for(pair, pair->closed[0]);
	assert_false(pair->is_ready);
}

static void the_directory_may_answer_later(void **state)
{
	struct pair *pair = *state;

	pair->server_mode = pair->client_mode = LATER;
	connect_both(pair);
	wait_for(pair, pair->question_count == 2);
	assert_false(pair->is_ready);
	for (size_t i = 0; i < 2; i++)
		answer_question(&pair->questions[i], NULL);
	pair->question_count = 0;
	wait_for(pair, pair->is_ready);
	call_with(pair, NULL, 5000);
	wait_for(pair, pair->ok_count == 1);
}

static void connections_may_die_while_the_directory_is_asked(void **state)
{
	struct pair *pair = *state;

	pair->server_mode = pair->client_mode = NEVER_YET;
	connect_both(pair);
	wait_for(pair, pair->question_count == 2);
	free_server(pair);
	free_connection(pair);
	turn(pair);
	answer_question(&pair->questions[0], NULL);
	answer_question(&pair->questions[1], "no name matched");
	pair->question_count = 0;
}

static void the_handshake_deadline_covers_the_directory(void **state)
{
	struct pair *pair = *state;

	pair->client_mode = NEVER_YET;
	connect_both(pair);
	wait_for(pair, pair->closed[0]);
	assert_string_equal(pair->closed, "authentication handshake failed: context deadline exceeded");
	assert_int_equal(pair->question_count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_call_is_answered),
		TEST(a_failed_call_brings_its_message),
		TEST(calls_run_side_by_side_and_end_in_any_order),
		TEST(messages_of_nearly_the_limit_pass),
		TEST(a_deadline_ends_only_its_own_call),
		TEST(pending_calls_end_when_the_server_goes),
		TEST(freeing_the_connection_ends_calls_at_once),
		TEST(owners_may_free_from_inside_callbacks),
		TEST(the_connection_may_be_freed_when_ready),
		TEST(the_server_may_be_freed_when_called),
		TEST(finish_waits_for_open_calls),
		TEST(a_stopping_server_lets_calls_end),
		TEST(a_call_behind_goaway_is_undelivered),
		TEST(a_stalled_write_meets_its_deadline),
		TEST(a_peer_that_closes_at_once_is_an_eof),
		TEST(a_silent_peer_meets_the_handshake_deadline),
		TEST(another_operators_certificate_is_refused),
		TEST(a_wrong_server_name_fails_the_certificate_check),
		TEST(a_refused_fingerprint_closes_the_connection),
		TEST(the_directory_may_answer_later),
		TEST(connections_may_die_while_the_directory_is_asked),
		TEST(the_handshake_deadline_covers_the_directory),
	};

	return cmocka_run_group_tests(tests, prepare_pair_tests, finish_pair_tests);
}
