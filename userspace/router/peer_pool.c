// SPDX-License-Identifier: Apache-2.0
/* Per peer: the open connections, at most one attempt, and what waits for it.
 *
 * Always true:
 * - A waiter is in exactly one place: in its peer's queue, or with a connection
 *   (a call in flight, a hold in use).
 * - Something in a queue means that the peer has an attempt under way.
 * - A waiter that has to be placed again counts it; after two repetitions it
 *   fails, so no call goes round in circles.
 *
 * A connection that no longer fits the directory (address, proxy, certificates)
 * is retired at the next call. One timer of a second, running only while there
 * are connections, finds idle ones and lets relayed ones be judged. */
#include "router/peer_pool.h"

#include "base/daemon.h"
#include "base/instant.h"
#include "base/log.h"
#include "router/grpc_failure.h"
#include "router/peer_connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_MS 1000
#define MAX_REPETITIONS 2

struct peer;

struct waiter {
	struct waiter *next; /* in the queue */
	struct peer *peer;
	json_t *entry;
	struct grpc_server_entry target; /* texts of `entry` */
	unsigned repetitions;
	struct peer_hold *hold; /* NULL: a call */
};

struct peer_call {
	struct waiter waiter; /* first */
	struct peer_pool *pool;
	const struct hyper_request *request;
	uint64_t deadline_ms;
	uint64_t connection_serial;
	peer_call_done done;
	void *context;
};

struct peer_hold {
	struct waiter waiter; /* first */
	struct peer_hold_options options;
	struct link *link; /* NULL while awaited */
};

/* A connection in its peer's list. */
struct link {
	struct link *next;
	struct peer *peer;
	struct peer_connection *connection;
	struct peer_hold *hold;
};

struct peer {
	struct peer *next;
	struct peer_pool *pool;
	char *name;
	struct link *links;   /* newest first, the attempt included */
	struct link *attempt; /* not ready yet; NULL: none */
	struct waiter *queue, **queue_end;
	struct wait_notice notice; /* of connections that are to be held */
};

struct peer_pool {
	struct peer_pool_options options;
	struct relay_trust *trust;
	struct event *sweep;
	struct peer *peers;
	size_t calls_in_flight;
	bool is_cancelled, is_freed;
};

static void waiter_place(struct waiter *waiter);

/* ---- peers ---- */

static struct peer *peer_get(struct peer_pool *pool, const char *name)
{
	for (struct peer *peer = pool->peers; peer; peer = peer->next)
		if (strcmp(peer->name, name) == 0)
			return peer;
	struct peer *peer = calloc(1, sizeof(*peer));
	if (!peer || !(peer->name = strdup(name))) {
		free(peer);
		return NULL;
	}
	peer->pool = pool;
	peer->queue_end = &peer->queue;
	peer->next = pool->peers;
	pool->peers = peer;
	return peer;
}

static void queue_append(struct peer *peer, struct waiter *waiter)
{
	waiter->next = NULL;
	*peer->queue_end = waiter;
	peer->queue_end = &waiter->next;
}

/* Empties the queue and returns what was in it. */
static struct waiter *queue_take(struct peer *peer)
{
	struct waiter *waiters = peer->queue;
	peer->queue = NULL;
	peer->queue_end = &peer->queue;
	return waiters;
}

static void link_remove(struct link *link)
{
	struct peer *peer = link->peer;
	struct link **at = &peer->links;
	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	if (peer->attempt == link)
		peer->attempt = NULL;
	free(link);
}

/* Its open calls end from inside: they must not find it any more. */
static void link_close(struct link *link)
{
	struct peer_connection *connection = link->connection;
	link_remove(link);
	peer_connection_free(connection);
}

/* ---- ends of waiters ---- */

static void call_end(struct peer_call *call, const struct hyper_response *response, const char *failure)
{
	call->done(response, response ? NULL : failure, call->context);
	json_decref(call->waiter.entry);
	free(call);
}

static void hold_end(struct peer_hold *hold, const char *reason)
{
	hold->options.lost(reason, hold->options.context);
	json_decref(hold->waiter.entry);
	free(hold);
}

/* `text`: the description of a grpc status. */
static void waiter_fail(struct waiter *waiter, int status, const char *text)
{
	if (waiter->hold) {
		hold_end(waiter->hold, text);
		return;
	}
	char *detail = grpc_failure_call(status, text);
	call_end((struct peer_call *)waiter, NULL, detail ? detail : "out of memory");
	free(detail);
}

/* ---- calls over a connection ---- */

static struct link *link_of_serial(const struct peer *peer, uint64_t serial)
{
	struct link *link = peer->links;
	while (link && peer_connection_serial(link->connection) != serial)
		link = link->next;
	return link;
}

static void call_answered(const struct grpc_result *result, void *context)
{
	struct peer_call *call = context;
	struct peer_pool *pool = call->pool;
	pool->calls_in_flight--;
	if (result->status == GRPC_STATUS_OK && result->response) {
		call_end(call, result->response, NULL);
	} else if (result->undelivered && !pool->is_cancelled && call->waiter.repetitions < MAX_REPETITIONS) {
		struct link *link = link_of_serial(call->waiter.peer, call->connection_serial);
		if (link)
			peer_connection_doubt(link->connection);
		call->waiter.repetitions++;
		waiter_place(&call->waiter);
	} else {
		waiter_fail(&call->waiter, result->status, result->message);
	}
	if (pool->is_freed && pool->calls_in_flight == 0)
		free(pool);
}

static void call_start(struct peer_call *call, struct link *link)
{
	uint64_t now_ms = clock_now_ms();
	if (now_ms >= call->deadline_ms) {
		waiter_fail(&call->waiter, GRPC_STATUS_DEADLINE_EXCEEDED, "context deadline exceeded");
		return;
	}
	call->connection_serial = peer_connection_serial(link->connection);
	int error = grpc_connection_call(peer_connection_grpc(link->connection), call->request,
					 (unsigned)(call->deadline_ms - now_ms), call_answered, call);
	if (error == 0) {
		call->pool->calls_in_flight++;
	} else if ((error == -ENOTCONN || error == -ESHUTDOWN) && call->waiter.repetitions < MAX_REPETITIONS) {
		peer_connection_doubt(link->connection);
		call->waiter.repetitions++;
		waiter_place(&call->waiter);
	} else {
		waiter_fail(&call->waiter, GRPC_STATUS_INTERNAL, grpc_frame_failure(error));
	}
}

static void hold_start(struct peer_hold *hold, struct link *link)
{
	hold->link = link;
	link->hold = hold;
	hold->options.ready(peer_connection_grpc(link->connection), hold->options.context);
}

/* ---- attempts ---- */

static void link_ready(struct peer_connection *connection, void *context)
{
	struct link *link = context;
	struct peer *peer = link->peer;
	(void)connection;
	peer->attempt = NULL;
	char *what = NULL;
	if (peer->notice.started_ms && asprintf(&what, "a connection to %s", peer->name) >= 0)
		wait_notice_clear(&peer->notice, what);
	free(what);
	for (struct waiter *waiter = queue_take(peer), *next; waiter; waiter = next) {
		next = waiter->next;
		waiter_place(waiter);
	}
}

static void queue_fail(struct peer *peer, const char *text)
{
	for (struct waiter *waiter = queue_take(peer), *next; waiter; waiter = next) {
		next = waiter->next;
		waiter_fail(waiter, GRPC_STATUS_UNAVAILABLE, text);
	}
}

/* A call that fails is told by who made it; a hold is tried again and again. */
static void note_failure(struct peer *peer, const char *text)
{
	log_debug("cannot connect to %s: %s", peer->name, text);
	bool is_awaited = false;
	for (const struct waiter *waiter = peer->queue; waiter; waiter = waiter->next)
		is_awaited |= waiter->hold != NULL;
	char *what = NULL;
	if (is_awaited && asprintf(&what, "a connection to %s (%s)", peer->name, text) >= 0)
		wait_notice_tell(&peer->notice, what);
	free(what);
}

static void link_failed(struct peer_connection *connection, const char *text, void *context)
{
	struct link *link = context;
	struct peer *peer = link->peer;
	(void)connection;
	note_failure(peer, text);
	link_remove(link);
	queue_fail(peer, text);
}

static void link_lost(struct peer_connection *connection, const char *reason, void *context)
{
	struct link *link = context;
	struct peer_hold *hold = link->hold;
	(void)connection;
	link_remove(link);
	if (hold)
		hold_end(hold, reason);
}

static int attempt_start(struct peer *peer, const struct waiter *waiter)
{
	struct peer_pool *pool = peer->pool;
	struct link *link = calloc(1, sizeof(*link));
	if (!link)
		return -ENOMEM;
	link->peer = peer;
	struct peer_connection_options options = {
		.router = pool->options.router,
		.trust = pool->trust,
		.tls = pool->options.tls,
		.skip_verify = pool->options.skip_verify,
		.dialling = &pool->options.dialling,
		.name = peer->name,
		.entry = waiter->entry,
		.target = &waiter->target,
		.ready = link_ready,
		.failed = link_failed,
		.lost = link_lost,
		.context = link,
	};
	/* In the list first: brokering may come back to this peer before the start returns. */
	peer->attempt = link;
	int error = peer_connection_start(&options, &link->connection);
	if (error < 0) {
		peer->attempt = NULL;
		free(link);
		/* What has come back to this peer meanwhile waits for nothing. */
		queue_fail(peer, strerror(-error));
		return error;
	}
	link->next = peer->links;
	peer->links = link;
	if (!event_pending(pool->sweep, EV_TIMEOUT, NULL))
		event_add(pool->sweep, &(struct timeval){ SWEEP_MS / 1000, SWEEP_MS % 1000 * 1000 });
	return 0;
}

static struct link *link_find(struct peer *peer, const struct waiter *waiter)
{
	uint64_t now_ms = clock_now_ms();
	for (struct link *link = peer->links, *next; link; link = next) {
		next = link->next;
		if (!peer_connection_admits(link->connection, now_ms) || (waiter->hold && link->hold))
			continue;
		if (peer_connection_fits(link->connection, waiter->entry, &waiter->target))
			return link;
		if (!link->hold)
			peer_connection_retire(link->connection);
	}
	return NULL;
}

/* Over a connection, or into the queue behind an attempt. */
static void waiter_place(struct waiter *waiter)
{
	struct peer *peer = waiter->peer;
	struct link *link = link_find(peer, waiter);
	if (link && waiter->hold) {
		hold_start(waiter->hold, link);
		return;
	}
	if (link) {
		call_start((struct peer_call *)waiter, link);
		return;
	}
	int error = peer->attempt ? 0 : attempt_start(peer, waiter);
	if (error < 0)
		waiter_fail(waiter, GRPC_STATUS_UNAVAILABLE, strerror(-error));
	else
		queue_append(peer, waiter);
}

static int waiter_init(struct waiter *waiter, struct peer_pool *pool, const char *name, json_t *entry)
{
	waiter->peer = pool->is_cancelled ? NULL : peer_get(pool, name);
	if (!waiter->peer)
		return pool->is_cancelled ? -ESHUTDOWN : -ENOMEM;
	waiter->entry = json_incref(entry);
	return 0;
}

int peer_pool_call(struct peer_pool *pool, const char *name, json_t *entry, const struct grpc_server_entry *target,
		   const struct hyper_request *request, peer_call_done done, void *context)
{
	struct peer_call *call = calloc(1, sizeof(*call));
	int error = call ? waiter_init(&call->waiter, pool, name, entry) : -ENOMEM;
	if (error < 0) {
		free(call);
		return error;
	}
	call->waiter.target = *target;
	call->pool = pool;
	call->request = request;
	call->deadline_ms = clock_now_ms() + pool->options.call_timeout_ms;
	call->done = done;
	call->context = context;
	waiter_place(&call->waiter);
	return 0;
}

int peer_pool_hold(struct peer_pool *pool, const char *name, json_t *entry, const struct grpc_server_entry *target,
		   const struct peer_hold_options *options, struct peer_hold **result)
{
	struct peer_hold *hold = calloc(1, sizeof(*hold));
	int error = hold ? waiter_init(&hold->waiter, pool, name, entry) : -ENOMEM;
	if (error < 0) {
		free(hold);
		return error;
	}
	hold->waiter.target = *target;
	hold->waiter.hold = hold;
	hold->options = *options;
	*result = hold;
	waiter_place(&hold->waiter);
	return 0;
}

void peer_pool_release(struct peer_hold *hold, bool at_once)
{
	struct link *link = hold->link;
	if (link) {
		link->hold = NULL;
		if (at_once)
			link_close(link);
		else
			peer_connection_retire(link->connection);
	} else {
		struct peer *peer = hold->waiter.peer;
		struct waiter **at = &peer->queue;
		while (*at && *at != &hold->waiter)
			at = &(*at)->next;
		if (*at) {
			*at = hold->waiter.next;
			if (!*at)
				peer->queue_end = at;
		}
	}
	json_decref(hold->waiter.entry);
	free(hold);
}

bool peer_hold_fits(struct peer_hold *hold, json_t *entry, const struct grpc_server_entry *target)
{
	return !hold->link || peer_connection_fits(hold->link->connection, entry, target);
}

/* ---- the pool ---- */

static void sweep(evutil_socket_t fd, short events, void *context)
{
	struct peer_pool *pool = context;
	uint64_t now_ms = clock_now_ms();
	(void)fd;
	(void)events;
	bool are_left = false;
	for (struct peer *peer = pool->peers; peer; peer = peer->next) {
		for (struct link *link = peer->links, *next; link; link = next) {
			next = link->next;
			if (!link->hold &&
			    peer_connection_is_idle(link->connection, now_ms, pool->options.idle_timeout_ms))
				peer_connection_retire(link->connection);
		}
		are_left |= peer->links != NULL;
	}
	if (are_left)
		event_add(pool->sweep, &(struct timeval){ SWEEP_MS / 1000, SWEEP_MS % 1000 * 1000 });
}

int peer_pool_create(const struct peer_pool_options *options, struct peer_pool **result)
{
	struct peer_pool *pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	pool->options = *options;
	pool->sweep = event_new(router_base(options->router), -1, 0, sweep, pool);
	if (!pool->sweep || relay_trust_create(&pool->trust) < 0) {
		if (pool->sweep)
			event_free(pool->sweep);
		free(pool);
		return -ENOMEM;
	}
	*result = pool;
	return 0;
}

void peer_pool_cancel(struct peer_pool *pool)
{
	pool->is_cancelled = true;
	event_del(pool->sweep);
	for (struct peer *peer = pool->peers; peer; peer = peer->next) {
		for (struct waiter *waiter = queue_take(peer), *next; waiter; waiter = next) {
			next = waiter->next;
			waiter_fail(waiter, GRPC_STATUS_UNAVAILABLE, "the server is stopping");
		}
		while (peer->links) {
			struct link *link = peer->links;
			struct peer_hold *hold = link->hold;
			link_close(link);
			if (hold)
				hold_end(hold, "the server is stopping");
		}
	}
}

void peer_pool_free(struct peer_pool *pool)
{
	if (!pool)
		return;
	while (pool->peers) {
		struct peer *peer = pool->peers;
		pool->peers = peer->next;
		free(peer->name);
		free(peer);
	}
	relay_trust_free(pool->trust);
	event_free(pool->sweep);
	/* Calls whose end is still on its way keep the pool's own memory. */
	pool->is_freed = true;
	if (pool->calls_in_flight == 0)
		free(pool);
}
