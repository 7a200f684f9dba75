// SPDX-License-Identifier: Apache-2.0
/* Methods of a service directory, see service.h. What a caller learns of a
 * refused record is "internal error" (protocol page 3.10); the reason stands in
 * the log, with the caller's address. */
#include "sd/service.h"

#include "base/json.h"
#include "base/log.h"
#include "directory/record.h"
#include "jsonrpc/message.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#define NOT_FOUND 404

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

static void submit_records(struct jsonrpc_call *call, struct ledger *ledger)
{
	char problem[RECORD_PROBLEM_SIZE] = "out of memory", reason[SIGNATURE_REASON_SIZE];
	json_t *records = read_records(json_object_get(call->params, "records"), problem), *record;
	size_t i;

	if (!records) {
		refuse_params(call, "records", problem);
		return;
	}
	json_array_foreach(records, i, record)
	{
		const json_t *inner = signed_record_inner(record);

		if (ledger_append(ledger, record, (int64_t)time(NULL), reason)) {
			log_warning("%s: record %zu of %zu (%s of %s) refused: %s", call->peer, i, json_array_size(records),
				    record_section(inner), record_name(inner), reason);
			jsonrpc_call_error(call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
			json_decref(records);
			return;
		}
		log_info("%s: stored %s of %s as %s", call->peer, record_section(inner), record_name(inner),
			 signed_record_hash(record));
	}
	json_decref(records);
	jsonrpc_call_result(call, json_string("ok"));
}

static void get_tip(struct jsonrpc_call *call, struct ledger *ledger)
{
	json_t *tip = ledger_tip(ledger);

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

static void get_records(struct jsonrpc_call *call, struct ledger *ledger)
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
	answer(call, ledger_records_after(ledger, hash));
}

static void get_entries(struct jsonrpc_call *call, struct ledger *ledger)
{
	json_t *entries = json_array(), *entry;
	const char *name;

	json_object_foreach((json_t *)ledger_entries(ledger), name, entry)
	{
		if (json_array_append(entries, entry)) {
			json_decref(entries);
			entries = NULL;
			break;
		}
	}
	answer(call, entries);
}

static void get_entry(struct jsonrpc_call *call, struct ledger *ledger)
{
	const char *name = json_text(call->params, "name");
	json_t *entry = name ? json_object_get(ledger_entries(ledger), name) : NULL;

	if (!name)
		refuse_params(call, "name", "must be a string");
	else if (entry)
		jsonrpc_call_result(call, json_incref(entry));
	else
		jsonrpc_call_error(call, NOT_FOUND, "not found", NULL);
}

static const struct {
	const char *name;
	void (*handle)(struct jsonrpc_call *call, struct ledger *ledger);
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
