// SPDX-License-Identifier: Apache-2.0
/* nghttp2's view of a connection: callbacks that turn frames of the peer into
 * events of streams, and the limits that the peer is told.
 *
 * Every callback first looks whether the owner has closed the transport from
 * inside an earlier one: then its streams are gone and nghttp2 is made to stop.
 * Flow control: what arrived is consumed at once, because a stream gathers one
 * message at most and the sum is limited (stream_count). Event loop's thread. */
#include "grpc/transport.h"

#include "base/instant.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAMS_MAX 1000u
#define STREAM_WINDOW (1 << 20)
#define CONNECTION_WINDOW (8 << 20)
/* A status message is the longest thing that a peer of ours sends. */
#define HEADERS_MAX_SERVER (16u << 10)
#define HEADERS_MAX_CLIENT (64u << 10)
/* New streams that a client may reset: at once, and per second from then on. */
#define RESET_BURST 1000
#define RESET_RATE 100

static const uint8_t drain_ping[8] = "goodbye";

static int begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct transport *transport = user;

	if (transport->is_closed)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (!transport->is_server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	struct stream *stream = stream_create(transport, frame->hd.stream_id);

	if (!stream)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	nghttp2_session_set_stream_user_data(session, stream->id, stream);
	transport->handlers->stream_begun(stream, transport->owner);
	return 0;
}

static bool is_grpc_type(const char *value)
{
	static const char type[] = "application/grpc";
	const char *rest = value + sizeof(type) - 1;

	return !strncasecmp(value, type, sizeof(type) - 1) && (!*rest || *rest == '+' || *rest == ';');
}

static int take_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name_bytes,
		       size_t name_size, const uint8_t *value_bytes, size_t value_size, uint8_t flags, void *user)
{
	struct transport *transport = user;
	const char *name = (const char *)name_bytes, *value = (const char *)value_bytes;
	(void)flags;

	if (transport->is_closed)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	struct stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	if (!stream)
		return 0;
	struct stream_head *head = &stream->head;

	head->size += name_size + value_size + 32;
	if (head->size > (transport->is_server ? HEADERS_MAX_SERVER : HEADERS_MAX_CLIENT))
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (!strcmp(name, ":method")) {
		head->is_post = !strcmp(value, "POST");
	} else if (!strcmp(name, ":path")) {
		if (value_size < sizeof(head->path))
			memcpy(head->path, value, value_size + 1);
	} else if (!strcmp(name, "content-type")) {
		head->is_grpc = is_grpc_type(value);
	} else if (!strcmp(name, ":status")) {
		head->http_status = atoi(value);
	} else if (!strcmp(name, "grpc-status")) {
		char *end;
		long status = strtol(value, &end, 10);

		head->grpc_status = end != value && !*end && status >= 0 && status <= 0xffff ? (int)status
											      : GRPC_STATUS_UNKNOWN;
	} else if (!strcmp(name, "grpc-message")) {
		free(head->grpc_message);
		head->grpc_message = grpc_message_decode(value, value_size);
	}
	return 0;
}

static int finish_headers(struct transport *transport, struct stream *stream)
{
	/* "100 continue" and its like come before the real headers. */
	if (stream->head.http_status / 100 == 1) {
		stream->head.http_status = 0;
		return 0;
	}
	if (stream->kind && stream->kind->headers)
		stream->kind->headers(stream);
	return transport->is_closed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static void note_goodbye(struct transport *transport, const nghttp2_goaway *goaway)
{
	char debug[80];
	size_t size = goaway->opaque_data_len < sizeof(debug) - 1 ? goaway->opaque_data_len : sizeof(debug) - 1;

	for (size_t i = 0; i < size; i++) {
		char byte = (char)goaway->opaque_data[i];

		debug[i] = byte >= ' ' && byte <= '~' && byte != '"' ? byte : '?';
	}
	debug[size] = 0;
	free(transport->peer_goodbye);
	if (asprintf(&transport->peer_goodbye, "code: %s, debug data: \"%s\"", nghttp2_http2_strerror(goaway->error_code),
		     debug) < 0)
		transport->peer_goodbye = NULL;
	transport->was_goaway_received = true;
	if (transport->handlers->going_away)
		transport->handlers->going_away(transport->owner);
}

static int take_connection_frame(nghttp2_session *session, const nghttp2_frame *frame, struct transport *transport)
{
	switch (frame->hd.type) {
	case NGHTTP2_SETTINGS:
		if (!(frame->hd.flags & NGHTTP2_FLAG_ACK) && !transport->is_settled) {
			transport->is_settled = true;
			if (transport->handlers->settled)
				transport->handlers->settled(transport->owner);
		}
		break;
	case NGHTTP2_PING:
		if (!(frame->hd.flags & NGHTTP2_FLAG_ACK)) {
			if (transport->handlers->pinged)
				transport->handlers->pinged(transport->owner);
		} else if (transport->is_saying_goodbye && !transport->is_goodbye_said &&
			   !memcmp(frame->ping.opaque_data, drain_ping, sizeof(drain_ping))) {
			transport->is_goodbye_said = true;
			nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE,
					      nghttp2_session_get_last_proc_stream_id(session), NGHTTP2_NO_ERROR, NULL, 0);
		}
		break;
	case NGHTTP2_GOAWAY:
		note_goodbye(transport, &frame->goaway);
		break;
	default:
		break;
	}
	return transport->is_closed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int take_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct transport *transport = user;
	struct stream *stream;
	int result;

	if (transport->is_closed)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return take_connection_frame(session, frame, transport);
	stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (!stream)
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS) {
		result = finish_headers(transport, stream);
		if (result)
			return result;
	}
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
		stream->is_peer_ended = true;
		if (!stream->is_in_broken && !frame_splitter_is_between(&stream->in)) {
			stream->is_in_broken = true;
			if (stream->kind && stream->kind->broken)
				stream->kind->broken(stream, -EBADMSG);
		} else if (stream->kind && stream->kind->ended) {
			stream->kind->ended(stream);
		}
	}
	return transport->is_closed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int take_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t size, void *user)
{
	struct transport *transport = user;
	struct stream *stream = transport->is_closed ? NULL : nghttp2_session_get_stream_user_data(session, id);
	size_t left = size, message_size;
	const uint8_t *message;
	int result;
	(void)flags;

	if (transport->is_closed)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	nghttp2_session_consume(session, id, size);
	if (!stream)
		return 0;
	stream->progress_ms = clock_now_ms();
	while (!stream->is_in_broken) {
		result = frame_splitter_next(&stream->in, &bytes, &left, &message, &message_size);
		if (result >= 0 && !stream_count(stream))
			result = -ENOBUFS;
		if (result == 0)
			break;
		if (result < 0) {
			stream->is_in_broken = true;
			frame_splitter_clear(&stream->in);
			stream_count(stream);
			if (stream->kind && stream->kind->broken)
				stream->kind->broken(stream, result);
		} else if (stream->kind && stream->kind->message) {
			stream->kind->message(stream, message, message_size);
		}
		if (transport->is_closed)
			return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	return 0;
}

/* Never fails: nghttp2 would lose what it is working on. */
static int close_stream(nghttp2_session *session, int32_t id, uint32_t error_code, void *user)
{
	struct transport *transport = user;
	struct stream *stream = transport->is_closed ? NULL : nghttp2_session_get_stream_user_data(session, id);

	if (!stream)
		return 0;
	nghttp2_session_set_stream_user_data(session, id, NULL);
	stream_destroy(stream, error_code);
	if (!transport->is_closed && transport->handlers->stream_gone)
		transport->handlers->stream_gone(transport->owner);
	transport_schedule(transport);
	return 0;
}

static int before_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct transport *transport = user;

	if (transport->is_closed)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	struct stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	transport->was_data_sent = true;
	if (stream && !stream->is_serialized) {
		stream->is_serialized = true;
		stream->header_offset = transport->serialized;
	}
	return 0;
}

static int after_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct transport *transport = user;

	if (transport->is_closed)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR && !transport->failure) {
		/* The peer is told, the owner too. */
		transport_fail(transport, "protocol error: %s%s%s", nghttp2_http2_strerror(frame->goaway.error_code),
			       transport->session_error[0] ? ": " : "", transport->session_error);
		return 0;
	}
	if (!transport->is_server || frame->hd.type != NGHTTP2_HEADERS ||
	    !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	/* Answered before the request was complete: nobody reads the rest. */
	struct stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	if (stream && !stream->is_peer_ended)
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
	return 0;
}

static int note_error(nghttp2_session *session, int code, const char *text, size_t size, void *user)
{
	struct transport *transport = user;
	(void)session;
	(void)code;
	(void)size;

	snprintf(transport->session_error, sizeof(transport->session_error), "%s", text);
	for (char *at = transport->session_error; *at; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
	return 0;
}

static nghttp2_session_callbacks *make_callbacks(void)
{
	nghttp2_session_callbacks *callbacks;

	if (nghttp2_session_callbacks_new(&callbacks))
		return NULL;
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, take_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, take_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, take_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, close_stream);
	nghttp2_session_callbacks_set_before_frame_send_callback(callbacks, before_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, after_frame);
	nghttp2_session_callbacks_set_error_callback2(callbacks, note_error);
	return callbacks;
}

int session_create(struct transport *transport)
{
	const nghttp2_settings_entry server_settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADERS_MAX_SERVER },
	};
	const nghttp2_settings_entry client_settings[] = {
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADERS_MAX_CLIENT },
	};
	nghttp2_session_callbacks *callbacks = make_callbacks();
	nghttp2_option *option = NULL;
	int result = NGHTTP2_ERR_NOMEM;

	if (callbacks && !nghttp2_option_new(&option)) {
		nghttp2_option_set_no_auto_window_update(option, 1);
		nghttp2_option_set_no_closed_streams(option, 1);
		nghttp2_option_set_stream_reset_rate_limit(option, RESET_BURST, RESET_RATE);
		result = transport->is_server
				 ? nghttp2_session_server_new2(&transport->session, callbacks, transport, option)
				 : nghttp2_session_client_new2(&transport->session, callbacks, transport, option);
	}
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	if (result) {
		transport->session = NULL;
		return -ENOMEM;
	}
	if (nghttp2_submit_settings(transport->session, NGHTTP2_FLAG_NONE,
				    transport->is_server ? server_settings : client_settings, 3) ||
	    nghttp2_session_set_local_window_size(transport->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW))
		return -ENOMEM;
	return 0;
}

void transport_drain(struct transport *transport)
{
	if (!transport->session || transport->is_closed || transport->is_saying_goodbye)
		return;
	transport->is_saying_goodbye = true;
	nghttp2_submit_shutdown_notice(transport->session);
	nghttp2_submit_ping(transport->session, NGHTTP2_FLAG_NONE, drain_ping);
	transport_schedule(transport);
}

void transport_terminate(struct transport *transport, uint32_t error_code, const char *debug)
{
	if (!transport->session || transport->is_closed)
		return;
	transport->is_saying_goodbye = transport->is_goodbye_said = true;
	if (debug)
		nghttp2_submit_goaway(transport->session, NGHTTP2_FLAG_NONE,
				      nghttp2_session_get_last_proc_stream_id(transport->session), error_code,
				      (const uint8_t *)debug, strlen(debug));
	else
		nghttp2_session_terminate_session(transport->session, error_code);
	transport_schedule(transport);
}
