// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The proxy's JSON-RPC methods (protocol page 7.3, 8.3): `requestConnection`
 * makes a ticket, asks the callee through the own hyper, and hands the token to
 * the caller. On the main thread. */
#include "broker/broker.h"
#include "jsonrpc/client.h"
#include "jsonrpc/server.h"
#include "proxy/request_form.h"

struct brokering;

struct brokering_options {
	struct event_base *base;
	struct broker *broker;
	struct jsonrpc_client *hyper; /* the own operator's */
	struct told_endpoints endpoints; /* told to both parties */
	unsigned accept_timeout_ms;
	/* A waiting party whose ticket ended must be let go. */
	void (*release)(void *party, enum outcome outcome, void *context);
	void *context;
};

int brokering_create(const struct brokering_options *options, struct brokering **result);

/* A jsonrpc_handler; `context` is the struct brokering. */
void brokering_handle(struct jsonrpc_call *call, void *context);

/* Answers the calls under way with an error and lets no ticket expire any more;
 * later calls are refused. */
void brokering_stop(struct brokering *brokering);
void brokering_free(struct brokering *brokering); /* stopped before */
