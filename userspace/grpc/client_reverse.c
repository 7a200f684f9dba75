// SPDX-License-Identifier: Apache-2.0
/* The reverse stream of an outgoing connection (protocol page 6.7): announces
 * our name, then hands out the server's requests and sends the answers in the
 * order of the requests, whatever order the owner answers in.
 *
 * A request belongs to the owner until it is answered, also when the stream or
 * the connection has gone meanwhile; `reverse` is NULL from then on and the
 * answer is dropped. Event loop's thread. */
#include "grpc/client_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A server has one request under way; more means that it does not keep to it. */
#define REQUESTS_MAX 64u

struct grpc_reverse_request {
	TAILQ_ENTRY(grpc_reverse_request) link;
	struct client_reverse *reverse; /* NULL: the stream has ended */
	struct transport *transport;    /* a reference, for the identities */
	struct hyper_request request;
	uint8_t *answer; /* waits for its turn */
	size_t answer_size;
};

struct client_reverse {
	struct grpc_connection *connection;
	struct stream *stream; /* NULL: gone */
	struct grpc_reverse_handlers handlers;
	TAILQ_HEAD(, grpc_reverse_request) requests;
	size_t open_requests;
	bool is_retiring;
};

static void free_request(struct grpc_reverse_request *request)
{
	transport_release(request->transport);
	hyper_request_clear(&request->request);
	free(request->answer);
	free(request);
}

/* Takes the stream from the connection; open requests stay with the owner. */
static void end_reverse(struct client_reverse *reverse, const char *reason, bool is_told)
{
	struct grpc_connection *connection = reverse->connection;
	const struct grpc_reverse_handlers handlers = reverse->handlers;
	struct grpc_reverse_request *request;

	connection->reverse = NULL;
	while ((request = TAILQ_FIRST(&reverse->requests))) {
		TAILQ_REMOVE(&reverse->requests, request, link);
		request->reverse = NULL;
		/* Answered ones that waited for an earlier one are ours. */
		if (request->answer)
			free_request(request);
	}
	if (reverse->stream) {
		reverse->stream->kind = &client_orphan_kind;
		reverse->stream->owner = NULL;
		stream_reset(reverse->stream, NGHTTP2_CANCEL);
	}
	free(reverse);
	if (is_told)
		handlers.ended(connection, reason, handlers.context);
}

void client_reverse_drop(struct grpc_connection *connection)
{
	if (connection->reverse)
		end_reverse(connection->reverse, NULL, false);
}

void client_reverse_retire(struct grpc_connection *connection)
{
	struct client_reverse *reverse = connection->reverse;

	if (!reverse)
		return;
	reverse->is_retiring = true;
	if (reverse->open_requests)
		return;
	if (!reverse->stream->out_size)
		end_reverse(reverse, "the connection is draining", true);
	else
		stream_end(reverse->stream); /* the server answers with trailers */
}

static void end_with_reason(struct client_reverse *reverse, const char *reason)
{
	struct grpc_connection *connection = reverse->connection;

	client_hold(connection);
	end_reverse(reverse, reason, true);
	client_check_finished(connection);
	client_release(connection);
}

static void reverse_message(struct stream *stream, const uint8_t *message, size_t size)
{
	struct client_reverse *reverse = stream->owner;
	struct grpc_reverse_request *request;

	if (reverse->open_requests >= REQUESTS_MAX) {
		end_with_reason(reverse, "too many requests at once");
		return;
	}
	request = calloc(1, sizeof(*request));
	if (!request || grpc_request_decode(message, size, &request->request)) {
		free(request);
		end_with_reason(reverse, "a request cannot be decoded");
		return;
	}
	request->reverse = reverse;
	request->transport = transport_hold(stream->transport);
	TAILQ_INSERT_TAIL(&reverse->requests, request, link);
	reverse->open_requests++;
	reverse->handlers.requested(request, reverse->handlers.context);
}

static void reverse_broken(struct stream *stream, int error)
{
	end_with_reason(stream->owner, error == -EMSGSIZE ? "a request is too large" : "a request is not a gRPC message");
}

static void reverse_headers(struct stream *stream)
{
	const struct stream_head *head = &stream->head;

	if ((head->http_status != 200 || !head->is_grpc) && head->grpc_status < 0)
		end_with_reason(stream->owner, "the answer is not gRPC");
}

static void reverse_peer_ended(struct stream *stream)
{
	char *reason = client_stream_reason(stream);

	end_with_reason(stream->owner, reason ? reason : "EOF");
	free(reason);
}

static void reverse_closed(struct stream *stream, uint32_t error_code)
{
	struct client_reverse *reverse = stream->owner;
	const char *failure = stream->transport->failure;

	reverse->stream = NULL;
	if (error_code == STREAM_LOST)
		end_with_reason(reverse, failure ? failure : "the connection is closing");
	else
		end_with_reason(reverse, nghttp2_http2_strerror(error_code));
}

static const struct stream_kind reverse_kind = {
	.headers = reverse_headers,
	.message = reverse_message,
	.broken = reverse_broken,
	.ended = reverse_peer_ended,
	.closed = reverse_closed,
};

int grpc_connection_open_reverse(struct grpc_connection *connection, const char *own_name,
				 const struct grpc_reverse_handlers *handlers)
{
	struct hyper_response announcement = { .id = (char *)"1" };
	struct client_reverse *reverse;
	uint8_t *frame;
	size_t size;
	int error;

	if (!connection->transport || !connection->is_ready)
		return -ENOTCONN;
	if (!grpc_connection_accepts_calls(connection))
		return -ESHUTDOWN;
	if (connection->reverse)
		return -EBUSY;
	announcement.result = json_pack("{s:s}", "name", own_name);
	error = announcement.result ? grpc_response_frame(&announcement, &frame, &size) : -ENOMEM;
	json_decref(announcement.result);
	if (error)
		return error;
	reverse = calloc(1, sizeof(*reverse));
	if (!reverse) {
		free(frame);
		return -ENOMEM;
	}
	reverse->connection = connection;
	reverse->handlers = *handlers;
	TAILQ_INIT(&reverse->requests);
	error = stream_open(connection->transport, "/Hyper/ServerCall", &reverse_kind, reverse, &reverse->stream);
	if (error) {
		free(frame);
		free(reverse);
		return error;
	}
	error = stream_send(reverse->stream, frame, size);
	if (error) {
		end_reverse(reverse, NULL, false);
		return error;
	}
	connection->reverse = reverse;
	return 0;
}

const struct hyper_request *grpc_reverse_request_get(const struct grpc_reverse_request *request)
{
	return &request->request;
}

const struct peer_identities *grpc_reverse_request_identities(const struct grpc_reverse_request *request)
{
	return &request->transport->identities;
}

/* An answer for a response that cannot be sent as it is. */
static int frame_failure(const struct hyper_request *request, int error, uint8_t **frame, size_t *size)
{
	const struct hyper_response failure = {
		.id = request->id,
		.has_error = true,
		.code = -100,
		.message = (char *)grpc_frame_failure(error),
	};

	return grpc_response_frame(&failure, frame, size);
}

void grpc_reverse_answer(struct grpc_reverse_request *request, const struct hyper_response *response)
{
	struct client_reverse *reverse = request->reverse;
	struct grpc_connection *connection;
	int error;

	if (!reverse) {
		free_request(request);
		return;
	}
	error = grpc_response_frame(response, &request->answer, &request->answer_size);
	if (error)
		error = frame_failure(&request->request, error, &request->answer, &request->answer_size);
	connection = reverse->connection;
	while (!error && (request = TAILQ_FIRST(&reverse->requests)) && request->answer) {
		uint8_t *frame = request->answer;

		request->answer = NULL;
		error = stream_send(reverse->stream, frame, request->answer_size);
		TAILQ_REMOVE(&reverse->requests, request, link);
		reverse->open_requests--;
		free_request(request);
	}
	if (error) {
		transport_fail(connection->transport, "answers of the reverse stream cannot be sent: %s", strerror(-error));
		return;
	}
	if (reverse->is_retiring)
		client_reverse_retire(connection);
}
