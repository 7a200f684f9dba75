// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Inside of the HTTP server: what server.c (listener, requests) and
 * connection.c (bytes of one client) share. */
#include "base/address.h"
#include "base/log.h"
#include "base/log_limiter.h"
#include "http/message.h"
#include "http/server.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <sys/queue.h>

struct http_connection;

struct http_server {
	struct event_base *base;
	char *name;
	SSL_CTX *tls;
	struct rate_limiter *limiter;
	size_t max_body_bytes;
	unsigned handshake_timeout_ms, idle_timeout_ms, progress_timeout_ms, request_timeout_ms;
	unsigned connection_count, max_connections;
	http_handler handle;
	void *context;
	struct evconnlistener *listener; /* NULL after stop */
	struct event *accept_again;
	struct event *give_back; /* memory, pending after a large request */
	uint16_t port;
	TAILQ_HEAD(http_connection_list, http_connection) connections; /* newest first */
	LIST_HEAD(, http_request) requests; /* given to the handler, not answered */
	size_t open_requests;
	struct log_limiter lines;       /* about what strangers do */
	uint64_t refused_told_ms;       /* when the last refusals were logged */
	unsigned long refused;          /* since then */
	uint64_t accept_failed_told_ms; /* when failures of accept() were logged */
	unsigned long accept_failed;    /* since then */
};

struct http_request {
	LIST_ENTRY(http_request) entry;
	struct http_server *server;         /* NULL after it was freed */
	struct http_connection *connection; /* NULL after it was closed */
	struct http_head head;
	char *path;
	char *body;
	size_t length;
	struct evbuffer *fields; /* added header lines */
	char peer[ADDRESS_TEXT_SIZE];
};

/* Owns `fd` from now on. */
void http_connection_start(struct http_server *server, int fd, const struct sockaddr *peer);
/* Writes the answer; `request` stays the caller's. */
void http_connection_answer(struct http_connection *connection, const struct http_request *request, int status,
			    const char *body, size_t length);
void http_connections_close_idle(struct http_server *server);
size_t http_connections_answering(const struct http_server *server); /* whose answer is not written out yet */
/* Closes the one that has been open longest of those that bring nothing. Returns
 * whether there was one. */
bool http_connections_close_oldest(struct http_server *server);
void http_connections_close_all(struct http_server *server);

/* Logs what a client did or failed to do, unless there were too many such lines
 * lately. `format` begins behind the name of the server. */
void http_server_tell(struct http_server *server, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Gives a complete request to the handler. */
void http_server_handle(struct http_server *server, struct http_request *request);
void http_request_free(struct http_request *request);
