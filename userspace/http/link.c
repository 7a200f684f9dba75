// SPDX-License-Identifier: Apache-2.0
/* One connection of the HTTP client.
 *
 *   CONNECTING -> [TUNNEL ->] [HANDSHAKE ->] OPEN <-> kept -> closed
 *
 * It belongs to one exchange, or, kept, to the client's list; then it is read
 * only to learn that the peer has closed it. TLS sessions are resumed: the
 * client talks to one peer name through one context, so a session never
 * replaces a check that it had not passed itself. */
#include "http/link.h"

#include "base/address.h"
#include "http/stream.h"
#include "tls/context.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEEP_MS 1000 /* few peers close a connection that soon */
#define MOST_KEPT 32
#define MOST_UNREAD_BYTES 262144

enum link_state {
	LINK_CONNECTING,
	LINK_TUNNEL, /* CONNECT sent to the proxy */
	LINK_HANDSHAKE,
	LINK_OPEN,
};

struct http_link {
	LIST_ENTRY(http_link) entry; /* while kept */
	struct http_client *client;
	struct http_exchange *exchange; /* NULL: kept */
	enum link_state state;
	struct connector *connector;
	struct bufferevent *stream;
	struct event *expiry; /* while kept */
	bool was_kept, got_bytes; /* in the present exchange */
};

static void close_link(struct http_link *link)
{
	if (!link->exchange) {
		LIST_REMOVE(link, entry);
		link->client->kept_count--;
	}
	if (link->connector)
		connector_cancel(link->connector);
	if (link->expiry)
		event_free(link->expiry);
	http_stream_close(link->stream);
	free(link);
}

/* Tells the exchange; both may be gone afterwards. */
static void lose(struct http_link *link, bool is_clean, bool is_closed, const char *what, const char *reason)
{
	char text[400];

	bool is_silent = is_closed && !link->got_bytes, was_used = link->state == LINK_OPEN && link->was_kept;
	bool is_unsent = was_used && evbuffer_get_length(bufferevent_get_output(link->stream)) ==
					     link->exchange->request_length;

	snprintf(text, sizeof(text), "%s: %s%s%s%s", link->client->route.authority, what, *what ? ": " : "", reason,
		 is_silent && was_used ? " when it had the request: it may have been carried out" : "");
	http_exchange_lost(link->exchange, is_silent && is_unsent, is_clean, is_silent && !was_used, text);
}

static void send_request(struct http_link *link)
{
	link->state = LINK_OPEN;
	bufferevent_write(link->stream, link->exchange->request, link->exchange->request_length);
}

static void remember_session(struct http_link *link)
{
	SSL *tls = bufferevent_openssl_get_ssl(link->stream);
	SSL_SESSION *session = tls ? SSL_get1_session(tls) : NULL;

	if (session && SSL_SESSION_is_resumable(session)) {
		SSL_SESSION_free(link->client->session);
		link->client->session = session;
	} else {
		SSL_SESSION_free(session);
	}
}

static void read_tunnel_answer(struct http_link *link);

static void handle_readable(struct bufferevent *stream, void *context)
{
	struct http_link *link = context;

	if (!link->exchange) {
		close_link(link); /* bytes that nobody asked for */
	} else if (link->state == LINK_TUNNEL) {
		read_tunnel_answer(link);
	} else {
		link->got_bytes = true;
		http_exchange_read(link->exchange, bufferevent_get_input(stream));
	}
}

static void handle_event(struct bufferevent *stream, short events, void *context)
{
	struct http_link *link = context;
	bool is_closed;
	const char *reason;

	if (events & BEV_EVENT_CONNECTED) {
		send_request(link);
		return;
	}
	reason = http_stream_reason(stream, events, &is_closed);
	if (!link->exchange)
		close_link(link);
	else if (link->state == LINK_HANDSHAKE)
		lose(link, false, is_closed && http_stream_tls_bytes_read(stream) == 0, "TLS handshake failed", reason);
	else if (link->state == LINK_TUNNEL)
		lose(link, false, is_closed, "proxy", reason);
	else
		lose(link, events & BEV_EVENT_EOF, is_closed, "", reason);
}

static bool open_stream(struct http_link *link, int fd, SSL *tls)
{
	link->stream = http_stream_new(link->client->base, fd, tls, false);
	if (!link->stream) {
		lose(link, false, false, "", strerror(ENOMEM));
		return false;
	}
	bufferevent_setcb(link->stream, handle_readable, NULL, handle_event, link);
	bufferevent_setwatermark(link->stream, EV_READ, 0, MOST_UNREAD_BYTES);
	bufferevent_enable(link->stream, EV_READ | EV_WRITE);
	return true;
}

static void start_tls(struct http_link *link, int fd)
{
	struct http_client *client = link->client;
	SSL *tls;

	ERR_clear_error();
	tls = SSL_new(client->tls);
	if (!tls || tls_connection_expect(tls, client->server_name, client->skip_verify)) {
		SSL_free(tls);
		close(fd);
		lose(link, false, false, "cannot set up TLS", tls_error_text(NULL));
		return;
	}
	if (client->session)
		SSL_set_session(tls, client->session);
	link->state = LINK_HANDSHAKE;
	open_stream(link, fd, tls);
}

static void open_tunnel(struct http_link *link, int fd)
{
	const struct http_route *route = &link->client->route;

	link->state = LINK_TUNNEL;
	if (!open_stream(link, fd, NULL))
		return;
	struct evbuffer *output = bufferevent_get_output(link->stream);
	evbuffer_add_printf(output, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", route->tunnel, route->tunnel);
	if (route->proxy_authorization)
		evbuffer_add_printf(output, "Proxy-Authorization: %s\r\n", route->proxy_authorization);
	evbuffer_add(output, "\r\n", 2);
}

/* The proxy may say more only after the peer did, so nothing but the answer's
 * head can stand in the buffer. */
static void read_tunnel_answer(struct http_link *link)
{
	struct evbuffer *input = bufferevent_get_input(link->stream);
	size_t available = evbuffer_get_length(input);
	const char *bytes = (const char *)evbuffer_pullup(input, -1), *reason = "malformed answer";
	size_t length = http_head_length(bytes, available);
	struct http_head head;
	char refusal[48];
	int status, error, fd;

	if (length == 0) {
		if (available > HTTP_HEAD_MAX_BYTES)
			lose(link, false, false, "proxy", "answer is too large");
		return;
	}
	error = http_head_read(bytes, length, false, &head, &status, &reason);
	if (!error && (head.status < 200 || head.status > 299)) {
		snprintf(refusal, sizeof(refusal), "refused to connect (status %d)", head.status);
		reason = refusal;
		error = -ECONNREFUSED;
	} else if (!error && length != available) {
		reason = "sent bytes before the peer could";
		error = -EPROTO;
	}
	http_head_clear(&head);
	if (error) {
		lose(link, false, false, "proxy", reason);
		return;
	}
	fd = bufferevent_getfd(link->stream);
	bufferevent_setfd(link->stream, -1); /* so that it stays open */
	bufferevent_free(link->stream);
	link->stream = NULL;
	start_tls(link, fd);
}

static void handle_connected(int fd_or_error, const char *reason, void *context)
{
	struct http_link *link = context;

	link->connector = NULL;
	if (fd_or_error < 0) {
		char text[300];

		snprintf(text, sizeof(text), "%s", reason);
		http_exchange_lost(link->exchange, false, false, false, text);
	} else if (link->client->route.tunnel) {
		open_tunnel(link, fd_or_error);
	} else if (link->client->route.is_tls) {
		start_tls(link, fd_or_error);
	} else if (open_stream(link, fd_or_error, NULL)) {
		send_request(link);
	}
}

static void handle_expiry(int fd, short events, void *context)
{
	(void)fd, (void)events;
	close_link(context);
}

/* A kept connection that is certain to be open as far as this side can know:
 * the loop may not have come to the FIN yet. NULL: none. */
static struct http_link *take_kept(struct http_client *client)
{
	struct http_link *link;
	char byte;

	while ((link = LIST_FIRST(&client->kept))) {
		bool is_quiet = recv(bufferevent_getfd(link->stream), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
				errno == EAGAIN;

		if (is_quiet) {
			LIST_REMOVE(link, entry);
			client->kept_count--;
			return link;
		}
		close_link(link);
	}
	return NULL;
}

int http_link_attach(struct http_client *client, struct http_exchange *exchange, bool may_be_kept)
{
	struct http_link *link = may_be_kept ? take_kept(client) : NULL;
	int error;

	if (link) {
		evtimer_del(link->expiry);
		link->was_kept = true;
		link->got_bytes = false;
		link->exchange = exchange;
		exchange->link = link;
		send_request(link);
		return 0;
	}
	link = calloc(1, sizeof(*link));
	if (!link)
		return -ENOMEM;
	link->client = client;
	link->exchange = exchange;
	link->expiry = evtimer_new(client->base, handle_expiry, link);
	error = link->expiry ? connector_start(client->base, client->route.connect_to, client->timeout_ms,
					       handle_connected, link, &link->connector) :
			       -ENOMEM;
	if (error) {
		link->connector = NULL;
		close_link(link);
		return error;
	}
	exchange->link = link;
	return 0;
}

void http_link_detach(struct http_link *link, bool keep)
{
	const struct timeval lifetime = { .tv_sec = KEEP_MS / 1000, .tv_usec = KEEP_MS % 1000 * 1000 };
	struct http_client *client = link->client;

	if (link->stream && link->got_bytes)
		remember_session(link);
	if (!keep || client->kept_count >= MOST_KEPT) {
		close_link(link);
		return;
	}
	link->exchange = NULL;
	LIST_INSERT_HEAD(&client->kept, link, entry);
	client->kept_count++;
	evtimer_add(link->expiry, &lifetime);
}

void http_links_close_kept(struct http_client *client)
{
	while (!LIST_EMPTY(&client->kept))
		close_link(LIST_FIRST(&client->kept));
}

const char *http_link_phase(const struct http_link *link)
{
	switch (link->state) {
	case LINK_CONNECTING: return "no connection";
	case LINK_TUNNEL: return "no answer from the proxy";
	case LINK_HANDSHAKE: return "no TLS handshake";
	default: return link->got_bytes ? "no complete answer" : "no answer";
	}
}
