// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The JSON-RPC methods of a service directory (protocol page 3.10) over a
 * ledger. Questions are answered at once. Submitted batches are stored one after
 * the other, a few records per turn of the event loop, so that a long one delays
 * nobody's questions: every record waits for the disk. */
#include "jsonrpc/server.h"
#include "sd/ledger.h"

struct service;

/* The ledger stays the caller's. 0 or -ENOMEM. */
int service_create(struct event_base *base, struct ledger *ledger, struct service **result);
/* Answers batches that are not done with an internal error: free it before the
 * server. What they have stored stays. */
void service_free(struct service *service);

/* A jsonrpc_handler; `context` is the service. */
void service_handle_call(struct jsonrpc_call *call, void *context);
