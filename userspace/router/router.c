// SPDX-License-Identifier: Apache-2.0
/* Delivery, step by step as in protocol page 5.3, for every call of an operator.
 *
 * Always true:
 * - A call is in the transit table, keyed by (caller, id), from router_deliver()
 *   until its `done` returns; a second one with the same key is a loop, unless both
 *   entered at the local door over different connections. Then the second goes on
 *   with an id of its own, so the keys in the table differ.
 * - `done` runs exactly once per call.
 * - Params that came with a request are never changed: `_client` is set on a
 *   shallow copy, so the values below it, entries too, are shared.
 * - A remote caller reaches this operator only. The reference serves it with its
 *   own identity towards third ones (7.8, 26); that is refused here.
 *
 * The one asynchronous step of the router itself is the directory becoming
 * fresh. A call that was cancelled while it waits for it stays allocated until
 * the directory has answered. */
#include "router/router.h"

#include "base/log.h"
#include "directory/entry.h"
#include "router/internal.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRANSIT_BUCKETS 1024
#define LOGGED_MAX 512 /* characters of a text that came from a peer */
#define CODE_FORBIDDEN 403
#define CODE_CHANNEL 500

struct router_call {
	struct delivery delivery; /* first: delivery_*() get this */
	struct router *router;
	struct hyper_request request;
	struct address address;
	json_t *recipient; /* keeps delivery.recipient alive */
	char *caller;
	char *origin; /* local connection that it entered by; NULL: none */
	size_t channel; /* index of the channel that has it */
	router_done done;
	void *context;
	struct router_call *next; /* in the bucket */
	bool in_transit, waits_for_directory;
};

struct router {
	struct event_base *base;
	const char *name;
	struct directory *directory;
	struct channel **channels;
	size_t channel_count;
	size_t open_calls;
	bool is_cancelled;
	struct router_call *transit[TRANSIT_BUCKETS];
	struct router_call *cancelled; /* wait for the directory */
};

int router_create(struct event_base *base, const char *name, struct directory *directory, struct router **result)
{
	struct router *router = calloc(1, sizeof(*router));
	if (!router)
		return -ENOMEM;
	router->base = base;
	router->name = name;
	router->directory = directory;
	*result = router;
	return 0;
}

int router_add_channel(struct router *router, struct channel *channel)
{
	struct channel **grown =
		realloc(router->channels, (router->channel_count + 1) * sizeof(struct channel *));
	if (!grown)
		return -ENOMEM;
	router->channels = grown;
	router->channels[router->channel_count++] = channel;
	channel->router = router;
	return 0;
}

struct event_base *router_base(const struct router *router)
{
	return router->base;
}

const char *router_name(const struct router *router)
{
	return router->name;
}

struct directory *router_directory(const struct router *router)
{
	return router->directory;
}

size_t router_open_calls(const struct router *router)
{
	return router->open_calls;
}

/* ---- transit table ---- */

static size_t bucket_of(const char *caller, const char *id)
{
	uint32_t hash = 2166136261u; /* FNV-1a over both texts and the NUL between them */
	for (const char *at = caller;; at++) {
		hash = (hash ^ (uint8_t)*at) * 16777619u;
		if (!*at)
			break;
	}
	for (const char *at = id; *at; at++)
		hash = (hash ^ (uint8_t)*at) * 16777619u;
	return hash % TRANSIT_BUCKETS;
}

static struct router_call *transit_find(const struct router *router, const char *caller, const char *id)
{
	struct router_call *call = router->transit[bucket_of(caller, id)];
	while (call && (strcmp(call->request.id, id) != 0 || strcmp(call->caller, caller) != 0))
		call = call->next;
	return call;
}

/* "hd-2.f(1)" becomes "hd-2.f(1/2)", or whatever number is free. NULL: no memory. */
static char *transit_unique_id(const struct router *router, const char *caller, const char *id)
{
	size_t length = strlen(id);
	bool has_bracket = length > 0 && id[length - 1] == ')';
	char *text = NULL;
	for (unsigned number = 2;; number++) {
		if (asprintf(&text, "%.*s/%u%s", (int)(length - has_bracket), id, number, has_bracket ? ")" : "") < 0)
			return NULL;
		if (!transit_find(router, caller, text))
			return text;
		free(text);
	}
}

static void transit_enter(struct router_call *call)
{
	struct router *router = call->router;
	struct router_call **bucket = &router->transit[bucket_of(call->caller, call->request.id)];
	call->next = *bucket;
	*bucket = call;
	call->in_transit = true;
	router->open_calls++;
}

static void transit_leave(struct router_call *call)
{
	struct router *router = call->router;
	struct router_call **at = &router->transit[bucket_of(call->caller, call->request.id)];
	while (*at != call)
		at = &(*at)->next;
	*at = call->next;
	call->in_transit = false;
	router->open_calls--;
}

/* ---- ends of a call ---- */

static void call_free(struct router_call *call)
{
	hyper_request_clear(&call->request);
	address_clear(&call->address);
	json_decref(call->recipient);
	free(call->caller);
	free(call->origin);
	free(call);
}

/* `origin` is the local connection that the call came by, or NULL. */
static void log_failure(enum log_level level, const char *id, const char *caller, const char *origin,
			const char *reason)
{
	log_write(level, "call %.*s by %s%s%s failed: %.*s", LOGGED_MAX, id, caller, origin ? " at " : "",
		  origin ? origin : "", LOGGED_MAX, reason);
}

static void call_end(struct router_call *call, const char *failure, const struct hyper_response *response)
{
	const char *reason = failure ? failure : response && response->has_error ? response->message : NULL;
	/* A call that we make for another one fails with that one, whose line has the reason. */
	bool is_inner = !call->origin && strcmp(call->caller, call->router->name) == 0;
	if (reason)
		log_failure(is_inner ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, call->request.id, call->caller, call->origin,
			    reason);

	struct router_outcome outcome = { .failure = failure, .response = failure ? NULL : response };
	call->done(&outcome, call->context);
	transit_leave(call);
	if (call->waits_for_directory) {
		call->next = call->router->cancelled;
		call->router->cancelled = call;
	} else {
		call_free(call);
	}
}

static void call_fail(struct router_call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void call_fail(struct router_call *call, const char *format, ...)
{
	char *text = NULL;
	va_list arguments;
	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	va_end(arguments);
	call_end(call, text ? text : "out of memory", NULL);
	free(text);
}

/* An answer with an error of our own: its data is null. */
static void call_refuse(struct router_call *call, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void call_refuse(struct router_call *call, int code, const char *format, ...)
{
	char *text = NULL;
	va_list arguments;
	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	va_end(arguments);
	struct hyper_response response = {
		.has_error = true, .code = code, .message = text ? text : (char[]){ "out of memory" }
	};
	call_end(call, NULL, &response);
	free(text);
}

static struct router_call *call_of(struct delivery *delivery)
{
	return (struct router_call *)delivery;
}

void delivery_respond(struct delivery *delivery, const struct hyper_response *response)
{
	call_end(call_of(delivery), NULL, response);
}

void delivery_respond_remote(struct delivery *delivery, const struct hyper_response *response)
{
	struct hyper_response filled = *response;
	json_t **map = filled.has_error ? &filled.data : &filled.result;
	json_t *empty = *map ? NULL : json_object();
	if (empty)
		*map = empty;
	call_end(call_of(delivery), NULL, &filled);
	json_decref(empty);
}

void delivery_fail(struct delivery *delivery, const char *detail)
{
	struct router_call *call = call_of(delivery);
	call_refuse(call, CODE_CHANNEL, "Channel %zu encountered an error delivering the message: %s", call->channel,
		    detail);
}

void delivery_submitted(struct delivery *delivery)
{
	call_end(call_of(delivery), NULL, NULL);
}

/* ---- the steps ---- */

static void internal_ended(const char *failure, const struct hyper_response *response, void *context)
{
	struct router_call *call = context;
	if (failure)
		call_fail(call, "error handling internal request: %s", failure);
	else
		call_end(call, NULL, response);
}

/* `_client` is ours to say, whatever the sender wrote there (step 5). */
static int set_client(struct hyper_request *request, const char *caller, json_t *entry)
{
	if (!request->params)
		return 0;
	json_t *params = json_copy(request->params);
	if (!params)
		return -ENOMEM;
	if (json_object_set_new(params, "_client", json_pack("{s:s, s:O}", "name", caller, "entry", entry)) < 0) {
		json_decref(params);
		return -ENOMEM;
	}
	json_decref(request->params);
	request->params = params;
	return 0;
}

/* Steps 9 to 11. */
static void call_hand_over(struct router_call *call, json_t *own_entry)
{
	struct router *router = call->router;
	if (call->delivery.to_own &&
	    internal_handle(router, call->address.method, own_entry, call->request.params, internal_ended, call))
		return;
	for (size_t i = 0; i < router->channel_count; i++) {
		struct channel *channel = router->channels[i];
		if (!channel->class->can_deliver || !channel->class->can_deliver(channel, &call->delivery))
			continue;
		call->channel = i;
		channel->class->deliver(channel, &call->delivery);
		return;
	}
	call_fail(call, "no channel can deliver this request");
}

/* Steps 3 to 8, with a fresh directory. */
static void call_check(struct router_call *call, const char *directory_failure)
{
	struct router *router = call->router;
	static const char absent[] = "no directory entry found";
	json_t *client = directory_failure ? NULL : directory_entry(router->directory, call->caller);
	if (!client) {
		call_fail(call, "error retrieving directory entry for client '%s': %s", call->caller,
			  directory_failure ? directory_failure : absent);
		return;
	}
	json_t *own = directory_entry(router->directory, router->name);
	if (!own) {
		call_fail(call, "error retrieving own entry: %s", absent);
		return;
	}
	if (set_client(&call->request, call->caller, client) < 0) {
		call_fail(call, "out of memory");
		return;
	}
	if (address_parse(call->request.id, &call->address) < 0) {
		call_fail(call, "error parsing address: invalid ID format");
		return;
	}
	const char *to = call->address.operator_name, *method = call->address.method;
	json_t *recipient = directory_entry(router->directory, to);
	if (!recipient) {
		call_fail(call, "error retrieving directory entry for recipient '%s': %s", to, absent);
		return;
	}
	call->recipient = call->delivery.recipient = json_incref(recipient);
	call->delivery.to_own = strcmp(to, router->name) == 0;
	bool is_local = strcmp(call->caller, router->name) == 0;
	if (!is_local && (!entry_permits(client, own, method) || !call->delivery.to_own)) {
		call_refuse(call, CODE_FORBIDDEN, "Permission denied for method '%s' and client '%s'", method,
			    call->caller);
		return;
	}
	call_hand_over(call, own);
}

static void call_directory_ready(const char *failure, void *context)
{
	struct router_call *call = context;
	call->waits_for_directory = false;
	if (call->in_transit) {
		call_check(call, failure);
		return;
	}
	/* Cancelled meanwhile. */
	struct router_call **at = &call->router->cancelled;
	while (*at != call)
		at = &(*at)->next;
	*at = call->next;
	call_free(call);
}

/* A call that fails before it is in transit. */
static void refuse_at_once(const struct hyper_request *request, const char *caller, const char *origin,
			   const char *failure, router_done done, void *context)
{
	log_failure(LOG_LEVEL_INFO, request->id ? request->id : "?", caller && *caller ? caller : "?", origin, failure);
	struct router_outcome outcome = { .failure = failure };
	done(&outcome, context);
}

static void refuse_loop(const struct hyper_request *request, const char *caller, const char *origin, router_done done,
			void *context)
{
	char *text = NULL;
	if (asprintf(&text, "request %s is already being processed (maybe a delivery loop)",
		     request->id ? request->id : "") < 0)
		text = NULL;
	refuse_at_once(request, caller, origin, text ? text : "out of memory", done, context);
	free(text);
}

static int call_fill(struct router_call *call, const struct hyper_request *request, const char *caller,
		     const char *origin)
{
	if (hyper_request_copy(request, &call->request) < 0 || !(call->caller = strdup(caller)) ||
	    (!call->request.id && !(call->request.id = strdup(""))))
		return -ENOMEM;
	if (!origin)
		return 0;
	if (!(call->origin = strdup(origin)))
		return -ENOMEM;
	if (!transit_find(call->router, caller, call->request.id))
		return 0;
	char *id = transit_unique_id(call->router, caller, call->request.id);
	if (!id)
		return -ENOMEM;
	free(call->request.id);
	call->request.id = id;
	return 0;
}

static void deliver(struct router *router, const struct hyper_request *request, const char *caller, const char *origin,
		    router_done done, void *context)
{
	if (router->is_cancelled) {
		refuse_at_once(request, caller, origin, "the server is stopping", done, context);
		return;
	}
	const struct router_call *same = transit_find(router, caller, request->id ? request->id : "");
	if (same && (!origin || !same->origin || strcmp(same->origin, origin) == 0)) {
		refuse_loop(request, caller, origin, done, context);
		return;
	}
	struct router_call *call = calloc(1, sizeof(*call));
	if (call)
		call->router = router;
	if (!call || call_fill(call, request, caller, origin) < 0) {
		if (call)
			call_free(call);
		refuse_at_once(request, caller, origin, "out of memory", done, context);
		return;
	}
	call->done = done;
	call->context = context;
	call->delivery.request = &call->request;
	call->delivery.address = &call->address;
	transit_enter(call);
	call->waits_for_directory = true;
	directory_refresh(router->directory, call_directory_ready, call);
}

void router_deliver(struct router *router, const struct hyper_request *request, const char *caller, router_done done,
		    void *context)
{
	if (!caller || !*caller)
		refuse_at_once(request, caller, NULL, "client info missing", done, context);
	else
		deliver(router, request, caller, NULL, done, context);
}

void router_deliver_local(struct router *router, const struct hyper_request *request, const char *origin,
			  router_done done, void *context)
{
	deliver(router, request, router->name, origin, done, context);
}

bool router_offer_connection(struct router *router, const struct connection_request *request,
			     connection_request_done done, void *context)
{
	for (size_t i = 0; i < router->channel_count; i++) {
		struct channel *channel = router->channels[i];
		if (channel->class->take_connection &&
		    channel->class->take_connection(channel, request, done, context))
			return true;
	}
	return false;
}

void router_cancel(struct router *router)
{
	router->is_cancelled = true;
	for (size_t i = 0; i < TRANSIT_BUCKETS; i++)
		while (router->transit[i])
			call_end(router->transit[i], "the server is stopping", NULL);
}

void router_free(struct router *router)
{
	if (!router)
		return;
	for (size_t i = 0; i < TRANSIT_BUCKETS; i++) {
		while (router->transit[i]) {
			struct router_call *call = router->transit[i];
			router->transit[i] = call->next;
			call_free(call);
		}
	}
	while (router->cancelled) {
		struct router_call *call = router->cancelled;
		router->cancelled = call->next;
		call_free(call);
	}
	free(router->channels);
	free(router);
}
