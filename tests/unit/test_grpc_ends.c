// SPDX-License-Identifier: Apache-2.0
/* How connections end on TCP, seen by a relay in the middle that passes bytes and
 * FINs on: whoever ends it, both directions end by FIN and nobody is reset. */
#include "grpc_pair.h"

struct middle {
	int fds[2]; /* towards the client, towards the server */
	struct event *readable[2];
	bool has_ended[2]; /* FIN came from that side */
	int error;         /* first one that either socket showed */
	const char *where;
};

static void note(struct middle *middle, int error, const char *where)
{
	if (error && !middle->error) {
		middle->error = error;
		middle->where = where;
	}
}

static void pass_on(struct middle *middle, int from)
{
	char bytes[65536];
	ssize_t size = recv(middle->fds[from], bytes, sizeof(bytes), 0);

	if (size < 0) {
		note(middle, errno, "recv");
	} else if (!size) {
		middle->has_ended[from] = true;
		if (shutdown(middle->fds[!from], SHUT_WR))
			note(middle, errno, "shutdown");
	} else if (send(middle->fds[!from], bytes, (size_t)size, MSG_NOSIGNAL) != size) {
		note(middle, errno, "send");
	}
	if (size <= 0)
		event_del(middle->readable[from]);
	/* On loopback a reset comes back from inside of send(). */
	for (int i = 0; i < 2; i++) {
		int error = 0;
		socklen_t length = sizeof(error);

		getsockopt(middle->fds[i], SOL_SOCKET, SO_ERROR, &error, &length);
		note(middle, error, "reset");
	}
}

static struct middle middle;

static void take_readable(evutil_socket_t fd, short events, void *context)
{
	(void)events;
	(void)context;

	pass_on(&middle, fd == middle.fds[1]);
}

static void connect_through_middle(struct pair *pair)
{
	int client[2], server[2];

	connect_sockets(client, 0);
	connect_sockets(server, 0);
	middle = (struct middle){ .fds = { client[1], server[0] } };
	for (int i = 0; i < 2; i++) {
		evutil_make_socket_nonblocking(middle.fds[i]);
		middle.readable[i] = event_new(pair->base, middle.fds[i], EV_READ | EV_PERSIST, take_readable, NULL);
		event_add(middle.readable[i], NULL);
	}
	start_server(pair);
	assert_int_equal(grpc_server_adopt(pair->server, server[1]), 0);
	start_client(pair, client[0], "callee");
	wait_for(pair, pair->is_ready);
	call_with(pair, NULL, 5000);
	wait_for(pair, pair->ok_count == 1);
}

static void close_middle(void)
{
	for (int i = 0; i < 2; i++) {
		event_free(middle.readable[i]);
		close(middle.fds[i]);
	}
}

static void expect_clean_end(struct pair *pair)
{
	wait_for(pair, middle.error || (middle.has_ended[0] && middle.has_ended[1]));
	if (middle.error)
		fail_msg("%s: %s", middle.where, strerror(middle.error));
	/* Nobody waits longer than until then. */
	wait_for(pair, !linger_count(pair->base));
	close_middle();
}

static void an_idle_client_ends_without_a_reset(void **state)
{
	struct pair *pair = *state;

	connect_through_middle(pair);
	grpc_connection_finish(pair->connection);
	expect_clean_end(pair);
}

static void a_client_that_is_given_up_ends_without_a_reset(void **state)
{
	struct pair *pair = *state;

	connect_through_middle(pair);
	free_connection(pair);
	expect_clean_end(pair);
}

static void a_stopping_server_ends_without_a_reset(void **state)
{
	struct pair *pair = *state;

	connect_through_middle(pair);
	grpc_server_stop(pair->server);
	expect_clean_end(pair);
	assert_true(pair->closed[0]);
}

static void a_server_that_is_given_up_ends_without_a_reset(void **state)
{
	struct pair *pair = *state;

	connect_through_middle(pair);
	free_server(pair);
	expect_clean_end(pair);
	assert_true(pair->closed[0]);
}

static void two_ends_that_give_up_together_leave_nothing(void **state)
{
	struct pair *pair = *state;

	connect_ready(pair);
	free_server(pair);
	free_connection(pair);
	wait_for(pair, !linger_count(pair->base));
}

/* Answers under way when both ends give up: a lot stands in every buffer. */
static void a_busy_connection_ends_without_a_reset(void **state)
{
	struct pair *pair = *state;
	char *text = malloc(200001);

	memset(text, 'x', 200000);
	text[200000] = 0;
	connect_through_middle(pair);
	for (int i = 0; i < 10; i++)
		call_with(pair, json_pack("{s:s}", "text", text), 5000);
	wait_for(pair, pair->ok_count > 2);
	free_server(pair);
	expect_clean_end(pair);
	free(text);
}

/* The peer hears FIN at once, but the socket stays for what it may still send. */
static void a_peer_that_does_not_end_is_waited_for_within_limits(void **state)
{
	struct pair *pair = *state;
	uint64_t began_ms;

	connect_through_middle(pair);
	event_del(middle.readable[1]);
	event_del(middle.readable[0]);
	free_server(pair);
	began_ms = clock_now_ms();
	assert_int_equal(linger_count(pair->base), 1);
	wait_for(pair, !linger_count(pair->base));
	assert_in_range(clock_now_ms() - began_ms, 1000, 6000);
	pass_on(&middle, 1);
	pass_on(&middle, 1);
	assert_true(middle.has_ended[1]);
	close_middle();
}

static void the_end_of_the_loop_ends_all(void **state)
{
	struct pair *pair = *state;

	connect_through_middle(pair);
	event_del(middle.readable[0]);
	event_del(middle.readable[1]);
	free_server(pair);
	assert_int_equal(linger_count(pair->base), 1);
	linger_end_all(pair->base);
	assert_int_equal(linger_count(pair->base), 0);
	close_middle();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_idle_client_ends_without_a_reset),
		TEST(a_client_that_is_given_up_ends_without_a_reset),
		TEST(a_stopping_server_ends_without_a_reset),
		TEST(a_server_that_is_given_up_ends_without_a_reset),
		TEST(two_ends_that_give_up_together_leave_nothing),
		TEST(a_busy_connection_ends_without_a_reset),
		TEST(a_peer_that_does_not_end_is_waited_for_within_limits),
		TEST(the_end_of_the_loop_ends_all),
	};

	return cmocka_run_group_tests(tests, prepare_pair_tests, finish_pair_tests);
}
