// SPDX-License-Identifier: Apache-2.0
/* The internal methods.
 *
 * Answers are built from references to directory entries and to the request's
 * own params; nothing is copied, so a ping costs three small objects however
 * large the entries are. The answer of `_connectionRequest` comes when a channel
 * has taken the socket over. */
#include "router/internal.h"

#include "base/encoding.h"
#include "base/instant.h"
#include "base/json.h"
#include "base/program.h"

#include <errno.h>
#include <string.h>

static void answer(json_t *result, internal_done done, void *context)
{
	if (!result) {
		done("out of memory", NULL, context);
		return;
	}
	struct hyper_response response = { .result = result };
	done(NULL, &response, context);
	json_decref(result);
}

static void handle_ping(json_t *own_entry, json_t *params, internal_done done, void *context)
{
	char timestamp[INSTANT_TEXT_SIZE];
	instant_format(instant_now(), timestamp);
	answer(json_pack("{s:s, s:s, s:O, s:O}", "version", PROGRAM_VERSION, "timestamp", timestamp, "params",
			 params ? params : json_null(), "serverInfo", own_entry),
	       done, context);
}

/* Absent, null and "" are alike (protocol page, conventions). */
static bool is_absent(const json_t *value)
{
	return !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0);
}

static bool is_list_of_texts(const json_t *value)
{
	if (!json_is_array(value))
		return false;
	for (size_t i = 0; i < json_array_size(value); i++)
		if (!json_is_string(json_array_get(value, i)))
			return false;
	return true;
}

static void handle_directory(struct router *router, json_t *params, internal_done done, void *context)
{
	const json_t *operator_name = json_object_get(params, "operator"), *group = json_object_get(params, "group"),
		     *channels = json_object_get(params, "channels");
	if (!is_absent(operator_name) && !json_is_string(operator_name)) {
		done("invalid input data: operator(not a string)", NULL, context);
		return;
	}
	if (!is_absent(group) && !json_is_string(group)) {
		done("invalid input data: group(not a string)", NULL, context);
		return;
	}
	if (!is_absent(channels) && !is_list_of_texts(channels)) {
		done("invalid input data: channels(not a list of strings)", NULL, context);
		return;
	}
	json_t *entries = directory_query(router_directory(router),
					  is_absent(operator_name) ? NULL : json_string_value(operator_name),
					  is_absent(group) ? NULL : json_string_value(group),
					  is_absent(channels) || json_array_size(channels) == 0 ? NULL : channels);
	answer(entries ? json_pack("{s:o}", "entries", entries) : NULL, done, context);
}

int connection_request_parse(const json_t *params, struct connection_request *request, const char **detail)
{
	request->endpoint = json_text(params, "endpoint");
	request->channel = json_text(params, "channel");
	request->params = params;
	request->caller = json_text(json_object_get(params, "_client"), "name");
	const char *token = json_text(params, "token");
	if (!request->endpoint || !*request->endpoint)
		*detail = "invalid input data: endpoint(a string is required)";
	else if (!request->channel || !*request->channel)
		*detail = "invalid input data: channel(a string is required)";
	else if (!token)
		*detail = "invalid input data: token(a string is required)";
	else if (base64_decode(token, strlen(token), request->token, sizeof(request->token)) !=
		 (int)sizeof(request->token))
		*detail = "invalid input data: token(32 bytes of base64 are required)";
	else
		return 0;
	return -EINVAL;
}

struct takeover {
	internal_done done;
	void *context;
};

static void takeover_ended(const char *failure, void *context)
{
	struct takeover *takeover = context;
	struct hyper_response response = { 0 };
	takeover->done(failure, failure ? NULL : &response, takeover->context);
	free(takeover);
}

static void handle_connection_request(struct router *router, json_t *params, internal_done done, void *context)
{
	struct connection_request request;
	const char *detail;
	if (connection_request_parse(params, &request, &detail) < 0) {
		done(detail, NULL, context);
		return;
	}
	struct takeover *takeover = malloc(sizeof(*takeover));
	if (!takeover) {
		done("out of memory", NULL, context);
		return;
	}
	*takeover = (struct takeover){ done, context };
	bool taken = router_offer_connection(router, &request, takeover_ended, takeover);
	explicit_bzero(request.token, sizeof(request.token));
	if (!taken) {
		free(takeover);
		done("no channel accepted the request", NULL, context);
	}
}

bool internal_handle(struct router *router, const char *method, json_t *own_entry, json_t *params, internal_done done,
		     void *context)
{
	if (strcmp(method, "_ping") == 0)
		handle_ping(own_entry, params, done, context);
	else if (strcmp(method, "_directory") == 0)
		handle_directory(router, params, done, context);
	else if (strcmp(method, "_connectionRequest") == 0)
		handle_connection_request(router, params, done, context);
	else
		return false;
	return true;
}
