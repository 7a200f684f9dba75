// SPDX-License-Identifier: Apache-2.0
/* Closing a socket at once makes the kernel answer whatever the peer still sends
 * (its own close_notify at least) with a reset: the peer sees an error, and so
 * does a relay in between, although everything went well. So the write side is
 * shut first, and the socket is read, and what comes thrown away, until the peer
 * has ended too. LINGER_MS limits all of it, and LINGER_MOST the number of those
 * that wait; one too many is closed at once.
 *
 * Nothing here knows the connection's owner. The list is static because those
 * who end a connection go before it does. Event loop's thread. */
#include "grpc/linger.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_MS 3000
#define LINGER_MOST 1024
#define DISCARD_SIZE (16u << 10)
#define DISCARDS_PER_EVENT 16

struct linger_connection {
	LIST_ENTRY(linger_connection) link;
	struct event_base *base;
	struct event *readable, *writable, *deadline;
	int fd;
	SSL *ssl;
	uint8_t *out;
	size_t out_start, out_end;
	bool is_said;       /* FIN too */
	bool is_peer_ended;
};

static LIST_HEAD(, linger_connection) lingering = LIST_HEAD_INITIALIZER(lingering);
static size_t lingering_count;

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

static void end(struct linger_connection *connection)
{
	LIST_REMOVE(connection, link);
	lingering_count--;
	free_event(connection->readable);
	free_event(connection->writable);
	free_event(connection->deadline);
	SSL_free(connection->ssl);
	close(connection->fd);
	free(connection->out);
	free(connection);
}

/* False: it has to wait for room in the socket. */
static bool say_all(struct linger_connection *connection)
{
	ERR_clear_error();
	while (connection->out_start < connection->out_end) {
		int result = SSL_write(connection->ssl, connection->out + connection->out_start,
				       (int)(connection->out_end - connection->out_start));

		if (result <= 0)
			return SSL_get_error(connection->ssl, result) != SSL_ERROR_WANT_WRITE;
		connection->out_start += (size_t)result;
	}
	int result = SSL_shutdown(connection->ssl);

	return result >= 0 || SSL_get_error(connection->ssl, result) != SSL_ERROR_WANT_WRITE;
}

/* False: the connection is broken. */
static bool discard(struct linger_connection *connection)
{
	uint8_t bytes[DISCARD_SIZE];

	for (int i = 0; i < DISCARDS_PER_EVENT && !connection->is_peer_ended; i++) {
		ssize_t size = recv(connection->fd, bytes, sizeof(bytes), 0);

		if (size < 0)
			return errno == EAGAIN || errno == EINTR;
		connection->is_peer_ended = !size;
	}
	return true;
}

/* True while there is something to wait for. */
static bool go_on(struct linger_connection *connection)
{
	if (!connection->is_said && say_all(connection)) {
		connection->is_said = true;
		shutdown(connection->fd, SHUT_WR);
	}
	ERR_clear_error();
	return discard(connection) && !(connection->is_said && connection->is_peer_ended);
}

static void wait_on(struct linger_connection *connection)
{
	if (!connection->is_said)
		event_add(connection->writable, NULL);
	if (connection->is_peer_ended)
		event_del(connection->readable);
}

static void take_event(evutil_socket_t fd, short events, void *context)
{
	struct linger_connection *connection = context;
	(void)fd;
	(void)events;

	if (go_on(connection))
		wait_on(connection);
	else
		end(connection);
}

static void take_deadline(evutil_socket_t fd, short events, void *context)
{
	(void)fd;
	(void)events;

	end(context);
}

void linger_start(struct event_base *base, int fd, SSL *ssl, uint8_t *out, size_t start, size_t out_end)
{
	const struct timeval limit = { LINGER_MS / 1000, LINGER_MS % 1000 * 1000 };
	struct linger_connection one = {
		.base = base, .fd = fd, .ssl = ssl, .out = out, .out_start = start, .out_end = out_end
	};
	struct linger_connection *connection = NULL;

	/* Mostly the peer has ended already, or nothing is missing but its end. */
	if (go_on(&one) && lingering_count < LINGER_MOST)
		connection = malloc(sizeof(*connection));
	if (!connection) {
		SSL_free(ssl);
		close(fd);
		free(out);
		return;
	}
	*connection = one;
	LIST_INSERT_HEAD(&lingering, connection, link);
	lingering_count++;
	connection->readable = event_new(base, fd, EV_READ | EV_PERSIST, take_event, connection);
	connection->writable = event_new(base, fd, EV_WRITE, take_event, connection);
	connection->deadline = event_new(base, -1, 0, take_deadline, connection);
	if (!connection->readable || !connection->writable || !connection->deadline ||
	    event_add(connection->readable, NULL) || event_add(connection->deadline, &limit)) {
		end(connection);
		return;
	}
	wait_on(connection);
}

size_t linger_count(const struct event_base *base)
{
	const struct linger_connection *connection;
	size_t count = 0;

	LIST_FOREACH(connection, &lingering, link)
		count += connection->base == base;
	return count;
}

void linger_end_all(const struct event_base *base)
{
	struct linger_connection *connection, *next;

	for (connection = LIST_FIRST(&lingering); connection; connection = next) {
		next = LIST_NEXT(connection, link);
		if (connection->base == base)
			end(connection);
	}
}
