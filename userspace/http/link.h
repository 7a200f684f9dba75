// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Inside of the HTTP client: one connection to the peer (link.c) and what it
 * tells the exchange that uses it (client.c). */
#include "http/client.h"
#include "http/message.h"
#include "http/url.h"

#include <event2/buffer.h>
#include <sys/queue.h>

struct http_link;

struct http_client {
	struct event_base *base;
	struct http_route route;
	char *server_name;
	SSL_CTX *tls;
	SSL_SESSION *session; /* of the last connection, to resume; NULL: none */
	bool skip_verify;
	unsigned timeout_ms;
	size_t max_body_bytes;
	LIST_HEAD(, http_exchange) exchanges;
	LIST_HEAD(, http_link) kept; /* connections without an exchange, newest first */
	unsigned kept_count;
};

struct http_exchange {
	LIST_ENTRY(http_exchange) entry;
	struct http_client *client;
	struct http_link *link;
	struct event *deadline;
	char *request; /* head and body, kept until the answer for one repetition */
	size_t request_length;
	struct http_head head;
	bool has_head;
	struct http_chunks chunks;
	struct evbuffer *body;
	http_done done;
	void *context;
};

/* Finds a kept connection or begins a new one, and sends the exchange's
 * request over it. Returns 0 or a negative errno. */
int http_link_attach(struct http_client *client, struct http_exchange *exchange, bool may_be_kept);
/* Ends its use: keeps the connection for others if `keep`, else closes it. */
void http_link_detach(struct http_link *link, bool keep);
void http_links_close_kept(struct http_client *client);
/* What the connection is doing, for a deadline's reason. */
const char *http_link_phase(const struct http_link *link);

/* Called by the link. All may free exchange and link. */
void http_exchange_read(struct http_exchange *exchange, struct evbuffer *input);
/* The stream ended. `may_repeat`: a kept one closed while it still held the whole
 * request. `is_clean`: in order, by FIN or close_notify. `closed_early`: a new
 * one closed without a byte. */
void http_exchange_lost(struct http_exchange *exchange, bool may_repeat, bool is_clean, bool closed_early,
			const char *reason);
