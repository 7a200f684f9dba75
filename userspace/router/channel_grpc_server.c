// SPDX-License-Identifier: Apache-2.0
/* Calls of other operators, and requests to those that keep a reverse stream
 * open to us (protocol page 6.6, 6.7 server side, 7.4 side B).
 *
 * Reverse streams are registered one by one, newest first: the newest of a name
 * gets the requests, and one that ends removes only itself. */
#include "base/address.h"
#include "base/log.h"
#include "grpc/server.h"
#include "grpc/status.h"
#include "router/channels.h"
#include "router/identifier.h"
#include "router/relay_dialer.h"
#include "router/relay_tls.h"
#include "router/router.h"
#include "tls/context.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REVERSE_TIMEOUT_MS 30000
#define ENDPOINT_TIMEOUT_MS 5000 /* side A waits 20 s for everything */
#define JOIN_TIMEOUT_MS 60000    /* the relay says itself when its time for the other party is over */

struct grpc_server_channel {
	struct channel channel; /* first */
	const struct grpc_server_settings *settings;
	const struct string_list *allowed_endpoints; /* NULL: any */
	struct relay_dialling dialling;
	SSL_CTX *tls;
	struct rate_limiter *limiter;
	struct grpc_server *server;
	struct reverse_peer *peers;
	struct reverse_delivery *deliveries;
	struct handover *handovers;
	bool is_cancelled;
};

struct reverse_peer {
	struct reverse_peer *next;
	struct grpc_reverse *reverse;
	bool is_expelled;
	char name[];
};

/* A delivery that a reverse stream has. The stream may end after the delivery, at the
 * stop: then the answer finds nobody. */
struct reverse_delivery {
	struct reverse_delivery *next, **at;
	struct grpc_server_channel *own;
	struct delivery *delivery; /* NULL: was ended, and this is in no list */
};

/* A socket that is being connected to a relay endpoint. The request is answered as
 * soon as the relay knows that we are there, because only then the other party is
 * told the token; over TLS the relay's answer comes after that. */
struct handover {
	struct handover *next, **at;
	struct grpc_server_channel *own;
	struct connector *connector;
	struct relay_tls *relay;
	struct event *deadline; /* of showing the token over TLS */
	char *proxy;            /* operator of the TLS endpoint; NULL: the plain one is used */
	uint8_t token[RELAY_TOKEN_SIZE];
	connection_request_done done; /* NULL: was called */
	void *context;
};

static const char unlisted[] = "the directory lists the certificate no longer";

static struct grpc_server_channel *channel_of(struct channel *channel)
{
	return (struct grpc_server_channel *)channel;
}

/* ---- unary calls ---- */

static void call_answered(const struct router_outcome *outcome, void *context)
{
	struct grpc_call *call = context;
	if (outcome->failure) {
		char *text = NULL;
		if (asprintf(&text, "error handling gRPC request: %s", outcome->failure) < 0)
			text = NULL;
		grpc_call_fail(call, GRPC_STATUS_UNKNOWN, text ? text : "out of memory");
		free(text);
		return;
	}
	struct hyper_response response = { 0 };
	if (outcome->response)
		response = *outcome->response;
	response.id = grpc_call_request(call)->id;
	grpc_call_respond(call, &response);
}

static void call_came(struct grpc_call *call, void *context)
{
	struct grpc_server_channel *own = context;
	const struct hyper_request *request = grpc_call_request(call);
	const struct peer_identities *identities = grpc_call_identities(call);
	const struct peer_identity *identity = peer_identities_find(identities, request->client_name);
	if (!identity) {
		log_info("call %.200s of a peer known as %s refused: no matching client", request->id ? request->id : "?",
			 identities->count ? identities->items[0].name : "?");
		grpc_call_fail(call, GRPC_STATUS_UNKNOWN, "no matching client");
		return;
	}
	router_deliver(own->channel.router, request, identity->name, call_answered, call);
}

/* The identities are as old as the connection: a certificate that has left the
 * directory since then speaks for nobody any more. This looks at the directory in
 * memory; delivery lets it become fresh, so a change is seen at the next call. */
static void call_arrived(struct grpc_call *call, void *context)
{
	struct grpc_server_channel *own = context;
	const struct directory *directory = router_directory(own->channel.router);
	const struct peer_identities *identities = grpc_call_identities(call);
	const struct peer_identity *identity = peer_identities_find(identities, grpc_call_request(call)->client_name);
	if (!identity || identifier_confirms(directory, identities, identity)) {
		call_came(call, own);
		return;
	}
	log_warning("call of %s refused: %s", identity->name, unlisted);
	if (identifier_confirms_any(directory, identities))
		grpc_call_fail(call, GRPC_STATUS_UNAUTHENTICATED, unlisted);
	else
		grpc_call_expel(call, GRPC_STATUS_UNAUTHENTICATED, unlisted);
}

/* ---- reverse streams ---- */

static void reverse_opened(struct grpc_reverse *reverse, const char *name, void *context)
{
	struct grpc_server_channel *own = context;
	struct reverse_peer *peer = malloc(sizeof(*peer) + strlen(name) + 1);
	if (!peer)
		return;
	strcpy(peer->name, name);
	peer->reverse = reverse;
	peer->is_expelled = false;
	peer->next = own->peers;
	own->peers = peer;
	log_info("reverse stream from %s is open", name);
}

static void reverse_ended(struct grpc_reverse *reverse, void *context)
{
	struct grpc_server_channel *own = context;
	for (struct reverse_peer **at = &own->peers, *peer; (peer = *at); at = &peer->next) {
		if (peer->reverse != reverse)
			continue;
		log_info("reverse stream from %s ended", peer->name);
		*at = peer->next;
		free(peer);
		return;
	}
}

/* As with calls: a certificate that has left the directory stands for nobody. */
static bool reverse_is_confirmed(const struct grpc_server_channel *own, const struct reverse_peer *peer)
{
	const struct peer_identities *identities = grpc_reverse_identities(peer->reverse);
	const struct peer_identity *identity = identities ? peer_identities_find(identities, peer->name) : NULL;
	return identity && identifier_confirms(router_directory(own->channel.router), identities, identity);
}

/* The newest stream that the directory still stands by; the others of that name end. */
static struct reverse_peer *reverse_find(struct grpc_server_channel *own, const char *name)
{
	for (struct reverse_peer *peer = own->peers; peer; peer = peer->next) {
		if (strcmp(peer->name, name) != 0)
			continue;
		if (reverse_is_confirmed(own, peer))
			return peer;
		if (!peer->is_expelled)
			log_warning("reverse stream from %s is ended: %s", name, unlisted);
		peer->is_expelled = true;
		grpc_reverse_expel(peer->reverse, GRPC_STATUS_UNAUTHENTICATED, unlisted);
	}
	return NULL;
}

static bool server_can_deliver(struct channel *channel, const struct delivery *delivery)
{
	return !delivery->to_own && reverse_find(channel_of(channel), delivery->address->operator_name);
}

static struct delivery *reverse_delivery_detach(struct reverse_delivery *sent)
{
	struct delivery *delivery = sent->delivery;
	*sent->at = sent->next;
	if (sent->next)
		sent->next->at = sent->at;
	sent->delivery = NULL;
	return delivery;
}

static void reverse_answered(const struct hyper_response *response, const char *failure, void *context)
{
	struct reverse_delivery *sent = context;
	struct grpc_server_channel *own = sent->own;
	struct delivery *delivery = sent->delivery ? reverse_delivery_detach(sent) : NULL;
	free(sent);
	if (!delivery)
		return;
	if (!response) {
		delivery_fail(delivery, failure ? failure : "the reverse stream ended");
		return;
	}
	/* The next request in the queue goes out after this: not to whom the directory has dropped meanwhile. */
	reverse_find(own, delivery->address->operator_name);
	delivery_respond_remote(delivery, response);
}

static void server_deliver(struct channel *channel, struct delivery *delivery)
{
	struct grpc_server_channel *own = channel_of(channel);
	struct reverse_peer *peer = reverse_find(own, delivery->address->operator_name);
	struct reverse_delivery *sent = own->is_cancelled ? NULL : calloc(1, sizeof(*sent));
	if (!sent) {
		delivery_fail(delivery, own->is_cancelled ? "the server is stopping" : "out of memory");
		return;
	}
	struct hyper_request request = *delivery->request;
	request.client_name = (char *)router_name(channel->router);
	int error = grpc_reverse_send(peer->reverse, &request, REVERSE_TIMEOUT_MS, reverse_answered, sent);
	if (error < 0) {
		free(sent);
		delivery_fail(delivery, grpc_frame_failure(error));
		return;
	}
	*sent = (struct reverse_delivery){ own->deliveries, &own->deliveries, own, delivery };
	if (sent->next)
		sent->next->at = &sent->next;
	own->deliveries = sent;
}

/* ---- side B of a relayed connection ---- */

static void handover_end(struct handover *handover, const char *failure)
{
	*handover->at = handover->next;
	if (handover->next)
		handover->next->at = handover->at;
	explicit_bzero(handover->token, sizeof(handover->token));
	if (handover->done)
		handover->done(failure, handover->context);
	else if (failure)
		log_info("connection through the relay of %s was not joined: %s", handover->proxy, failure);
	if (handover->deadline)
		event_free(handover->deadline);
	free(handover->proxy);
	free(handover);
}

static void handover_shown(void *context)
{
	struct handover *handover = context;
	connection_request_done done = handover->done;
	handover->done = NULL;
	event_del(handover->deadline);
	done(NULL, handover->context);
}

static void handover_late(evutil_socket_t fd, short events, void *context)
{
	struct handover *handover = context;
	(void)fd;
	(void)events;
	relay_tls_cancel(handover->relay);
	handover_end(handover, "the relay's TLS endpoint did not react in time");
}

static void handover_joined(int fd_or_error, const char *reason, void *context)
{
	struct handover *handover = context;
	handover->relay = NULL;
	int error = fd_or_error < 0 ? fd_or_error : grpc_server_adopt(handover->own->server, fd_or_error);
	handover_end(handover, fd_or_error < 0 ? reason : error < 0 ? strerror(-error) : NULL);
}

static int handover_show_over_tls(struct handover *handover, int fd)
{
	struct router *router = handover->own->channel.router;
	struct relay_tls_options options = {
		.base = router_base(router),
		.fd = fd,
		.dialling = &handover->own->dialling,
		.proxy = handover->proxy,
		.directory = router_directory(router),
		.token = handover->token,
		.timeout_ms = JOIN_TIMEOUT_MS,
		.shown = handover_shown,
		.done = handover_joined,
		.context = handover,
	};
	handover->deadline = evtimer_new(router_base(router), handover_late, handover);
	if (!handover->deadline ||
	    event_add(handover->deadline, &(struct timeval){ ENDPOINT_TIMEOUT_MS / 1000, 0 })) {
		close(fd);
		return -ENOMEM;
	}
	return relay_tls_start(&options, &handover->relay);
}

static void handover_connected(int fd_or_error, const char *reason, void *context)
{
	struct handover *handover = context;
	handover->connector = NULL;
	if (fd_or_error < 0) {
		handover_end(handover, reason ? reason : strerror(-fd_or_error));
		return;
	}
	int error;
	if (handover->proxy) {
		error = handover_show_over_tls(handover, fd_or_error);
		if (error < 0)
			handover_end(handover, strerror(-error));
		return;
	}
	error = relay_token_write(fd_or_error, handover->token);
	if (error < 0)
		close(fd_or_error);
	else
		error = grpc_server_adopt(handover->own->server, fd_or_error);
	handover_end(handover, error < 0 ? strerror(-error) : NULL);
}

static bool endpoint_is_allowed(const struct grpc_server_channel *own, const char *endpoint)
{
	const struct string_list *allowed = own->allowed_endpoints;
	if (!allowed || allowed->count == 0)
		return true;
	for (size_t i = 0; i < allowed->count; i++)
		if (strcmp(allowed->items[i], endpoint) == 0)
			return true;
	return false;
}

static bool server_take_connection(struct channel *channel, const struct connection_request *request,
				   connection_request_done done, void *context)
{
	struct grpc_server_channel *own = channel_of(channel);
	if (strcmp(request->channel, channel->class->type) != 0 || !own->server)
		return false;
	struct relay_offer offer;
	const char *reason;
	if (relay_offer_choose(own->dialling.use, request->params, request->caller, &offer, &reason) < 0) {
		log_warning("connection request of %s refused: %s", request->caller ? request->caller : "?", reason);
		done(reason, context);
		return true;
	}
	const char *endpoint = offer.endpoint ? offer.endpoint : request->endpoint;
	if (!endpoint_is_allowed(own, endpoint)) {
		log_warning("connection request to %.200s refused: not among the allowed relay endpoints", endpoint);
		done("the endpoint is not allowed here", context);
		return true;
	}
	struct handover *handover = calloc(1, sizeof(*handover));
	if (handover && offer.endpoint)
		handover->proxy = strdup(offer.server_name);
	if (!handover || (offer.endpoint && !handover->proxy)) {
		free(handover);
		done("out of memory", context);
		return true;
	}
	handover->own = own;
	handover->done = done;
	handover->context = context;
	memcpy(handover->token, request->token, sizeof(handover->token));
	handover->next = own->handovers;
	handover->at = &own->handovers;
	if (handover->next)
		handover->next->at = &handover->next;
	own->handovers = handover;
	int error = connector_start(router_base(channel->router), endpoint, ENDPOINT_TIMEOUT_MS, handover_connected, handover, &handover->connector);
	if (error < 0)
		handover_end(handover, error == -EINVAL ? "the endpoint is no host:port" : strerror(-error));
	return true;
}

/* ---- the channel ---- */

static int server_open(struct channel *channel)
{
	struct grpc_server_channel *own = channel_of(channel);
	struct grpc_server_options options = {
		.name = router_name(channel->router),
		.bind_address = own->settings->bind_address,
		.tls = own->tls,
		.limiter = own->limiter,
		.identifier = identifier_for_directory(router_directory(channel->router)),
		.called = call_arrived,
		.reverse_opened = reverse_opened,
		.reverse_ended = reverse_ended,
		.context = own,
	};
	return grpc_server_start(router_base(channel->router), &options, &own->server);
}

static void server_stop(struct channel *channel)
{
	struct grpc_server_channel *own = channel_of(channel);
	if (own->server)
		grpc_server_stop(own->server);
}

static size_t server_open_calls(const struct channel *channel)
{
	const struct grpc_server_channel *own = (const struct grpc_server_channel *)channel;
	return own->server ? grpc_server_open_calls(own->server) : 0;
}

static void server_cancel(struct channel *channel)
{
	struct grpc_server_channel *own = channel_of(channel);
	own->is_cancelled = true;
	while (own->deliveries)
		delivery_fail(reverse_delivery_detach(own->deliveries), "the server is stopping");
	while (own->handovers) {
		if (own->handovers->connector)
			connector_cancel(own->handovers->connector);
		if (own->handovers->relay)
			relay_tls_cancel(own->handovers->relay);
		handover_end(own->handovers, "the server is stopping");
	}
}

static void server_free(struct channel *channel)
{
	struct grpc_server_channel *own = channel_of(channel);
	if (own->server)
		grpc_server_free(own->server);
	while (own->peers) {
		struct reverse_peer *peer = own->peers;
		own->peers = peer->next;
		free(peer);
	}
	rate_limiter_free(own->limiter);
	SSL_CTX_free(own->tls);
	SSL_CTX_free(own->dialling.tls);
	free(own);
}

static const struct channel_class class_grpc_server = {
	.type = "grpc_server",
	.open = server_open,
	.can_deliver = server_can_deliver,
	.deliver = server_deliver,
	.take_connection = server_take_connection,
	.stop = server_stop,
	.open_calls = server_open_calls,
	.cancel = server_cancel,
	.free = server_free,
};

int channel_grpc_server_create(const struct grpc_server_settings *settings, const struct grpc_client_settings *client,
			       struct channel **result)
{
	const struct tls_settings *relay_tls = client ? client->tls : settings->tls;
	struct grpc_server_channel *own = calloc(1, sizeof(*own));
	if (!own)
		return -ENOMEM;
	own->channel.class = &class_grpc_server;
	own->settings = settings;
	own->allowed_endpoints = client ? &client->allowed_relay_endpoints : NULL;
	own->dialling = (struct relay_dialling){ client ? client->relay_tls : RELAY_TLS_PREFER,
						 relay_tls_context(relay_tls), relay_tls->insecure_skip_verify };
	own->tls = tls_context_server(settings->tls, "h2");
	if (!own->tls || !own->dialling.tls ||
	    rate_limiter_create(settings->limits.rules, settings->limits.count,
					     settings->limits.exempt_loopback, &own->limiter) < 0) {
		SSL_CTX_free(own->tls);
		SSL_CTX_free(own->dialling.tls);
		free(own);
		return -EINVAL;
	}
	*result = &own->channel;
	return 0;
}
