// SPDX-License-Identifier: Apache-2.0
/* One outgoing connection and its unary calls (protocol page 6.2 to 6.6).
 *
 * A call ends by the server's trailers, by a reset, by its deadline, or with
 * the connection, whichever comes first; its stream is then left to itself
 * (client_orphan_kind) until nghttp2 closes it. Each function that calls the
 * owner holds a reference, because the owner may free the connection from
 * inside; `transport` is NULL from then on. Event loop's thread. */
#include "grpc/client_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEEPALIVE_MS 30000u
#define KEEPALIVE_ANSWER_MS 20000u

struct client_call {
	TAILQ_ENTRY(client_call) link;
	struct grpc_connection *connection;
	struct stream *stream;
	struct event *deadline;
	struct hyper_response response;
	bool has_response;
	grpc_call_done done;
	void *context;
};

void client_hold(struct grpc_connection *connection)
{
	connection->references++;
}

void client_release(struct grpc_connection *connection)
{
	if (--connection->references)
		return;
	free(connection);
}

static void orphan_closed(struct stream *stream, uint32_t error_code)
{
	(void)stream;
	(void)error_code;
}

const struct stream_kind client_orphan_kind = { .closed = orphan_closed };

/* ---- calls ---- */

/* `stream` of the call is reset if it still lives. */
static void finish_call(struct client_call *call, int status, const char *message, bool undelivered)
{
	struct grpc_connection *connection = call->connection;
	struct grpc_result result = {
		.status = status,
		.message = message ? message : "",
		.response = status == GRPC_STATUS_OK ? &call->response : NULL,
		.undelivered = undelivered,
	};

	client_hold(connection);
	TAILQ_REMOVE(&connection->calls, call, link);
	connection->open_calls--;
	event_free(call->deadline);
	if (call->stream) {
		call->stream->kind = &client_orphan_kind;
		if (!call->stream->is_peer_ended || !call->stream->is_out_ended || call->stream->out_size)
			stream_reset(call->stream, NGHTTP2_CANCEL);
	}
	call->done(&result, call->context);
	hyper_response_clear(&call->response);
	free(call);
	if (connection->transport && connection->options.call_ended)
		connection->options.call_ended(connection, connection->options.context);
	client_check_finished(connection);
	client_release(connection);
}

static void call_message(struct stream *stream, const uint8_t *message, size_t size)
{
	struct client_call *call = stream->owner;
	int error;

	if (call->has_response) {
		finish_call(call, GRPC_STATUS_INTERNAL, "more than one response message", false);
		return;
	}
	error = grpc_response_decode(message, size, &call->response);
	if (error)
		finish_call(call, grpc_status_of_errno(error), grpc_decode_failure(error), false);
	else
		call->has_response = true;
}

static void call_broken(struct stream *stream, int error)
{
	char message[96] = "grpc: the response is not a gRPC message";

	if (error == -EMSGSIZE)
		snprintf(message, sizeof(message), "grpc: received message larger than max (%zu vs. %u)",
			 stream->in.announced, GRPC_MESSAGE_MAX);
	else if (error == -EOPNOTSUPP)
		snprintf(message, sizeof(message), "grpc: compressed messages are not supported");
	finish_call(stream->owner, grpc_status_of_errno(error), message, false);
}

static void call_headers(struct stream *stream)
{
	const struct stream_head *head = &stream->head;
	char message[96];

	/* An answer that is not gRPC: some proxy's error page. */
	if (head->http_status == 200 && head->is_grpc)
		return;
	if (head->grpc_status >= 0)
		return;
	if (head->http_status != 200)
		snprintf(message, sizeof(message), "unexpected HTTP status code received from server: %d",
			 head->http_status);
	else
		snprintf(message, sizeof(message), "received unexpected content-type from server");
	finish_call(stream->owner, grpc_status_of_http(head->http_status), message, false);
}

static void call_ended(struct stream *stream)
{
	struct client_call *call = stream->owner;
	const struct stream_head *head = &stream->head;

	if (head->grpc_status < 0)
		finish_call(call, GRPC_STATUS_INTERNAL, "server closed the stream without sending trailers", false);
	else if (head->grpc_status != GRPC_STATUS_OK)
		finish_call(call, head->grpc_status, head->grpc_message, false);
	else if (!call->has_response)
		finish_call(call, GRPC_STATUS_INTERNAL, "the server sent no response message", false);
	else
		finish_call(call, GRPC_STATUS_OK, NULL, false);
}

char *client_stream_reason(const struct stream *stream)
{
	const struct stream_head *head = &stream->head;
	char *text;

	if (head->grpc_status == GRPC_STATUS_OK)
		return strdup("EOF");
	if (head->grpc_status < 0)
		return strdup("stream closed without status");
	if (asprintf(&text, "rpc error: code = %s desc = %s", grpc_status_name(head->grpc_status),
		     head->grpc_message ? head->grpc_message : "") < 0)
		return NULL;
	return text;
}

static void call_closed(struct stream *stream, uint32_t error_code)
{
	struct client_call *call = stream->owner;
	bool undelivered = !stream_was_offered(stream) || error_code == NGHTTP2_REFUSED_STREAM;
	const char *failure = stream->transport->failure;
	char message[96];

	call->stream = NULL;
	if (error_code == STREAM_LOST) {
		finish_call(call, GRPC_STATUS_UNAVAILABLE, failure ? failure : "the connection is closing", undelivered);
		return;
	}
	snprintf(message, sizeof(message), "stream terminated by RST_STREAM with error code: %s",
		 nghttp2_http2_strerror(error_code));
	finish_call(call, grpc_status_of_reset(error_code), message, undelivered);
}

static const struct stream_kind call_kind = {
	.headers = call_headers,
	.message = call_message,
	.broken = call_broken,
	.ended = call_ended,
	.closed = call_closed,
};

static void deadline_passed(evutil_socket_t fd, short events, void *context)
{
	struct client_call *call = context;
	(void)fd;
	(void)events;

	finish_call(call, GRPC_STATUS_DEADLINE_EXCEEDED, "context deadline exceeded", !stream_was_offered(call->stream));
}

bool grpc_connection_accepts_calls(const struct grpc_connection *connection)
{
	return connection->transport && connection->is_ready && !connection->is_finishing && !connection->is_going_away &&
	       !connection->transport->failure;
}

bool grpc_connection_is_going_away(const struct grpc_connection *connection)
{
	return connection->is_going_away;
}

int grpc_connection_call(struct grpc_connection *connection, const struct hyper_request *request, unsigned timeout_ms,
			 grpc_call_done done, void *context)
{
	const struct timeval timeout = { timeout_ms / 1000, (suseconds_t)(timeout_ms % 1000) * 1000 };
	struct client_call *call;
	uint8_t *frame;
	size_t size;
	int error;

	if (!connection->transport || !connection->is_ready || connection->transport->failure)
		return -ENOTCONN;
	if (!grpc_connection_accepts_calls(connection))
		return -ESHUTDOWN;
	error = grpc_request_frame(request, &frame, &size);
	if (error)
		return error;
	call = calloc(1, sizeof(*call));
	if (!call) {
		free(frame);
		return -ENOMEM;
	}
	*call = (struct client_call){ .connection = connection, .done = done, .context = context };
	call->deadline = event_new(connection->base, -1, 0, deadline_passed, call);
	if (!call->deadline || event_add(call->deadline, &timeout)) {
		error = -ENOMEM;
		free(frame);
		goto fail;
	}
	error = stream_open(connection->transport, "/Hyper/Call", &call_kind, call, &call->stream);
	if (error) {
		free(frame);
		goto fail;
	}
	error = stream_send(call->stream, frame, size);
	if (error) {
		call->stream->kind = &client_orphan_kind;
		stream_reset(call->stream, NGHTTP2_CANCEL);
		goto fail;
	}
	stream_end(call->stream);
	TAILQ_INSERT_TAIL(&connection->calls, call, link);
	connection->open_calls++;
	return 0;
fail:
	if (call->deadline)
		event_free(call->deadline);
	free(call);
	return error;
}

size_t grpc_connection_open_calls(const struct grpc_connection *connection)
{
	return connection->open_calls;
}

const struct peer_identities *grpc_connection_identities(const struct grpc_connection *connection)
{
	static const struct peer_identities none;

	return connection->transport ? &connection->transport->identities : &none;
}

/* ---- the connection ---- */

static void connection_settled(void *owner)
{
	struct grpc_connection *connection = owner;

	connection->is_ready = true;
	connection->options.ready(connection, connection->options.context);
}

/* What has not gone out will not go out over this connection. */
static void connection_going_away(void *owner)
{
	struct grpc_connection *connection = owner;
	struct client_call *call;

	connection->is_going_away = true;
	client_hold(connection);
	do {
		TAILQ_FOREACH(call, &connection->calls, link)
			if (!call->stream->is_serialized)
				break;
		if (call)
			finish_call(call, GRPC_STATUS_UNAVAILABLE, "the connection is draining", true);
	} while (call && connection->transport);
	if (connection->transport)
		client_reverse_retire(connection);
	/* Nothing new can start: the connection ends with its last call. */
	connection->is_finishing = true;
	client_check_finished(connection);
	client_release(connection);
}

static void connection_failed(const char *reason, void *owner)
{
	struct grpc_connection *connection = owner;
	struct transport *transport = connection->transport;

	/* The reason lives in the transport. */
	transport_hold(transport);
	connection->transport = NULL;
	transport_close(transport);
	connection->options.closed(connection, reason, connection->options.context);
	transport_release(transport);
	client_release(connection);
}

static const struct transport_handlers connection_handlers = {
	.settled = connection_settled,
	.going_away = connection_going_away,
	.failed = connection_failed,
};

void client_check_finished(struct grpc_connection *connection)
{
	if (!connection->is_finishing || !connection->transport || connection->open_calls)
		return;
	client_hold(connection);
	client_reverse_retire(connection); /* its owner may free the connection */
	if (connection->transport && !connection->reverse) {
		if (connection->is_ready)
			transport_terminate(connection->transport, NGHTTP2_NO_ERROR, NULL);
		else
			transport_fail(connection->transport, "the connection is closing");
	}
	client_release(connection);
}

int grpc_connection_start(struct event_base *base, const struct grpc_connection_options *options,
			  struct grpc_connection **result)
{
	const struct transport_options transport_options = {
		.fd = options->fd,
		.tls = options->tls,
		.skip_verify = options->skip_verify,
		.server_name = options->server_name,
		.identifier = options->identifier,
		.handshake_timeout_ms = options->handshake_timeout_ms,
		.keepalive_ms = KEEPALIVE_MS,
		.keepalive_answer_ms = KEEPALIVE_ANSWER_MS,
	};
	struct grpc_connection *connection = calloc(1, sizeof(*connection));
	int error;

	if (!connection) {
		close(options->fd);
		return -ENOMEM;
	}
	connection->references = 1;
	connection->base = base;
	connection->options = *options;
	connection->options.fd = -1;
	connection->options.server_name = NULL; /* the transport has a copy */
	TAILQ_INIT(&connection->calls);
	error = transport_start(base, &transport_options, &connection_handlers, connection, &connection->transport);
	if (error) {
		free(connection);
		return error;
	}
	*result = connection;
	return 0;
}

void grpc_connection_finish(struct grpc_connection *connection)
{
	connection->is_finishing = true;
	client_check_finished(connection);
}

void grpc_connection_free(struct grpc_connection *connection)
{
	struct transport *transport;

	if (!connection || !connection->transport)
		return;
	transport = connection->transport;
	connection->transport = NULL;
	client_reverse_drop(connection);
	transport_close(transport);
	client_release(connection);
}
