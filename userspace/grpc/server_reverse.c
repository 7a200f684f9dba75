// SPDX-License-Identifier: Apache-2.0
/* ServerCall streams, server side (protocol page 6.7): the client announces its
 * name, then this side sends requests, one at a time, and the answers come in
 * order.
 *
 * One object per stream, never shared between streams of the same name, so that
 * the end of an old stream says nothing about a newer one. Requests wait in a
 * queue whose head is the one under way; each has its own deadline. When the
 * one under way is late the stream ends, because its late answer would be taken
 * for the next one's. References: the stream's, and one on the stack of each
 * function that calls the owner. Event loop's thread. */
#include "grpc/server_private.h"

#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_MAX 1024u

struct reverse_call {
	TAILQ_ENTRY(reverse_call) link;
	struct grpc_reverse *reverse;
	uint8_t *frame; /* NULL: sent */
	size_t size;
	struct event *deadline;
	grpc_reverse_done done;
	void *context;
};

struct grpc_reverse {
	unsigned references;
	struct server_connection *connection; /* valid while `stream` is */
	struct stream *stream;                /* NULL: gone */
	TAILQ_HEAD(reverse_queue, reverse_call) queue;
	size_t queued;
	bool is_announced, is_expelled, is_ended;
};

static void release(struct grpc_reverse *reverse)
{
	if (--reverse->references)
		return;
	free(reverse);
}

static void finish_call(struct reverse_call *call, const struct hyper_response *response, const char *failure)
{
	struct grpc_reverse *reverse = call->reverse;

	TAILQ_REMOVE(&reverse->queue, call, link);
	reverse->queued--;
	event_free(call->deadline);
	free(call->frame);
	call->done(response, failure, call->context);
	free(call);
}

/* Idempotent: fails what waits and tells the owner. */
static void end_reverse(struct grpc_reverse *reverse, const char *failure)
{
	struct reverse_call *call;

	if (reverse->is_ended)
		return;
	reverse->is_ended = true;
	reverse->references++;
	struct grpc_server_options options = reverse->connection->server->options;

	while ((call = TAILQ_FIRST(&reverse->queue)))
		finish_call(call, NULL, failure);
	/* A done function may have freed the server, which was told of the end here all the same. */
	if (reverse->is_announced && options.reverse_ended)
		options.reverse_ended(reverse, options.context);
	release(reverse);
}

static void stop_reverse(struct grpc_reverse *reverse, int status, const char *message)
{
	if (reverse->stream)
		stream_end_with_status(reverse->stream, status, message);
	end_reverse(reverse, message && *message ? message : "stream closed by the peer");
}

/* Sends the head of the queue unless it is under way. */
static void send_next(struct grpc_reverse *reverse)
{
	struct reverse_call *call = TAILQ_FIRST(&reverse->queue);

	if (!call || !call->frame || !reverse->stream || reverse->is_expelled)
		return;
	uint8_t *frame = call->frame;

	call->frame = NULL;
	if (stream_send(reverse->stream, frame, call->size))
		transport_fail(reverse->stream->transport, "too much waits for the peer of a reverse stream");
}

static void take_announcement(struct grpc_reverse *reverse, const struct hyper_response *response)
{
	struct server_connection *connection = reverse->connection;
	struct grpc_server *server = connection->server;
	const char *name = json_text(response->result, "name");

	if (!name) {
		stop_reverse(reverse, GRPC_STATUS_UNKNOWN, "invalid client announcement");
		return;
	}
	if (!*name || !peer_identities_find(&connection->transport->identities, name)) {
		uint64_t held_back;

		if (log_limiter_take(&server->lines, &held_back)) {
			log_limiter_tell(held_back, "gRPC server: refused connections");
			log_warning("gRPC server %s: %s announced a name that its certificate does not cover", server->name,
				    connection->transport->peer);
		}
		stop_reverse(reverse, GRPC_STATUS_UNKNOWN, "invalid client name supplied");
		return;
	}
	reverse->is_announced = true;
	if (server->options.reverse_opened)
		server->options.reverse_opened(reverse, name, server->options.context);
}

static void reverse_message(struct stream *stream, const uint8_t *message, size_t size)
{
	struct grpc_reverse *reverse = stream->owner;
	struct reverse_call *call = TAILQ_FIRST(&reverse->queue);
	struct hyper_response response;

	if (reverse->is_ended)
		return;
	reverse->references++;
	if (grpc_response_decode(message, size, &response)) {
		stop_reverse(reverse, GRPC_STATUS_INTERNAL, "grpc: the response cannot be decoded");
	} else {
		if (!reverse->is_announced) {
			take_announcement(reverse, &response);
		} else if (!call || call->frame) {
			stop_reverse(reverse, GRPC_STATUS_UNKNOWN, "a response without a request");
		} else {
			finish_call(call, &response, NULL);
			if (!reverse->is_ended)
				send_next(reverse);
		}
		hyper_response_clear(&response);
	}
	release(reverse);
}

static void reverse_broken(struct stream *stream, int error)
{
	stop_reverse(stream->owner, grpc_status_of_errno(error), "grpc: the response is not a gRPC message");
}

static void reverse_peer_ended(struct stream *stream)
{
	stop_reverse(stream->owner, GRPC_STATUS_OK, NULL);
}

static void reverse_closed(struct stream *stream, uint32_t error_code)
{
	struct grpc_reverse *reverse = stream->owner;

	reverse->connection->streams--;
	reverse->stream = NULL;
	end_reverse(reverse, error_code == STREAM_LOST ? "the connection of the reverse stream was lost"
						       : "the reverse stream was reset");
	release(reverse);
}

const struct stream_kind reverse_kind = {
	.message = reverse_message,
	.broken = reverse_broken,
	.ended = reverse_peer_ended,
	.closed = reverse_closed,
};

void reverse_accept(struct server_connection *connection, struct stream *stream)
{
	struct grpc_reverse *reverse = calloc(1, sizeof(*reverse));

	if (!reverse) {
		stream_end_with_status(stream, GRPC_STATUS_RESOURCE_EXHAUSTED, "no memory");
		return;
	}
	reverse->references = 1;
	reverse->connection = connection;
	reverse->stream = stream;
	TAILQ_INIT(&reverse->queue);
	stream->kind = &reverse_kind;
	stream->owner = reverse;
}

void reverse_check_stall(struct stream *stream, uint64_t now_ms)
{
	const struct grpc_reverse *reverse = stream->owner;

	if ((reverse->is_ended || reverse->is_expelled) && now_ms >= stream->progress_ms + STALL_MS)
		stream_reset(stream, NGHTTP2_CANCEL);
	else if (!reverse->is_ended && !reverse->is_announced)
		stream_end_with_status(stream, GRPC_STATUS_UNKNOWN, "invalid client announcement");
}

const struct peer_identities *grpc_reverse_identities(const struct grpc_reverse *reverse)
{
	return reverse->stream ? &reverse->connection->transport->identities : NULL;
}

void grpc_reverse_expel(struct grpc_reverse *reverse, int status, const char *message)
{
	if (reverse->is_expelled || reverse->is_ended || !reverse->stream)
		return;
	reverse->is_expelled = true;
	stream_end_with_status(reverse->stream, status, message);
}

static void deadline_passed(evutil_socket_t fd, short events, void *context)
{
	struct reverse_call *call = context;
	struct grpc_reverse *reverse = call->reverse;
	bool is_under_way = !call->frame;
	(void)fd;
	(void)events;

	reverse->references++;
	finish_call(call, NULL, is_under_way ? "no answer over the reverse stream in time"
					     : "the reverse stream was busy for too long");
	if (is_under_way)
		stop_reverse(reverse, GRPC_STATUS_DEADLINE_EXCEEDED, "no answer in time");
	release(reverse);
}

int grpc_reverse_send(struct grpc_reverse *reverse, const struct hyper_request *request, unsigned timeout_ms,
		      grpc_reverse_done done, void *context)
{
	const struct timeval timeout = { timeout_ms / 1000, (suseconds_t)(timeout_ms % 1000) * 1000 };
	struct reverse_call *call;
	int error;

	if (reverse->is_ended || reverse->is_expelled || !reverse->stream)
		return -EPIPE;
	if (reverse->queued >= QUEUE_MAX)
		return -ENOBUFS;
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	*call = (struct reverse_call){ .reverse = reverse, .done = done, .context = context };
	error = grpc_request_frame(request, &call->frame, &call->size);
	if (error)
		goto fail;
	error = -ENOMEM;
	call->deadline = event_new(reverse->connection->server->base, -1, 0, deadline_passed, call);
	if (!call->deadline || event_add(call->deadline, &timeout))
		goto fail;
	TAILQ_INSERT_TAIL(&reverse->queue, call, link);
	reverse->queued++;
	send_next(reverse);
	return 0;
fail:
	if (call->deadline)
		event_free(call->deadline);
	free(call->frame);
	free(call);
	return error;
}
