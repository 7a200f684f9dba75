// SPDX-License-Identifier: Apache-2.0
/* One client of the HTTP server: handshake, requests one after the other,
 * answers, end.
 *
 *   HANDSHAKE -> HEAD -> BODY -> HANDLING -> ANSWERING -> HEAD …
 *                                                      -> LINGERING -> closed
 *
 * Reading is on in HEAD, BODY and LINGERING only. Every state but HANDLING has a
 * deadline. LINGERING comes after the last answer: the client may have sent more,
 * if only its close_notify, and closing with bytes unread resets the connection,
 * which destroys the part of the answer that is still on its way. */
#include "http/connection.h"

#include "base/instant.h"
#include "base/log.h"
#include "http/stream.h"

#include <errno.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINGER_TIMEOUT_MS 5000
#define MOST_UNREAD_BYTES 65536 /* read ahead of what was asked for */

enum connection_state {
	CONNECTION_HANDSHAKE,
	CONNECTION_HEAD,
	CONNECTION_BODY,
	CONNECTION_HANDLING,
	CONNECTION_ANSWERING,
	CONNECTION_LINGERING,
};

struct http_connection {
	TAILQ_ENTRY(http_connection) entry;
	struct http_server *server;
	struct bufferevent *stream;
	struct event *deadline;
	enum connection_state state;
	bool head_began;
	uint64_t began_ms; /* head_began: when */
	bool keep_alive; /* after the present answer */
	struct http_request *request;
	struct evbuffer *body; /* of the request that is being read */
	struct http_chunks chunks;
	char peer[ADDRESS_TEXT_SIZE];
};

static void read_requests(struct http_connection *connection);

static struct timeval from_ms(unsigned ms)
{
	return (struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
}

static void set_deadline(struct http_connection *connection, unsigned after_ms)
{
	const struct timeval after = from_ms(after_ms);

	evtimer_add(connection->deadline, &after);
}

/* A request moves on, or is at its end by request_timeout_ms. */
static void set_progress_deadline(struct http_connection *connection)
{
	const struct http_server *server = connection->server;
	uint64_t gone = clock_now_ms() - connection->began_ms;
	uint64_t left = gone < server->request_timeout_ms ? server->request_timeout_ms - gone : 0;

	set_deadline(connection, left < server->progress_timeout_ms ? (unsigned)left : server->progress_timeout_ms);
}

static void close_connection(struct http_connection *connection)
{
	if (connection->request) {
		if (connection->state == CONNECTION_HANDLING)
			connection->request->connection = NULL; /* the handler has it */
		else
			http_request_free(connection->request);
	}
	TAILQ_REMOVE(&connection->server->connections, connection, entry);
	connection->server->connection_count--;
	if (connection->deadline)
		event_free(connection->deadline);
	if (connection->body)
		evbuffer_free(connection->body);
	http_stream_close(connection->stream);
	free(connection);
}

static const char *status_phrase(int status)
{
	switch (status) {
	case 200: return "OK";
	case 400: return "Bad Request";
	case 404: return "Not Found";
	case 413: return "Content Too Large";
	case 417: return "Expectation Failed";
	case 431: return "Request Header Fields Too Large";
	case 500: return "Internal Server Error";
	case 501: return "Not Implemented";
	case 503: return "Service Unavailable";
	case 505: return "HTTP Version Not Supported";
	default: return "Status";
	}
}

/* RFC 9110 5.6.7, formatted once a second. */
static const char *date_text(void)
{
	static _Thread_local char text[40];
	static _Thread_local time_t written;
	time_t now = time(NULL);
	struct tm parts;

	if (now != written) {
		gmtime_r(&now, &parts);
		strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
		written = now;
	}
	return text;
}

/* `fields`: header lines, each with its end. */
static void write_answer(struct http_connection *connection, const struct http_request *request, int status,
			 const char *fields, size_t fields_length, const char *body, size_t length)
{
	struct evbuffer *output = bufferevent_get_output(connection->stream);
	bool has_body = !request || !request->head.method || strcmp(request->head.method, "HEAD") != 0;

	if (!connection->server->listener)
		connection->keep_alive = false; /* stopping */
	/* One piece of memory (hence no evbuffer_add_buffer), because TLS makes a record of each. */
	evbuffer_expand(output, 256 + fields_length + length);
	evbuffer_add_printf(output, "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Length: %zu\r\n", status,
			    status_phrase(status), date_text(), length);
	if (!connection->keep_alive)
		evbuffer_add_printf(output, "Connection: close\r\n");
	else if (request && request->head.minor_version == 0)
		evbuffer_add_printf(output, "Connection: keep-alive\r\n");
	if (fields_length)
		evbuffer_add(output, fields, fields_length);
	evbuffer_add(output, "\r\n", 2);
	if (has_body)
		evbuffer_add(output, body, length);
	connection->state = CONNECTION_ANSWERING;
	/* As long as a request may take; the stream's write timeout sees to it that it moves on. */
	set_deadline(connection, connection->server->request_timeout_ms);
}

void http_connection_answer(struct http_connection *connection, const struct http_request *request, int status,
			    const char *body, size_t length)
{
	size_t fields_length = request->fields ? evbuffer_get_length(request->fields) : 0;
	const char *fields = fields_length ? (const char *)evbuffer_pullup(request->fields, -1) : NULL;

	connection->request = NULL;
	write_answer(connection, request, status, fields, fields_length, body, length);
}

/* Answers a request that cannot be read to its end. */
static void refuse_request(struct http_connection *connection, int status, const char *reason)
{
	static const char type[] = "Content-Type: application/json; charset=utf-8\r\n";
	char body[160];
	int length = snprintf(body, sizeof(body), "{\"message\":\"%s\"}", reason);
	struct http_request *request = connection->request;

	http_server_tell(connection->server, LOG_LEVEL_WARNING, "bad request from %s: %s (status %d)", connection->peer,
			 reason, status);
	bufferevent_disable(connection->stream, EV_READ);
	connection->keep_alive = false;
	connection->request = NULL;
	write_answer(connection, request, status, type, sizeof(type) - 1, body, (size_t)length);
	if (request)
		http_request_free(request);
}

static void start_head(struct http_connection *connection)
{
	connection->state = CONNECTION_HEAD;
	connection->head_began = false;
	bufferevent_enable(connection->stream, EV_READ);
	set_deadline(connection, connection->server->idle_timeout_ms);
}

static void linger(struct http_connection *connection)
{
	SSL *tls = bufferevent_openssl_get_ssl(connection->stream);

	if (tls)
		SSL_shutdown(tls);
	shutdown(bufferevent_getfd(connection->stream), SHUT_WR);
	connection->state = CONNECTION_LINGERING;
	evbuffer_drain(bufferevent_get_input(connection->stream), SIZE_MAX);
	bufferevent_enable(connection->stream, EV_READ);
	set_deadline(connection, LINGER_TIMEOUT_MS);
}

static void hand_over(struct http_connection *connection)
{
	struct http_request *request = connection->request;

	bufferevent_disable(connection->stream, EV_READ);
	evtimer_del(connection->deadline);
	request->length = evbuffer_get_length(connection->body);
	request->body = malloc(request->length + 1);
	if (!request->body) {
		refuse_request(connection, 503, "no memory");
		return;
	}
	evbuffer_remove(connection->body, request->body, request->length);
	request->body[request->length] = '\0';
	connection->state = CONNECTION_HANDLING;
	connection->keep_alive = request->head.keep_alive;
	http_server_handle(connection->server, request);
}

/* Both return whether the loop in read_requests() may go on. */
static bool read_head(struct http_connection *connection)
{
	struct evbuffer *input = bufferevent_get_input(connection->stream);
	size_t available = evbuffer_get_length(input), length;
	size_t looked_at = available < HTTP_HEAD_MAX_BYTES ? available : HTTP_HEAD_MAX_BYTES;
	const char *bytes = (const char *)evbuffer_pullup(input, (ev_ssize_t)looked_at), *reason = NULL;
	struct http_request *request;
	int status = 0;

	if (available == 0)
		return false;
	if (*bytes == '\r' || *bytes == '\n') { /* RFC 9112 2.2: ignore empty lines before a request */
		evbuffer_drain(input, 1);
		return true;
	}
	if (!connection->head_began) {
		connection->head_began = true;
		connection->began_ms = clock_now_ms();
		set_progress_deadline(connection);
	}
	length = http_head_length(bytes, looked_at);
	if (length == 0) {
		if (available >= HTTP_HEAD_MAX_BYTES)
			refuse_request(connection, 431, "request head is too large");
		return false;
	}
	request = calloc(1, sizeof(*request));
	if (!request) {
		refuse_request(connection, 503, "no memory");
		return false;
	}
	connection->request = request;
	request->connection = connection;
	memcpy(request->peer, connection->peer, sizeof(request->peer));
	if (http_head_read(bytes, length, true, &request->head, &status, &reason)) {
		refuse_request(connection, status, reason);
		return false;
	}
	evbuffer_drain(input, length);
	request->path = http_target_path(request->head.target);
	if (!request->path) {
		refuse_request(connection, 400, "malformed request target");
		return false;
	}
	if (request->head.framing == HTTP_BODY_LENGTH &&
	    request->head.content_length > connection->server->max_body_bytes) {
		refuse_request(connection, 413, "request body is too large");
		return false;
	}
	if (request->head.expects_continue && request->head.framing != HTTP_BODY_NONE &&
	    evbuffer_get_length(input) == 0)
		bufferevent_write(connection->stream, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	connection->state = CONNECTION_BODY;
	memset(&connection->chunks, 0, sizeof(connection->chunks));
	set_progress_deadline(connection);
	return true;
}

/* 1: complete, 0: more is needed, negative: refused. */
static int read_chunks(struct http_connection *connection, struct evbuffer *input)
{
	size_t length;

	while ((length = evbuffer_get_contiguous_space(input)) > 0) {
		const char *bytes = (const char *)evbuffer_pullup(input, (ev_ssize_t)length), *data;
		size_t used, data_length;
		int result = http_chunks_take(&connection->chunks, bytes, length, &used, &data, &data_length);

		evbuffer_add(connection->body, data, data_length);
		evbuffer_drain(input, used);
		if (result < 0) {
			refuse_request(connection, 400, "malformed chunked body");
			return result;
		}
		if (evbuffer_get_length(connection->body) > connection->server->max_body_bytes) {
			refuse_request(connection, 413, "request body is too large");
			return -EMSGSIZE;
		}
		if (result)
			return 1;
	}
	return 0;
}

static bool read_body(struct http_connection *connection)
{
	struct evbuffer *input = bufferevent_get_input(connection->stream);
	const struct http_head *head = &connection->request->head;
	size_t available = evbuffer_get_length(input), have = evbuffer_get_length(connection->body);
	int complete = 1;

	if (available > 0)
		set_progress_deadline(connection);
	if (head->framing == HTTP_BODY_LENGTH) {
		uint64_t missing = head->content_length - have;

		evbuffer_remove_buffer(input, connection->body, missing < available ? (size_t)missing : available);
		complete = missing <= available;
	} else if (head->framing == HTTP_BODY_CHUNKED) {
		complete = read_chunks(connection, input);
	}
	if (complete <= 0)
		return false;
	hand_over(connection);
	return false;
}

static void read_requests(struct http_connection *connection)
{
	bool go_on = true;

	while (go_on) {
		if (connection->state == CONNECTION_HEAD)
			go_on = read_head(connection);
		else if (connection->state == CONNECTION_BODY)
			go_on = read_body(connection);
		else
			go_on = false;
	}
	if (connection->state == CONNECTION_LINGERING)
		evbuffer_drain(bufferevent_get_input(connection->stream), SIZE_MAX);
}

static void handle_readable(struct bufferevent *stream, void *context)
{
	(void)stream;
	read_requests(context);
}

/* The output buffer has been written out. */
static void handle_written(struct bufferevent *stream, void *context)
{
	struct http_connection *connection = context;

	(void)stream;
	if (connection->state != CONNECTION_ANSWERING)
		return;
	if (connection->keep_alive) {
		start_head(connection);
		read_requests(connection); /* the next one may have come already */
	} else {
		linger(connection);
	}
}

static void handle_event(struct bufferevent *stream, short events, void *context)
{
	struct http_connection *connection = context;
	struct http_server *server = connection->server;
	const char *reason;

	if (events & BEV_EVENT_CONNECTED) {
		start_head(connection);
		return;
	}
	reason = http_stream_reason(stream, events, NULL);
	switch (connection->state) {
	case CONNECTION_HANDSHAKE:
		/* Whoever only looks whether the port is open sends nothing. */
		http_server_tell(server, http_stream_tls_bytes_read(stream) ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG,
				 "TLS handshake with %s failed: %s", connection->peer, reason);
		break;
	case CONNECTION_HEAD:
		if (connection->head_began)
			http_server_tell(server, LOG_LEVEL_INFO, "%s left within a request head: %s", connection->peer,
					 reason);
		break;
	case CONNECTION_BODY:
		http_server_tell(server, LOG_LEVEL_INFO, "%s left within a request body: %s", connection->peer, reason);
		break;
	case CONNECTION_HANDLING:
		/* Reading is off, so this is no half-close but an error. */
	case CONNECTION_ANSWERING:
		http_server_tell(server, LOG_LEVEL_INFO, "%s did not take its answer: %s", connection->peer, reason);
		break;
	case CONNECTION_LINGERING:
		break;
	}
	close_connection(connection);
}

static void handle_deadline(int fd, short events, void *context)
{
	struct http_connection *connection = context;
	struct http_server *server = connection->server;

	(void)fd, (void)events;
	if (connection->state == CONNECTION_HANDSHAKE)
		http_server_tell(server, LOG_LEVEL_WARNING, "no TLS handshake from %s within %u ms", connection->peer,
				 server->handshake_timeout_ms);
	else if (connection->state == CONNECTION_BODY || (connection->state == CONNECTION_HEAD && connection->head_began))
		http_server_tell(server, LOG_LEVEL_WARNING, "request from %s did not arrive in time", connection->peer);
	else if (connection->state == CONNECTION_ANSWERING)
		http_server_tell(server, LOG_LEVEL_WARNING, "%s did not take its answer within %u ms", connection->peer,
				 server->request_timeout_ms);
	close_connection(connection);
}

void http_connection_start(struct http_server *server, int fd, const struct sockaddr *peer)
{
	struct http_connection *connection = calloc(1, sizeof(*connection));
	const struct timeval write_timeout = from_ms(server->progress_timeout_ms);
	SSL *tls = NULL;

	if (!connection || (server->tls && !(tls = SSL_new(server->tls)))) {
		http_server_tell(server, LOG_LEVEL_ERROR, "no memory for a connection");
		free(connection);
		close(fd);
		return;
	}
	connection->server = server;
	address_format(peer, connection->peer);
	TAILQ_INSERT_HEAD(&server->connections, connection, entry);
	server->connection_count++;
	connection->stream = http_stream_new(server->base, fd, tls, true);
	connection->deadline = evtimer_new(server->base, handle_deadline, connection);
	connection->body = evbuffer_new();
	if (!connection->stream || !connection->deadline || !connection->body) {
		http_server_tell(server, LOG_LEVEL_ERROR, "no memory for a connection");
		close_connection(connection);
		return;
	}
	bufferevent_setcb(connection->stream, handle_readable, handle_written, handle_event, connection);
	bufferevent_setwatermark(connection->stream, EV_READ, 0, MOST_UNREAD_BYTES);
	bufferevent_set_timeouts(connection->stream, NULL, &write_timeout);
	bufferevent_enable(connection->stream, EV_READ | EV_WRITE);
	if (tls)
		set_deadline(connection, server->handshake_timeout_ms);
	else
		start_head(connection);
}

static bool brings_nothing(const struct http_connection *connection)
{
	return connection->state == CONNECTION_HANDSHAKE ||
	       (connection->state == CONNECTION_HEAD && !connection->head_began);
}

void http_connections_close_idle(struct http_server *server)
{
	struct http_connection *connection, *next;

	for (connection = TAILQ_FIRST(&server->connections); connection; connection = next) {
		next = TAILQ_NEXT(connection, entry);
		if (brings_nothing(connection))
			close_connection(connection);
	}
}

size_t http_connections_answering(const struct http_server *server)
{
	const struct http_connection *connection;
	size_t count = 0;

	TAILQ_FOREACH(connection, &server->connections, entry)
		count += connection->state == CONNECTION_ANSWERING;
	return count;
}

bool http_connections_close_oldest(struct http_server *server)
{
	struct http_connection *connection;

	TAILQ_FOREACH_REVERSE(connection, &server->connections, http_connection_list, entry) {
		if (brings_nothing(connection)) {
			close_connection(connection);
			return true;
		}
	}
	return false;
}

void http_connections_close_all(struct http_server *server)
{
	while (!TAILQ_EMPTY(&server->connections))
		close_connection(TAILQ_FIRST(&server->connections));
}
