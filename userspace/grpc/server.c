// SPDX-License-Identifier: Apache-2.0
/* The gRPC server: listener, connections, unary calls (protocol page 6.5, 6.6).
 *
 * A connection lives in the server's list from accept until its transport has
 * failed or the server is freed. A call that was handed to the owner belongs to
 * the owner until it is answered; it knows whether its stream is still there.
 * One tick for all connections watches ages, idleness and streams that do not
 * move. Event loop's thread; an owner may free the server from any callback. */
#include "grpc/server_private.h"

#include "base/instant.h"
#include "base/log.h"

#include <errno.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HANDSHAKE_ACCEPTED_MS 30000u
#define HANDSHAKE_ADOPTED_MS 120000u /* the other party may come late */
#define KEEPALIVE_MS 60000u
#define KEEPALIVE_ANSWER_MS 30000u
#define PING_DISTANCE_MS 15000u
#define PING_STRIKES_MAX 2u
#define IDLE_MS 60000u
#define AGE_MS (24u * 3600u * 1000u)
#define AGE_GRACE_MS 60000u
#define REQUEST_MS 60000u /* to come completely, however steadily */
#define TICK_S 5
#define CONNECTIONS_MAX 4096u
#define HANDSHAKES_MAX 512u /* of accepted connections; the oldest makes room */
#define BUFFERED_MAX (256u << 20)
#define OPERATOR_BUFFERED_MAX (64u << 20) /* over all of its connections */
#define BACKLOG 512

/* What anybody who can connect makes us say. */
static void tell_refusal(struct grpc_server *server, const char *peer, const char *reason)
{
	uint64_t held_back;

	if (!log_limiter_take(&server->lines, &held_back))
		return;
	log_limiter_tell(held_back, "gRPC server: refused connections");
	log_warning("gRPC server %s: connection from %s refused: %s", server->name, peer, reason);
}

/* ---- new streams ---- */

/* Streams that we have refused, until they are closed. */
static void refused_closed(struct stream *stream, uint32_t error_code)
{
	struct server_connection *connection = stream->owner;
	(void)error_code;

	connection->streams--;
}

const struct stream_kind refused_kind = { .closed = refused_closed };

static void inbound_headers(struct stream *stream)
{
	struct server_connection *connection = stream->owner;
	const char *path = stream->head.path;

	stream->kind = &refused_kind;
	if (!stream->head.is_post || !stream->head.is_grpc)
		stream_reset(stream, NGHTTP2_PROTOCOL_ERROR);
	else if (!strcmp(path, "/Hyper/Call"))
		call_accept(connection, stream);
	else if (!strcmp(path, "/Hyper/ServerCall"))
		reverse_accept(connection, stream);
	else
		stream_end_with_status(stream, GRPC_STATUS_UNIMPLEMENTED,
				       strncmp(path, "/Hyper/", 7) ? "unknown service" : "unknown method for service Hyper");
}

static const struct stream_kind inbound_kind = { .headers = inbound_headers, .closed = refused_closed };

static void connection_stream_begun(struct stream *stream, void *owner)
{
	struct server_connection *connection = owner;

	stream->kind = &inbound_kind;
	stream->owner = connection;
	connection->streams++;
}

/* ---- connections ---- */

static void connection_stream_gone(void *owner)
{
	struct server_connection *connection = owner;

	if (!connection->streams)
		connection->idle_since_ms = clock_now_ms();
}

/* No stream is older than this: the peer's SETTINGS come first. */
static int join_budget(struct server_connection *connection)
{
	const struct peer_identities *identities = &connection->transport->identities;
	const char *name = identities->count ? identities->items[0].name : "";
	struct server_connection *other;

	LIST_FOREACH(other, &connection->server->connections, link) {
		struct budget *budget = other->transport->budget;

		if (budget && !strcmp(budget->name, name)) {
			connection->transport->budget = budget_hold(budget);
			return 0;
		}
	}
	connection->transport->budget = budget_create(connection->server->budget, name, OPERATOR_BUFFERED_MAX);
	return connection->transport->budget ? 0 : -ENOMEM;
}

static void end_handshake(struct server_connection *connection)
{
	if (connection->is_handshaking)
		connection->server->handshake_count--;
	connection->is_handshaking = false;
}

static void connection_settled(void *owner)
{
	struct server_connection *connection = owner;
	const struct peer_identities *identities = &connection->transport->identities;

	end_handshake(connection);
	connection->idle_since_ms = clock_now_ms();
	if (join_budget(connection))
		transport_fail(connection->transport, "no memory");
	log_debug("gRPC server %s: %s connected from %s", connection->server->name,
		  identities->count ? identities->items[0].name : "?", connection->transport->peer);
	if (connection->server->is_stopped)
		transport_drain(connection->transport);
}

static void connection_pinged(void *owner)
{
	struct server_connection *connection = owner;
	struct transport *transport = connection->transport;
	uint64_t now = clock_now_ms(), last = connection->last_ping_ms;

	connection->last_ping_ms = now;
	if (transport->was_data_sent) {
		transport->was_data_sent = false;
		connection->ping_strikes = 0;
		return;
	}
	if (last && now < last + PING_DISTANCE_MS && ++connection->ping_strikes > PING_STRIKES_MAX)
		transport_terminate(transport, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
}

static void free_connection(struct server_connection *connection)
{
	end_handshake(connection);
	LIST_REMOVE(connection, link);
	connection->server->connection_count--;
	transport_close(connection->transport);
	free(connection);
}

static void connection_failed(const char *reason, void *owner)
{
	struct server_connection *connection = owner;
	const struct transport *transport = connection->transport;

	/* A settled peer that goes is nothing to report. */
	if (transport->is_settled && strncmp(reason, "protocol error", 14))
		log_debug("gRPC server %s: connection from %s ended: %s", connection->server->name, transport->peer, reason);
	else
		tell_refusal(connection->server, transport->peer, reason);
	free_connection(connection);
}

static const struct transport_handlers connection_handlers = {
	.settled = connection_settled,
	.stream_begun = connection_stream_begun,
	.stream_gone = connection_stream_gone,
	.pinged = connection_pinged,
	.failed = connection_failed,
};

static uint64_t random_age_ms(void)
{
	uint32_t random = 0;

	if (getentropy(&random, sizeof(random)))
		random = (uint32_t)clock_now_ns();
	/* 24 h, and up to 10 % more or less. */
	return AGE_MS - AGE_MS / 10 + random % (AGE_MS / 5);
}

/* New ones come first in the list. */
static void make_room_for_handshake(struct grpc_server *server)
{
	struct server_connection *connection, *oldest = NULL;

	if (server->handshake_count < HANDSHAKES_MAX)
		return;
	LIST_FOREACH(connection, &server->connections, link)
		if (connection->is_handshaking)
			oldest = connection;
	tell_refusal(server, oldest->transport->peer, "too many handshakes, and this one took longest");
	free_connection(oldest);
}

static int serve(struct grpc_server *server, int fd, bool is_adopted)
{
	const struct transport_options options = {
		.fd = fd,
		.tls = server->options.tls,
		.is_server = true,
		.identifier = server->options.identifier,
		.handshake_timeout_ms = is_adopted ? HANDSHAKE_ADOPTED_MS : HANDSHAKE_ACCEPTED_MS,
		.keepalive_ms = KEEPALIVE_MS,
		.keepalive_answer_ms = KEEPALIVE_ANSWER_MS,
	};
	struct server_connection *connection;

	if (!is_adopted)
		make_room_for_handshake(server);
	if (server->is_stopped || server->connection_count >= CONNECTIONS_MAX) {
		close(fd);
		return server->is_stopped ? -ESHUTDOWN : -EMFILE;
	}
	connection = calloc(1, sizeof(*connection));
	if (!connection) {
		close(fd);
		return -ENOMEM;
	}
	connection->server = server;
	connection->age_limit_ms = clock_now_ms() + random_age_ms();
	int error = transport_start(server->base, &options, &connection_handlers, connection, &connection->transport);

	if (error) {
		free(connection);
		return error;
	}
	LIST_INSERT_HEAD(&server->connections, connection, link);
	server->connection_count++;
	connection->is_handshaking = !is_adopted;
	server->handshake_count += !is_adopted;
	return 0;
}

int grpc_server_adopt(struct grpc_server *server, int fd)
{
	return serve(server, fd, true);
}

static void check_streams(struct server_connection *connection, uint64_t now)
{
	struct stream *stream, *next;

	for (stream = LIST_FIRST(&connection->transport->streams); stream; stream = next) {
		next = LIST_NEXT(stream, link);
		bool is_late = now >= stream->begun_ms + REQUEST_MS;

		if (is_late && (stream->kind == &call_kind || stream->kind == &inbound_kind)) {
			stream_reset(stream, NGHTTP2_CANCEL);
			continue;
		}
		if (now < stream->progress_ms + STALL_MS && !(is_late && stream->kind == &reverse_kind))
			continue;
		/* While the owner works on an answer nothing moves, and that is fine. */
		if (stream->kind == &reverse_kind)
			reverse_check_stall(stream, now);
		else if (stream->kind != &delivered_kind)
			stream_reset(stream, NGHTTP2_CANCEL);
	}
}

static void tick(evutil_socket_t fd, short events, void *context)
{
	struct grpc_server *server = context;
	uint64_t now = clock_now_ms();
	struct server_connection *connection;
	(void)fd;
	(void)events;

	/* Nothing here calls the owner or frees a connection: all of it takes effect with a later turn. */
	LIST_FOREACH(connection, &server->connections, link) {
		if (!connection->transport->is_settled)
			continue;
		check_streams(connection, now);
		if (connection->drain_end_ms) {
			if (now >= connection->drain_end_ms)
				transport_fail(connection->transport, "grace period is over");
		} else if (now >= connection->age_limit_ms ||
			   (!connection->streams && now >= connection->idle_since_ms + IDLE_MS)) {
			connection->drain_end_ms = now + AGE_GRACE_MS;
			transport_drain(connection->transport);
		}
	}
}

/* ---- listener ---- */

static void accept_connection(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int length,
			      void *context)
{
	struct grpc_server *server = context;
	char peer[ADDRESS_TEXT_SIZE];
	int error;
	(void)listener;
	(void)length;

	if (!rate_limiter_admit(server->options.limiter, address, (int64_t)time(NULL))) {
		tell_refusal(server, address_format(address, peer), "rate limit");
		close(fd);
		return;
	}
	error = serve(server, fd, false);
	if (error)
		tell_refusal(server, address_format(address, peer), strerror(-error));
}

static void accept_failed(struct evconnlistener *listener, void *context)
{
	struct grpc_server *server = context;
	const struct timeval pause = { 0, 200000 };

	/* Mostly no descriptors: the connection stays in the queue, and polling on would spin. */
	uint64_t held_back;
	int error = errno;

	if (log_limiter_take(&server->lines, &held_back)) {
		log_limiter_tell(held_back, "gRPC server: refused connections");
		log_warning("gRPC server %s: cannot accept: %s", server->name, strerror(error));
	}
	evconnlistener_disable(listener);
	event_add(server->resume_listening, &pause);
}

static void resume(evutil_socket_t fd, short events, void *context)
{
	struct grpc_server *server = context;
	(void)fd;
	(void)events;

	if (server->listener)
		evconnlistener_enable(server->listener);
}

static int start_listening(struct grpc_server *server)
{
	int fd = address_listen(server->options.bind_address, false, BACKLOG);

	if (fd < 0)
		return fd;
	server->listener = evconnlistener_new(server->base, accept_connection, server,
					      LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!server->listener) {
		close(fd);
		return -ENOMEM;
	}
	evconnlistener_set_error_cb(server->listener, accept_failed);
	return 0;
}

int grpc_server_start(struct event_base *base, const struct grpc_server_options *options, struct grpc_server **result)
{
	const struct timeval interval = { TICK_S, 0 };
	struct grpc_server *server = calloc(1, sizeof(*server));
	int error = -ENOMEM;

	if (!server)
		return -ENOMEM;
	server->base = base;
	server->options = *options;
	LIST_INIT(&server->connections);
	log_limiter_init(&server->lines, LOG_LIMITER_LINES, LOG_LIMITER_LINES);
	server->name = strdup(options->name ? options->name : "");
	server->budget = budget_create(NULL, "", BUFFERED_MAX);
	server->tick = event_new(base, -1, EV_PERSIST, tick, server);
	server->resume_listening = event_new(base, -1, 0, resume, server);
	if (!server->name || !server->budget || !server->tick || !server->resume_listening || event_add(server->tick, &interval))
		goto fail;
	error = options->bind_address ? start_listening(server) : 0;
	if (error)
		goto fail;
	*result = server;
	return 0;
fail:
	grpc_server_free(server);
	return error;
}

void grpc_server_stop(struct grpc_server *server)
{
	uint64_t now = clock_now_ms();
	struct server_connection *connection;

	if (server->is_stopped)
		return;
	server->is_stopped = true;
	if (server->listener)
		evconnlistener_free(server->listener);
	server->listener = NULL;
	LIST_FOREACH(connection, &server->connections, link) {
		connection->drain_end_ms = now + AGE_GRACE_MS;
		if (connection->transport->is_settled)
			transport_drain(connection->transport);
		else
			transport_fail(connection->transport, "the server stops");
	}
}

size_t grpc_server_open_calls(const struct grpc_server *server)
{
	return server->open_calls;
}

void grpc_server_free(struct grpc_server *server)
{
	if (!server)
		return;
	server->is_stopped = true;
	while (!LIST_EMPTY(&server->connections))
		free_connection(LIST_FIRST(&server->connections));
	if (server->listener)
		evconnlistener_free(server->listener);
	if (server->tick)
		event_free(server->tick);
	if (server->resume_listening)
		event_free(server->resume_listening);
	budget_release(server->budget);
	log_limiter_tell(log_limiter_flush(&server->lines), "gRPC server: refused connections");
	log_limiter_clear(&server->lines);
	free(server->name);
	free(server);
}
