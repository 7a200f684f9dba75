// SPDX-License-Identifier: Apache-2.0
#pragma once
/* JSON-RPC 2.0 over a unix stream socket, one message a line: the control
 * socket of the proxy and its client p2pctl. Same handler type and calls as
 * jsonrpc/server.h. Mode 0660, owner root and the group of the settings; a
 * stale socket file is replaced, a live one is an error. */
#include "jsonrpc/message.h"
#include "jsonrpc/server.h"

/* Whether a socket could stand at `path`. 0; -EEXIST: something else does, -ENOTDIR: its folder is
 * none, -ENAMETOOLONG: only
 * other settings help then; the log has been told. */
int control_path_check(const char *path);

struct control_server;
int control_server_start(struct event_base *base, const struct control_settings *settings, jsonrpc_handler handler,
			 void *context, struct control_server **result);
void control_server_free(struct control_server *server); /* removes the socket file */

/* Blocking, for p2pctl and tests. Returns 0 and the answer, or a negative
 * errno and a malloc'd sentence that says what to do. */
int control_call(const char *path, const char *method, const json_t *params, unsigned timeout_ms,
		 struct jsonrpc_answer *answer, char **reason);
