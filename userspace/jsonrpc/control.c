// SPDX-License-Identifier: Apache-2.0
/* Server of the control socket: JSON-RPC messages, one a line.
 *
 * Owns the socket file, the listener and its clients. A client has one call at
 * a time: reading stops from the end of a line until its answer is written. So
 * a client costs at most one line and one answer, and the number of clients is
 * bounded. A call may outlive its client: its answer is then dropped. */
#include "jsonrpc/control.h"

#include "base/log.h"
#include "base/log_limiter.h"
#include "jsonrpc/call.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <grp.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MOST_CLIENTS 64
#define MOST_LINE_BYTES 65536
#define BACKLOG 16
#define IDLE_TIMEOUT_S 300
#define WRITE_TIMEOUT_S 30

struct control_server {
	struct event_base *base;
	char *path;
	dev_t device; /* of the socket file, so that only our own is removed */
	ino_t inode;
	jsonrpc_handler handler;
	void *context;
	struct evconnlistener *listener;
	LIST_HEAD(, control_client) clients;
	unsigned client_count;
	struct log_limiter lines; /* about clients */
};

struct control_client {
	LIST_ENTRY(control_client) entry;
	struct control_server *server;
	struct bufferevent *stream;
	struct control_call *call; /* under way */
	bool closing;              /* after what is being written */
	char peer[64];
};

/* Between a call and the client that may leave before its answer. */
struct control_call {
	struct control_client *client;
	char peer[64];
};

static void read_lines(struct control_client *client);

static void close_client(struct control_client *client)
{
	if (client->call)
		client->call->client = NULL;
	LIST_REMOVE(client, entry);
	client->server->client_count--;
	bufferevent_free(client->stream);
	free(client);
}

static void write_line(struct control_client *client, const char *text, size_t length)
{
	struct evbuffer *output = bufferevent_get_output(client->stream);

	bufferevent_disable(client->stream, EV_READ);
	evbuffer_add(output, text, length);
	evbuffer_add(output, "\n", 1);
}

static void send_answer(void *transport, bool is_error, const char *text, size_t length)
{
	struct control_call *call = transport;

	(void)is_error;
	if (call->client) {
		call->client->call = NULL;
		write_line(call->client, text, length);
	}
	free(call);
}

/* Whether a line about a client may be logged; tells what was held back before. */
static bool may_tell(struct control_server *server)
{
	uint64_t held_back;

	if (!log_limiter_take(&server->lines, &held_back))
		return false;
	log_limiter_tell(held_back, "control: lines about clients");
	return true;
}

static void refuse(struct control_client *client, int code, const char *message)
{
	size_t length = 0;
	char *text = jsonrpc_error_text(code, message, NULL, NULL, &length);

	if (may_tell(client->server))
		log_warning("control: refused a request from %s: %s", client->peer, message);
	write_line(client, text ? text : "", length);
	free(text);
}

static void handle_line(struct control_client *client, const char *line, size_t length)
{
	struct jsonrpc_pending_call *pending = NULL;
	struct jsonrpc_request request;
	struct control_call *call = NULL;
	char *detail;
	int code = jsonrpc_request_read(line, length, &request, &detail);

	if (code == 0 && (call = calloc(1, sizeof(*call)))) {
		memcpy(call->peer, client->peer, sizeof(call->peer));
		pending = jsonrpc_call_create(&request, call->peer, send_answer, call);
	}
	if (pending) {
		call->client = client;
		client->call = call;
		bufferevent_disable(client->stream, EV_READ);
		client->server->handler(&pending->call, client->server->context);
	} else {
		free(call);
		refuse(client, code ? code : JSONRPC_INTERNAL_ERROR, detail ? detail : "internal error");
	}
	free(detail);
	jsonrpc_request_clear(&request);
}

static bool is_busy(const struct control_client *client)
{
	return client->call || client->closing || evbuffer_get_length(bufferevent_get_output(client->stream)) > 0;
}

static void read_lines(struct control_client *client)
{
	struct evbuffer *input = bufferevent_get_input(client->stream);

	while (!is_busy(client)) {
		size_t length;
		char *line = evbuffer_readln(input, &length, EVBUFFER_EOL_LF);

		if (line) {
			if (length > 0)
				handle_line(client, line, length);
			free(line);
			continue;
		}
		if (evbuffer_get_length(input) >= MOST_LINE_BYTES) {
			refuse(client, JSONRPC_PARSE_ERROR, "line is too long");
			client->closing = true;
		}
		return;
	}
}

static void handle_readable(struct bufferevent *stream, void *context)
{
	(void)stream;
	read_lines(context);
}

static void handle_written(struct bufferevent *stream, void *context)
{
	struct control_client *client = context;

	if (client->closing) {
		close_client(client);
	} else if (!is_busy(client)) {
		bufferevent_enable(stream, EV_READ);
		read_lines(client);
	}
}

static void handle_event(struct bufferevent *stream, short events, void *context)
{
	struct control_client *client = context;

	(void)stream;
	if (events & BEV_EVENT_TIMEOUT && events & BEV_EVENT_WRITING && may_tell(client->server))
		log_info("control: %s did not take its answer", client->peer);
	close_client(client);
}

static void describe_peer(int fd, char peer[64])
{
	struct ucred who;
	socklen_t length = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0)
		snprintf(peer, 64, "process %ld of user %lu", (long)who.pid, (unsigned long)who.uid);
	else
		snprintf(peer, 64, "unix");
}

static void handle_accept(struct evconnlistener *listener, int fd, struct sockaddr *address, int length, void *context)
{
	const struct timeval idle = { .tv_sec = IDLE_TIMEOUT_S }, write = { .tv_sec = WRITE_TIMEOUT_S };
	struct control_server *server = context;
	struct control_client *client = NULL;

	(void)listener, (void)address, (void)length;
	if (server->client_count < MOST_CLIENTS)
		client = calloc(1, sizeof(*client));
	if (client)
		client->stream = bufferevent_socket_new(server->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!client || !client->stream) {
		if (may_tell(server))
			log_warning("control: closed a connection: %s",
				    server->client_count < MOST_CLIENTS ? "no memory" : "too many clients");
		free(client);
		close(fd);
		return;
	}
	client->server = server;
	describe_peer(fd, client->peer);
	LIST_INSERT_HEAD(&server->clients, client, entry);
	server->client_count++;
	bufferevent_setcb(client->stream, handle_readable, handle_written, handle_event, client);
	bufferevent_setwatermark(client->stream, EV_READ, 0, MOST_LINE_BYTES);
	bufferevent_set_timeouts(client->stream, &idle, &write);
	bufferevent_enable(client->stream, EV_READ | EV_WRITE);
}

/* ---- the socket file ---- */

static int set_group(const char *path, const char *group)
{
	struct group *found;

	if (!group)
		return 0;
	errno = 0;
	found = getgrnam(group);
	if (!found)
		return errno && errno != ENOENT && errno != ESRCH ? -errno : -EINVAL; /* told by the caller */
	return chown(path, (uid_t)-1, found->gr_gid) ? -errno : 0;
}

/* A folder made here is the group's to enter. */
static int make_folder(const char *path, const char *group)
{
	char *copy = strdup(path), *folder = copy ? dirname(copy) : NULL;
	int error = 0;

	if (!copy)
		return -ENOMEM;
	if (mkdir(folder, 0750) == 0)
		error = set_group(folder, group);
	else if (errno != EEXIST)
		error = -errno;
	free(copy);
	return error;
}

static const char *what_stands_there(mode_t mode)
{
	return S_ISDIR(mode) ? "a folder stands there" :
	       S_ISREG(mode) ? "a plain file stands there" :
	       S_ISLNK(mode) ? "a symbolic link stands there" :
			       "something that is no socket stands there";
}

int control_path_check(const char *path)
{
	struct stat status;
	int error = 0;

	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		error = -ENAMETOOLONG;
	else if (lstat(path, &status) == 0)
		error = S_ISSOCK(status.st_mode) ? 0 : -EEXIST;
	else if (errno == ENOTDIR)
		error = -ENOTDIR;
	if (error)
		log_error("control: cannot listen on %s: %s", path,
			  error == -EEXIST ? what_stands_there(status.st_mode) : strerror(-error));
	return error;
}

/* Removes a socket that nobody listens on any more. */
static int remove_stale(const struct sockaddr_un *address)
{
	struct stat status;
	int fd, error = 0;

	if (lstat(address->sun_path, &status))
		return errno == ENOENT ? 0 : -errno;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* A full backlog (EAGAIN) has somebody behind it, too. */
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		error = -EADDRINUSE;
	else if (errno != ECONNREFUSED)
		error = -errno;
	close(fd);
	if (!error && unlink(address->sun_path) && errno != ENOENT)
		error = -errno;
	return error;
}

/* The file is never more open than at the end: umask before bind(). */
static int bind_file(int fd, const struct sockaddr_un *address, const char *group)
{
	mode_t previous = umask(0177);
	int error = bind(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;

	umask(previous);
	if (!error)
		error = set_group(address->sun_path, group);
	if (!error && chmod(address->sun_path, 0660))
		error = -errno;
	if (!error && listen(fd, BACKLOG))
		error = -errno;
	return error;
}

int control_server_start(struct event_base *base, const struct control_settings *settings, jsonrpc_handler handler,
			 void *context, struct control_server **result)
{
	struct control_server *server = calloc(1, sizeof(*server));
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat status;
	int fd = -1, error = -ENOMEM;

	*result = NULL;
	if (!server)
		goto failed;
	LIST_INIT(&server->clients);
	log_limiter_init(&server->lines, LOG_LIMITER_LINES, LOG_LIMITER_LINES);
	server->base = base;
	server->handler = handler;
	server->context = context;
	server->path = strdup(settings->path);
	if (!server->path)
		goto failed;
	error = control_path_check(settings->path);
	if (error) {
		control_server_free(server);
		return error;
	}
	strcpy(address.sun_path, settings->path);
	error = make_folder(settings->path, settings->group);
	if (!error)
		error = remove_stale(&address);
	if (error)
		goto failed;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	error = fd < 0 ? -errno : bind_file(fd, &address, settings->group);
	if (error)
		goto failed;
	if (lstat(settings->path, &status) == 0) {
		server->device = status.st_dev;
		server->inode = status.st_ino;
	}
	error = -ENOMEM;
	server->listener = evconnlistener_new(base, handle_accept, server, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
					      0, fd);
	if (!server->listener)
		goto failed;
	*result = server;
	return 0;
failed:
	if (error == -EINVAL && settings->group)
		log_error("control: cannot listen on %s: there is no group %s", settings->path, settings->group);
	else
		log_error("control: cannot listen on %s: %s", settings->path,
			  error == -EADDRINUSE ? "another process listens there" : strerror(-error));
	if (fd >= 0)
		close(fd);
	control_server_free(server);
	return error;
}

void control_server_free(struct control_server *server)
{
	struct stat status;

	if (!server)
		return;
	while (!LIST_EMPTY(&server->clients))
		close_client(LIST_FIRST(&server->clients));
	if (server->listener)
		evconnlistener_free(server->listener);
	if (server->inode && lstat(server->path, &status) == 0 && status.st_ino == server->inode &&
	    status.st_dev == server->device)
		unlink(server->path);
	log_limiter_tell(log_limiter_flush(&server->lines), "control: lines about clients");
	log_limiter_clear(&server->lines);
	free(server->path);
	free(server);
}
