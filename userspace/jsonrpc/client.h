// SPDX-License-Identifier: Apache-2.0
#pragma once
/* JSON-RPC client over HTTP(S) (protocol page 4.4). */
#include "jsonrpc/message.h"
#include "settings/settings.h"

#include <event2/event.h>

struct jsonrpc_client;
struct jsonrpc_pending;

/* `failure` NULL: `answer` holds what came. Otherwise the reason, and
 * `closed_early` (see http/client.h). Borrowed; called once, from the loop. */
typedef void (*jsonrpc_done)(const struct jsonrpc_answer *answer, const char *failure, bool closed_early, void *context);

/* `endpoint` and `server_name` override the settings' when not NULL. */
int jsonrpc_client_create(struct event_base *base, const struct jsonrpc_client_settings *settings,
			  const char *endpoint, const char *server_name, struct jsonrpc_client **result);
/* Cancels what is under way: their `done` is not called. */
void jsonrpc_client_free(struct jsonrpc_client *client);

/* Keeps no reference to `params`. `pending` may be NULL if it is never cancelled. */
int jsonrpc_client_call(struct jsonrpc_client *client, const char *method, const json_t *params, const char *id,
			jsonrpc_done done, void *context, struct jsonrpc_pending **pending);
void jsonrpc_client_cancel(struct jsonrpc_pending *pending);
