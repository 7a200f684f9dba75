// SPDX-License-Identifier: Apache-2.0
/* The proxy's control socket: a client that says anything in pieces of any size. Each
 * line gets one answer, and each answer is JSON on a line of its own. */
#include "base/json.h"
#include "base/log.h"
#include "jsonrpc/control.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROUNDS_MOST 100000 /* of the loop; a client that is never answered is found */

static char folder[] = "/tmp/fuzz-control-XXXXXX";
static char path[64];
static struct event_base *base;
static struct control_server *server;

static void handle(struct jsonrpc_call *call, void *context)
{
	(void)context;
	if (!strcmp(call->method, "echo"))
		jsonrpc_call_result(call, json_incref(call->params));
	else
		jsonrpc_call_error(call, JSONRPC_METHOD_NOT_FOUND, "method not found", NULL);
}

static void stop(void)
{
	control_server_free(server);
	event_base_free(base);
	rmdir(folder);
}

static void start(void)
{
	struct control_settings settings = { .path = path };

	signal(SIGPIPE, SIG_IGN);
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "FUZ");
	if (!mkdtemp(folder))
		abort();
	snprintf(path, sizeof path, "%s/control", folder);
	base = event_base_new();
	if (control_server_start(base, &settings, handle, NULL, &server))
		abort();
	atexit(stop);
}

static int dial(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, path, sizeof path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
		abort();
	return fd;
}

static void check_answers(const char *text, size_t length, size_t lines)
{
	size_t answers = 0;

	for (const char *end; (end = memchr(text, '\n', length)); answers++) {
		json_t *answer = json_read(text, (size_t)(end - text), NULL);
		if (!json_is_object(answer) || !json_object_get(answer, "jsonrpc"))
			abort();
		json_decref(answer);
		length -= (size_t)(end + 1 - text);
		text = end + 1;
	}
	/* One more for a line that is too long to be read. */
	if (length || answers > lines + 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t piece, sent = 0, got = 0, capacity = 1 << 16, lines = 0;
	char *answers;
	bool is_open = true;

	if (!base)
		start();
	if (!size)
		return 0;
	piece = 1 + data[0] * 16u;
	data++;
	size--;
	for (size_t at = 0; at < size; at++)
		lines += data[at] == '\n';
	answers = malloc(capacity);
	int fd = dial();
	for (unsigned round = 0; is_open; round++) {
		ssize_t part = 0;
		if (round == ROUNDS_MOST)
			abort();
		if (sent < size) {
			part = send(fd, data + sent, size - sent < piece ? size - sent : piece, MSG_NOSIGNAL);
			if (part < 0 && errno != EAGAIN)
				sent = size; /* closed on us */
			else if (part > 0)
				sent += (size_t)part;
		}
		if (sent == size) {
			shutdown(fd, SHUT_WR);
			sent++;
		}
		event_base_loop(base, EVLOOP_NONBLOCK);
		while ((part = recv(fd, answers + got, capacity - got, 0)) > 0)
			if ((got += (size_t)part) == capacity)
				answers = realloc(answers, capacity *= 2);
		is_open = part < 0 && errno == EAGAIN;
	}
	check_answers(answers, got, lines);
	close(fd);
	event_base_loop(base, EVLOOP_NONBLOCK);
	free(answers);
	return 0;
}
