// SPDX-License-Identifier: Apache-2.0
#pragma once
/* One TLS session to or at a relay: the outer one, around what the two parties
 * say to each other. Both ends use this file: the proxy's endpoint as the server,
 * hyper as the client. Handshake, one message each way, and then either the
 * session stays, or it is closed in both directions and the same TCP connection
 * goes on in plain (architecture.md 5, the hand-off).
 *
 * Steps never block: each does what it can and says what it waits for. The
 * descriptor stays the caller's. A session belongs to one thread at a time. */
#include "tls/relay_message.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum outer_step {
	OUTER_DONE,
	OUTER_WANTS_READ,
	OUTER_WANTS_WRITE,
	OUTER_ENDED,  /* the peer closed the session in order (close_notify) */
	OUTER_FAILED, /* for good; `reason` says why */
};

struct outer {
	SSL *ssl;
	uint8_t length[RELAY_LENGTH_SIZE];
	unsigned length_read;
	uint8_t *message; /* of `message_size` bytes, complete when outer_read() is done */
	size_t message_size, message_read;
	uint8_t out[RELAY_FRAME_MAX];
	size_t out_size, out_sent;
	bool is_up;         /* the handshake is done */
	bool is_rekeyed;    /* the peer sent a KeyUpdate */
	bool has_broken_rules; /* it failed because the peer sent what it must not */
	char reason[160];
};

/* What the context of such a session must have besides tls_context_*(): no
 * tickets, no session cache, no read-ahead, no early data, a bounded chain. */
void outer_context_prepare(SSL_CTX *context);

/* Over `fd`, through a BIO of the socket and nothing else. 0 or -ENOMEM. For a
 * client, tls_connection_expect() on `ssl` comes next. */
int outer_start(struct outer *outer, SSL_CTX *context, int fd, bool is_server);
void outer_clear(struct outer *outer); /* sends nothing; no-op if never started */

enum outer_step outer_handshake(struct outer *outer);

/* One message of the peer, and nothing behind it. OUTER_FAILED also when it is too
 * long and when the peer changed its keys. */
enum outer_step outer_read(struct outer *outer);

/* Wipes and forgets the message that was read. */
void outer_forget(struct outer *outer);

/* Takes a frame to be sent, and sends it until OUTER_DONE. */
void outer_put(struct outer *outer, const uint8_t *frame, size_t size);
enum outer_step outer_write(struct outer *outer);

/* While the peer has to be silent: OUTER_WANTS_READ is the good answer. */
enum outer_step outer_watch(struct outer *outer);

/* Sends close_notify; OUTER_DONE: it is written out. This direction is plain. */
enum outer_step outer_close_sending(struct outer *outer);
/* Waits for the peer's; OUTER_DONE: what comes next is plain. Anything but
 * close_notify fails. */
enum outer_step outer_close_receiving(struct outer *outer);

bool outer_is_tls13(const struct outer *outer);
/* TCP bytes that the session took from and gave to the socket. */
uint64_t outer_bytes_read(const struct outer *outer);
uint64_t outer_bytes_written(const struct outer *outer);

/* The session as it is, now the caller's; `outer` is cleared. */
SSL *outer_take(struct outer *outer);
