// SPDX-License-Identifier: Apache-2.0
/* Requests to other operators that can be dialled, directly or through a proxy
 * (protocol page 6.6 sender, 6.8, 7.3). Connections are the pool's; the reverse
 * streams of this side live here too, because they share its connections. */
#include "base/log.h"
#include "directory/entry.h"
#include "router/channels.h"
#include "router/peer_pool.h"
#include "router/reverse_streams.h"
#include "router/router.h"
#include "tls/context.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROXIES_MAX 8 /* that are looked at, each behind the next */

struct grpc_client_channel {
	struct channel channel; /* first */
	const struct grpc_client_settings *settings;
	SSL_CTX *tls, *relay_tls; /* for peers; for relays */
	struct peer_pool *pool;
	struct reverse_streams *streams;
};

/* One request on its way: the caller's, under our own name. */
struct outgoing {
	struct delivery *delivery;
	struct hyper_request request; /* borrows the texts of the delivery's */
};

static struct grpc_client_channel *channel_of(struct channel *channel)
{
	return (struct grpc_client_channel *)channel;
}

/* The proxy operator itself must never dial a peer that is reachable only
 * through it: it uses the peer's reverse stream. */
static bool client_can_deliver(struct channel *channel, const struct delivery *delivery)
{
	struct grpc_server_entry target;
	return !delivery->to_own && entry_grpc_server(delivery->recipient, &target) == 0 && !target.internal &&
	       strcmp(target.proxy, router_name(channel->router)) != 0;
}

static void call_answered(const struct hyper_response *response, const char *failure, void *context)
{
	struct outgoing *outgoing = context;
	struct delivery *delivery = outgoing->delivery;
	free(outgoing);
	if (response)
		delivery_respond_remote(delivery, response);
	else
		delivery_fail(delivery, failure);
}

/* An operator whose proxy is reached through that operator itself: the question for
 * a connection would wait for that very connection until it times out. */
static bool is_its_own_proxy(const struct channel *channel, const char *name, struct grpc_server_entry target)
{
	const char *own_name = router_name(channel->router);
	for (unsigned i = 0; i < PROXIES_MAX && *target.proxy && strcmp(target.proxy, own_name) != 0; i++) {
		if (strcmp(target.proxy, name) == 0)
			return true;
		const json_t *entry = directory_entry(router_directory(channel->router), target.proxy);
		if (!entry || entry_grpc_server(entry, &target) < 0)
			return false;
	}
	return false;
}

static void refuse_circle(struct delivery *delivery, const char *name, const char *proxy)
{
	char *text = NULL;
	bool is_itself = strcmp(name, proxy) == 0;
	if (asprintf(&text, "the directory entry of %s is wrong: its grpc_server channel names %s as its proxy%s", name,
		     is_itself ? "the operator itself" : proxy,
		     is_itself ? "" : ", which is reachable only through that operator itself") < 0)
		text = NULL;
	delivery_fail(delivery, text ? text : "out of memory");
	free(text);
}

static void client_deliver(struct channel *channel, struct delivery *delivery)
{
	struct grpc_client_channel *own = channel_of(channel);
	struct grpc_server_entry target;
	if (entry_grpc_server(delivery->recipient, &target) < 0) {
		delivery_fail(delivery, "the recipient has no valid grpc_server channel");
		return;
	}
	if (*target.proxy && !own->settings->use_proxy) {
		delivery_fail(delivery, "destination is only reachable via proxy but proxying is disabled");
		return;
	}
	const char *name = delivery->address->operator_name;
	if (is_its_own_proxy(channel, name, target)) {
		refuse_circle(delivery, name, target.proxy);
		return;
	}
	struct outgoing *outgoing = malloc(sizeof(*outgoing));
	if (!outgoing) {
		delivery_fail(delivery, "out of memory");
		return;
	}
	outgoing->delivery = delivery;
	outgoing->request = *delivery->request;
	outgoing->request.client_name = (char *)router_name(channel->router);
	int error = peer_pool_call(own->pool, name, delivery->recipient, &target, &outgoing->request, call_answered,
				   outgoing);
	if (error < 0) {
		free(outgoing);
		delivery_fail(delivery, strerror(-error));
	}
}

static int client_open(struct channel *channel)
{
	struct grpc_client_channel *own = channel_of(channel);
	struct peer_pool_options options = {
		.router = channel->router,
		.tls = own->tls,
		.skip_verify = own->settings->tls->insecure_skip_verify,
		.dialling = {own->settings->relay_tls, own->relay_tls, own->settings->tls->insecure_skip_verify},
		.call_timeout_ms = own->settings->call_timeout_ms,
		.idle_timeout_ms = own->settings->idle_timeout_ms,
	};
	int error = peer_pool_create(&options, &own->pool);
	if (error == 0)
		error = reverse_streams_create(channel->router, own->pool, &own->streams);
	if (error < 0) {
		log_error("channel grpc_client: %s", strerror(-error));
		return error;
	}
	reverse_streams_start(own->streams);
	return 0;
}

/* The reverse streams stay until here: calls of others come in over them, but
 * our own open calls share their connections. */
static void client_cancel(struct channel *channel)
{
	struct grpc_client_channel *own = channel_of(channel);
	if (own->streams)
		reverse_streams_stop(own->streams);
	if (own->pool)
		peer_pool_cancel(own->pool);
}

static void client_free(struct channel *channel)
{
	struct grpc_client_channel *own = channel_of(channel);
	reverse_streams_free(own->streams);
	peer_pool_free(own->pool);
	SSL_CTX_free(own->tls);
	SSL_CTX_free(own->relay_tls);
	free(own);
}

static const struct channel_class class_grpc_client = {
	.type = "grpc_client",
	.open = client_open,
	.can_deliver = client_can_deliver,
	.deliver = client_deliver,
	.cancel = client_cancel,
	.free = client_free,
};

int channel_grpc_client_create(const struct grpc_client_settings *settings, struct channel **result)
{
	struct grpc_client_channel *own = calloc(1, sizeof(*own));
	if (!own)
		return -ENOMEM;
	own->channel.class = &class_grpc_client;
	own->settings = settings;
	own->tls = tls_context_client(settings->tls, "h2");
	own->relay_tls = relay_tls_context(settings->tls);
	if (!own->tls || !own->relay_tls) {
		SSL_CTX_free(own->tls);
		SSL_CTX_free(own->relay_tls);
		free(own);
		return -EINVAL;
	}
	*result = &own->channel;
	return 0;
}
