// SPDX-License-Identifier: Apache-2.0
/* Reverse streams between our server and our client over loopback. */
#include "grpc_pair.h"

static void requested(struct grpc_reverse_request *request, void *context)
{
	struct pair *pair = context;

	assert_string_equal(grpc_reverse_request_identities(request)->items[0].name, "callee");
	if (pair->frees_when_requested) {
		free_connection(pair);
		answer_request(request);
	} else if (pair->holds_requests) {
		pair->requests[pair->request_count++] = request;
	} else {
		answer_request(request);
	}
}

static void ended(struct grpc_connection *connection, const char *reason, void *context)
{
	struct pair *pair = context;

	assert_ptr_equal(connection, pair->connection);
	snprintf(pair->reverse_reason, sizeof(pair->reverse_reason), "%s", reason);
}

static void reverse_done(const struct hyper_response *response, const char *failure, void *context)
{
	struct pair *pair = context;

	if (response) {
		pair->reverse_answers++;
		json_decref(pair->reverse_result);
		pair->reverse_result = json_incref(response->result);
	} else {
		pair->reverse_failures++;
		snprintf(pair->reverse_failure, sizeof(pair->reverse_failure), "%s", failure);
	}
}

static int send_reverse(struct pair *pair, const char *text, unsigned timeout_ms)
{
	struct hyper_request request = {
		.method = (char *)"caller.f",
		.id = (char *)"caller.f(1)",
		.client_name = (char *)"callee",
		.params = json_pack("{s:s}", "text", text),
	};
	int error = grpc_reverse_send(pair->reverse, &request, timeout_ms, reverse_done, pair);

	json_decref(request.params);
	return error;
}

static void open_reverse(struct pair *pair, const char *name)
{
	const struct grpc_reverse_handlers handlers = { requested, ended, pair };

	assert_int_equal(grpc_connection_open_reverse(pair->connection, name, &handlers), 0);
}

/* Connects, and opens a reverse stream that the server has. */
static void connect_reversed(struct pair *pair)
{
	connect_ready(pair);
	open_reverse(pair, "caller");
	wait_for(pair, pair->reverse);
}

/* The client answers the one request that it holds. */
static void answer_held_request(struct pair *pair)
{
	assert_int_equal(pair->request_count, 1);
	pair->request_count = 0;
	answer_request(pair->requests[0]);
}

static void requests_go_over_the_reverse_stream(void **state)
{
	struct pair *pair = *state;

	connect_ready(pair);
	open_reverse(pair, "caller");
	assert_int_equal(grpc_connection_open_reverse(pair->connection, "caller",
						      &(struct grpc_reverse_handlers){ requested, ended, pair }), -EBUSY);
	wait_for(pair, pair->reverse);
	assert_string_equal(pair->reverse_name, "caller");
	for (int i = 0; i < 10; i++) {
		char text[16];

		snprintf(text, sizeof(text), "r%d", i);
		assert_int_equal(send_reverse(pair, text, 5000), 0);
	}
	call_with(pair, NULL, 5000); /* beside it */
	assert_int_equal(pair->reverse_answers, 0);
	wait_for(pair, pair->reverse_answers == 10 && pair->done_count == 1);
	assert_string_equal(json_string_value(json_object_get(pair->reverse_result, "text")), "r9");
	assert_int_equal(pair->reverse_failures, 0);
}

static void one_request_at_a_time(void **state)
{
	struct pair *pair = *state;

	pair->holds_requests = true;
	connect_reversed(pair);
	for (int i = 0; i < 3; i++)
		send_reverse(pair, "x", 5000);
	for (unsigned i = 0; i < 3; i++) {
		wait_for(pair, pair->request_count == 1);
		assert_int_equal(pair->reverse_answers, i);
		turn(pair);
		turn(pair);
		answer_held_request(pair);
	}
	wait_for(pair, pair->reverse_answers == 3);
}

static void a_foreign_name_is_not_registered(void **state)
{
	struct pair *pair = *state;

	connect_ready(pair);
	open_reverse(pair, "somebody");
	wait_for(pair, pair->reverse_reason[0]);
	assert_string_equal(pair->reverse_reason, "rpc error: code = Unknown desc = invalid client name supplied");
	assert_null(pair->reverse);
	assert_int_equal(pair->reverse_ended, 0);
	/* The connection is as good as before. */
	call_with(pair, NULL, 5000);
	wait_for(pair, pair->ok_count == 1);
}

static void a_late_answer_ends_the_stream(void **state)
{
	struct pair *pair = *state;

	pair->holds_requests = true;
	connect_reversed(pair);
	send_reverse(pair, "a", 300);
	send_reverse(pair, "b", 50);
	send_reverse(pair, "c", 5000);
	wait_for(pair, pair->reverse_failures == 1);
	assert_string_equal(pair->reverse_failure, "the reverse stream was busy for too long");
	assert_int_equal(pair->reverse_ended, 0);
	wait_for(pair, pair->reverse_ended == 1);
	assert_int_equal(pair->reverse_failures, 3);
	assert_null(pair->reverse);
	wait_for(pair, pair->reverse_reason[0]);
	answer_held_request(pair);
	/* The client may open another one. */
	pair->holds_requests = false;
	open_reverse(pair, "caller");
	wait_for(pair, pair->reverse);
	send_reverse(pair, "d", 5000);
	wait_for(pair, pair->reverse_answers == 1);
}

static void reverse_requests_fail_with_the_connection(void **state)
{
	struct pair *pair = *state;

	pair->holds_requests = true;
	connect_reversed(pair);
	send_reverse(pair, "a", 5000);
	send_reverse(pair, "b", 5000);
	wait_for(pair, pair->request_count == 1);
	free_connection(pair);
	assert_string_equal(pair->reverse_reason, "");
	wait_for(pair, pair->reverse_ended == 1);
	assert_int_equal(pair->reverse_failures, 2);
	assert_string_equal(grpc_reverse_request_get(pair->requests[0])->id, "caller.f(1)");
}

static void the_connection_may_be_freed_when_requested(void **state)
{
	struct pair *pair = *state;

	pair->frees_when_requested = true;
	connect_reversed(pair);
	send_reverse(pair, "a", 5000);
	send_reverse(pair, "b", 5000);
	wait_for(pair, pair->reverse_ended == 1);
	assert_int_equal(pair->reverse_failures, 2);
}

static void finish_ends_the_reverse_stream_after_its_last_answer(void **state)
{
	struct pair *pair = *state;

	pair->holds_requests = true;
	connect_reversed(pair);
	send_reverse(pair, "a", 5000);
	wait_for(pair, pair->request_count == 1);
	grpc_connection_finish(pair->connection);
	turn(pair);
	assert_string_equal(pair->closed, "");
	answer_held_request(pair);
	wait_for(pair, pair->closed[0]);
	assert_int_equal(pair->reverse_answers, 1);
	assert_int_not_equal(pair->reverse_reason[0], 0);
	wait_for(pair, pair->reverse_ended == 1);
}

static void a_server_that_stops_ends_idle_reverse_streams(void **state)
{
	struct pair *pair = *state;

	connect_reversed(pair);
	grpc_server_stop(pair->server);
	wait_for(pair, pair->closed[0]);
	assert_string_equal(pair->reverse_reason, "the connection is draining");
	wait_for(pair, pair->reverse_ended == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(requests_go_over_the_reverse_stream),
		TEST(one_request_at_a_time),
		TEST(a_foreign_name_is_not_registered),
		TEST(a_late_answer_ends_the_stream),
		TEST(reverse_requests_fail_with_the_connection),
		TEST(the_connection_may_be_freed_when_requested),
		TEST(finish_ends_the_reverse_stream_after_its_last_answer),
		TEST(a_server_that_stops_ends_idle_reverse_streams),
	};

	return cmocka_run_group_tests(tests, prepare_pair_tests, finish_pair_tests);
}
