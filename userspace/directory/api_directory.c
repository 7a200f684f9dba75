// SPDX-License-Identifier: Apache-2.0
/* Directory of an sd, see api_directory.h.
 *
 * One update at a time: a call, or the pause before its repetition. `C` is
 * cache_entries_for: data whose last attempt is younger than C is fresh, up to
 * 2C it is used while an update runs, beyond that a question waits for the
 * update. Somebody who answers but refuses us (a rate limit, our certificate) is
 * left alone for longer and longer: the update ends, and questions fail at once
 * until the rest is over. An update that fails for a reason that repeating cannot cure (an error
 * answer, records that do not verify) ends at once, and the copy stays as it is. */
#include "directory/api_directory.h"

#include "base/cleanup.h"
#include "base/daemon.h"
#include "base/instant.h"
#include "base/log.h"
#include "jsonrpc/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 2000
#define REFUSED_MAX_MS 30000     /* the same while we are refused */
#define REFUSED_LOADED_MAX_MS 5000 /* and have something to keep fresh: rate limits pass soon */
#define PATIENCE_MS 3000         /* how long a question waits for repetitions */
#define RETRY_UNLOADED_MS 2000   /* after a failure that repeating did not cure, while nothing is loaded */
#define ACTIVE_FOR_MS 300000     /* background refresh goes on for so long after the last question */
#define SAME_REASON_AGAIN_MS 60000

struct waiter {
	TAILQ_ENTRY(waiter) link;
	directory_ready ready;
	void *context;
	uint64_t since_ms;
	bool is_patient; /* waits for the first success, not just for the next result */
};
TAILQ_HEAD(waiter_list, waiter);

struct api_directory {
	struct jsonrpc_client *client;
	struct jsonrpc_pending *pending;
	struct verifier *verifier;
	struct replica replica;
	struct event *timer; /* repetition while updating, else background refresh */
	struct waiter_list waiters;
	struct wait_notice notice;
	char *name; /* for log lines */
	char reason[SIGNATURE_REASON_SIZE]; /* last failure, "" behind a success */
	uint64_t reason_logged_ms;
	uint64_t cache_ms, attempt_ms, asked_ms;
	uint64_t rest_until_ms; /* no try before, since we were refused */
	unsigned backoff_ms;
	bool loaded, updating, refused;
	directory_loaded watcher;
	void *watcher_context;
};

static void start_update(struct api_directory *directory);

static void arm(struct api_directory *directory, uint64_t delay_ms)
{
	const struct timeval delay = { (time_t)(delay_ms / 1000), (suseconds_t)(delay_ms % 1000 * 1000) };

	evtimer_add(directory->timer, &delay);
}

/* Answers the waiters (`failure` NULL: it went well). Without `all`, only those
 * who have waited for as long as they want to. They may ask again meanwhile. */
static void answer_waiters(struct api_directory *directory, const char *failure, bool all)
{
	struct waiter_list ready = TAILQ_HEAD_INITIALIZER(ready);
	uint64_t now = clock_now_ms();
	struct waiter *waiter, *next;

	for (waiter = TAILQ_FIRST(&directory->waiters); waiter; waiter = next) {
		next = TAILQ_NEXT(waiter, link);
		if (!all && (waiter->is_patient || now - waiter->since_ms < PATIENCE_MS))
			continue;
		TAILQ_REMOVE(&directory->waiters, waiter, link);
		TAILQ_INSERT_TAIL(&ready, waiter, link);
	}
	while ((waiter = TAILQ_FIRST(&ready))) {
		TAILQ_REMOVE(&ready, waiter, link);
		waiter->ready(failure, waiter->context);
		free(waiter);
	}
}

/* The next background refresh: when the data gets old, if somebody cares. */
static void plan_refresh(struct api_directory *directory)
{
	uint64_t now = clock_now_ms(), due = directory->attempt_ms + directory->cache_ms;

	if (due < directory->rest_until_ms)
		due = directory->rest_until_ms;
	if (!directory->cache_ms || now - directory->asked_ms >= ACTIVE_FOR_MS || evtimer_pending(directory->timer, NULL))
		return;
	arm(directory, due > now ? due - now : directory->cache_ms);
}

static void end_update(struct api_directory *directory, const char *failure)
{
	directory->updating = false;
	if (directory->loaded)
		plan_refresh(directory);
	else
		arm(directory, RETRY_UNLOADED_MS);
	answer_waiters(directory, failure, true);
}

/* Says a lasting failure once a minute. */
static void note_failure(struct api_directory *directory, const char *why, bool is_error)
{
	uint64_t now = clock_now_ms();
	bool same = !strncmp(directory->reason, why, sizeof(directory->reason) - 1);

	if (!same || now - directory->reason_logged_ms >= SAME_REASON_AGAIN_MS) {
		directory->reason_logged_ms = now;
		log_write(is_error ? LOG_LEVEL_ERROR : LOG_LEVEL_DEBUG, "%s: %s", directory->name, why);
	}
	snprintf(directory->reason, sizeof(directory->reason), "%s", why);
}

/* Ends the update for as long as the pause. Who waits for the first success goes on waiting. */
static void rest(struct api_directory *directory)
{
	struct waiter *waiter;

	directory->updating = false;
	directory->rest_until_ms = clock_now_ms() + directory->backoff_ms;
	if (directory->loaded)
		plan_refresh(directory);
	else
		arm(directory, directory->backoff_ms);
	TAILQ_FOREACH(waiter, &directory->waiters, link)
		waiter->since_ms = 0;
	answer_waiters(directory, directory->reason, false);
}

/* No answer: try again, as long as somebody wants that. */
static void handle_no_answer(struct api_directory *directory, bool refused, const char *why)
{
	unsigned most_ms = !refused ? BACKOFF_MAX_MS : directory->loaded ? REFUSED_LOADED_MAX_MS : REFUSED_MAX_MS;
	_free_ char *awaited = NULL;

	if (!refused && directory->refused)
		directory->backoff_ms = BACKOFF_FIRST_MS;
	directory->refused = refused;
	note_failure(directory, why, false);
	if (asprintf(&awaited, "%s (%s)", directory->name, why) >= 0)
		wait_notice_tell(&directory->notice, awaited);
	else
		awaited = NULL;
	if (directory->loaded && clock_now_ms() - directory->attempt_ms >= PATIENCE_MS) {
		end_update(directory, directory->reason);
		return;
	}
	if (directory->backoff_ms > BACKOFF_MAX_MS) {
		rest(directory);
	} else {
		arm(directory, directory->backoff_ms);
		answer_waiters(directory, directory->reason, false);
	}
	directory->backoff_ms = 2 * directory->backoff_ms < most_ms ? 2 * directory->backoff_ms : most_ms;
}

static void handle_records(struct api_directory *directory, const json_t *list)
{
	size_t before = json_array_size(directory->replica.records);
	char why[SIGNATURE_REASON_SIZE];
	_free_ char *failure = NULL, *root = strdup(replica_root(&directory->replica));

	if (replica_update(&directory->replica, list, (int64_t)time(NULL), why)) {
		if (asprintf(&failure, "its records are refused: %s", why) < 0)
			failure = NULL;
		note_failure(directory, failure ? failure : "out of memory", true);
		end_update(directory, directory->reason);
		return;
	}
	wait_notice_clear(&directory->notice, directory->name);
	if (root && *root && strcmp(root, replica_root(&directory->replica)))
		log_warning("%s: the directory was reset: it begins with record %s, no longer with %s", directory->name,
			    replica_root(&directory->replica), root);
	if (!directory->loaded || json_array_size(list))
		log_info("%s: %zu records (%zu new), %zu entries", directory->name, json_array_size(directory->replica.records),
			 directory->loaded ? json_array_size(list) : json_array_size(directory->replica.records) - before,
			 json_object_size(directory->replica.entries));
	directory->loaded = true;
	*directory->reason = 0;
	if (directory->watcher)
		directory->watcher(directory->watcher_context);
	end_update(directory, NULL);
}

static void handle_answer(const struct jsonrpc_answer *answer, const char *failure, bool closed_early, void *context)
{
	struct api_directory *directory = context;
	_free_ char *why = NULL;

	directory->pending = NULL;
	if (!failure)
		directory->refused = false;
	if (failure && closed_early) {
		handle_no_answer(directory, true, "closed by the other side: rate limit, or our certificate was refused");
	} else if (failure && strstr(failure, " alert ")) { /* OpenSSL's words for what the other side complains of */
		if (asprintf(&why, "%s: our certificate was refused", failure) < 0)
			why = NULL;
		handle_no_answer(directory, true, why ? why : failure);
	} else if (failure) {
		handle_no_answer(directory, false, failure);
	} else if (answer->is_error) {
		if (asprintf(&why, "it answers error %d: %s", answer->code, answer->message ? answer->message : "") < 0)
			why = NULL;
		note_failure(directory, why ? why : "out of memory", true);
		end_update(directory, directory->reason);
	} else {
		handle_records(directory, answer->result);
	}
}

static void send_request(struct api_directory *directory)
{
	json_t *params = json_pack("{s:s}", "after", replica_tip(&directory->replica));
	int error = -ENOMEM;

	if (params)
		error = jsonrpc_client_call(directory->client, "getRecords", params, "", handle_answer, directory, &directory->pending);
	json_decref(params);
	if (error)
		handle_no_answer(directory, false, strerror(-error));
}

static void start_update(struct api_directory *directory)
{
	directory->updating = true;
	directory->attempt_ms = clock_now_ms();
	if (!directory->refused)
		directory->backoff_ms = BACKOFF_FIRST_MS;
	evtimer_del(directory->timer);
	send_request(directory);
}

static void handle_timer(evutil_socket_t fd, short what, void *context)
{
	struct api_directory *directory = context;

	(void)fd, (void)what;
	if (directory->updating)
		send_request(directory);
	else
		start_update(directory);
}

int api_directory_create(struct event_base *base, const struct directory_settings *settings, struct api_directory **result)
{
	struct api_directory *directory = calloc(1, sizeof(*directory));
	char reason[SIGNATURE_REASON_SIZE];
	int error = -ENOMEM;

	if (!directory)
		return -ENOMEM;
	TAILQ_INIT(&directory->waiters);
	directory->cache_ms = 1000 * (uint64_t)settings->cache_entries_for_s;
	directory->timer = evtimer_new(base, handle_timer, directory);
	if (!settings->endpoints.count || !settings->jsonrpc_client) {
		log_error("the service directory has no endpoint");
		error = -EINVAL;
		goto fail;
	}
	if (!directory->timer || asprintf(&directory->name, "service directory %s", settings->endpoints.items[0]) < 0)
		goto fail;
	directory->verifier = verifier_create(&settings->ca_certificate_files, &settings->ca_intermediate_certificate_files, reason);
	if (!directory->verifier) {
		log_error("certificates for record signatures: %s", reason);
		error = -EINVAL;
		goto fail;
	}
	error = replica_init(&directory->replica, directory->verifier);
	if (!error)
		error = jsonrpc_client_create(base, settings->jsonrpc_client, settings->endpoints.items[0],
					      settings->server_names.count ? settings->server_names.items[0] : NULL,
					      &directory->client);
	if (error)
		goto fail;
	start_update(directory);
	*result = directory;
	return 0;
fail:
	api_directory_free(directory);
	return error;
}

void api_directory_free(struct api_directory *directory)
{
	struct waiter *waiter;

	if (!directory)
		return;
	while ((waiter = TAILQ_FIRST(&directory->waiters))) {
		TAILQ_REMOVE(&directory->waiters, waiter, link);
		free(waiter);
	}
	if (directory->pending)
		jsonrpc_client_cancel(directory->pending);
	jsonrpc_client_free(directory->client);
	if (directory->timer)
		event_free(directory->timer);
	replica_clear(&directory->replica);
	verifier_free(directory->verifier);
	free(directory->name);
	free(directory);
}

static void add_waiter(struct api_directory *directory, bool is_patient, directory_ready ready, void *context)
{
	struct waiter *waiter = calloc(1, sizeof(*waiter));

	if (!waiter) {
		ready("out of memory", context);
		return;
	}
	waiter->ready = ready;
	waiter->context = context;
	waiter->since_ms = clock_now_ms();
	waiter->is_patient = is_patient;
	TAILQ_INSERT_TAIL(&directory->waiters, waiter, link);
	if (!directory->updating && clock_now_ms() >= directory->rest_until_ms)
		start_update(directory);
}

void api_directory_refresh(struct api_directory *directory, directory_ready ready, void *context)
{
	bool rests;
	uint64_t age;

	directory->asked_ms = clock_now_ms();
	rests = !directory->updating && directory->asked_ms < directory->rest_until_ms;
	age = directory->asked_ms - directory->attempt_ms;
	if (!directory->loaded && !directory->updating && (rests || age < RETRY_UNLOADED_MS)) {
		ready(directory->reason, context); /* just tried, and repeating did not help */
	} else if (rests && age > 2 * directory->cache_ms) {
		ready(directory->reason, context);
	} else if (!directory->loaded || age > 2 * directory->cache_ms) {
		add_waiter(directory, false, ready, context);
	} else {
		if (age > directory->cache_ms && !directory->updating && !rests)
			start_update(directory);
		else if (!directory->updating)
			plan_refresh(directory);
		ready(NULL, context);
	}
}

void api_directory_watch(struct api_directory *directory, directory_loaded loaded, void *context)
{
	directory->watcher = loaded;
	directory->watcher_context = context;
}

void api_directory_await(struct api_directory *directory, directory_ready ready, void *context)
{
	if (directory->loaded)
		ready(NULL, context);
	else
		add_waiter(directory, true, ready, context);
}

const struct replica *api_directory_replica(const struct api_directory *directory) { return &directory->replica; }
