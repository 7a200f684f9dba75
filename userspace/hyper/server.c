// SPDX-License-Identifier: Apache-2.0
/* The message server as a process: builds directory, router and channels from
 * the settings, opens the channels in their order, runs the loop, and takes all
 * down again.
 *
 * Listeners are bound at once, whether or not the directory answers yet; until
 * it does, a timer says what is waited for. What cannot be bound or loaded ends
 * the program with status 1.
 *
 * Stopping: listeners first, then up to 5 s for open calls, then everything that
 * is left fails and goes, and connections get the seconds that a clean end needs. */
#include "hyper/server.h"

#include "base/daemon.h"
#include "base/instant.h"
#include "base/log.h"
#include "directory/directory.h"
#include "grpc/linger.h"
#include "hyper/own_entry.h"
#include "router/channels.h"
#include "router/router.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define STOP_DEADLINE_MS 5000
#define STOP_LOOK_MS 10
#define DIRECTORY_RETRY_MS 1000
#define CHANNEL_TYPES 5
#define HEAP_KEPT_BYTES (8 << 20)
#define HEAP_STEP_BYTES (1 << 20)

struct hyper_server {
	const struct hyper_settings *settings;
	struct event_base *base;
	struct daemon_signals *signals;
	struct directory *directory;
	struct own_entry *own_entry;
	struct router *router;
	struct channel *channels[CHANNEL_TYPES];
	size_t channel_count;
	struct event *directory_retry, *stop_look;
	struct wait_notice directory_notice;
	uint64_t stop_deadline_ms;
	bool is_absence_told;
	bool is_stopping;
};

/* ---- the directory at the start ---- */

static void directory_looked(const char *failure, void *context)
{
	struct hyper_server *server = context;
	if (server->is_stopping)
		return;
	if (!failure && directory_entry(server->directory, server->settings->name)) {
		wait_notice_clear(&server->directory_notice, "the own entry in the service directory");
		log_info("operator %s is up", server->settings->name);
		return;
	}
	if (!server->is_absence_told) {
		server->is_absence_told = true;
		log_warning("operator %s serves nobody yet: %s", server->settings->name,
			    failure ? failure : "the service directory has no entry of it");
	}
	/* A directory that does not answer tells for itself. */
	if (!failure)
		wait_notice_tell(&server->directory_notice, "the own entry in the service directory");
	event_add(server->directory_retry, &(struct timeval){ DIRECTORY_RETRY_MS / 1000, DIRECTORY_RETRY_MS % 1000 * 1000 });
}

static void directory_was_loaded(void *context)
{
	struct hyper_server *server = context;
	own_entry_look(server->own_entry, directory_entry(server->directory, server->settings->name));
}

static void directory_retry_fired(evutil_socket_t fd, short events, void *context)
{
	struct hyper_server *server = context;
	(void)fd;
	(void)events;
	directory_refresh(server->directory, directory_looked, server);
}

/* ---- channels ---- */

static const struct grpc_client_settings *client_settings(const struct hyper_settings *settings)
{
	for (size_t i = 0; i < settings->channel_count; i++)
		if (settings->channels[i].type == CHANNEL_GRPC_CLIENT)
			return settings->channels[i].grpc_client;
	return NULL;
}

static int channel_create(struct hyper_server *server, const struct channel_settings *settings, struct channel **result)
{
	switch (settings->type) {
	case CHANNEL_STDOUT:
		return channel_stdout_create(result);
	case CHANNEL_JSONRPC_CLIENT:
		return channel_jsonrpc_client_create(server->base, settings->jsonrpc_client, result);
	case CHANNEL_JSONRPC_SERVER:
		return channel_jsonrpc_server_create(settings->name, settings->jsonrpc_server, result);
	case CHANNEL_GRPC_CLIENT:
		return channel_grpc_client_create(settings->grpc_client, result);
	case CHANNEL_GRPC_SERVER:
		return channel_grpc_server_create(settings->grpc_server, client_settings(server->settings), result);
	}
	return -EINVAL;
}

/* NULL: listens nowhere. */
static const char *channel_address(const struct channel_settings *settings)
{
	if (settings->type == CHANNEL_JSONRPC_SERVER)
		return settings->jsonrpc_server->bind_address;
	if (settings->type == CHANNEL_GRPC_SERVER)
		return settings->grpc_server->bind_address;
	return NULL;
}

static int channel_open(struct channel *channel, const struct channel_settings *settings)
{
	const char *address = channel_address(settings);
	int error = channel->class->open(channel);
	if (error < 0)
		log_fatal("channel %s cannot be opened%s%s: %s", settings->name, address ? " at " : "",
			  address ? address : "", strerror(-error));
	else if (address)
		log_info("%s at %s", settings->type == CHANNEL_GRPC_SERVER ? "gRPC" : "JSON-RPC", address);
	return error;
}

static int channels_create(struct hyper_server *server)
{
	const struct hyper_settings *settings = server->settings;
	unsigned seen = 0;
	for (size_t i = 0; i < settings->channel_count; i++) {
		const struct channel_settings *channel = &settings->channels[i];
		if (seen & 1u << channel->type) {
			log_fatal("channel %s: there is another channel of its type", channel->name);
			return -EEXIST;
		}
		seen |= 1u << channel->type;
		int error = channel_create(server, channel, &server->channels[i]);
		if (error < 0) {
			log_fatal("channel %s cannot be made: %s", channel->name, strerror(-error));
			return error;
		}
		server->channel_count++;
		error = router_add_channel(server->router, server->channels[i]);
		if (error < 0)
			return error;
	}
	for (size_t i = 0; i < server->channel_count; i++) {
		int error = channel_open(server->channels[i], &settings->channels[i]);
		if (error < 0)
			return error;
	}
	return 0;
}

/* ---- stopping ---- */

static size_t open_calls(const struct hyper_server *server)
{
	size_t count = router_open_calls(server->router);
	for (size_t i = 0; i < server->channel_count; i++) {
		const struct channel *channel = server->channels[i];
		if (channel->class->open_calls)
			count += channel->class->open_calls(channel);
	}
	return count;
}

static void stop_look_fired(evutil_socket_t fd, short events, void *context)
{
	struct hyper_server *server = context;
	(void)fd;
	(void)events;
	size_t count = open_calls(server);
	if (count > 0 && clock_now_ms() < server->stop_deadline_ms) {
		event_add(server->stop_look, &(struct timeval){ 0, STOP_LOOK_MS * 1000 });
		return;
	}
	if (count > 0)
		log_warning("%zu calls are still open after %d s and end now", count, STOP_DEADLINE_MS / 1000);
	event_base_loopbreak(server->base);
}

static void server_stop(void *context)
{
	struct hyper_server *server = context;
	server->is_stopping = true;
	server->stop_deadline_ms = clock_now_ms() + STOP_DEADLINE_MS;
	event_del(server->directory_retry);
	for (size_t i = 0; i < server->channel_count; i++)
		if (server->channels[i]->class->stop)
			server->channels[i]->class->stop(server->channels[i]);
	stop_look_fired(-1, 0, server);
}

/* Fails what is left and lets the answers out. */
static void server_drain(struct hyper_server *server)
{
	server->is_stopping = true;
	for (size_t i = 0; i < server->channel_count; i++)
		if (server->channels[i]->class->cancel)
			server->channels[i]->class->cancel(server->channels[i]);
	if (server->router)
		router_cancel(server->router);
	for (int i = 0; i < 3; i++)
		event_base_loop(server->base, EVLOOP_NONBLOCK);
}

/* Each connection has its own deadline. Nothing else has work left on the loop. */
static void wait_for_goodbyes(struct event_base *base)
{
	while (linger_count(base) > 0 && event_base_loop(base, EVLOOP_ONCE) == 0)
		;
	linger_end_all(base);
}

static void server_clear(struct hyper_server *server)
{
	if (server->base)
		server_drain(server);
	for (size_t i = 0; i < server->channel_count; i++)
		server->channels[i]->class->free(server->channels[i]);
	if (server->directory)
		directory_free(server->directory);
	own_entry_free(server->own_entry);
	router_free(server->router);
	if (server->directory_retry)
		event_free(server->directory_retry);
	if (server->stop_look)
		event_free(server->stop_look);
	if (server->base)
		wait_for_goodbyes(server->base);
	if (server->signals)
		daemon_signals_free(server->signals);
	if (server->base)
		event_base_free(server->base);
}

/* ---- the command ---- */

static int server_build(struct hyper_server *server)
{
	const struct hyper_settings *settings = server->settings;
	server->base = event_base_new();
	if (!server->base)
		return -ENOMEM;
	server->signals = daemon_watch_signals(server->base, server_stop, server);
	server->directory_retry = event_new(server->base, -1, 0, directory_retry_fired, server);
	server->stop_look = event_new(server->base, -1, 0, stop_look_fired, server);
	if (!server->signals || !server->directory_retry || !server->stop_look)
		return -ENOMEM;
	int error = directory_create(server->base, &settings->directory, &server->directory);
	if (error < 0)
		return error;
	error = router_create(server->base, settings->name, server->directory, &server->router);
	if (error < 0)
		return error;
	error = channels_create(server);
	if (error < 0)
		return error;
	error = own_entry_create(settings, &server->own_entry);
	if (error < 0)
		return error;
	directory_watch(server->directory, directory_was_loaded, server);
	if (settings->metrics)
		log_info("metrics at %s come with a later version", settings->metrics->bind_address);
	return 0;
}

/* Every call builds trees and texts of a directory entry's size and frees them again;
 * with the defaults the heap shrinks and grows by system calls each time. */
static void keep_heap(void)
{
	mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_BYTES);
	mallopt(M_TOP_PAD, HEAP_STEP_BYTES);
	/* The other two end glibc's own adjustment of this one. */
	mallopt(M_MMAP_THRESHOLD, HEAP_STEP_BYTES);
}

int hyper_server_run(int argc, char **argv, void *settings)
{
	if (argc > 0) {
		log_error("server run: unexpected argument %s", argv[0]);
		return 2;
	}
	daemon_prepare_process();
	keep_heap();
	struct hyper_server server = { .settings = settings };
	int error = server_build(&server);
	if (error == 0) {
		directory_retry_fired(-1, 0, &server);
		event_base_dispatch(server.base);
	} else {
		log_fatal("the server cannot run: %s", strerror(-error));
	}
	server_clear(&server);
	if (error == 0)
		log_info("operator %s has stopped", server.settings->name);
	return error == 0 ? 0 : 1;
}
