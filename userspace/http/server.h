// SPDX-License-Identifier: Apache-2.0
#pragma once
/* HTTP/1.1 server on the event loop, plain or TLS. Call everything from its
 * thread; http_server_free not from inside the handler.
 *
 * Limits: body size (413), header size, idle time, time of a request; rate limits
 * close a connection without a byte. With the most connections open, a new one
 * closes the oldest that brings nothing, or is closed itself. A request is answered exactly once, at any later
 * time; if its client has gone meanwhile the answer is dropped. */
#include "base/log.h"
#include "base/rate_limit.h"

#include <event2/event.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_server;
struct http_request;

typedef void (*http_handler)(struct http_request *request, void *context);

struct http_server_options {
	const char *name; /* for log lines */
	const char *bind_address;
	SSL_CTX *tls;                 /* NULL: plain; the caller keeps its reference */
	struct rate_limiter *limiter; /* NULL: none; must outlive the server */
	size_t max_body_bytes;
	http_handler handle;
	void *context;
	unsigned handshake_timeout_ms; /* whole TLS handshake; 0: 10 s */
	unsigned idle_timeout_ms;      /* between requests; 0: 60 s */
	unsigned progress_timeout_ms;  /* a whole head; a body or an answer without a byte moving; 0: 30 s */
	unsigned request_timeout_ms;   /* a whole request, from its first byte, and then its answer; 0: 120 s */
	unsigned max_connections;      /* at once; 0: 4096 */
};

/* Returns 0 or a negative errno, logged. */
int http_server_start(struct event_base *base, const struct http_server_options *options, struct http_server **result);
/* Closes the listener; open requests go on. */
void http_server_stop(struct http_server *server);
/* Requests without an answer, and answers that are still being written. */
size_t http_server_open_requests(const struct http_server *server);
uint16_t http_server_port(const struct http_server *server); /* the one bound, if port 0 was asked for */
void http_server_free(struct http_server *server);

/* All borrowed until the answer. Header names are case-insensitive; absent: NULL. */
const char *http_request_method(const struct http_request *request);
const char *http_request_path(const struct http_request *request); /* without the query */
const char *http_request_header(const struct http_request *request, const char *name);
const char *http_request_body(const struct http_request *request, size_t *length);
const char *http_request_peer(const struct http_request *request); /* "ip:port" */

/* Logs a line about what its client did, behind the name of the server. Only ten
 * such lines a second are written, the rest is counted. Before the answer. */
void http_request_tell(struct http_request *request, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void http_request_add_header(struct http_request *request, const char *name, const char *value);
/* Sends and frees the request. */
void http_request_answer(struct http_request *request, int status, const char *body, size_t length);
