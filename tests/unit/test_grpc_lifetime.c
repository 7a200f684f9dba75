// SPDX-License-Identifier: Apache-2.0
/* What ends a connection that nobody closes: keepalive, enforcement of pings,
 * idleness, age and streams that do not move. Clocks are moved by hand where
 * the real limits are minutes. */
#include "grpc_pair.h"

#include "grpc/server_private.h"

#include <event2/listener.h>

struct raw_client {
	struct transport *transport;
	char failure[256];
	bool is_settled;
	unsigned closed_streams;
};

static void raw_settled(void *owner)
{
	((struct raw_client *)owner)->is_settled = true;
}

static void raw_failed(const char *reason, void *owner)
{
	struct raw_client *client = owner;

	snprintf(client->failure, sizeof(client->failure), "%s", reason);
	transport_close(client->transport);
	client->transport = NULL;
}

static const struct transport_handlers raw_handlers = { .settled = raw_settled, .failed = raw_failed };

static void raw_closed(struct stream *stream, uint32_t error_code)
{
	struct raw_client *client = stream->owner;

	(void)error_code;
	client->closed_streams++;
}

static const struct stream_kind raw_kind = { .closed = raw_closed };

/* A client without the client's calls, whose keepalive is short. */
static void connect_raw(struct pair *pair, struct raw_client *client, unsigned keepalive_ms)
{
	int fds[2];

	connect_sockets(fds, 0);
	const struct transport_options options = {
		.fd = fds[0],
		.tls = pair->client_tls,
		.server_name = "callee",
		.identifier = { identify_server, pair },
		.handshake_timeout_ms = 5000,
		.keepalive_ms = keepalive_ms,
		.keepalive_answer_ms = 100,
	};

	assert_int_equal(grpc_server_adopt(pair->server, fds[1]), 0);
	assert_int_equal(transport_start(pair->base, &options, &raw_handlers, client, &client->transport), 0);
}

static struct server_connection *server_side(struct pair *pair)
{
	return LIST_FIRST(&pair->server->connections);
}

static void tick_now(struct pair *pair)
{
	event_active(pair->server->tick, EV_TIMEOUT, 0);
}

static void a_peer_that_does_not_answer_pings_is_dead(void **state)
{
	struct pair *pair = *state;
	struct event_base *frozen = start_frozen_server(pair);
	struct raw_client client = { 0 };

	connect_raw(pair, &client, 50);
	wait_for(pair, (event_base_loop(frozen, EVLOOP_NONBLOCK), client.is_settled));
	wait_for(pair, client.failure[0]);
	assert_string_equal(client.failure, "keepalive ping failed to receive ACK within timeout");
	free_server(pair);
	event_base_free(frozen);
}

static void pings_keep_a_silent_connection(void **state)
{
	struct pair *pair = *state;
	struct raw_client client = { 0 };

	start_server(pair);
	connect_raw(pair, &client, 60);
	wait_for(pair, client.is_settled);
	wait_for(pair, server_side(pair)->last_ping_ms);
	uint64_t first_ms = server_side(pair)->last_ping_ms;

	wait_for(pair, server_side(pair)->last_ping_ms > first_ms);
	assert_string_equal(client.failure, "");
	transport_close(client.transport);
}

static void too_many_pings_end_the_connection(void **state)
{
	struct pair *pair = *state;
	struct raw_client client = { 0 };

	start_server(pair);
	connect_raw(pair, &client, 10);
	wait_for(pair, client.failure[0]);
	assert_non_null(strstr(client.failure, "received prior goaway: code: ENHANCE_YOUR_CALM, debug data: \"too_many_pings\""));
	wait_for(pair, !server_side(pair));
}

static void an_idle_connection_is_closed_after_a_minute(void **state)
{
	struct pair *pair = *state;

	connect_ready(pair);
	call_with(pair, NULL, 5000);
	wait_for(pair, pair->ok_count == 1 && !server_side(pair)->streams);
	server_side(pair)->idle_since_ms -= 58000;
	tick_now(pair);
	turn(pair);
	assert_int_equal(server_side(pair)->drain_end_ms, 0);
	server_side(pair)->idle_since_ms -= 3000;
	tick_now(pair);
	wait_for(pair, pair->closed[0]);
	wait_for(pair, !server_side(pair));
	assert_int_equal(pair->undelivered_count, 0);
}

static void reach_age_limit(struct pair *pair)
{
	server_side(pair)->age_limit_ms = 1;
	tick_now(pair);
	wait_for(pair, !grpc_connection_accepts_calls(pair->connection));
}

static void an_old_connection_goes_when_its_calls_have_ended(void **state)
{
	struct pair *pair = *state;

	hold_a_call(pair);
	assert_in_range(server_side(pair)->age_limit_ms - clock_now_ms(), 77000000, 96000000);
	reach_age_limit(pair);
	assert_string_equal(pair->closed, "");
	respond_to_held(pair);
	wait_for(pair, pair->closed[0]);
	assert_int_equal(pair->ok_count, 1);
}

/* Its other calls are lost with the connection; its own gets the reason. */
static void an_expelled_caller_loses_its_connection(void **state)
{
	struct pair *pair = *state;

	hold_a_call(pair);
	pair->holds_calls = false;
	pair->expels_callers = true;
	call_with(pair, NULL, 8000);
	wait_for(pair, pair->done_count == 1);
	assert_int_equal(pair->last_status, 16);
	assert_string_equal(pair->last_message, "who are you?");
	assert_false(grpc_connection_accepts_calls(pair->connection));
	tick_now(pair);
	wait_for(pair, pair->closed[0] && !server_side(pair));
	assert_int_equal(pair->done_count, 2);
	assert_int_equal(pair->last_status, GRPC_STATUS_UNAVAILABLE);
	assert_int_equal(pair->undelivered_count, 0);
}

static void grace_is_limited(void **state)
{
	struct pair *pair = *state;

	hold_a_call(pair);
	reach_age_limit(pair);
	server_side(pair)->drain_end_ms = 1;
	tick_now(pair);
	wait_for(pair, pair->closed[0]);
	assert_int_equal(pair->last_status, GRPC_STATUS_UNAVAILABLE);
	assert_int_equal(pair->undelivered_count, 0);
}

/* One of each kind, of which no message comes. */
static void begin_requests(struct pair *pair, struct raw_client *client)
{
	struct stream *stream;

	start_server(pair);
	connect_raw(pair, client, 60000);
	wait_for(pair, client->is_settled);
	for (int i = 0; i < 2; i++)
		assert_int_equal(stream_open(client->transport, i ? "/Hyper/ServerCall" : "/Hyper/Call", &raw_kind, client,
					     &stream), 0);
	wait_for(pair, server_side(pair)->streams == 2);
}

static void expect_given_up(struct pair *pair, struct raw_client *client)
{
	tick_now(pair);
	wait_for(pair, client->closed_streams == 2);
	assert_string_equal(client->failure, "");
	wait_for(pair, !server_side(pair)->streams);
	transport_close(client->transport);
}

static void a_request_that_does_not_come_is_given_up(void **state)
{
	struct pair *pair = *state;
	struct raw_client client = { 0 };
	struct stream *stream;

	begin_requests(pair, &client);
	LIST_FOREACH(stream, &server_side(pair)->transport->streams, link)
		stream->progress_ms -= 61000;
	expect_given_up(pair, &client);
}

static void a_request_that_trickles_is_given_up(void **state)
{
	struct pair *pair = *state;
	struct raw_client client = { 0 };
	struct stream *stream;

	begin_requests(pair, &client);
	/* Old, but bytes have just moved. */
	LIST_FOREACH(stream, &server_side(pair)->transport->streams, link)
		stream->begun_ms -= 61000;
	expect_given_up(pair, &client);
}

/* 120,000 fields in a message of 240 kB. */
static void send_many_fields(struct raw_client *client, struct stream **stream)
{
	json_t *list = json_array();

	for (int i = 0; i < 60000; i++)
		json_array_append_new(list, json_null());
	struct hyper_request request = { .method = (char[]){ "m" }, .params = json_pack("{s:o}", "list", list) };
	uint8_t *frame;
	size_t size;

	assert_int_equal(grpc_request_frame(&request, &frame, &size), 0);
	json_decref(request.params);
	assert_int_equal(stream_open(client->transport, "/Hyper/Call", &raw_kind, client, stream), 0);
	assert_int_equal(stream_send(*stream, frame, size), 0);
}

static void what_an_operator_makes_us_keep_is_limited(void **state)
{
	struct pair *pair = *state;
	struct raw_client clients[2] = { 0 };
	struct stream *streams[4];

	pair->holds_calls = true;
	start_server(pair);
	for (int i = 0; i < 2; i++) {
		connect_raw(pair, &clients[i], 60000);
		wait_for(pair, clients[i].is_settled && server_side(pair)->transport->budget);
	}
	struct budget *budget = server_side(pair)->transport->budget;

	assert_ptr_equal(budget, LIST_NEXT(server_side(pair), link)->transport->budget);
	/* Nothing is decoded before the request is complete, and then it weighs what it takes. */
	for (int i = 0; i < 4; i++) {
		send_many_fields(&clients[i % 2], &streams[i]);
		wait_for(pair, !streams[i]->out_size);
	}
	wait_for(pair, budget->used_bytes > 4 * 239000 && budget->used_bytes < 4 * 262144);
	assert_int_equal(pair->held_count, 0);
	for (int i = 0; i < 4; i++)
		stream_end(streams[i]);
	wait_for(pair, clients[0].closed_streams + clients[1].closed_streams == 1);
	assert_int_equal(pair->held_count, 3);
	assert_true(budget->used_bytes > 3 * 19000000 && budget->used_bytes <= 64u << 20);
	assert_int_equal(pair->server->budget->used_bytes, budget->used_bytes);
	/* A client that leaves does not make room: the requests are still there. */
	for (int i = 0; i < 2; i++)
		transport_close(clients[i].transport);
	wait_for(pair, LIST_EMPTY(&pair->server->connections));
	assert_true(pair->server->budget->used_bytes > 3 * 19000000);
	respond_to_held(pair);
	assert_int_equal(pair->server->budget->used_bytes, 0);
}

static int dial_server(struct pair *pair)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	getsockname(evconnlistener_get_fd(pair->server->listener), (struct sockaddr *)&address, &length);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, length), 0);
	return fd;
}

static void the_listener_keeps_to_its_rate_limit(void **state)
{
	struct pair *pair = *state;
	const struct rate_rule rule = { RATE_WINDOW_HOUR, 2 };
	struct rate_limiter *limiter;
	int fds[3];
	char byte;

	assert_int_equal(rate_limiter_create(&rule, 1, false, &limiter), 0);
	start_server_at(pair, "127.0.0.1:0", limiter);
	for (int i = 0; i < 3; i++)
		fds[i] = dial_server(pair);
	evutil_make_socket_nonblocking(fds[2]);
	wait_for(pair, recv(fds[2], &byte, 1, 0) == 0); /* closed without a byte */
	assert_int_equal(pair->server->connection_count, 2);
	start_client(pair, fds[0], "callee");
	wait_for(pair, pair->is_ready);
	close(fds[1]);
	close(fds[2]);
	wait_for(pair, pair->server->connection_count == 1);
	free_server(pair);
	rate_limiter_free(limiter);
}

static void strangers_in_handshakes_make_room(void **state)
{
	struct pair *pair = *state;
	int fds[600], fd;
	char byte;

	start_server_at(pair, "127.0.0.1:0", NULL);
	for (int i = 0; i < 600; i++) {
		fds[i] = dial_server(pair);
		event_base_loop(pair->base, EVLOOP_NONBLOCK);
	}
	evutil_make_socket_nonblocking(fds[0]);
	wait_for(pair, recv(fds[0], &byte, 1, 0) == 0); /* the oldest */
	assert_int_equal(pair->server->handshake_count, 512);
	fd = dial_server(pair);
	evutil_make_socket_nonblocking(fd);
	start_client(pair, fd, "callee");
	wait_for(pair, pair->is_ready && pair->server->handshake_count == 511);
	for (int i = 0; i < 600; i++)
		close(fds[i]);
	wait_for(pair, pair->server->connection_count == 1);
	assert_int_equal(pair->server->handshake_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_peer_that_does_not_answer_pings_is_dead),
		TEST(pings_keep_a_silent_connection),
		TEST(too_many_pings_end_the_connection),
		TEST(an_idle_connection_is_closed_after_a_minute),
		TEST(an_old_connection_goes_when_its_calls_have_ended),
		TEST(an_expelled_caller_loses_its_connection),
		TEST(grace_is_limited),
		TEST(a_request_that_does_not_come_is_given_up),
		TEST(a_request_that_trickles_is_given_up),
		TEST(what_an_operator_makes_us_keep_is_limited),
		TEST(the_listener_keeps_to_its_rate_limit),
		TEST(strangers_in_handshakes_make_room),
	};

	return cmocka_run_group_tests(tests, prepare_pair_tests, finish_pair_tests);
}
