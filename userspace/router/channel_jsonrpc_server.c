// SPDX-License-Identifier: Apache-2.0
/* Requests of local programs (protocol page 4.5): every call counts as made by
 * the own operator. Delivers to nobody. */
#include "base/log.h"
#include "jsonrpc/message.h"
#include "jsonrpc/server.h"
#include "router/channels.h"
#include "router/router.h"
#include "router/wrapping.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CODE_BROKER 1

struct jsonrpc_server_channel {
	struct channel channel; /* first */
	const char *name;
	const struct jsonrpc_server_settings *settings;
	struct jsonrpc_server *server;
};

static void call_answered(const struct router_outcome *outcome, void *context)
{
	struct jsonrpc_call *call = context;
	const struct hyper_response *response = outcome->response;
	if (outcome->failure)
		jsonrpc_call_error(call, CODE_BROKER, outcome->failure, json_object());
	else if (!response)
		jsonrpc_call_result(call, json_pack("{s:s}", "message", "submitted"));
	else if (response->has_error)
		jsonrpc_call_error(call, response->code, response->message ? response->message : "",
				   value_unwrap(response->data));
	else
		jsonrpc_call_result(call, response->result ? value_unwrap(response->result) : json_null());
}

struct incoming {
	struct jsonrpc_server_channel *own;
	struct jsonrpc_call *call;
};

/* Whether there is an own entry is asked before the router is (4.5): then the
 * router finds the directory fresh. */
static void call_with_directory(const char *failure, void *context)
{
	struct incoming incoming = *(struct incoming *)context;
	free(context);
	struct router *router = incoming.own->channel.router;
	struct jsonrpc_call *call = incoming.call;
	if (failure || !directory_entry(router_directory(router), router_name(router))) {
		log_warning("call from %s refused: the own entry cannot be read: %s", call->peer,
			    failure ? failure : "no directory entry found");
		jsonrpc_call_error(call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
		return;
	}
	char *id = address_compose(call->method, call->id);
	if (!id) {
		jsonrpc_call_error(call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
		return;
	}
	struct hyper_request request = { .method = (char *)call->method, .id = id, .params = call->params };
	router_deliver_local(router, &request, call->peer, call_answered, call);
	free(id);
}

static void call_came(struct jsonrpc_call *call, void *context)
{
	struct incoming *incoming = malloc(sizeof(*incoming));
	if (!incoming) {
		jsonrpc_call_error(call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
		return;
	}
	*incoming = (struct incoming){ context, call };
	directory_refresh(router_directory(incoming->own->channel.router), call_with_directory, incoming);
}

static struct jsonrpc_server_channel *channel_of(struct channel *channel)
{
	return (struct jsonrpc_server_channel *)channel;
}

static int server_open(struct channel *channel)
{
	struct jsonrpc_server_channel *own = channel_of(channel);
	return jsonrpc_server_start(router_base(channel->router), own->name, own->settings, call_came, own,
				    &own->server);
}

static void server_stop(struct channel *channel)
{
	struct jsonrpc_server_channel *own = channel_of(channel);
	if (own->server)
		jsonrpc_server_stop(own->server);
}

static size_t server_open_calls(const struct channel *channel)
{
	const struct jsonrpc_server_channel *own = (const struct jsonrpc_server_channel *)channel;
	return own->server ? jsonrpc_server_open_calls(own->server) : 0;
}

static void server_free(struct channel *channel)
{
	struct jsonrpc_server_channel *own = channel_of(channel);
	if (own->server)
		jsonrpc_server_free(own->server);
	free(own);
}

static const struct channel_class class_jsonrpc_server = {
	.type = "jsonrpc_server",
	.open = server_open,
	.stop = server_stop,
	.open_calls = server_open_calls,
	.free = server_free,
};

int channel_jsonrpc_server_create(const char *name, const struct jsonrpc_server_settings *settings,
				  struct channel **result)
{
	struct jsonrpc_server_channel *own = calloc(1, sizeof(*own));
	if (!own)
		return -ENOMEM;
	own->channel.class = &class_jsonrpc_server;
	own->name = name;
	own->settings = settings;
	*result = &own->channel;
	return 0;
}
