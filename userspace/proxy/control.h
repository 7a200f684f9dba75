// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What p2pctl can ask the proxy: status, pairs, pair, tickets, probe. Reads
 * only. On the main thread. */
#include "broker/broker.h"
#include "jsonrpc/message.h"
#include "jsonrpc/server.h"
#include "proxy/endpoint.h"
#include "proxy/refusals.h"
#include "relay/relay.h"

/* Borrowed; the context of control_handle(). */
struct control {
	const char *name;     /* own operator */
	const char *endpoint; /* told to peers */
	const char *tls_endpoint; /* the same; NULL: there is none */
	uint64_t started_ms;  /* monotonic */
	bool is_stopping;
	struct relay *relay;
	struct broker *broker;
	struct endpoint *endpoint_listener;
	struct refusals *refusals;
	bool has_said_much; /* a long answer has left free heap behind */
};

/* A jsonrpc_handler. */
void control_handle(struct jsonrpc_call *call, void *context);
