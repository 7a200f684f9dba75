// SPDX-License-Identifier: Apache-2.0
#pragma once
/* One outgoing gRPC connection to a peer, from dialling it (directly or through
 * its proxy) until it is gone. Which call goes over which connection is the
 * pool's business (peer_pool.h). */
#include "directory/entry.h"
#include "grpc/client.h"
#include "router/relay_tls.h"
#include "router/relay_trust.h"
#include "router/router.h"

struct peer_connection;

enum peer_connection_state {
	PEER_CONNECTING, /* TCP, or brokering and TCP */
	PEER_HANDSHAKING,
	PEER_READY,
	PEER_RETIRED, /* gets no calls any more; ends with its open ones */
};

struct peer_connection_options {
	struct router *router;
	struct relay_trust *trust;
	SSL_CTX *tls;
	bool skip_verify;
	const struct relay_dialling *dialling; /* outlives the connection */
	const char *name; /* peer's operator name */
	json_t *entry;    /* its directory entry */
	const struct grpc_server_entry *target; /* of that entry */
	/* First exactly one of `ready` and `failed` (text: the description of a grpc status
	 * Unavailable), unless the connection is freed before. Then `lost` once. After `failed` or
	 * `lost` returned the connection is gone. Never from inside peer_connection_start. */
	void (*ready)(struct peer_connection *connection, void *context);
	void (*failed)(struct peer_connection *connection, const char *text, void *context);
	void (*lost)(struct peer_connection *connection, const char *reason, void *context);
	void *context;
};

int peer_connection_start(const struct peer_connection_options *options, struct peer_connection **result);
/* At once; open calls end with Unavailable, `lost` is not called. */
void peer_connection_free(struct peer_connection *connection);
/* No more calls; `lost` comes when the open ones have ended. */
void peer_connection_retire(struct peer_connection *connection);
/* The same after it did not take a call: it may be ending by itself. */
void peer_connection_doubt(struct peer_connection *connection);

enum peer_connection_state peer_connection_state(const struct peer_connection *connection);
struct grpc_connection *peer_connection_grpc(const struct peer_connection *connection);
/* Unique in the process. */
uint64_t peer_connection_serial(const struct peer_connection *connection);

/* Was it made to the address, proxy and certificates that `entry` names? */
bool peer_connection_fits(struct peer_connection *connection, json_t *entry, const struct grpc_server_entry *target);
/* Ready, and not a relayed one that is too old for its proxy. */
bool peer_connection_admits(struct peer_connection *connection, uint64_t now_ms);
/* Without calls for `idle_timeout_ms`, and nothing to be learnt from keeping it. */
bool peer_connection_is_idle(struct peer_connection *connection, uint64_t now_ms, uint64_t idle_timeout_ms);
