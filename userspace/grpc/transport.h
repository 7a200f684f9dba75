// SPDX-License-Identifier: Apache-2.0
#pragma once
/* One TLS connection with an HTTP/2 session on it, either side: handshake with
 * a deadline, pinning, reading and writing, keepalive, draining. Knows streams,
 * but not what calls are. Internal to grpc/. */
#include "base/address.h"
#include "grpc/budget.h"
#include "grpc/identity.h"
#include "grpc/stream.h"

#include <nghttp2/nghttp2.h>

/* Called from the event loop, never from inside a transport_ or stream_
 * function. Any may be NULL but `failed`, which comes once and says why the
 * connection is dead; the owner closes the transport then (or at any time). */
struct transport_handlers {
	void (*settled)(void *owner); /* pinned, and the peer's SETTINGS came */
	void (*stream_begun)(struct stream *stream, void *owner); /* server: set kind and owner */
	void (*stream_gone)(void *owner);                         /* after its `closed` */
	void (*pinged)(void *owner);
	void (*going_away)(void *owner); /* GOAWAY came */
	void (*failed)(const char *reason, void *owner);
};

struct transport_options {
	int fd;
	SSL_CTX *tls;
	bool is_server;
	bool skip_verify;
	const char *server_name; /* client */
	struct identifier identifier;
	unsigned handshake_timeout_ms; /* TLS, pinning, SETTINGS */
	unsigned keepalive_ms, keepalive_answer_ms;
};

#define TRANSPORT_BUFFERED_MAX (64u << 20)

struct transport {
	unsigned references;
	bool is_server, is_tls_up, is_identifying, is_identified, is_settled;
	bool is_closed;      /* no frame is read, written or queued any more */
	bool is_in_session;  /* inside of nghttp2 */
	bool is_keepalive_on, is_turn_due, is_saying_goodbye, is_goodbye_said, was_goaway_received, was_data_sent;
	struct event_base *base;
	int fd;
	SSL *ssl;
	nghttp2_session *session;
	struct event *readable, *writable, *turn, *timer;
	const struct transport_handlers *handlers;
	void *owner;
	char *server_name;
	struct identifier identifier;
	struct certificate_identity certificate;
	struct peer_identities identities;
	char *failure;        /* first reason; reported with the next turn */
	char *identity_error; /* what the identifier said */
	char *peer_goodbye;   /* what the peer's GOAWAY said */
	char write_error[64];    /* of the socket; what can still be read goes first */
	char session_error[128]; /* nghttp2's words about the last fault of the peer */
	LIST_HEAD(, stream) streams;
	uint8_t *out; /* OUT_SIZE bytes while something waits */
	size_t out_start, out_end;
	uint64_t serialized, offered; /* bytes that went into `out`, and on to OpenSSL */
	size_t buffered;
	struct budget *budget; /* NULL: none; its share of several transports, set with the first streams to come */
	unsigned keepalive_ms, keepalive_answer_ms;
	uint64_t handshake_end_ms, last_read_ms, ping_sent_ms;
	char peer[ADDRESS_TEXT_SIZE];
};

/* Owns `options->fd` at once, also on failure. 0 or a negative errno. The owner
 * holds the first reference. */
int transport_start(struct event_base *base, const struct transport_options *options,
		    const struct transport_handlers *handlers, void *owner, struct transport **result);
/* Ends everything: each stream's `closed` is called from inside, handlers are
 * not. Gives up the owner's reference. */
void transport_close(struct transport *transport);
struct transport *transport_hold(struct transport *transport);
void transport_release(struct transport *transport);

/* The connection is dead; `failed` follows with the next turn. */
void transport_fail(struct transport *transport, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Something is to be written: soon, from the loop. */
void transport_schedule(struct transport *transport);
/* Graceful end, in two steps so that no stream of the peer is lost: GOAWAY with
 * the highest id, and the true one a round trip later. `failed` follows when
 * the last stream has ended. */
void transport_drain(struct transport *transport);
/* GOAWAY, whatever is open; `failed` follows when it is written. */
void transport_terminate(struct transport *transport, uint32_t error_code, const char *debug);

/* handshake.c, for transport.c. */
int handshake_prepare(struct transport *transport, const struct transport_options *options);
void handshake_go_on(struct transport *transport);
/* The cause of a failed SSL call, in the words of grpc-go where it has some. */
const char *handshake_tls_cause(struct transport *transport, int result, int system_error);
/* transport_fail() with the cause in the words that fit the stage. */
void transport_fail_because(struct transport *transport, const char *cause);

/* session.c and stream.c, for each other and transport.c. */
int session_create(struct transport *transport);
struct stream *stream_create(struct transport *transport, int32_t id);
/* What is kept for this connection, by a stream or by a call that outlives its stream.
 * Always booked; false: the connection, or others too, hold too much. */
bool transport_book(struct transport *transport, size_t bytes);
void transport_return(struct transport *transport, size_t bytes);
/* Tells the owner and frees it. */
void stream_destroy(struct stream *stream, uint32_t error_code);
/* Counts what it holds; false: the connection or all of them hold too much. */
bool stream_count(struct stream *stream);
