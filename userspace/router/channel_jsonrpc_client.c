// SPDX-License-Identifier: Apache-2.0
/* Hands requests to the own operator's local service over JSON-RPC (protocol
 * page 4.4 to 4.6).
 *
 * The local method is the one in the request's id, which is what the permission
 * was checked for. (The reference takes the separate `method` field, with which a
 * caller can name another one.) Each delivery under way is in a list, so that it
 * can be ended when the program stops. */
#include "base/log.h"
#include "jsonrpc/client.h"
#include "router/channels.h"
#include "router/router.h"
#include "router/wrapping.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct jsonrpc_client_channel {
	struct channel channel; /* first */
	struct jsonrpc_client *client; /* NULL: no endpoint in the settings */
	struct local_call *calls;
};

struct local_call {
	struct local_call *next, **at;
	struct delivery *delivery;
	struct jsonrpc_pending *pending;
};

static struct jsonrpc_client_channel *channel_of(struct channel *channel)
{
	return (struct jsonrpc_client_channel *)channel;
}

static int client_open(struct channel *channel)
{
	(void)channel;
	return 0;
}

static bool client_can_deliver(struct channel *channel, const struct delivery *delivery)
{
	(void)channel;
	return delivery->to_own;
}

static void call_unlink(struct local_call *call)
{
	*call->at = call->next;
	if (call->next)
		call->next->at = call->at;
	free(call);
}

static void delivery_fail_call(struct delivery *delivery, const char *failure)
{
	char *text = NULL;
	if (asprintf(&text, "error calling JSON-RPC server: %s", failure) < 0)
		text = NULL;
	delivery_fail(delivery, text ? text : "out of memory");
	free(text);
}

static void call_answered(const struct jsonrpc_answer *answer, const char *failure, bool closed_early, void *context)
{
	struct local_call *call = context;
	struct delivery *delivery = call->delivery;
	(void)closed_early;
	call_unlink(call);
	if (failure) {
		delivery_fail_call(delivery, failure);
		return;
	}
	struct hyper_response response = { .has_error = answer->is_error };
	if (answer->is_error) {
		response.code = answer->code;
		response.message = answer->message ? answer->message : (char[]){ "" };
		response.data = value_wrap(answer->data);
	} else {
		response.result = value_wrap(answer->result);
	}
	delivery_respond(delivery, &response);
	json_decref(response.result);
	json_decref(response.data);
}

static void client_deliver(struct channel *channel, struct delivery *delivery)
{
	struct jsonrpc_client_channel *own = channel_of(channel);
	if (!own->client) {
		delivery_fail_call(delivery, "no endpoint is configured");
		return;
	}
	struct local_call *call = calloc(1, sizeof(*call));
	if (!call) {
		delivery_fail(delivery, "out of memory");
		return;
	}
	call->delivery = delivery;
	call->next = own->calls;
	call->at = &own->calls;
	if (call->next)
		call->next->at = &call->next;
	own->calls = call;
	json_t *params = delivery->request->params ? json_incref(delivery->request->params) : json_object();
	int error = jsonrpc_client_call(own->client, delivery->address->method, params, delivery->request->id,
					call_answered, call, &call->pending);
	json_decref(params);
	if (error < 0) {
		call_unlink(call);
		delivery_fail_call(delivery, strerror(-error));
	}
}

static void client_cancel(struct channel *channel)
{
	struct jsonrpc_client_channel *own = channel_of(channel);
	while (own->calls) {
		struct delivery *delivery = own->calls->delivery;
		jsonrpc_client_cancel(own->calls->pending);
		call_unlink(own->calls);
		delivery_fail_call(delivery, "the server is stopping");
	}
}

static void client_free(struct channel *channel)
{
	struct jsonrpc_client_channel *own = channel_of(channel);
	if (own->client)
		jsonrpc_client_free(own->client);
	free(own);
}

static const struct channel_class class_jsonrpc_client = {
	.type = "jsonrpc_client",
	.open = client_open,
	.can_deliver = client_can_deliver,
	.deliver = client_deliver,
	.cancel = client_cancel,
	.free = client_free,
};

int channel_jsonrpc_client_create(struct event_base *base, const struct jsonrpc_client_settings *settings,
				  struct channel **result)
{
	struct jsonrpc_client_channel *own = calloc(1, sizeof(*own));
	if (!own)
		return -ENOMEM;
	own->channel.class = &class_jsonrpc_client;
	int error = settings->endpoint ? jsonrpc_client_create(base, settings, NULL, NULL, &own->client) : 0;
	if (error < 0) {
		log_error("channel jsonrpc_client: %s", strerror(-error));
		free(own);
		return error;
	}
	*result = &own->channel;
	return 0;
}
