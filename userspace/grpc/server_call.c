// SPDX-License-Identifier: Apache-2.0
/* Unary calls, server side (protocol page 6.6).
 *
 * A call becomes the owner's when its request is complete, and stays the
 * owner's until it is answered, whatever becomes of its stream meanwhile. Until
 * then the message is kept as it came: decoded it takes many times the memory.
 * While the answer is on its way only the stream is left. Event loop's thread; the
 * owner may free the server from inside `called`. */
#include "grpc/server_private.h"

#include "base/instant.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct grpc_call {
	struct transport *transport; /* a reference, for the identities */
	struct stream *stream;       /* NULL: gone */
	struct server_connection *connection; /* valid while `stream` is */
	uint8_t *message;                     /* NULL: has not come, or is decoded */
	size_t message_size;
	size_t booked_bytes; /* with the transport, for the message or the request */
	struct hyper_request request;
};

static void free_call(struct grpc_call *call)
{
	transport_return(call->transport, call->booked_bytes);
	transport_release(call->transport);
	free(call->message);
	hyper_request_clear(&call->request);
	free(call);
}

/* The answer is on its way; the call itself is gone. */
static void answered_closed(struct stream *stream, uint32_t error_code)
{
	struct server_connection *connection = stream->owner;
	(void)error_code;

	connection->server->open_calls--;
	connection->streams--;
}

static const struct stream_kind answered_kind = { .closed = answered_closed };

/* The client has left; the owner still works on the answer. */
static void delivered_closed(struct stream *stream, uint32_t error_code)
{
	struct grpc_call *call = stream->owner;
	(void)error_code;

	call->connection->server->open_calls--;
	call->connection->streams--;
	call->stream = NULL;
	call->connection = NULL;
}

const struct stream_kind delivered_kind = { .closed = delivered_closed };

static void refuse_call(struct grpc_call *call, int status, const char *message)
{
	struct stream *stream = call->stream;

	stream->kind = &refused_kind;
	stream->owner = call->connection;
	stream_end_with_status(stream, status, message);
	free_call(call);
}

static void call_broken(struct stream *stream, int error)
{
	char message[96] = "grpc: the request is not a gRPC message";

	if (error == -EMSGSIZE)
		snprintf(message, sizeof(message), "grpc: received message larger than max (%u)", GRPC_MESSAGE_MAX);
	else if (error == -EOPNOTSUPP)
		snprintf(message, sizeof(message), "grpc: compressed messages are not supported");
	else if (error == -ENOBUFS)
		snprintf(message, sizeof(message), "grpc: too many requests are under way");
	refuse_call(stream->owner, grpc_status_of_errno(error), message);
}

static int book(struct grpc_call *call, size_t bytes)
{
	transport_return(call->transport, call->booked_bytes);
	call->booked_bytes = bytes;
	return transport_book(call->transport, bytes) ? 0 : -ENOBUFS;
}

static void call_message(struct stream *stream, const uint8_t *message, size_t size)
{
	struct grpc_call *call = stream->owner;

	if (call->message) {
		refuse_call(call, GRPC_STATUS_INTERNAL, "more than one request message");
		return;
	}
	call->message = frame_splitter_take(&stream->in, message, size);
	call->message_size = size;
	stream_count(stream);
	int error = call->message ? book(call, size) : -ENOMEM;

	if (error)
		call_broken(stream, error);
}

/* 0, -ENOBUFS or what the decoder says. */
static int decode(struct grpc_call *call)
{
	size_t weight_bytes;
	int error = grpc_request_decode_weighed(call->message, call->message_size, &call->request, &weight_bytes);

	free(call->message);
	call->message = NULL;
	return error ? error : book(call, weight_bytes);
}

static void call_ended(struct stream *stream)
{
	struct grpc_call *call = stream->owner;
	struct grpc_server *server = call->connection->server;

	if (!call->message) {
		refuse_call(call, GRPC_STATUS_INTERNAL, "the request has no message");
		return;
	}
	int error = decode(call);

	if (error == -ENOBUFS)
		call_broken(stream, error);
	else if (error)
		refuse_call(call, grpc_status_of_errno(error), grpc_decode_failure(error));
	if (error)
		return;
	stream->kind = &delivered_kind;
	server->open_calls++;
	server->options.called(call, server->options.context);
}

static void call_closed(struct stream *stream, uint32_t error_code)
{
	struct grpc_call *call = stream->owner;
	(void)error_code;

	call->connection->streams--;
	free_call(call);
}

const struct stream_kind call_kind = {
	.message = call_message,
	.broken = call_broken,
	.ended = call_ended,
	.closed = call_closed,
};

const struct hyper_request *grpc_call_request(const struct grpc_call *call)
{
	return &call->request;
}

const struct peer_identities *grpc_call_identities(const struct grpc_call *call)
{
	return &call->transport->identities;
}

void grpc_call_fail(struct grpc_call *call, int status, const char *message)
{
	if (call->stream) {
		call->stream->kind = &answered_kind;
		call->stream->owner = call->connection;
		stream_end_with_status(call->stream, status, message);
	}
	free_call(call);
}

void grpc_call_expel(struct grpc_call *call, int status, const char *message)
{
	if (call->stream) {
		/* Not the session's own termination, which would hold the status back. What
		 * does not end by itself is ended by the next tick. */
		call->connection->drain_end_ms = clock_now_ms();
		transport_terminate(call->transport, NGHTTP2_NO_ERROR, message);
	}
	grpc_call_fail(call, status, message);
}

void grpc_call_respond(struct grpc_call *call, const struct hyper_response *response)
{
	uint8_t *frame;
	size_t size;
	int error;

	if (!call->stream) {
		free_call(call);
		return;
	}
	error = grpc_response_frame(response, &frame, &size);
	if (!error)
		error = stream_send(call->stream, frame, size);
	if (error)
		grpc_call_fail(call, grpc_status_of_errno(error), grpc_frame_failure(error));
	else
		grpc_call_fail(call, GRPC_STATUS_OK, NULL);
}

void call_accept(struct server_connection *connection, struct stream *stream)
{
	struct grpc_call *call = calloc(1, sizeof(*call));

	if (!call) {
		stream_end_with_status(stream, GRPC_STATUS_RESOURCE_EXHAUSTED, "no memory");
		return;
	}
	call->transport = transport_hold(connection->transport);
	call->stream = stream;
	call->connection = connection;
	stream->kind = &call_kind;
	stream->owner = call;
}
