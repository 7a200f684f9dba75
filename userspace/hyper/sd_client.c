// SPDX-License-Identifier: Apache-2.0
/* One-shot calls, see sd_client.h. */
#include "hyper/sd_client.h"

#include "base/cleanup.h"
#include "base/daemon.h"
#include "base/instant.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 1000

struct sd_client {
	struct event_base *base;
	struct event *timer;
	struct directory *directory;
	struct jsonrpc_client *rpc; /* NULL for a `json` directory */
	char *name;
	uint64_t deadline_ms;
	struct wait_notice notice;
	/* Of what is waited for now. */
	bool done, timed_out;
	char *failure;
	bool is_error_answer;
	json_t *answer;
};

static uint64_t time_left(const struct sd_client *client)
{
	uint64_t now = clock_now_ms();

	return client->deadline_ms > now ? client->deadline_ms - now : 0;
}

static void handle_deadline(evutil_socket_t fd, short what, void *context)
{
	struct sd_client *client = context;

	(void)fd, (void)what;
	client->timed_out = true;
}

/* Runs the loop until `done`, or for `most_ms`. */
static void run_loop(struct sd_client *client, uint64_t most_ms)
{
	const struct timeval delay = { (time_t)(most_ms / 1000), (suseconds_t)(most_ms % 1000 * 1000) };

	client->timed_out = evtimer_add(client->timer, &delay) != 0;
	while (!client->done && !client->timed_out)
		if (event_base_loop(client->base, EVLOOP_ONCE) < 0)
			client->timed_out = true;
	evtimer_del(client->timer);
}

static void settle(struct sd_client *client, const char *failure)
{
	client->done = true;
	free(client->failure);
	client->failure = failure ? strdup(failure) : NULL;
}

static void forget_result(struct sd_client *client)
{
	client->done = client->is_error_answer = false;
	free(client->failure);
	client->failure = NULL;
	json_decref(client->answer);
	client->answer = NULL;
}

int sd_client_create(const struct directory_settings *settings, unsigned wait_ms, struct sd_client **result)
{
	struct sd_client *client = calloc(1, sizeof(*client));
	bool is_api = settings->type == DIRECTORY_API && settings->endpoints.count && settings->jsonrpc_client;
	int error = -ENOMEM;

	if (!client)
		return -ENOMEM;
	daemon_prepare_process();
	client->deadline_ms = clock_now_ms() + wait_ms;
	client->base = event_base_new();
	client->timer = client->base ? evtimer_new(client->base, handle_deadline, client) : NULL;
	if (client->timer && asprintf(&client->name, "service directory %s", is_api ? settings->endpoints.items[0] : "") < 0)
		client->name = NULL;
	if (client->name)
		error = directory_create(client->base, settings, &client->directory);
	if (!error && is_api)
		error = jsonrpc_client_create(client->base, settings->jsonrpc_client, settings->endpoints.items[0],
					      settings->server_names.count ? settings->server_names.items[0] : NULL, &client->rpc);
	if (error) {
		log_error("cannot use the service directory: %s", strerror(-error));
		sd_client_free(client);
		return error;
	}
	*result = client;
	return 0;
}

void sd_client_free(struct sd_client *client)
{
	if (!client)
		return;
	forget_result(client);
	jsonrpc_client_free(client->rpc);
	directory_free(client->directory);
	if (client->timer)
		event_free(client->timer);
	if (client->base)
		event_base_free(client->base);
	free(client->name);
	free(client);
}

static void handle_loaded(const char *failure, void *context) { settle(context, failure); }

struct directory *sd_client_directory(struct sd_client *client)
{
	forget_result(client);
	directory_await(client->directory, handle_loaded, client);
	run_loop(client, time_left(client));
	if (client->done && !client->failure)
		return client->directory;
	log_error("%s: %s", client->name, client->done ? client->failure : "no answer in time");
	return NULL;
}

static void handle_answer(const struct jsonrpc_answer *answer, const char *failure, bool closed_early, void *context)
{
	struct sd_client *client = context;

	settle(client, closed_early ? "closed by the other side: rate limit, or our certificate was refused" : failure);
	if (!failure && answer->is_error) {
		client->is_error_answer = true;
		if (asprintf(&client->failure, "it answers error %d: %s", answer->code, answer->message ? answer->message : "") < 0)
			client->failure = NULL;
	} else if (!failure) {
		client->answer = answer->result ? json_incref(answer->result) : json_null();
	}
}

/* One try. 0; -EPROTO, -EAGAIN or -ETIMEDOUT with the reason in `failure`. */
static int call_once(struct sd_client *client, const char *method, const json_t *params)
{
	struct jsonrpc_pending *pending = NULL;

	forget_result(client);
	if (jsonrpc_client_call(client->rpc, method, params, "1", handle_answer, client, &pending)) {
		settle(client, "the call cannot be made");
		return -EPROTO;
	}
	run_loop(client, time_left(client));
	if (!client->done) {
		jsonrpc_client_cancel(pending);
		settle(client, "no answer in time");
		return -ETIMEDOUT;
	}
	if (client->is_error_answer)
		return -EPROTO;
	return client->answer ? 0 : -EAGAIN;
}

int sd_client_call(struct sd_client *client, const char *method, const json_t *params, bool once, json_t **answer)
{
	uint64_t backoff_ms = BACKOFF_FIRST_MS;
	int error;

	if (!client->rpc) {
		log_error("only a directory of type api can do this");
		return -EPROTO;
	}
	while ((error = call_once(client, method, params)) == -EAGAIN && !once && time_left(client) > backoff_ms) {
		_free_ char *awaited = NULL;

		if (asprintf(&awaited, "%s (%s)", client->name, client->failure ? client->failure : "") >= 0)
			wait_notice_tell(&client->notice, awaited);
		else
			awaited = NULL;
		client->done = false;
		run_loop(client, backoff_ms);
		backoff_ms = 2 * backoff_ms < BACKOFF_MAX_MS ? 2 * backoff_ms : BACKOFF_MAX_MS;
	}
	if (error) {
		log_write(once ? LOG_LEVEL_WARNING : LOG_LEVEL_ERROR, "%s: %s: %s", client->name, method,
			  client->failure ? client->failure : "out of memory");
		return error;
	}
	wait_notice_clear(&client->notice, client->name);
	*answer = json_incref(client->answer);
	return 0;
}
