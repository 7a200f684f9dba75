// SPDX-License-Identifier: Apache-2.0
/* Questions come from the workers through a queue with an eventfd and are worked
 * on by the main thread, which has the directory and the JSON-RPC client; the
 * answer is a message to the worker's loop.
 *
 * With a directory of the proxy's own, one refresh answers a question. Otherwise
 * each operator is looked up by name at the own hyper. A `record` is what is
 * known about one name: being looked up (questions wait for it), or known until
 * a time. Failures are not remembered. At most RECORDS_MAX are kept; the one that
 * was asked for longest ago goes first. */
#include "proxy/operators.h"

#include "base/instant.h"
#include "base/json.h"
#include "base/log.h"
#include "directory/directory.h"
#include "directory/entry.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#define RECORDS_MAX 1024

struct waiting {
	struct waiting *next;
	struct operators_question *question;
	unsigned index; /* of its name */
};

struct record {
	TAILQ_ENTRY(record) link;
	struct operators *operators;
	char *name;
	json_t *entry; /* NULL: there is none, or it is not known yet */
	uint64_t until_ms;
	struct jsonrpc_pending *pending; /* being looked up */
	struct waiting *waiting;
};

TAILQ_HEAD(record_list, record);

struct operators {
	struct operators_options options;
	struct directory *directory;
	struct event *wake;
	int wake_fd;
	pthread_mutex_t lock; /* of the next two */
	struct operators_question *asked;
	bool is_stopped;
	struct operators_question *refreshing; /* wait for the own directory */
	struct record_list records; /* newest first */
	unsigned record_count;
	uint64_t lookups;
};

struct operators_question *operators_question_new(void)
{
	return calloc(1, sizeof(struct operators_question));
}

void operators_question_free(struct operators_question *question)
{
	if (!question)
		return;
	for (unsigned i = 0; i < QUESTION_NAMES_MAX; i++)
		free(question->names[i]);
	free(question);
}

static void answer(struct operators_question *question)
{
	loop_post(question->loop, &question->answered);
}

static void note_failure(struct operators_question *question, const char *failure)
{
	snprintf(question->failure, sizeof(question->failure), "%s", failure);
}

/* ---- a directory of the proxy's own ---- */

static void directory_is_fresh(const char *failure, void *context)
{
	struct operators_question *question = context;
	struct operators *operators = question->operators;
	struct operators_question **at = &operators->refreshing;

	while (*at && *at != question)
		at = &(*at)->next;
	if (*at)
		*at = question->next;
	if (failure)
		note_failure(question, failure);
	for (unsigned i = 0; !failure && i < QUESTION_NAMES_MAX; i++) {
		const json_t *entry = question->names[i] ? directory_entry(operators->directory, question->names[i]) : NULL;
		question->is_listed[i] = entry && entry_lists_fingerprint(entry, question->fingerprint);
	}
	answer(question);
}

/* ---- the own hyper's ---- */

static void record_free(struct record *record)
{
	TAILQ_REMOVE(&record->operators->records, record, link);
	record->operators->record_count--;
	if (record->pending)
		jsonrpc_client_cancel(record->pending);
	json_decref(record->entry);
	free(record->name);
	free(record);
}

/* Tells those that wait; `failure` NULL: the record is up to date. */
static void record_tell(struct record *record, const char *failure)
{
	struct waiting *waiting = record->waiting;

	record->waiting = NULL;
	while (waiting) {
		struct waiting *next = waiting->next;
		struct operators_question *question = waiting->question;
		if (failure)
			note_failure(question, failure);
		else
			question->is_listed[waiting->index] =
				record->entry && entry_lists_fingerprint(record->entry, question->fingerprint);
		free(waiting);
		if (--question->waits_for == 0)
			answer(question);
		waiting = next;
	}
}

static void looked_up(const struct jsonrpc_answer *reply, const char *failure, bool closed_early, void *context)
{
	struct record *record = context;
	char text[QUESTION_FAILURE_SIZE];

	(void)closed_early;
	record->pending = NULL;
	if (!failure && reply->is_error) {
		snprintf(text, sizeof(text), "%d %s", reply->code, reply->message ? reply->message : "");
		failure = text;
	}
	const json_t *entries = failure ? NULL : json_object_get(reply->result, "entries");
	if (!failure && !json_is_array(entries))
		failure = "the answer of _directory has no entries";
	if (failure) {
		log_warning("the own hyper does not say who %s is: %s", record->name, failure);
		record_tell(record, failure);
		record_free(record);
		return;
	}
	for (size_t i = 0; i < json_array_size(entries); i++) {
		json_t *entry = json_array_get(entries, i);
		const char *name = json_text(entry, "name");
		if (name && strcmp(name, record->name) == 0) {
			json_decref(record->entry);
			record->entry = json_incref(entry);
		}
	}
	record->until_ms = clock_now_ms() + record->operators->options.remember_ms;
	record_tell(record, NULL);
}

static int record_look_up(struct record *record)
{
	struct operators *operators = record->operators;
	char id[32], *method = NULL;
	json_t *params = json_pack("{s:s}", "operator", record->name);
	int error = params && asprintf(&method, "%s._directory", operators->options.own_name) >= 0 ? 0 : -ENOMEM;

	snprintf(id, sizeof(id), "who-%" PRIu64, ++operators->lookups);
	if (!error)
		error = jsonrpc_client_call(operators->options.hyper, method, params, id, looked_up, record,
					    &record->pending);
	free(method);
	json_decref(params);
	return error;
}

/* The record of that name, known or being looked up. NULL: `*error`. */
static struct record *record_get(struct operators *operators, const char *name, int *error)
{
	struct record *record;
	uint64_t now_ms = clock_now_ms();

	TAILQ_FOREACH(record, &operators->records, link)
		if (strcmp(record->name, name) == 0)
			break;
	if (record && !record->pending && now_ms >= record->until_ms) {
		record_free(record);
		record = NULL;
	}
	if (record) {
		TAILQ_REMOVE(&operators->records, record, link);
		TAILQ_INSERT_HEAD(&operators->records, record, link);
		return record;
	}
	struct record *oldest = TAILQ_LAST(&operators->records, record_list);
	if (operators->record_count >= RECORDS_MAX && !oldest->pending)
		record_free(oldest);
	*error = operators->record_count >= RECORDS_MAX ? -ENOSPC : -ENOMEM;
	record = operators->record_count >= RECORDS_MAX ? NULL : calloc(1, sizeof(*record));
	if (!record)
		return NULL;
	record->operators = operators;
	record->name = strdup(name);
	TAILQ_INSERT_HEAD(&operators->records, record, link);
	operators->record_count++;
	*error = record->name ? record_look_up(record) : -ENOMEM;
	if (*error == 0)
		return record;
	record_free(record);
	return NULL;
}

static void ask_hyper(struct operators *operators, struct operators_question *question)
{
	question->waits_for = 1; /* not answered from inside */
	for (unsigned i = 0; i < QUESTION_NAMES_MAX; i++) {
		int error = 0;
		struct record *record = question->names[i] ? record_get(operators, question->names[i], &error) : NULL;
		struct waiting *waiting = record && record->pending ? malloc(sizeof(*waiting)) : NULL;

		if (error || (record && record->pending && !waiting)) {
			note_failure(question, strerror(error ? -error : ENOMEM));
		} else if (waiting) {
			*waiting = (struct waiting){record->waiting, question, i};
			record->waiting = waiting;
			question->waits_for++;
		} else if (record) {
			question->is_listed[i] = record->entry && entry_lists_fingerprint(record->entry, question->fingerprint);
		}
	}
	if (--question->waits_for == 0)
		answer(question);
}

/* ---- the queue ---- */

void operators_ask(struct operators *operators, struct operators_question *question)
{
	question->operators = operators;
	pthread_mutex_lock(&operators->lock);
	bool is_stopped = operators->is_stopped;
	if (!is_stopped) {
		question->next = operators->asked;
		operators->asked = question;
	}
	pthread_mutex_unlock(&operators->lock);
	if (is_stopped) {
		note_failure(question, "the proxy is stopping");
		answer(question);
	} else {
		eventfd_write(operators->wake_fd, 1);
	}
}

static struct operators_question *take_asked(struct operators *operators, bool is_stopped)
{
	pthread_mutex_lock(&operators->lock);
	struct operators_question *asked = operators->asked;
	operators->asked = NULL;
	operators->is_stopped = is_stopped;
	pthread_mutex_unlock(&operators->lock);
	return asked;
}

static void woken(evutil_socket_t fd, short events, void *context)
{
	struct operators *operators = context;
	eventfd_t count;

	(void)events;
	eventfd_read(fd, &count);
	for (struct operators_question *question = take_asked(operators, false), *next; question; question = next) {
		next = question->next;
		if (operators->directory) {
			question->next = operators->refreshing;
			operators->refreshing = question;
			directory_refresh(operators->directory, directory_is_fresh, question);
		} else {
			ask_hyper(operators, question);
		}
	}
}

int operators_create(const struct operators_options *options, struct operators **result)
{
	struct operators *operators = calloc(1, sizeof(*operators));
	int error = -ENOMEM;

	if (!operators)
		return error;
	operators->options = *options;
	TAILQ_INIT(&operators->records);
	pthread_mutex_init(&operators->lock, NULL);
	operators->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (operators->wake_fd >= 0)
		operators->wake = event_new(options->base, operators->wake_fd, EV_READ | EV_PERSIST, woken, operators);
	if (operators->wake && event_add(operators->wake, NULL) == 0)
		error = options->directory ? directory_create(options->base, options->directory, &operators->directory) : 0;
	if (error) {
		operators_free(operators);
		return error;
	}
	*result = operators;
	return 0;
}

void operators_stop(struct operators *operators)
{
	static const char stopping[] = "the proxy is stopping";

	struct operators_question *lists[] = {take_asked(operators, true), operators->refreshing};
	operators->refreshing = NULL;
	for (unsigned i = 0; i < 2; i++) {
		for (struct operators_question *question = lists[i], *next; question; question = next) {
			next = question->next;
			note_failure(question, stopping);
			answer(question);
		}
	}
	while (!TAILQ_EMPTY(&operators->records)) {
		struct record *record = TAILQ_FIRST(&operators->records);
		record_tell(record, stopping);
		record_free(record);
	}
	event_del(operators->wake);
	directory_free(operators->directory);
	operators->directory = NULL;
}

void operators_free(struct operators *operators)
{
	if (!operators)
		return;
	if (operators->directory)
		directory_free(operators->directory);
	if (operators->wake)
		event_free(operators->wake);
	if (operators->wake_fd >= 0)
		close(operators->wake_fd);
	pthread_mutex_destroy(&operators->lock);
	free(operators);
}
