// SPDX-License-Identifier: Apache-2.0
#pragma once
/* One HTTP/2 stream that carries gRPC messages, seen from either side. Streams
 * belong to a transport; who uses one learns of everything through its kind,
 * which may be changed while it lives. Internal to grpc/. */
#include "grpc/frame.h"
#include "grpc/status.h"

#include <sys/queue.h>

struct stream;
struct transport;

/* All are called from the event loop. `closed` is the last one, after which the
 * stream is gone; everything else may be NULL. The transport may be closed from
 * inside any of them. */
struct stream_kind {
	void (*headers)(struct stream *stream); /* a whole header block is in `head`; trailers too */
	void (*message)(struct stream *stream, const uint8_t *message, size_t size);
	void (*broken)(struct stream *stream, int error); /* what came is no message: see frame.h; -ENOBUFS */
	void (*ended)(struct stream *stream);             /* the peer sends nothing more */
	/* `error_code` of HTTP/2; STREAM_LOST when the whole connection went. */
	void (*closed)(struct stream *stream, uint32_t error_code);
};
#define STREAM_LOST UINT32_MAX

/* What the peer's header blocks said so far. */
struct stream_head {
	char path[64]; /* cut; "" if it is none of ours */
	bool is_post, is_grpc;
	int http_status;  /* 0: none yet */
	int grpc_status;  /* -1: none yet */
	char *grpc_message; /* decoded, or NULL */
	size_t size;
};

struct outgoing;
STAILQ_HEAD(outgoing_list, outgoing);

struct stream {
	LIST_ENTRY(stream) link;
	struct transport *transport;
	int32_t id;
	const struct stream_kind *kind;
	void *owner;
	struct stream_head head;
	struct frame_splitter in;
	struct outgoing_list out;
	size_t out_size;        /* bytes queued */
	size_t counted;         /* this stream's part of the transport's buffered bytes */
	uint64_t header_offset; /* where in the output the first HEADERS stands */
	uint64_t begun_ms;
	uint64_t progress_ms;   /* when bytes moved last */
	char *status_message;   /* of the trailers to send, percent-encoded */
	int status;
	bool is_serialized; /* our HEADERS are in the output */
	bool is_answered;   /* server: HEADERS submitted */
	bool is_out_ended;  /* nothing is queued any more */
	bool is_waiting_for_data;
	bool is_in_broken, is_peer_ended;
};

/* Client: a request for `path`; goes out with the next turn. 0 or a negative errno. */
int stream_open(struct transport *transport, const char *path, const struct stream_kind *kind, void *owner,
		struct stream **result);
/* Queues a frame (malloc'd, taken even on failure). -ENOBUFS: the connection
 * has too much waiting already. */
int stream_send(struct stream *stream, uint8_t *frame, size_t size);
/* Client: no more messages from us. */
void stream_end(struct stream *stream);
/* Server: what is queued, then trailers. Trailers-only if nothing was sent. */
void stream_end_with_status(struct stream *stream, int status, const char *message);
void stream_reset(struct stream *stream, uint32_t error_code);
/* Some of the request may have left this process. */
bool stream_was_offered(const struct stream *stream);
