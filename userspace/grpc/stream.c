// SPDX-License-Identifier: Apache-2.0
/* What goes out on a stream: queued frames, then the end of the request or the
 * trailers of the answer. nghttp2 asks for bytes when the peer's windows are
 * open, so a queue may wait for as long as its owner allows.
 *
 * Invariant: a stream is in its transport's list until stream_destroy(), which
 * happens when nghttp2 closes it or when the transport goes. Event loop's thread. */
#include "grpc/stream.h"

#include "base/instant.h"
#include "grpc/transport.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct outgoing {
	STAILQ_ENTRY(outgoing) link;
	uint8_t *frame;
	size_t size, sent;
};

struct stream *stream_create(struct transport *transport, int32_t id)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->transport = transport;
	stream->id = id;
	stream->head.grpc_status = -1;
	stream->begun_ms = stream->progress_ms = clock_now_ms();
	STAILQ_INIT(&stream->out);
	LIST_INSERT_HEAD(&transport->streams, stream, link);
	return stream;
}

bool stream_count(struct stream *stream)
{
	struct transport *transport = stream->transport;
	size_t now = stream->in.capacity + stream->out_size;
	size_t before = stream->counted;

	stream->counted = now;
	if (now > before)
		return transport_book(transport, now - before);
	transport_return(transport, before - now);
	return true;
}

static void drop_first(struct stream *stream)
{
	struct outgoing *first = STAILQ_FIRST(&stream->out);

	STAILQ_REMOVE_HEAD(&stream->out, link);
	free(first->frame);
	free(first);
}

void stream_destroy(struct stream *stream, uint32_t error_code)
{
	LIST_REMOVE(stream, link);
	frame_splitter_clear(&stream->in);
	while (!STAILQ_EMPTY(&stream->out))
		drop_first(stream);
	stream->out_size = 0;
	stream_count(stream);
	if (stream->kind)
		stream->kind->closed(stream, error_code);
	free(stream->status_message);
	free(stream->head.grpc_message);
	free(stream);
}

static nghttp2_nv header(const char *name, const char *value)
{
	return (nghttp2_nv){ (uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE };
}

#define STATUS_TEXT_SIZE 12
static void fill_trailers(const struct stream *stream, char status[STATUS_TEXT_SIZE], nghttp2_nv trailers[2])
{
	snprintf(status, STATUS_TEXT_SIZE, "%d", stream->status);
	trailers[0] = header("grpc-status", status);
	trailers[1] = header("grpc-message", stream->status_message ? stream->status_message : "");
}

static ssize_t give_data(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t length, uint32_t *flags,
			 nghttp2_data_source *source, void *user)
{
	struct transport *transport = user;
	struct stream *stream = source->ptr;
	size_t given = 0;

	if (transport->is_closed)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	while (given < length && !STAILQ_EMPTY(&stream->out)) {
		struct outgoing *first = STAILQ_FIRST(&stream->out);
		size_t part = first->size - first->sent;

		if (part > length - given)
			part = length - given;
		memcpy(buffer + given, first->frame + first->sent, part);
		first->sent += part;
		given += part;
		if (first->sent == first->size) {
			stream->out_size -= first->size;
			drop_first(stream);
		}
	}
	if (given) {
		stream->progress_ms = clock_now_ms();
		transport->was_data_sent = true;
		stream_count(stream);
	}
	if (STAILQ_EMPTY(&stream->out) && stream->is_out_ended) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (transport->is_server) {
			char status[STATUS_TEXT_SIZE];
			nghttp2_nv trailers[2];

			fill_trailers(stream, status, trailers);
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			if (nghttp2_submit_trailer(session, id, trailers, 2))
				return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		}
		return (ssize_t)given;
	}
	if (!given) {
		stream->is_waiting_for_data = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	return (ssize_t)given;
}

static void wake(struct stream *stream)
{
	if (stream->transport->is_closed)
		return;
	if (stream->is_waiting_for_data) {
		stream->is_waiting_for_data = false;
		nghttp2_session_resume_data(stream->transport->session, stream->id);
	}
	transport_schedule(stream->transport);
}

int stream_open(struct transport *transport, const char *path, const struct stream_kind *kind, void *owner,
		struct stream **result)
{
	nghttp2_nv headers[] = {
		header(":method", "POST"),
		header(":scheme", "https"),
		header(":path", path),
		header(":authority", transport->server_name),
		header("content-type", "application/grpc"),
		header("user-agent", "hyper-relay"),
		header("te", "trailers"),
	};
	struct stream *stream;

	if (transport->is_closed || transport->failure || !transport->session)
		return -ENOTCONN;
	stream = stream_create(transport, 0);
	if (!stream)
		return -ENOMEM;
	nghttp2_data_provider provider = { .source.ptr = stream, .read_callback = give_data };

	stream->id = nghttp2_submit_request(transport->session, NULL, headers, sizeof(headers) / sizeof(*headers),
					    &provider, stream);
	if (stream->id < 0) {
		int error = stream->id == NGHTTP2_ERR_NOMEM ? -ENOMEM : -ESHUTDOWN;

		stream_destroy(stream, STREAM_LOST);
		return error;
	}
	stream->kind = kind;
	stream->owner = owner;
	transport_schedule(transport);
	*result = stream;
	return 0;
}

/* Server: the answer's first HEADERS, before the first message. */
static int answer(struct stream *stream)
{
	nghttp2_nv headers[] = { header(":status", "200"), header("content-type", "application/grpc") };
	nghttp2_data_provider provider = { .source.ptr = stream, .read_callback = give_data };

	stream->is_answered = true;
	return nghttp2_submit_response(stream->transport->session, stream->id, headers, 2, &provider) ? -ENOMEM : 0;
}

int stream_send(struct stream *stream, uint8_t *frame, size_t size)
{
	struct outgoing *outgoing = malloc(sizeof(*outgoing));
	int error = -ENOMEM;

	if (stream->transport->is_closed)
		error = -ENOTCONN;
	if (!outgoing || stream->transport->is_closed)
		goto fail;
	stream->out_size += size;
	if (!stream_count(stream)) {
		error = -ENOBUFS;
		stream->out_size -= size;
		stream_count(stream);
		goto fail;
	}
	*outgoing = (struct outgoing){ .frame = frame, .size = size };
	STAILQ_INSERT_TAIL(&stream->out, outgoing, link);
	stream->progress_ms = clock_now_ms();
	if (stream->transport->is_server && !stream->is_answered && answer(stream)) {
		transport_fail(stream->transport, "no memory");
		return -ENOMEM;
	}
	wake(stream);
	return 0;
fail:
	free(outgoing);
	free(frame);
	return error;
}

void stream_end(struct stream *stream)
{
	stream->is_out_ended = true;
	wake(stream);
}

void stream_end_with_status(struct stream *stream, int status, const char *message)
{
	if (stream->is_out_ended || stream->transport->is_closed)
		return;
	stream->is_out_ended = true;
	stream->status = status;
	stream->status_message = message && *message ? grpc_message_encode(message) : NULL;
	stream->progress_ms = clock_now_ms();
	if (!stream->is_answered) {
		char text[STATUS_TEXT_SIZE];
		nghttp2_nv headers[4] = { header(":status", "200"), header("content-type", "application/grpc") };

		stream->is_answered = true;
		fill_trailers(stream, text, headers + 2);
		if (nghttp2_submit_response(stream->transport->session, stream->id, headers, 4, NULL))
			transport_fail(stream->transport, "no memory");
	}
	wake(stream);
}

void stream_reset(struct stream *stream, uint32_t error_code)
{
	if (stream->transport->is_closed)
		return;
	stream->is_out_ended = true;
	nghttp2_submit_rst_stream(stream->transport->session, NGHTTP2_FLAG_NONE, stream->id, error_code);
	transport_schedule(stream->transport);
}

bool stream_was_offered(const struct stream *stream)
{
	return stream->is_serialized && stream->transport->offered > stream->header_offset;
}
