// SPDX-License-Identifier: Apache-2.0
#pragma once
/* HTTP/1.1 client on the event loop for JSON-RPC: POST with a deadline over
 * plain TCP or TLS, optionally through an HTTP proxy (CONNECT for https).
 * Connections are kept for a second and reused. A request is sent twice only if a
 * kept connection closed before any byte of it was sent: a peer that got it may
 * have carried it out, and the exchange fails. */
#include <event2/event.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

struct http_client;
struct http_exchange;

struct http_client_options {
	const char *url;         /* http://host:port/path or https://… */
	const char *proxy_url;   /* NULL: none; environment proxies are never used */
	const char *server_name; /* NULL: the URL's host */
	SSL_CTX *tls;            /* for https; the caller keeps its reference */
	bool skip_verify;
	unsigned timeout_ms; /* whole exchange, connecting included */
	size_t max_body_bytes;
};

/* `error` is NULL when a complete answer came, whatever its status; else it is
 * a reason that names the address, and `closed_early` says that the peer
 * closed a new connection without a byte (rate limits do that). Called once, from the loop. */
struct http_answer {
	const char *error;
	bool closed_early;
	int status;
	const char *body;
	size_t length;
};
typedef void (*http_done)(const struct http_answer *answer, void *context);

int http_client_create(struct event_base *base, const struct http_client_options *options, struct http_client **result);
/* Cancels what is under way: their `done` is not called. */
void http_client_free(struct http_client *client);

/* Copies `body`. Sends Content-Type and Accept application/json. */
int http_client_post(struct http_client *client, const char *body, size_t length, http_done done, void *context,
		     struct http_exchange **exchange);
void http_exchange_cancel(struct http_exchange *exchange);
