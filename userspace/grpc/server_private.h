// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What server.c and server_reverse.c share. */
#include "base/log_limiter.h"
#include "grpc/server.h"
#include "grpc/transport.h"

#define STALL_MS 60000u

struct server_connection {
	LIST_ENTRY(server_connection) link;
	struct grpc_server *server;
	struct transport *transport;
	size_t streams;
	uint64_t age_limit_ms;  /* when it is told to go away for its age */
	uint64_t idle_since_ms; /* meaningless while there are streams */
	uint64_t drain_end_ms;  /* 0: not draining */
	uint64_t last_ping_ms;
	unsigned ping_strikes;
	bool is_handshaking; /* and was accepted, by whomever it is */
};

struct grpc_server {
	struct event_base *base;
	struct grpc_server_options options;
	char *name;
	struct evconnlistener *listener;
	struct event *tick, *resume_listening;
	LIST_HEAD(, server_connection) connections;
	size_t connection_count, handshake_count, open_calls;
	struct log_limiter lines; /* about strangers */
	struct budget *budget; /* of all connections; each operator has a share */
	bool is_stopped;
};

/* A Call stream was opened; takes the stream over. */
void call_accept(struct server_connection *connection, struct stream *stream);
/* Its request has not come completely. */
extern const struct stream_kind call_kind;
/* The owner has the call and works on its answer. */
extern const struct stream_kind delivered_kind;
/* What is left of a stream that we have refused; its owner is the connection. */
extern const struct stream_kind refused_kind;
/* A ServerCall stream was opened; takes the stream over. */
void reverse_accept(struct server_connection *connection, struct stream *stream);
/* It is old or does not move: its announcement has not come in time, or its peer does not take a request. */
void reverse_check_stall(struct stream *stream, uint64_t now_ms);
extern const struct stream_kind reverse_kind;
