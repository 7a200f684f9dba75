// SPDX-License-Identifier: Apache-2.0
#pragma once
/* gRPC server of service Hyper: unary Call, and ServerCall streams over which
 * this side sends requests (protocol page 6.2 to 6.7). nghttp2 on libevent;
 * everything from the loop's thread; nothing blocks. */
#include "base/rate_limit.h"
#include "grpc/identity.h"
#include "grpc/message.h"

#include <event2/event.h>
#include <openssl/ssl.h>

#define GRPC_STATUS_OK 0
#define GRPC_STATUS_UNKNOWN 2
#define GRPC_STATUS_DEADLINE_EXCEEDED 4
#define GRPC_STATUS_UNIMPLEMENTED 12
#define GRPC_STATUS_INTERNAL 13
#define GRPC_STATUS_UNAVAILABLE 14

/* "Unavailable" for 14, and so on (the names grpc-go prints). */
const char *grpc_status_name(int status);

struct grpc_server;
struct grpc_call;    /* one unary call, to be answered exactly once */
struct grpc_reverse; /* one ServerCall stream, valid until `reverse_ended` returned */

struct grpc_server_options {
	const char *name;         /* own operator, for log lines */
	const char *bind_address; /* NULL: adopted sockets only */
	SSL_CTX *tls;             /* ALPN "h2"; reference kept by the caller */
	struct rate_limiter *limiter;
	struct identifier identifier;
	void (*called)(struct grpc_call *call, void *context);
	/* The announced name is among the connection's identities. */
	void (*reverse_opened)(struct grpc_reverse *reverse, const char *name, void *context);
	void (*reverse_ended)(struct grpc_reverse *reverse, void *context); /* once for each opened one */
	void *context;
};

int grpc_server_start(struct event_base *base, const struct grpc_server_options *options, struct grpc_server **result);
/* No new connections; GOAWAY on the open ones. */
void grpc_server_stop(struct grpc_server *server);
size_t grpc_server_open_calls(const struct grpc_server *server);
/* Ends reverse streams from inside; calls that are not answered yet stay valid
 * until they are. Allowed in any callback but reverse_ended and a reverse `done`
 * that this function itself causes. NULL is fine. */
void grpc_server_free(struct grpc_server *server);

/* Serves a connected socket as if it had been accepted (7.4). Owns `fd` at once,
 * also on failure. 0 or a negative errno. */
int grpc_server_adopt(struct grpc_server *server, int fd);

const struct hyper_request *grpc_call_request(const struct grpc_call *call);
const struct peer_identities *grpc_call_identities(const struct grpc_call *call);
/* Both free the call; a call whose connection has gone is dropped silently. */
void grpc_call_respond(struct grpc_call *call, const struct hyper_response *response);
void grpc_call_fail(struct grpc_call *call, int status, const char *message);
/* Fails the call and ends its connection: new calls are refused at once, what else
 * is under way there is lost in a few seconds. */
void grpc_call_expel(struct grpc_call *call, int status, const char *message);

/* `response` NULL: `failure` says why (stream ended, deadline, …). */
typedef void (*grpc_reverse_done)(const struct hyper_response *response, const char *failure, void *context);

/* Of its connection; NULL: the stream has ended. */
const struct peer_identities *grpc_reverse_identities(const struct grpc_reverse *reverse);
/* No more requests, and the end of the stream: `reverse_ended` follows soon, never
 * from inside. */
void grpc_reverse_expel(struct grpc_reverse *reverse, int status, const char *message);

/* -EPIPE: the stream has ended; -ENOBUFS: too many wait; -EILSEQ, -ELOOP, -E2BIG, -EMSGSIZE,
 * -ENOMEM.
 * Queued: a stream carries one request at a time. `timeout_ms` counts from the
 * call, waiting included. A request whose answer is late ends the stream (the
 * next answer could not be told apart). `done` is called exactly once, never
 * from inside. */
int grpc_reverse_send(struct grpc_reverse *reverse, const struct hyper_request *request, unsigned timeout_ms,
		      grpc_reverse_done done, void *context);
