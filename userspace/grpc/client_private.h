// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What client.c and client_reverse.c share. */
#include "grpc/client.h"
#include "grpc/transport.h"

struct client_call;
struct client_reverse;

struct grpc_connection {
	unsigned references;
	struct event_base *base;
	struct transport *transport; /* NULL: closed */
	struct grpc_connection_options options;
	TAILQ_HEAD(client_calls, client_call) calls;
	size_t open_calls;
	struct client_reverse *reverse; /* NULL: none */
	bool is_ready, is_finishing, is_going_away;
};

void client_hold(struct grpc_connection *connection);
void client_release(struct grpc_connection *connection);
/* Why a stream ended that was answered by trailers: malloc'd text or NULL. */
char *client_stream_reason(const struct stream *stream);
/* The connection goes at once: nobody is told. */
void client_reverse_drop(struct grpc_connection *connection);
/* No new requests are wanted: ends the reverse stream as soon as nothing of it
 * is under way, and tells its owner. */
void client_reverse_retire(struct grpc_connection *connection);
/* Closes a finishing connection that has nothing left to do. */
void client_check_finished(struct grpc_connection *connection);
/* What to do with a stream that nobody waits for any more. */
extern const struct stream_kind client_orphan_kind;
