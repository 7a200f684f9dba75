// SPDX-License-Identifier: Apache-2.0
/* Methods of a service directory, see service.h. What a caller learns of a
 * refused record is "internal error" (protocol page 3.10); the reason stands in
 * the log, with the caller's address. */
#include "sd/service.h"

#include "base/instant.h"
#include "base/json.h"
#include "base/log.h"
#include "directory/record.h"
#include "jsonrpc/message.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#define NOT_FOUND 404
#define TURN_MS 10 /* of storing, before the loop has its turn */

struct batch {
	STAILQ_ENTRY(batch) next;
	struct jsonrpc_call *call;
	json_t *records; /* normalised */
	size_t stored;
};

struct service {
	struct ledger *ledger;
	struct event *turn;
	STAILQ_HEAD(, batch) batches; /* the first is being stored */
};

static void refuse_params(struct jsonrpc_call *call, const char *field, const char *detail)
{
	json_t *fields = json_pack("{s:s}", field, detail);

	log_warning("%s: %s: invalid params: %s: %s", call->peer, call->method, field, detail);
	jsonrpc_call_error(call, JSONRPC_INVALID_PARAMS, "invalid params", jsonrpc_form_error(fields));
	json_decref(fields);
}

static void answer(struct jsonrpc_call *call, json_t *result)
{
	if (result)
		jsonrpc_call_result(call, result);
	else
		jsonrpc_call_error(call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
}

/* List of normalised records, or NULL with a problem. */
static json_t *read_records(const json_t *list, char problem[RECORD_PROBLEM_SIZE])
{
	json_t *records = json_array();

	if (!json_is_array(list)) {
		strcpy(problem, "must be a list");
		json_decref(records);
		return NULL;
	}
	for (size_t i = 0; records && i < json_array_size(list); i++) {
		char detail[RECORD_PROBLEM_SIZE];
		json_t *record = signed_record_normalise(json_array_get(list, i), detail);

		if (!record || json_array_append_new(records, record)) {
			snprintf(problem, RECORD_PROBLEM_SIZE, "record %zu: %.*s", i, RECORD_PROBLEM_SIZE - 40, detail);
			json_decref(records);
			return NULL;
		}
	}
	return records;
}

static void end_batch(struct service *service, bool fine)
{
	struct batch *batch = STAILQ_FIRST(&service->batches);

	STAILQ_REMOVE_HEAD(&service->batches, next);
	if (fine)
		jsonrpc_call_result(batch->call, json_string("ok"));
	else
		jsonrpc_call_error(batch->call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
	json_decref(batch->records);
	free(batch);
}

/* Stores the next record of the first batch; a refused one ends the batch. */
static void store_next(struct service *service)
{
	struct batch *batch = STAILQ_FIRST(&service->batches);
	size_t count = json_array_size(batch->records);
	json_t *record = json_array_get(batch->records, batch->stored);
	const json_t *inner = signed_record_inner(record);
	char reason[SIGNATURE_REASON_SIZE];

	if (batch->stored == count) {
		end_batch(service, true);
	} else if (ledger_append(service->ledger, record, (int64_t)time(NULL), reason)) {
		log_warning("%s: record %zu of %zu (%s of %s) refused: %s", batch->call->peer, batch->stored, count,
			    record_section(inner), record_name(inner), reason);
		end_batch(service, false);
	} else {
		log_info("%s: stored %s of %s as %s", batch->call->peer, record_section(inner), record_name(inner),
			 signed_record_hash(record));
		batch->stored++;
	}
}

static void take_turn(evutil_socket_t fd, short what, void *context)
{
	static const struct timeval soon = { 0, 0 };
	struct service *service = context;
	uint64_t end = clock_now_ms() + TURN_MS;

	(void)fd, (void)what;
	while (!STAILQ_EMPTY(&service->batches) && clock_now_ms() < end)
		store_next(service);
	if (!STAILQ_EMPTY(&service->batches))
		evtimer_add(service->turn, &soon);
}

static void submit_records(struct jsonrpc_call *call, struct service *service)
{
	char problem[RECORD_PROBLEM_SIZE] = "out of memory";
	json_t *records = read_records(json_object_get(call->params, "records"), problem);
	struct batch *batch = records ? calloc(1, sizeof(*batch)) : NULL;
	bool is_first = STAILQ_EMPTY(&service->batches);

	if (!records) {
		refuse_params(call, "records", problem);
	} else if (!batch) {
		json_decref(records);
		jsonrpc_call_error(call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
	} else {
		batch->call = call;
		batch->records = records;
		STAILQ_INSERT_TAIL(&service->batches, batch, next);
		if (is_first)
			take_turn(-1, 0, service);
	}
}

static void get_tip(struct jsonrpc_call *call, struct service *service)
{
	json_t *tip = ledger_tip(service->ledger);

	jsonrpc_call_result(call, tip ? json_incref(tip) : json_null());
}

static bool is_hash(const char *text)
{
	size_t length = strlen(text);

	for (size_t i = 0; i < length; i++)
		if (!isxdigit((unsigned char)text[i]))
			return false;
	return length == 64 || length == 0;
}

static void get_records(struct jsonrpc_call *call, struct service *service)
{
	const json_t *after = json_object_get(call->params, "after");
	char hash[65] = "";

	if (after && !json_is_null(after)) {
		if (!json_is_string(after) || !is_hash(json_string_value(after))) {
			refuse_params(call, "after", "must be 64 hex digits or empty");
			return;
		}
		for (size_t i = 0; i < json_string_length(after); i++)
			hash[i] = (char)tolower((unsigned char)json_string_value(after)[i]);
	}
	answer(call, ledger_records_after(service->ledger, hash));
}

static void get_entries(struct jsonrpc_call *call, struct service *service)
{
	json_t *entries = json_array(), *entry;
	const char *name;

	json_object_foreach((json_t *)ledger_entries(service->ledger), name, entry)
	{
		if (json_array_append(entries, entry)) {
			json_decref(entries);
			entries = NULL;
			break;
		}
	}
	answer(call, entries);
}

static void get_entry(struct jsonrpc_call *call, struct service *service)
{
	const char *name = json_text(call->params, "name");
	json_t *entry = name ? json_object_get(ledger_entries(service->ledger), name) : NULL;

	if (!name)
		refuse_params(call, "name", "must be a string");
	else if (entry)
		jsonrpc_call_result(call, json_incref(entry));
	else
		jsonrpc_call_error(call, NOT_FOUND, "not found", NULL);
}

static const struct {
	const char *name;
	void (*handle)(struct jsonrpc_call *call, struct service *service);
} methods[] = {
	{ "submitRecords", submit_records }, { "getTip", get_tip },     { "getRecords", get_records },
	{ "getEntries", get_entries },       { "getEntry", get_entry },
};

void service_handle_call(struct jsonrpc_call *call, void *context)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++) {
		if (!strcmp(call->method, methods[i].name)) {
			log_debug("%s: %s", call->peer, call->method);
			methods[i].handle(call, context);
			return;
		}
	}
	log_warning("%s: unknown method %s", call->peer, call->method);
	jsonrpc_call_error(call, JSONRPC_METHOD_NOT_FOUND, "method not found", NULL);
}

int service_create(struct event_base *base, struct ledger *ledger, struct service **result)
{
	struct service *service = calloc(1, sizeof(*service));

	if (!service)
		return -ENOMEM;
	service->ledger = ledger;
	STAILQ_INIT(&service->batches);
	service->turn = evtimer_new(base, take_turn, service);
	if (!service->turn) {
		free(service);
		return -ENOMEM;
	}
	*result = service;
	return 0;
}

void service_free(struct service *service)
{
	if (!service)
		return;
	while (!STAILQ_EMPTY(&service->batches)) {
		log_warning("%s: submitRecords cut short by the stop", STAILQ_FIRST(&service->batches)->call->peer);
		end_batch(service, false);
	}
	event_free(service->turn);
	free(service);
}
