// SPDX-License-Identifier: Apache-2.0
#pragma once
/* JSON-RPC over HTTP: path, CORS, content type, parsing, one handler
 * (protocol page 4.1 to 4.3). Failures before the handler are answered here
 * and logged with the peer's address. */
#include "settings/settings.h"

#include <event2/event.h>
#include <jansson.h>
#include <stdint.h>

struct jsonrpc_server;

/* One call. `method`, `params`, `id` and `peer` are borrowed until it is
 * answered; it must be answered exactly once, at any time. */
struct jsonrpc_call {
	const char *method;
	json_t *params;
	const char *id; /* internal id (4.2) */
	const char *peer;
};

typedef void (*jsonrpc_handler)(struct jsonrpc_call *call, void *context);

/* Steals `result`; NULL: the member is omitted. Frees the call. */
void jsonrpc_call_result(struct jsonrpc_call *call, json_t *result);
/* Steals `data`; NULL is sent as `"data":null`. Frees the call. */
void jsonrpc_call_error(struct jsonrpc_call *call, int code, const char *message, json_t *data);

int jsonrpc_server_start(struct event_base *base, const char *name, const struct jsonrpc_server_settings *settings,
			 jsonrpc_handler handler, void *context, struct jsonrpc_server **result);
void jsonrpc_server_stop(struct jsonrpc_server *server);
size_t jsonrpc_server_open_calls(const struct jsonrpc_server *server);
uint16_t jsonrpc_server_port(const struct jsonrpc_server *server); /* the one bound, if port 0 was asked for */
void jsonrpc_server_free(struct jsonrpc_server *server);
