// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What the router asks of a channel, and what a channel answers.
 *
 * A channel is a struct that begins with `struct channel`; its constructor
 * (channels.h) fills `class` in. All functions run on the loop's thread. */
#include "directory/directory.h"
#include "grpc/message.h"
#include "router/address.h"

#include <event2/event.h>
#include <stdbool.h>

struct router;
struct channel;

/* One request on its way to a channel. Everything is borrowed and valid until
 * the delivery is ended by exactly one of the delivery_*() calls, which may come
 * at any time, also from inside `deliver`. */
struct delivery {
	const struct hyper_request *request; /* with `_client` in its params */
	const struct address *address;
	json_t *recipient; /* directory entry of address->operator_name */
	bool to_own;       /* the recipient is the own operator */
};

/* What came back; copied by reference where it is kept. */
void delivery_respond(struct delivery *delivery, const struct hyper_response *response);
/* The same for what came from another operator, where a map that is missing means
 * an empty one (4.1, 4.5): no result becomes {}, an error without data has {}. */
void delivery_respond_remote(struct delivery *delivery, const struct hyper_response *response);
/* The channel could not deliver: becomes a response with code 500 (5.3 step 10). */
void delivery_fail(struct delivery *delivery, const char *detail);
/* Taken, and there is never an answer (stdout). */
void delivery_submitted(struct delivery *delivery);

/* Parameters of `_connectionRequest` (7.4), checked. */
struct connection_request {
	const char *endpoint;
	const char *channel;
	const json_t *params; /* all of them, for the offer of a TLS endpoint */
	const char *caller;   /* the proxy's operator */
	uint8_t token[32];
};
/* `failure` NULL: the socket was handed over. Called exactly once. */
typedef void (*connection_request_done)(const char *failure, void *context);

struct channel_class {
	const char *type;
	/* Binds listeners, starts background work. 0 or a negative errno, logged. */
	int (*open)(struct channel *channel);
	/* NULL: delivers to nobody. */
	bool (*can_deliver)(struct channel *channel, const struct delivery *delivery);
	void (*deliver)(struct channel *channel, struct delivery *delivery);
	/* Is this request for this channel? If so the channel answers it. NULL: never. */
	bool (*take_connection)(struct channel *channel, const struct connection_request *request,
				connection_request_done done, void *context);
	/* No new connections and calls from outside. NULL: nothing to stop. */
	void (*stop)(struct channel *channel);
	/* Calls from outside that are not answered yet. NULL: none ever. */
	size_t (*open_calls)(const struct channel *channel);
	/* Ends all outgoing work; open deliveries fail. NULL: never has any. */
	void (*cancel)(struct channel *channel);
	void (*free)(struct channel *channel);
};

struct channel {
	const struct channel_class *class;
	struct router *router;
};
