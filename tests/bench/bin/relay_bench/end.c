// SPDX-License-Identifier: Apache-2.0
#include "end.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define GOODBYE_MS 500

static ssize_t meaning(struct end *end, int result)
{
	int error = errno;

	if (result > 0)
		return result;
	switch (SSL_get_error(end->tls, result)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		errno = error ? error : EPROTO;
		return -1;
	}
}

ssize_t end_send(struct end *end, const void *bytes, size_t size)
{
	if (!end->tls)
		return send(end->fd, bytes, size, MSG_NOSIGNAL);
	ERR_clear_error();
	errno = 0;
	return meaning(end, SSL_write(end->tls, bytes, (int)size));
}

ssize_t end_receive(struct end *end, void *bytes, size_t size)
{
	if (!end->tls)
		return recv(end->fd, bytes, size, 0);
	ERR_clear_error();
	errno = 0;
	return meaning(end, SSL_read(end->tls, bytes, (int)size));
}

bool end_has_bytes(const struct end *end)
{
	return end->tls && SSL_has_pending(end->tls);
}

bool end_send_all(struct end *end, const void *bytes, size_t size)
{
	for (const char *at = bytes; size;) {
		ssize_t count = end_send(end, at, size);
		if (count <= 0)
			return false;
		at += count;
		size -= (size_t)count;
	}
	return true;
}

bool end_receive_all(struct end *end, void *bytes, size_t size)
{
	for (char *at = bytes; size;) {
		ssize_t count = end_receive(end, at, size);
		if (count <= 0)
			return false;
		at += count;
		size -= (size_t)count;
	}
	return true;
}

void end_set_blocking(struct end *end, bool blocks)
{
	int flags = fcntl(end->fd, F_GETFL);

	fcntl(end->fd, F_SETFL, blocks ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

static void say_goodbye(struct end *end)
{
	end_set_blocking(end, true);
	ERR_clear_error();
	SSL_shutdown(end->tls);
	shutdown(end->fd, SHUT_WR);
}

static void hear_goodbye(struct end *end)
{
	struct timeval limit = { .tv_usec = GOODBYE_MS * 1000 };
	char bytes[512];

	setsockopt(end->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	while (recv(end->fd, bytes, sizeof bytes, 0) > 0)
		;
}

void ends_close(struct end ends[2])
{
	if (ends[0].tls && ends[1].tls) {
		say_goodbye(&ends[0]);
		say_goodbye(&ends[1]);
		hear_goodbye(&ends[1]);
		hear_goodbye(&ends[0]);
	}
	for (int side = 0; side < 2; side++) {
		SSL_free(ends[side].tls);
		if (ends[side].fd >= 0)
			close(ends[side].fd);
		ends[side] = END_NONE;
	}
}
