// SPDX-License-Identifier: Apache-2.0
#pragma once
/* One outgoing gRPC connection: TLS, fingerprint pinning, HTTP/2, concurrent
 * unary calls, at most one reverse stream (protocol page 6.2 to 6.8). */
#include "grpc/server.h"

struct grpc_connection;

struct grpc_connection_options {
	int fd; /* connected, non-blocking; owned by the connection at once */
	SSL_CTX *tls;
	bool skip_verify;
	const char *server_name; /* the peer's operator name: SNI, certificate check, and must be among the identities */
	struct identifier identifier;
	unsigned handshake_timeout_ms; /* TLS, pinning and the peer's SETTINGS */
	/* Exactly one of the two first: `ready`, or `closed` with a reason in grpc-go's manner, to which the
	 * caller adds `connection error: desc = "transport: …"` ("authentication handshake failed: EOF"). After
	 * `ready`, `closed` comes once. When it returns the connection is gone; it is not to be freed. Never
	 * from inside grpc_connection_start. Calls and reverse stream end before `closed`. */
	void (*ready)(struct grpc_connection *connection, void *context);
	void (*closed)(struct grpc_connection *connection, const char *reason, void *context);
	/* Another call ended (calls may have become zero). May be NULL. */
	void (*call_ended)(struct grpc_connection *connection, void *context);
	void *context;
};

int grpc_connection_start(struct event_base *base, const struct grpc_connection_options *options,
			  struct grpc_connection **result);

/* Graceful: no new calls, closes when the open ones have ended; `closed` is
 * called then. */
void grpc_connection_finish(struct grpc_connection *connection);
/* At once, without calling `closed` or the reverse stream's `ended`; pending
 * calls end with Unavailable, from inside. Allowed in any callback but `closed`. */
void grpc_connection_free(struct grpc_connection *connection);

/* Ready, not finishing, and the peer has not said that it goes away (idle, old
 * or stopping): otherwise a new call needs a new connection. */
bool grpc_connection_accepts_calls(const struct grpc_connection *connection);
/* The peer has announced that it ends the connection. Allowed in `closed` too. */
bool grpc_connection_is_going_away(const struct grpc_connection *connection);

size_t grpc_connection_open_calls(const struct grpc_connection *connection);
const struct peer_identities *grpc_connection_identities(const struct grpc_connection *connection);

struct grpc_result {
	int status;          /* GRPC_STATUS_* */
	const char *message; /* for a status other than OK */
	const struct hyper_response *response;
	/* Nothing of the request can have been delivered (not written to the socket, stream refused,
	 * or above GOAWAY's last stream): the call may be repeated over another connection. */
	bool undelivered;
};
typedef void (*grpc_call_done)(const struct grpc_result *result, void *context);

/* `done` is called exactly once, never from inside; not at all after a negative
 * errno: -ENOTCONN (not ready, or dead), -ESHUTDOWN (see accepts_calls), -EILSEQ,
 * -ELOOP, -E2BIG, -EMSGSIZE, -ENOBUFS (too much waits to be sent), -ENOMEM. In all of
 * these nothing was sent. */
int grpc_connection_call(struct grpc_connection *connection, const struct hyper_request *request, unsigned timeout_ms,
			 grpc_call_done done, void *context);

/* The reverse stream. Each request from the server is handed to `requested`,
 * and must be answered by grpc_reverse_answer() once; several may be open at
 * once, the answers are sent in the order of the requests. */
struct grpc_reverse_request;
struct grpc_reverse_handlers {
	void (*requested)(struct grpc_reverse_request *request, void *context);
	/* A clean end too, and when the server goes away; may come from inside grpc_connection_finish().
	 * Another stream may be opened from inside, if the connection accepts calls. */
	void (*ended)(struct grpc_connection *connection, const char *reason, void *context);
	void *context;
};
/* -EBUSY: there is one already; otherwise errors as of grpc_connection_call(). */
int grpc_connection_open_reverse(struct grpc_connection *connection, const char *own_name,
				 const struct grpc_reverse_handlers *handlers);
const struct hyper_request *grpc_reverse_request_get(const struct grpc_reverse_request *request);
const struct peer_identities *grpc_reverse_request_identities(const struct grpc_reverse_request *request);
/* Frees the request; dropped silently if the stream has ended. */
void grpc_reverse_answer(struct grpc_reverse_request *request, const struct hyper_response *response);
