// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What stands behind a struct jsonrpc_call, whatever it came over. */
#include "jsonrpc/message.h"
#include "jsonrpc/server.h"

struct jsonrpc_pending_call {
	struct jsonrpc_call call; /* what the handler sees; first member */
	struct jsonrpc_request request;
	/* Sends the answer to the caller, if it is still there. Copies `text`. */
	void (*send)(void *transport, bool is_error, const char *text, size_t length);
	void *transport;
};

/* Steals the contents of `request`. NULL on lack of memory. */
struct jsonrpc_pending_call *jsonrpc_call_create(struct jsonrpc_request *request, const char *peer,
						 void (*send)(void *transport, bool is_error, const char *text,
							      size_t length),
						 void *transport);
