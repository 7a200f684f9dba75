// SPDX-License-Identifier: Apache-2.0
/* Bytes of one connection between the socket, OpenSSL and nghttp2.
 *
 * Everything that is to be written is collected by a "turn", an event made
 * active when something was queued: never from inside nghttp2, and all frames
 * of a call in one TLS record. Failures are noted where they are seen and
 * reported by the turn as well, so no handler runs inside a caller's function.
 *
 * References: the owner's, one per call that looks at the identities, one while
 * the identifier has not answered, and one on the stack of each event callback.
 * Session and SSL go when nothing of them is on the stack; a connection whose TLS
 * was up is then seen off by linger.c. Event loop's thread. */
#include "grpc/transport.h"

#include "base/instant.h"
#include "grpc/linger.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUT_SIZE (64u << 10)
#define READ_SIZE (16u << 10)
/* Records read before other connections get their turn. */
#define READS_PER_EVENT 16
#define TIMER_MIN_MS 5

struct transport *transport_hold(struct transport *transport)
{
	transport->references++;
	return transport;
}

/* What is still to be written when no frame is made any more. A client has already
 * told its calls whether they left: what had not been offered then must not go. */
static size_t sendable_end(const struct transport *transport)
{
	uint64_t start = transport->serialized - (transport->out_end - transport->out_start);

	if (transport->is_server)
		return transport->out_end;
	return transport->out_start + (size_t)(transport->offered > start ? transport->offered - start : 0);
}

static void free_connection(struct transport *transport)
{
	nghttp2_session_del(transport->session);
	transport->session = NULL;
	if (transport->ssl && transport->is_tls_up) {
		linger_start(transport->base, transport->fd, transport->ssl, transport->out, transport->out_start,
			     sendable_end(transport));
		transport->ssl = NULL;
		transport->fd = -1;
		transport->out = NULL;
	}
	SSL_free(transport->ssl);
	transport->ssl = NULL;
	if (transport->fd >= 0)
		close(transport->fd);
	transport->fd = -1;
	free(transport->out);
	transport->out = NULL;
}

void transport_release(struct transport *transport)
{
	if (--transport->references)
		return;
	free_connection(transport);
	budget_release(transport->budget);
	certificate_identity_clear(&transport->certificate);
	peer_identities_clear(&transport->identities);
	free(transport->server_name);
	free(transport->failure);
	free(transport->identity_error);
	free(transport->peer_goodbye);
	free(transport);
}

bool transport_book(struct transport *transport, size_t bytes)
{
	transport->buffered += bytes;
	return budget_book(transport->budget, bytes) && transport->buffered <= TRANSPORT_BUFFERED_MAX;
}

void transport_return(struct transport *transport, size_t bytes)
{
	transport->buffered -= bytes;
	budget_return(transport->budget, bytes);
}

static void free_event(struct event **event)
{
	if (*event)
		event_free(*event);
	*event = NULL;
}

/* No frame moves any more; streams learn that they are lost. May be called again
 * from inside of what a stream's owner does then: on return no stream is left. */
static void shut(struct transport *transport)
{
	if (!transport->is_closed) {
		transport->is_closed = true;
		free_event(&transport->readable);
		free_event(&transport->writable);
		free_event(&transport->turn);
		free_event(&transport->timer);
	}
	while (!LIST_EMPTY(&transport->streams))
		stream_destroy(LIST_FIRST(&transport->streams), STREAM_LOST);
	if (!transport->is_in_session)
		free_connection(transport);
}

void transport_close(struct transport *transport)
{
	transport->handlers = NULL;
	shut(transport);
	transport_release(transport);
}

void transport_fail(struct transport *transport, const char *format, ...)
{
	va_list arguments;

	if (transport->failure || transport->is_closed)
		return;
	va_start(arguments, format);
	if (vasprintf(&transport->failure, format, arguments) < 0)
		transport->failure = strdup("no memory");
	va_end(arguments);
	if (transport->readable)
		event_del(transport->readable);
	transport_schedule(transport);
}

void transport_schedule(struct transport *transport)
{
	if (transport->is_closed || transport->is_turn_due)
		return;
	transport->is_turn_due = true;
	event_active(transport->turn, EV_TIMEOUT, 0);
}

static void set_timer(struct transport *transport, uint64_t due_ms, uint64_t now_ms)
{
	uint64_t wait = due_ms > now_ms + TIMER_MIN_MS ? due_ms - now_ms : TIMER_MIN_MS;
	struct timeval delay = { (time_t)(wait / 1000), (suseconds_t)(wait % 1000 * 1000) };

	event_add(transport->timer, &delay);
}

/* End of an event's work: what the owner gave up meanwhile can go now. */
static void leave(struct transport *transport)
{
	if (transport->is_closed)
		free_connection(transport);
	transport_release(transport);
}

/* ---- writing ---- */

/* True when everything collected so far went out. */
static bool write_out(struct transport *transport)
{
	while (transport->out_start < transport->out_end) {
		size_t size = transport->out_end - transport->out_start;
		size_t record = size < SSL3_RT_MAX_PLAIN_LENGTH ? size : SSL3_RT_MAX_PLAIN_LENGTH;

		/* Whatever SSL_write returns, a part of this record may have gone. */
		if (transport->offered < transport->serialized - size + record)
			transport->offered = transport->serialized - size + record;
		ERR_clear_error();
		errno = 0;
		int result = SSL_write(transport->ssl, transport->out + transport->out_start, (int)size);
		int system_error = errno;

		if (result > 0) {
			transport->out_start += (size_t)result;
			continue;
		}
		int kind = SSL_get_error(transport->ssl, result);

		if (kind == SSL_ERROR_WANT_WRITE) {
			event_add(transport->writable, NULL);
		} else if (kind != SSL_ERROR_WANT_READ) {
			/* What the peer said last (an alert) explains more than a broken pipe. */
			snprintf(transport->write_error, sizeof(transport->write_error), "%s",
				 handshake_tls_cause(transport, result, system_error));
			event_active(transport->readable, EV_READ, 0);
		}
		return false;
	}
	transport->out_start = transport->out_end = 0;
	return true;
}

/* Moves frames from nghttp2 to the buffer while there is room. False: none left. */
static bool collect(struct transport *transport)
{
	while (OUT_SIZE - transport->out_end > READ_SIZE + 64) {
		const uint8_t *bytes;

		transport->is_in_session = true;
		ssize_t size = nghttp2_session_mem_send(transport->session, &bytes);
		transport->is_in_session = false;
		if (transport->is_closed)
			return false;
		if (size < 0) {
			transport_fail(transport, "%s", nghttp2_strerror((int)size));
			return false;
		}
		if (!size)
			return false;
		if ((size_t)size > OUT_SIZE - transport->out_end) {
			transport_fail(transport, "frame too large");
			return false;
		}
		memcpy(transport->out + transport->out_end, bytes, (size_t)size);
		transport->out_end += (size_t)size;
		transport->serialized += (uint64_t)size;
	}
	return true;
}

static void drain(struct transport *transport)
{
	bool more = true;

	if (transport->write_error[0])
		return;
	while (more && (!transport->out_end || write_out(transport))) {
		if (!transport->out)
			transport->out = malloc(OUT_SIZE);
		if (!transport->out) {
			transport_fail(transport, "no memory");
			return;
		}
		more = collect(transport);
		if (transport->is_closed)
			return;
		if (!write_out(transport))
			return;
	}
	if (!transport->out_end) {
		free(transport->out);
		transport->out = NULL;
	}
}

static void report_failure(struct transport *transport)
{
	const struct transport_handlers *handlers;

	shut(transport);
	handlers = transport->handlers;
	if (handlers)
		handlers->failed(transport->failure, transport->owner);
}

static void begin_session(struct transport *transport)
{
	if (session_create(transport)) {
		transport_fail(transport, "no memory");
		return;
	}
	event_add(transport->readable, NULL);
	/* With the client's Finished its first request may have been read already. */
	event_active(transport->readable, EV_READ, 0);
}

static void take_turn(evutil_socket_t fd, short events, void *context)
{
	struct transport *transport = transport_hold(context);
	(void)fd;
	(void)events;

	transport->is_turn_due = false;
	if (transport->is_identifying && (transport->is_identified || transport->identity_error)) {
		transport->is_identifying = false;
		if (transport->identity_error)
			transport_fail_because(transport, transport->identity_error);
		else
			begin_session(transport);
	}
	if (transport->session) {
		drain(transport);
		if (!transport->is_closed && !transport->failure && transport->session && !transport->out_end) {
			bool is_done = !nghttp2_session_want_read(transport->session) &&
				       !nghttp2_session_want_write(transport->session);

			if (is_done || (transport->is_goodbye_said && LIST_EMPTY(&transport->streams)))
				transport_fail(transport, "the connection was closed%s%s",
					       transport->peer_goodbye ? ", received prior goaway: " : "",
					       transport->peer_goodbye ? transport->peer_goodbye : "");
		}
	}
	if (transport->is_settled && !transport->is_keepalive_on && !transport->is_closed) {
		transport->is_keepalive_on = true;
		set_timer(transport, transport->last_read_ms + transport->keepalive_ms, clock_now_ms());
	}
	if (transport->failure && !transport->is_closed)
		report_failure(transport);
	leave(transport);
}

/* ---- reading ---- */

static void read_in(struct transport *transport)
{
	uint8_t bytes[READ_SIZE];

	for (int reads = 0; reads < READS_PER_EVENT; reads++) {
		ERR_clear_error();
		errno = 0;
		int result = SSL_read(transport->ssl, bytes, sizeof(bytes)), system_error = errno;

		if (result <= 0) {
			int kind = SSL_get_error(transport->ssl, result);

			if (kind != SSL_ERROR_WANT_READ && kind != SSL_ERROR_WANT_WRITE)
				transport_fail_because(transport, handshake_tls_cause(transport, result, system_error));
			else if (transport->write_error[0])
				transport_fail_because(transport, transport->write_error);
			else if (kind == SSL_ERROR_WANT_WRITE)
				event_add(transport->writable, NULL);
			return;
		}
		transport->last_read_ms = clock_now_ms();
		transport->is_in_session = true;
		ssize_t taken = nghttp2_session_mem_recv(transport->session, bytes, (size_t)result);
		transport->is_in_session = false;
		if (transport->is_closed)
			return;
		transport_schedule(transport);
		if (taken < 0) {
			transport_fail(transport, "protocol error: %s", nghttp2_strerror((int)taken));
			return;
		}
		/* After a fault of the peer the rest is not looked at; GOAWAY goes out. */
		if (!nghttp2_session_want_read(transport->session)) {
			event_del(transport->readable);
			return;
		}
	}
	event_active(transport->readable, EV_READ, 0);
}

static void take_event(evutil_socket_t fd, short events, void *context)
{
	struct transport *transport = transport_hold(context);
	(void)fd;

	if (transport->failure || transport->is_identifying) {
		/* Nothing to do before the turn. */
	} else if (!transport->session) {
		handshake_go_on(transport);
	} else {
		if (events & EV_READ)
			read_in(transport);
		if ((events & EV_WRITE) && !transport->is_closed) {
			transport_schedule(transport);
			/* A key update may have waited for room. */
			if (!transport->failure)
				event_active(transport->readable, EV_READ, 0);
		}
	}
	leave(transport);
}

/* ---- time ---- */

static void take_time(evutil_socket_t fd, short events, void *context)
{
	struct transport *transport = context;
	uint64_t now = clock_now_ms();
	(void)fd;
	(void)events;

	if (!transport->is_settled) {
		if (now < transport->handshake_end_ms)
			set_timer(transport, transport->handshake_end_ms, now);
		else if (!transport->is_identified)
			transport_fail(transport, "authentication handshake failed: context deadline exceeded");
		else
			transport_fail(transport, "%s", transport->is_server ? "the client sent no preface in time"
									    : "error reading server preface: context deadline exceeded");
		return;
	}
	if (transport->ping_sent_ms && transport->last_read_ms < transport->ping_sent_ms) {
		if (now >= transport->ping_sent_ms + transport->keepalive_answer_ms)
			transport_fail(transport, "keepalive ping failed to receive ACK within timeout");
		else
			set_timer(transport, transport->ping_sent_ms + transport->keepalive_answer_ms, now);
		return;
	}
	transport->ping_sent_ms = 0;
	if (now >= transport->last_read_ms + transport->keepalive_ms) {
		nghttp2_submit_ping(transport->session, NGHTTP2_FLAG_NONE, NULL);
		transport_schedule(transport);
		transport->ping_sent_ms = now;
		set_timer(transport, now + transport->keepalive_answer_ms, now);
	} else {
		set_timer(transport, transport->last_read_ms + transport->keepalive_ms, now);
	}
}

static int prepare_socket(int fd)
{
	int flags = fcntl(fd, F_GETFL), one = 1;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
		return -errno;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* fails on socket pairs */
	return 0;
}

int transport_start(struct event_base *base, const struct transport_options *options,
		    const struct transport_handlers *handlers, void *owner, struct transport **result)
{
	struct transport *transport = calloc(1, sizeof(*transport));
	int error = -ENOMEM;

	if (!transport) {
		close(options->fd);
		return -ENOMEM;
	}
	transport->references = 1;
	transport->base = base;
	transport->is_server = options->is_server;
	transport->fd = options->fd;
	transport->handlers = handlers;
	transport->owner = owner;
	transport->identifier = options->identifier;
	transport->keepalive_ms = options->keepalive_ms;
	transport->keepalive_answer_ms = options->keepalive_answer_ms;
	transport->last_read_ms = clock_now_ms();
	transport->handshake_end_ms = transport->last_read_ms + options->handshake_timeout_ms;
	LIST_INIT(&transport->streams);
	if (options->server_name && !(transport->server_name = strdup(options->server_name)))
		goto fail;
	address_of_peer(transport->fd, transport->peer);
	transport->readable = event_new(base, transport->fd, EV_READ | EV_PERSIST, take_event, transport);
	transport->writable = event_new(base, transport->fd, EV_WRITE, take_event, transport);
	transport->turn = event_new(base, -1, 0, take_turn, transport);
	transport->timer = event_new(base, -1, 0, take_time, transport);
	if (!transport->readable || !transport->writable || !transport->turn || !transport->timer)
		goto fail;
	error = prepare_socket(transport->fd);
	if (!error)
		error = handshake_prepare(transport, options);
	if (error)
		goto fail;
	if (event_add(transport->readable, NULL)) {
		error = -ENOMEM;
		goto fail;
	}
	set_timer(transport, transport->handshake_end_ms, transport->last_read_ms);
	/* The client speaks first, and only from the loop. */
	event_active(transport->readable, EV_READ, 0);
	*result = transport;
	return 0;
fail:
	transport_close(transport);
	return error;
}
