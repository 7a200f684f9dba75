// SPDX-License-Identifier: Apache-2.0
/* HTTP/1.1 server on libevent's listener, streams and buffers.
 *
 * Owns the listener, its connections and the requests that are not answered
 * yet. Not evhttp, for four reasons: it takes accepted sockets before a rate
 * limit can refuse them; it answers malformed and oversized requests itself,
 * with no way to log who sent them and why; it says nothing about failed
 * handshakes; and it ends the process (event_errx) in states that it holds
 * impossible.
 *
 * A connection handles one request after the other: reading stops from the
 * last byte of a request until its answer has been written, so a client can
 * make the server hold at most one request and one answer. A request survives
 * its connection and the server: answering it then only frees it.
 *
 * Everything runs on the thread of the event base. */
#include "http/server.h"

#include "base/address.h"
#include "base/cleanup.h"
#include "base/instant.h"
#include "base/log.h"
#include "http/connection.h"
#include "http/message.h"
#include "http/stream.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 1024
#define LARGE_BODY_BYTES 262144
#define GIVE_BACK_AFTER_MS 500
#define CLOSED_FOR_DESCRIPTORS 16 /* connections, each time */
#define ACCEPT_TOLD_EVERY_MS 5000
#define ACCEPT_PAUSE_MS 100 /* after accept() failed, mostly for want of descriptors */

static void tell_held_back(const struct http_server *server, uint64_t held_back)
{
	if (held_back > 0)
		log_warning("%s: %" PRIu64 " more lines about clients were not logged", server->name, held_back);
}

static void tell(struct http_server *server, enum log_level level, const char *format, va_list arguments)
	__attribute__((format(printf, 3, 0)));
static void tell(struct http_server *server, enum log_level level, const char *format, va_list arguments)
{
	_free_ char *text = NULL;
	uint64_t held_back;

	if (!log_is_on(level) || !log_limiter_take(&server->lines, &held_back))
		return;
	tell_held_back(server, held_back);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	log_write(level, "%s: %s", server->name, text ? text : "no memory");
}

void http_server_tell(struct http_server *server, enum log_level level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	tell(server, level, format, arguments);
	va_end(arguments);
}

void http_request_tell(struct http_request *request, enum log_level level, const char *format, ...)
{
	va_list arguments;

	if (!request->server)
		return;
	va_start(arguments, format);
	tell(request->server, level, format, arguments);
	va_end(arguments);
}

static void log_refusals(struct http_server *server, const struct sockaddr *peer)
{
	uint64_t now = clock_now_ms();
	char text[ADDRESS_TEXT_SIZE];

	/* At most a line a second, or the refused could fill the disk. */
	server->refused++;
	if (server->refused_told_ms && now - server->refused_told_ms < 1000)
		return;
	log_warning("%s: rate limit: closed %lu connection(s), the last from %s", server->name, server->refused,
		    address_format(peer, text));
	server->refused_told_ms = now;
	server->refused = 0;
}

static void handle_accept(struct evconnlistener *listener, int fd, struct sockaddr *peer, int length, void *context)
{
	struct http_server *server = context;

	(void)listener, (void)length;
	if (!rate_limiter_admit(server->limiter, peer, time(NULL))) {
		close(fd);
		log_refusals(server, peer);
		return;
	}
	if (server->connection_count >= server->max_connections && !http_connections_close_oldest(server)) {
		char text[ADDRESS_TEXT_SIZE];

		close(fd);
		http_server_tell(server, LOG_LEVEL_WARNING, "%u connections are open: closed one from %s",
				 server->max_connections, address_format(peer, text));
		return;
	}
	http_connection_start(server, fd, peer);
}

static void handle_accept_error(struct evconnlistener *listener, void *context)
{
	struct http_server *server = context;
	const struct timeval pause = { .tv_usec = ACCEPT_PAUSE_MS * 1000 };
	int error = errno;
	uint64_t now = clock_now_ms();

	/* The socket stays readable: going on at once would spin. */
	evconnlistener_disable(listener);
	evtimer_add(server->accept_again, &pause);
	/* Descriptors that nobody uses are the first to be given back. */
	for (int i = 0; i < CLOSED_FOR_DESCRIPTORS && (error == EMFILE || error == ENFILE); i++)
		http_connections_close_oldest(server);
	server->accept_failed++;
	if (server->accept_failed_told_ms && now - server->accept_failed_told_ms < ACCEPT_TOLD_EVERY_MS)
		return;
	log_error("%s: cannot accept connections: %s (%lu time(s))", server->name, strerror(error), server->accept_failed);
	server->accept_failed_told_ms = now;
	server->accept_failed = 0;
}

static void handle_accept_again(int fd, short events, void *context)
{
	struct http_server *server = context;

	(void)fd, (void)events;
	if (server->listener)
		evconnlistener_enable(server->listener);
}

/* What a large request and its JSON took lies in small pieces all over the heap,
 * which glibc would keep. */
static void handle_give_back(int fd, short events, void *context)
{
	(void)fd, (void)events, (void)context;
	malloc_trim(0);
}

int http_server_start(struct event_base *base, const struct http_server_options *options, struct http_server **result)
{
	struct http_server *server = calloc(1, sizeof(*server));
	struct sockaddr_storage bound = { 0 };
	socklen_t length = sizeof(bound);
	int fd, error = -ENOMEM;

	*result = NULL;
	if (!server)
		goto failed;
	log_limiter_init(&server->lines, LOG_LIMITER_LINES, LOG_LIMITER_LINES);
	TAILQ_INIT(&server->connections);
	LIST_INIT(&server->requests);
	server->base = base;
	server->limiter = options->limiter;
	server->max_body_bytes = options->max_body_bytes;
	server->handshake_timeout_ms = options->handshake_timeout_ms ? options->handshake_timeout_ms : 10000;
	server->idle_timeout_ms = options->idle_timeout_ms ? options->idle_timeout_ms : 60000;
	server->progress_timeout_ms = options->progress_timeout_ms ? options->progress_timeout_ms : 30000;
	server->request_timeout_ms = options->request_timeout_ms ? options->request_timeout_ms : 120000;
	server->max_connections = options->max_connections ? options->max_connections : 4096;
	server->handle = options->handle;
	server->context = options->context;
	server->name = strdup(options->name);
	server->accept_again = evtimer_new(base, handle_accept_again, server);
	server->give_back = evtimer_new(base, handle_give_back, server);
	if (!server->name || !server->accept_again || !server->give_back)
		goto failed;
	if (options->tls && SSL_CTX_up_ref(options->tls))
		server->tls = options->tls;
	fd = address_listen(options->bind_address, false, BACKLOG);
	if (fd < 0) {
		error = fd;
		goto failed;
	}
	getsockname(fd, (struct sockaddr *)&bound, &length);
	server->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port :
							   ((struct sockaddr_in *)&bound)->sin_port);
	server->listener = evconnlistener_new(base, handle_accept, server, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
					      0, fd);
	if (!server->listener) {
		close(fd);
		goto failed;
	}
	evconnlistener_set_error_cb(server->listener, handle_accept_error);
	*result = server;
	return 0;
failed:
	log_error("%s: cannot listen on %s: %s", options->name, options->bind_address, strerror(-error));
	http_server_free(server);
	return error;
}

void http_server_stop(struct http_server *server)
{
	if (!server->listener)
		return;
	evconnlistener_free(server->listener);
	server->listener = NULL;
	http_connections_close_idle(server);
}

size_t http_server_open_requests(const struct http_server *server)
{
	return server->open_requests + http_connections_answering(server);
}

uint16_t http_server_port(const struct http_server *server)
{
	return server->port;
}

void http_server_free(struct http_server *server)
{
	struct http_request *request;

	if (!server)
		return;
	if (server->listener)
		evconnlistener_free(server->listener);
	http_connections_close_all(server);
	LIST_FOREACH(request, &server->requests, entry)
		request->server = NULL;
	tell_held_back(server, log_limiter_flush(&server->lines));
	log_limiter_clear(&server->lines);
	if (server->accept_again)
		event_free(server->accept_again);
	if (server->give_back)
		event_free(server->give_back);
	SSL_CTX_free(server->tls);
	free(server->name);
	free(server);
}

void http_server_handle(struct http_server *server, struct http_request *request)
{
	request->server = server;
	LIST_INSERT_HEAD(&server->requests, request, entry);
	server->open_requests++;
	server->handle(request, server->context);
}

const char *http_request_method(const struct http_request *request)
{
	return request->head.method;
}

const char *http_request_path(const struct http_request *request)
{
	return request->path;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
	return http_head_field(&request->head, name);
}

const char *http_request_body(const struct http_request *request, size_t *length)
{
	*length = request->length;
	return request->body;
}

const char *http_request_peer(const struct http_request *request)
{
	return request->peer;
}

void http_request_add_header(struct http_request *request, const char *name, const char *value)
{
	if (strpbrk(value, "\r\n"))
		return; /* would end the header line */
	if (!request->fields)
		request->fields = evbuffer_new();
	if (request->fields)
		evbuffer_add_printf(request->fields, "%s: %s\r\n", name, value);
}

void http_request_answer(struct http_request *request, int status, const char *body, size_t length)
{
	static const struct timeval give_back_after = { .tv_usec = GIVE_BACK_AFTER_MS * 1000 };

	if (request->server) {
		LIST_REMOVE(request, entry);
		request->server->open_requests--;
		/* Later: the handler has its own share of it still. */
		if (request->length >= LARGE_BODY_BYTES && !evtimer_pending(request->server->give_back, NULL))
			evtimer_add(request->server->give_back, &give_back_after);
	}
	if (request->connection)
		http_connection_answer(request->connection, request, status, body, length);
	http_request_free(request);
}

void http_request_free(struct http_request *request)
{
	if (request->fields)
		evbuffer_free(request->fields);
	http_head_clear(&request->head);
	free(request->path);
	free(request->body);
	free(request);
}
