// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The JSON-RPC methods of a service directory (protocol page 3.10) over a
 * ledger. A jsonrpc_handler: pass the ledger as its context. */
#include "jsonrpc/server.h"
#include "sd/ledger.h"

/* `context`: struct ledger. Answers at once. */
void service_handle_call(struct jsonrpc_call *call, void *context);
