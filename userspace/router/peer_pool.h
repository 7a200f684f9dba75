// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Outgoing gRPC connections of one operator, per peer: kept, shared by
 * concurrent calls, closed when idle.
 *
 * Calls to a peer without a usable connection wait for one attempt that they
 * share; a call is repeated over another connection only when nothing of it can
 * have been delivered, at most twice. Peers do not wait for each other. */
#include "directory/entry.h"
#include "grpc/client.h"
#include "router/relay_tls.h"
#include "router/router.h"

struct peer_pool;

struct peer_pool_options {
	struct router *router;
	SSL_CTX *tls; /* reference kept by the caller */
	bool skip_verify;
	struct relay_dialling dialling; /* its context is kept by the caller */
	unsigned call_timeout_ms; /* waiting for a connection included */
	unsigned idle_timeout_ms;
};

int peer_pool_create(const struct peer_pool_options *options, struct peer_pool **result);
/* Ends everything: open calls and holds fail. */
void peer_pool_cancel(struct peer_pool *pool);
/* After peer_pool_cancel(), when the calls have ended. */
void peer_pool_free(struct peer_pool *pool);

/* `response`, or NULL and the whole detail of a channel error. Borrowed. */
typedef void (*peer_call_done)(const struct hyper_response *response, const char *failure, void *context);

/* `entry` is the peer's directory entry, `target` its valid grpc_server channel.
 * `request` is borrowed until `done`, which is called exactly once, possibly
 * from inside. A negative errno means that `done` will not be called. */
int peer_pool_call(struct peer_pool *pool, const char *name, json_t *entry, const struct grpc_server_entry *target,
		   const struct hyper_request *request, peer_call_done done, void *context);

/* A connection that stays open without calls, for a reverse stream. At most one
 * hold per connection. Calls share it. */
struct peer_hold;
struct peer_hold_options {
	void (*ready)(struct grpc_connection *connection, void *context); /* possibly from inside */
	/* The attempt failed or the connection ended; the hold is gone. Never from inside. */
	void (*lost)(const char *reason, void *context);
	void *context;
};
int peer_pool_hold(struct peer_pool *pool, const char *name, json_t *entry, const struct grpc_server_entry *target,
		   const struct peer_hold_options *options, struct peer_hold **result);
/* Nothing more is called for the hold. The connection gets no new calls and ends
 * with its open ones; `at_once`: with a reverse stream open it would not end by
 * itself, so it is closed and its calls fail. */
void peer_pool_release(struct peer_hold *hold, bool at_once);
/* Was the held connection made to what `entry` says now? (Yes while it is awaited.) */
bool peer_hold_fits(struct peer_hold *hold, json_t *entry, const struct grpc_server_entry *target);
