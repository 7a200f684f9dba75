// SPDX-License-Identifier: Apache-2.0
/* Passes over the directory decide which streams there should be; each stream
 * then looks after itself.
 *
 * A pass comes every 10 s (2 s while there is no stream to keep, as at the start
 * of everything); the reference leaves 60 s between them. A stream that ended,
 * cleanly or not, is opened again after 1 to 5 s, doubling, with jitter. A pass
 * confirms the streams it still finds wanted and closes the others; one whose
 * peer has moved or has new certificates is closed and opened anew. */
#include "router/reverse_streams.h"

#include "base/instant.h"
#include "base/json.h"
#include "base/log.h"
#include "router/identifier.h"
#include "router/reverse_candidates.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PASS_PERIOD_MS 10000
#define PASS_PERIOD_EMPTY_MS 2000
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 5000
#define STEADY_AFTER_MS 10000 /* a stream that lived so long starts with the shortest wait again */

struct stream {
	struct stream *next;
	struct reverse_streams *streams;
	char *name;
	json_t *entry;
	struct peer_hold *hold; /* NULL: waits for `retry`, or has just been made */
	struct event *retry;
	unsigned backoff_ms;
	uint64_t opened_ms;
	bool is_confirmed;
	bool is_open; /* the stream itself, not only its connection */
};

struct reverse_streams {
	struct router *router;
	struct peer_pool *pool;
	struct event *pass;
	struct stream *first;
	bool is_stopped, is_refreshing, is_freed;
};

/* ---- requests that come over a stream ---- */

static void request_answered(const struct router_outcome *outcome, void *context)
{
	struct grpc_reverse_request *request = context;
	struct hyper_response response = { 0 };
	if (outcome->failure) {
		response.has_error = true;
		response.code = -100;
		response.message = (char *)outcome->failure;
	} else if (outcome->response) {
		response = *outcome->response;
	}
	response.id = grpc_reverse_request_get(request)->id;
	grpc_reverse_answer(request, &response);
}

static void request_came(struct grpc_reverse_request *request, void *context)
{
	struct stream *stream = context;
	const struct hyper_request *asked = grpc_reverse_request_get(request);
	const struct peer_identities *identities = grpc_reverse_request_identities(request);
	const struct peer_identity *identity = peer_identities_find(identities, asked->client_name);
	/* What the directory lists no longer speaks for nobody; the next pass ends the stream. */
	if (!identity || !identifier_confirms(router_directory(stream->streams->router), identities, identity)) {
		log_info("request of %s over the reverse stream to it refused: no matching client found", stream->name);
		struct hyper_response response = { .id = asked->id,
						   .has_error = true,
						   .code = 404,
						   .message = (char[]){ "no matching client found" } };
		grpc_reverse_answer(request, &response);
		return;
	}
	router_deliver(stream->streams->router, asked, identity->name, request_answered, request);
}

/* ---- one stream ---- */

static void stream_note_end(struct stream *stream, const char *reason)
{
	if (!stream->is_open)
		return;
	log_warning("reverse stream to %s ended: %s", stream->name, reason);
	stream->is_open = false;
	if (clock_now_ms() - stream->opened_ms >= STEADY_AFTER_MS)
		stream->backoff_ms = BACKOFF_MIN_MS;
}

static void stream_wait(struct stream *stream)
{
	unsigned jitter_ms = 0;
	/* Nobody who lost the same server comes back at the same time; without randomness, so be it. */
	if (getentropy(&jitter_ms, sizeof(jitter_ms)) == 0)
		jitter_ms %= stream->backoff_ms / 5 + 1;
	else
		jitter_ms = 0;
	unsigned wait_ms = stream->backoff_ms + jitter_ms;
	if (wait_ms > BACKOFF_MAX_MS)
		wait_ms = BACKOFF_MAX_MS;
	stream->backoff_ms = stream->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : stream->backoff_ms * 2;
	event_add(stream->retry, &(struct timeval){ wait_ms / 1000, wait_ms % 1000 * 1000 });
}

static void stream_lost(const char *reason, void *context)
{
	struct stream *stream = context;
	stream_note_end(stream, reason);
	stream->hold = NULL;
	event_del(stream->retry);
	if (!stream->streams->is_stopped)
		stream_wait(stream);
}

/* The stream ended but its connection may live: a clean end is a failure too. */
static void stream_ended(struct grpc_connection *connection, const char *reason, void *context)
{
	struct stream *stream = context;
	(void)connection;
	if (!stream->hold)
		return;
	stream_note_end(stream, reason);
	/* Not from inside the connection's own callback. */
	event_active(stream->retry, EV_TIMEOUT, 0);
}

static void stream_connected(struct grpc_connection *connection, void *context)
{
	struct stream *stream = context;
	struct grpc_reverse_handlers handlers = { request_came, stream_ended, stream };
	int error = grpc_connection_open_reverse(connection, router_name(stream->streams->router), &handlers);
	if (error < 0) {
		log_warning("reverse stream to %s cannot be opened: %s", stream->name, strerror(-error));
		event_active(stream->retry, EV_TIMEOUT, 0);
		return;
	}
	log_info("reverse stream to %s is open", stream->name);
	stream->is_open = true;
	stream->opened_ms = clock_now_ms();
}

static void stream_open(struct stream *stream)
{
	struct grpc_server_entry target;
	if (entry_grpc_server(stream->entry, &target) < 0)
		return;
	struct peer_hold_options options = { stream_connected, stream_lost, stream };
	int error = peer_pool_hold(stream->streams->pool, stream->name, stream->entry, &target, &options, &stream->hold);
	if (error < 0) {
		stream->hold = NULL;
		stream_wait(stream);
	}
}

static void stream_close(struct stream *stream)
{
	event_del(stream->retry);
	struct peer_hold *hold = stream->hold;
	bool was_open = stream->is_open;
	stream->hold = NULL;
	stream->is_open = false;
	if (hold)
		peer_pool_release(hold, was_open);
}

/* Either the backoff is over, or a stream has ended on a connection we still hold. */
static void retry_fired(evutil_socket_t fd, short events, void *context)
{
	struct stream *stream = context;
	(void)fd;
	(void)events;
	if (stream->streams->is_stopped)
		return;
	if (stream->hold) {
		stream_close(stream);
		stream_wait(stream);
	} else {
		stream_open(stream);
	}
}

static void stream_free(struct stream *stream)
{
	stream_close(stream);
	event_free(stream->retry);
	json_decref(stream->entry);
	free(stream->name);
	free(stream);
}

/* ---- passes ---- */

static struct stream *stream_get(struct reverse_streams *streams, const char *name)
{
	for (struct stream *stream = streams->first; stream; stream = stream->next)
		if (strcmp(stream->name, name) == 0)
			return stream;
	struct stream *stream = calloc(1, sizeof(*stream));
	if (!stream)
		return NULL;
	stream->name = strdup(name);
	stream->retry = event_new(router_base(streams->router), -1, 0, retry_fired, stream);
	if (!stream->name || !stream->retry) {
		if (stream->retry)
			event_free(stream->retry);
		free(stream->name);
		free(stream);
		return NULL;
	}
	stream->streams = streams;
	stream->backoff_ms = BACKOFF_MIN_MS;
	stream->next = streams->first;
	streams->first = stream;
	return stream;
}

static void stream_confirm(struct stream *stream, json_t *entry)
{
	bool is_new = !stream->entry;
	json_incref(entry);
	json_decref(stream->entry);
	stream->entry = entry;
	stream->is_confirmed = true;
	struct grpc_server_entry target;
	if (entry_grpc_server(entry, &target) < 0)
		return;
	if (is_new) {
		stream_open(stream);
	} else if (stream->hold && !peer_hold_fits(stream->hold, entry, &target)) {
		log_info("%s has a new address or new certificates: opening its reverse stream anew", stream->name);
		stream_close(stream);
		stream_open(stream);
	}
}

static void streams_confirm(struct reverse_streams *streams, const json_t *candidates)
{
	for (struct stream *stream = streams->first; stream; stream = stream->next)
		stream->is_confirmed = false;
	for (size_t i = 0; i < json_array_size(candidates); i++) {
		json_t *entry = json_array_get(candidates, i);
		struct stream *stream = stream_get(streams, json_text(entry, "name"));
		if (stream)
			stream_confirm(stream, entry);
	}
	for (struct stream **at = &streams->first, *stream; (stream = *at);) {
		if (stream->is_confirmed) {
			at = &stream->next;
			continue;
		}
		log_info("reverse stream to %s is not wanted any more", stream->name);
		*at = stream->next;
		stream_free(stream);
	}
}

static void pass_with_directory(const char *failure, void *context)
{
	struct reverse_streams *streams = context;
	streams->is_refreshing = false;
	if (streams->is_freed) {
		free(streams);
		return;
	}
	if (streams->is_stopped)
		return;
	struct directory *directory = router_directory(streams->router);
	json_t *own = directory_entry(directory, router_name(streams->router));
	json_t *entries = failure || !own ? NULL : directory_query(directory, NULL, NULL, NULL);
	json_t *candidates = entries ? reverse_candidates(own, entries) : NULL;
	/* Without a directory the streams that there are stay. */
	if (candidates)
		streams_confirm(streams, candidates);
	json_decref(candidates);
	json_decref(entries);
	unsigned wait_ms = streams->first ? PASS_PERIOD_MS : PASS_PERIOD_EMPTY_MS;
	event_add(streams->pass, &(struct timeval){ wait_ms / 1000, wait_ms % 1000 * 1000 });
}

static void pass_fired(evutil_socket_t fd, short events, void *context)
{
	struct reverse_streams *streams = context;
	(void)fd;
	(void)events;
	streams->is_refreshing = true;
	directory_refresh(router_directory(streams->router), pass_with_directory, streams);
}

int reverse_streams_create(struct router *router, struct peer_pool *pool, struct reverse_streams **result)
{
	struct reverse_streams *streams = calloc(1, sizeof(*streams));
	if (!streams)
		return -ENOMEM;
	streams->router = router;
	streams->pool = pool;
	streams->pass = event_new(router_base(router), -1, 0, pass_fired, streams);
	if (!streams->pass) {
		free(streams);
		return -ENOMEM;
	}
	*result = streams;
	return 0;
}

void reverse_streams_start(struct reverse_streams *streams)
{
	event_active(streams->pass, EV_TIMEOUT, 0);
}

void reverse_streams_stop(struct reverse_streams *streams)
{
	streams->is_stopped = true;
	event_del(streams->pass);
	while (streams->first) {
		struct stream *stream = streams->first;
		streams->first = stream->next;
		stream_free(stream);
	}
}

void reverse_streams_free(struct reverse_streams *streams)
{
	if (!streams)
		return;
	reverse_streams_stop(streams);
	event_free(streams->pass);
	streams->is_freed = true;
	if (!streams->is_refreshing)
		free(streams);
}
