// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The message broker of one operator (protocol page section 5): takes requests
 * from local programs and from other operators, checks who may call what, and
 * gives each to the channel that can deliver it.
 *
 * Delivery first lets the directory become fresh, then runs synchronously until
 * a channel has taken the request. One thread. */
#include "directory/directory.h"
#include "grpc/message.h"
#include "router/channel.h"

#include <event2/event.h>

struct router;

/* `name` and `directory` must outlive the router. 0 or -ENOMEM. */
int router_create(struct event_base *base, const char *name, struct directory *directory, struct router **result);
/* Open calls are dropped without an answer: router_cancel() first. */
void router_free(struct router *router);

/* Channels are asked in the order of adding (settings order). The channel stays
 * the caller's. 0 or -ENOMEM. */
int router_add_channel(struct router *router, struct channel *channel);

struct event_base *router_base(const struct router *router);
const char *router_name(const struct router *router);
struct directory *router_directory(const struct router *router);

/* Outcome of one delivery; exactly one of the three:
 * `failure`: an error of the broker; `response`: an answer, or an error of the
 * recipient, a channel or the permission check; neither: the request was taken
 * and has no answer. Borrowed until `done` returns. */
struct router_outcome {
	const char *failure;
	const struct hyper_response *response;
};
typedef void (*router_done)(const struct router_outcome *outcome, void *context);

/* `caller`: the operator whose request it is (the own name for local programs);
 * NULL or "": unknown, which fails. The request is copied; its `client_name` is
 * not used. `done` is called exactly once, possibly from inside. */
void router_deliver(struct router *router, const struct hyper_request *request, const char *caller, router_done done,
		    void *context);
/* The same for a call of the own operator that entered at a local door. `origin`
 * tells local programs apart (address of the connection): an id that another one
 * has under way is no loop. Such a call goes on with an id made unique, because
 * the recipient knows us as one caller. */
void router_deliver_local(struct router *router, const struct hyper_request *request, const char *origin,
			  router_done done, void *context);

/* Offers a `_connectionRequest` to the channels. False: none takes it, and
 * `done` is not called. */
bool router_offer_connection(struct router *router, const struct connection_request *request,
			     connection_request_done done, void *context);

size_t router_open_calls(const struct router *router);
/* Fails every call that is still open with "the server is stopping", and later ones
 * at once. Cancel the channels first: a delivery must not be ended afterwards. */
void router_cancel(struct router *router);
