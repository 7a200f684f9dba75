// SPDX-License-Identifier: Apache-2.0
/* One call over the control socket, for programs without an event loop: connects,
 * sends a line, waits for a line. Blocks for at most the time given. */
#include "base/cleanup.h"
#include "base/instant.h"
#include "jsonrpc/control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MOST_ANSWER_BYTES (64u << 20)

/* 0, -ETIMEDOUT or another negative errno. */
static int wait_for(int fd, short events, uint64_t end_ms)
{
	struct pollfd watched = { .fd = fd, .events = events };
	uint64_t now = clock_now_ms();
	int count;

	if (now >= end_ms)
		return -ETIMEDOUT;
	count = poll(&watched, 1, end_ms - now > 60000 ? 60000 : (int)(end_ms - now));
	return count < 0 && errno != EINTR ? -errno : 0;
}

static int send_all(int fd, const char *bytes, size_t length, uint64_t end_ms)
{
	while (length > 0) {
		ssize_t count = send(fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		int error = 0;

		if (count > 0) {
			bytes += count;
			length -= (size_t)count;
		} else if (errno == EAGAIN || errno == EINTR) {
			error = wait_for(fd, POLLOUT, end_ms);
		} else {
			error = -errno;
		}
		if (error)
			return error;
	}
	return 0;
}

/* Reads up to a line feed. */
static int receive_line(int fd, uint64_t end_ms, char **line, size_t *length)
{
	size_t capacity = 0;

	*length = 0;
	for (;;) {
		ssize_t count;
		int error = 0;

		if (*length == capacity) {
			char *larger;

			capacity = capacity ? capacity * 2 : 16384;
			larger = capacity <= MOST_ANSWER_BYTES ? realloc(*line, capacity) : NULL;
			if (!larger)
				return -ENOMEM;
			*line = larger;
		}
		count = recv(fd, *line + *length, capacity - *length, MSG_DONTWAIT);
		if (count > 0) {
			*length += (size_t)count;
			if ((*line)[*length - 1] == '\n')
				return 0;
		} else if (count == 0) {
			return -ECONNRESET;
		} else if (errno == EAGAIN || errno == EINTR) {
			error = wait_for(fd, POLLIN, end_ms);
		} else {
			error = -errno;
		}
		if (error)
			return error;
	}
}

static char *explain(int error, const char *path, unsigned timeout_ms, const char *detail)
{
	char *text = NULL;
	int length;

	switch (error) {
	case -ENOENT:
	case -ECONNREFUSED:
		length = asprintf(&text, "no proxy listens on %s: start it, or name the socket of its settings", path);
		break;
	case -EACCES:
		length = asprintf(&text, "not allowed to use %s: run as root or as a member of the socket's group", path);
		break;
	case -ETIMEDOUT:
		length = asprintf(&text, "the proxy behind %s did not answer within %u ms: look at its log", path,
				  timeout_ms);
		break;
	case -ECONNRESET:
	case -EPIPE:
		length = asprintf(&text, "the proxy behind %s closed the connection: look at its log", path);
		break;
	default:
		length = asprintf(&text, "cannot talk to the proxy behind %s: %s", path,
				  detail ? detail : strerror(-error));
	}
	return length < 0 ? NULL : text;
}

int control_call(const char *path, const char *method, const json_t *params, unsigned timeout_ms,
		 struct jsonrpc_answer *answer, char **reason)
{
	uint64_t end_ms = clock_now_ms() + timeout_ms;
	const struct timeval patience = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_free_ char *request = NULL, *line = NULL, *detail = NULL;
	_close_ int fd = -1;
	size_t length = 0;
	int error = -ENAMETOOLONG;

	memset(answer, 0, sizeof(*answer));
	*reason = NULL;
	if (strlen(path) >= sizeof(address.sun_path))
		goto out;
	strcpy(address.sun_path, path);
	error = -ENOMEM;
	request = jsonrpc_request_text(method, params, "1", &length);
	if (!request)
		goto out;
	request[length++] = '\n'; /* in place of the NUL */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* connect() waits for room in the backlog, for as long as the send timeout. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) || connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		error = errno == EAGAIN ? -ETIMEDOUT : -errno;
		goto out;
	}
	error = send_all(fd, request, length, end_ms);
	if (!error)
		error = receive_line(fd, end_ms, &line, &length);
	if (!error)
		error = jsonrpc_answer_read(line, length, answer, &detail);
out:
	if (error) {
		jsonrpc_answer_clear(answer);
		*reason = explain(error, path, timeout_ms, detail);
	}
	return error;
}
