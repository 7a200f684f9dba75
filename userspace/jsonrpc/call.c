// SPDX-License-Identifier: Apache-2.0
/* One call between its arrival and its answer. Owned by the handler, which
 * answers it exactly once; what it came over may be gone by then. */
#include "jsonrpc/call.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

struct jsonrpc_pending_call *jsonrpc_call_create(struct jsonrpc_request *request, const char *peer,
						 void (*send)(void *transport, bool is_error, const char *text,
							      size_t length),
						 void *transport)
{
	struct jsonrpc_pending_call *pending = calloc(1, sizeof(*pending));

	if (!pending)
		return NULL;
	pending->request = *request;
	memset(request, 0, sizeof(*request));
	pending->call.method = pending->request.method;
	pending->call.params = pending->request.params;
	pending->call.id = pending->request.id;
	pending->call.peer = peer;
	pending->send = send;
	pending->transport = transport;
	return pending;
}

/* `text` NULL: it could not be written (NaN in a result, memory). */
static void finish(struct jsonrpc_call *call, bool is_error, char *text, size_t length)
{
	static const char fallback[] =
		"{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32603,\"message\":\"internal error\",\"data\":null},\"id\":null}";
	struct jsonrpc_pending_call *pending = (struct jsonrpc_pending_call *)call;

	if (text) {
		pending->send(pending->transport, is_error, text, length);
	} else {
		log_error("the answer to a call of %s from %s cannot be written", call->method, call->peer);
		pending->send(pending->transport, true, fallback, sizeof(fallback) - 1);
	}
	free(text);
	jsonrpc_request_clear(&pending->request);
	free(pending);
}

void jsonrpc_call_result(struct jsonrpc_call *call, json_t *result)
{
	size_t length = 0;
	char *text = jsonrpc_result_text(result, call->id, &length);

	json_decref(result);
	finish(call, false, text, length);
}

void jsonrpc_call_error(struct jsonrpc_call *call, int code, const char *message, json_t *data)
{
	size_t length = 0;
	char *text;

	if (!data)
		data = json_null();
	text = jsonrpc_error_text(code, message, data, call->id, &length);
	json_decref(data);
	finish(call, true, text, length);
}
