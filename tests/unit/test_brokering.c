// SPDX-License-Identifier: Apache-2.0
/* requestConnection from call to answer, with a callee under the test's
 * control: the functions of jsonrpc/server.h and client.h that brokering uses
 * are played by this file. */
#include "base/encoding.h"
#include "base/instant.h"
#include "base/json.h"
#include "base/log.h"
#include "proxy/brokering.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ACCEPT_MS 200u

/* ---- the caller ---- */

static struct {
	unsigned answers;
	json_t *result;
	int code;
	char message[128];
	json_t *data;
} caller;

void jsonrpc_call_result(struct jsonrpc_call *call, json_t *result)
{
	caller.answers++;
	json_decref(caller.result);
	caller.result = result;
	json_decref(call->params);
	free(call);
}

void jsonrpc_call_error(struct jsonrpc_call *call, int code, const char *message, json_t *data)
{
	caller.answers++;
	caller.code = code;
	snprintf(caller.message, sizeof caller.message, "%s", message);
	json_decref(caller.data);
	caller.data = data;
	json_decref(call->params);
	free(call);
}

/* ---- the own hyper ---- */

struct jsonrpc_pending {
	jsonrpc_done done;
	void *context;
};

static struct {
	struct jsonrpc_pending pending;
	unsigned calls, cancelled;
	char method[128], id[16];
	json_t *params;
	int error; /* of the next call */
} hyper;

int jsonrpc_client_call(struct jsonrpc_client *client, const char *method, const json_t *params, const char *id,
			jsonrpc_done done, void *context, struct jsonrpc_pending **pending)
{
	(void)client;
	if (hyper.error)
		return hyper.error;
	hyper.calls++;
	hyper.pending = (struct jsonrpc_pending){done, context};
	snprintf(hyper.method, sizeof hyper.method, "%s", method);
	snprintf(hyper.id, sizeof hyper.id, "%s", id);
	json_decref(hyper.params);
	hyper.params = json_deep_copy(params);
	*pending = &hyper.pending;
	return 0;
}

void jsonrpc_client_cancel(struct jsonrpc_pending *pending)
{
	assert_ptr_equal(pending, &hyper.pending);
	hyper.cancelled++;
}

/* ---- the desk ---- */

struct desk {
	struct event_base *base;
	struct broker *broker;
	struct brokering *brokering;
	unsigned released;
	enum outcome released_for;
};

static void release(void *party, enum outcome outcome, void *context)
{
	struct desk *desk = context;
	assert_ptr_equal(party, desk);
	desk->released++;
	desk->released_for = outcome;
}

static int setup(void **state)
{
	struct broker_limits limits = {ACCEPT_MS, 400, 3, 2, 0};
	struct desk *desk = calloc(1, sizeof *desk);

	log_configure(LOG_LEVEL_PANIC, LOG_FORMAT_TEXT, "TST");
	memset(&caller, 0, sizeof caller);
	memset(&hyper, 0, sizeof hyper);
	desk->base = event_base_new();
	assert_int_equal(broker_create(&limits, &desk->broker), 0);
	struct brokering_options options = {.base = desk->base, .broker = desk->broker, .endpoints = {.plain = "relay.example:9999"},
					    .accept_timeout_ms = ACCEPT_MS, .release = release, .context = desk};
	assert_int_equal(brokering_create(&options, &desk->brokering), 0);
	*state = desk;
	return 0;
}

static int teardown(void **state)
{
	struct desk *desk = *state;

	brokering_stop(desk->brokering);
	brokering_free(desk->brokering);
	broker_free(desk->broker);
	event_base_free(desk->base);
	json_decref(hyper.params);
	json_decref(caller.result);
	json_decref(caller.data);
	free(desk);
	return 0;
}

static void call(struct desk *desk, const char *method, json_t *params)
{
	struct jsonrpc_call *made = calloc(1, sizeof *made);

	*made = (struct jsonrpc_call){.method = method, .params = params, .id = "x", .peer = "127.0.0.1:1"};
	brokering_handle(made, desk->brokering);
}

static void call_by(struct desk *desk, const char *requester)
{
	call(desk, "requestConnection",
	     json_pack("{s:s, s:s, s:{s:s, s:{s:s, s:[]}}}", "to", "hd-2", "channel", "grpc_server", "_client", "name",
		       requester, "entry", "name", requester, "channels"));
}

static void hyper_answers(const struct jsonrpc_answer *answer, const char *failure)
{
	hyper.pending.done(answer, failure, false, hyper.pending.context);
}

static void hyper_accepts(void)
{
	struct jsonrpc_answer answer = {.result = json_object()};

	hyper_answers(&answer, NULL);
	json_decref(answer.result);
}

static enum arrival show(struct desk *desk, const char *text, void *party)
{
	struct token token;
	struct ticket_match match;

	assert_int_equal(base64_decode(text, strlen(text), token.bytes, TOKEN_SIZE), TOKEN_SIZE);
	struct token_key key = broker_key(desk->broker, &token);
	return broker_arrive(desk->broker, &key, party, clock_now_ms(), &match);
}

static unsigned open_tickets(struct desk *desk)
{
	struct broker_totals totals;

	broker_totals(desk->broker, &totals);
	return totals.open;
}

/* ---- tests ---- */

static void callee_is_asked_and_the_token_handed_out(void **state)
{
	struct desk *desk = *state;

	call_by(desk, "hd-1");
	assert_int_equal(caller.answers, 0); /* not before the callee has agreed */
	assert_int_equal(hyper.calls, 1);
	assert_string_equal(hyper.method, "hd-2._connectionRequest");
	assert_string_equal(hyper.id, "");
	assert_string_equal(json_text(hyper.params, "endpoint"), "relay.example:9999");
	assert_string_equal(json_text(hyper.params, "channel"), "grpc_server");
	assert_string_equal(json_text(json_object_get(hyper.params, "client"), "name"), "hd-1");

	char token[64];
	snprintf(token, sizeof token, "%s", json_text(hyper.params, "token"));
	assert_int_equal(show(desk, token, desk), ARRIVAL_WAITS);
	hyper_accepts();
	assert_int_equal(caller.answers, 1);
	assert_string_equal(json_text(caller.result, "token"), token);
	assert_string_equal(json_text(caller.result, "endpoint"), "relay.example:9999");
	assert_int_equal(json_object_size(caller.result), 2);
	assert_int_equal(show(desk, token, &caller), ARRIVAL_MATCHED);
	assert_int_equal(show(desk, token, &caller), ARRIVAL_UNKNOWN);
}

static void an_error_of_the_callee_goes_back_unchanged(void **state)
{
	struct desk *desk = *state;
	json_t *data = json_pack("{s:i}", "a", 1);
	struct jsonrpc_answer answer = {.is_error = true, .code = 403, .message = "Permission denied", .data = data};

	call_by(desk, "hd-1");
	hyper_answers(&answer, NULL);
	assert_int_equal(caller.answers, 1);
	assert_int_equal(caller.code, 403);
	assert_string_equal(caller.message, "Permission denied");
	assert_true(json_equal(caller.data, data));
	assert_int_equal(open_tickets(desk), 0);
	assert_int_equal(show(desk, json_text(hyper.params, "token"), desk), ARRIVAL_UNKNOWN);
	json_decref(data);
}

static void a_refusal_releases_the_party_that_came(void **state)
{
	struct desk *desk = *state;
	struct jsonrpc_answer answer = {.is_error = true, .code = -100, .message = "no"};

	call_by(desk, "hd-1");
	assert_int_equal(show(desk, json_text(hyper.params, "token"), desk), ARRIVAL_WAITS);
	hyper_answers(&answer, NULL);
	assert_int_equal(desk->released, 1);
	assert_int_equal(desk->released_for, OUTCOME_REFUSED);
	assert_null(caller.data);
}

static void an_own_hyper_that_is_away_is_an_internal_error(void **state)
{
	struct desk *desk = *state;

	call_by(desk, "hd-1");
	hyper_answers(NULL, "localhost:5544: connection refused");
	assert_int_equal(caller.code, JSONRPC_INTERNAL_ERROR);
	assert_string_equal(caller.message, "internal error");
	assert_int_equal(open_tickets(desk), 0);

	hyper.error = -ENOMEM;
	call_by(desk, "hd-1");
	assert_int_equal(caller.answers, 2);
	assert_string_equal(caller.message, "internal error");
	assert_int_equal(open_tickets(desk), 0);
}

static void form_errors_name_the_field(void **state)
{
	struct desk *desk = *state;

	call(desk, "requestConnection", json_pack("{s:s}", "to", "hd-2"));
	assert_int_equal(caller.code, JSONRPC_INVALID_PARAMS);
	assert_string_equal(caller.message, "invalid params");
	assert_string_equal(json_text(caller.data, "code"), "FORM-ERROR");
	assert_non_null(json_object_get(json_object_get(caller.data, "data"), "_client"));
	assert_int_equal(hyper.calls, 0);
	assert_int_equal(open_tickets(desk), 0);
}

static void other_methods_are_not_found(void **state)
{
	static const char *const methods[] = {"announceConnections", "getAnnouncements", "requestconnection", "", "_ping"};

	for (unsigned i = 0; i < sizeof methods / sizeof *methods; i++) {
		call(*state, methods[i], json_object());
		assert_int_equal(caller.answers, i + 1);
		assert_int_equal(caller.code, JSONRPC_METHOD_NOT_FOUND);
		assert_string_equal(caller.message, "method not found");
	}
}

static void limits_are_told(void **state)
{
	struct desk *desk = *state;

	call_by(desk, "a");
	call_by(desk, "a");
	call_by(desk, "a");
	assert_int_equal(caller.answers, 1);
	assert_int_equal(caller.code, 429);
	call_by(desk, "b");
	call_by(desk, "c");
	assert_int_equal(caller.answers, 2);
	assert_int_equal(caller.code, 429);
	assert_int_equal(hyper.calls, 3);
}

static void run_until_no_ticket(struct desk *desk)
{
	uint64_t deadline = clock_now_ms() + 5000;

	while (open_tickets(desk) > 0 && clock_now_ms() < deadline)
		event_base_loop(desk->base, EVLOOP_ONCE);
	assert_int_equal(open_tickets(desk), 0);
}

static void tickets_expire_while_the_loop_runs(void **state)
{
	struct desk *desk = *state;
	char token[64];

	call_by(desk, "hd-1");
	snprintf(token, sizeof token, "%s", json_text(hyper.params, "token"));
	uint64_t start = clock_now_ms();
	hyper_accepts();
	run_until_no_ticket(desk);
	assert_in_range(clock_now_ms() - start, ACCEPT_MS, ACCEPT_MS * 3);
	assert_int_equal(show(desk, token, desk), ARRIVAL_UNKNOWN);
	assert_int_equal(desk->released, 0);

	call_by(desk, "hd-1");
	hyper_accepts();
	snprintf(token, sizeof token, "%s", json_text(hyper.params, "token"));
	assert_int_equal(show(desk, token, desk), ARRIVAL_WAITS);
	run_until_no_ticket(desk);
	assert_int_equal(desk->released, 1);
	assert_int_equal(desk->released_for, OUTCOME_LONELY);
	/* nothing left to tick for */
	assert_int_equal(event_base_loop(desk->base, EVLOOP_NONBLOCK), 1);
}

static void an_answer_after_the_end_is_an_error(void **state)
{
	struct desk *desk = *state;

	call_by(desk, "hd-1");
	assert_int_equal(show(desk, json_text(hyper.params, "token"), desk), ARRIVAL_WAITS);
	run_until_no_ticket(desk);
	hyper_accepts();
	assert_int_equal(caller.answers, 1);
	assert_null(caller.result);
	assert_int_equal(caller.code, JSONRPC_INTERNAL_ERROR);
}

static void stopping_answers_what_is_open(void **state)
{
	struct desk *desk = *state;

	call_by(desk, "hd-1");
	assert_int_equal(show(desk, json_text(hyper.params, "token"), desk), ARRIVAL_WAITS);
	brokering_stop(desk->brokering);
	assert_int_equal(hyper.cancelled, 1);
	assert_int_equal(caller.answers, 1);
	assert_int_equal(desk->released, 1);
	call_by(desk, "hd-1");
	assert_int_equal(caller.answers, 2);
	assert_string_equal(caller.message, "the proxy is stopping");
	assert_int_equal(open_tickets(desk), 0);
}

int main(void)
{
#define WITH_DESK(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_DESK(callee_is_asked_and_the_token_handed_out),
		WITH_DESK(an_error_of_the_callee_goes_back_unchanged),
		WITH_DESK(a_refusal_releases_the_party_that_came),
		WITH_DESK(an_own_hyper_that_is_away_is_an_internal_error),
		WITH_DESK(form_errors_name_the_field),
		WITH_DESK(other_methods_are_not_found),
		WITH_DESK(limits_are_told),
		WITH_DESK(tickets_expire_while_the_loop_runs),
		WITH_DESK(an_answer_after_the_end_is_an_error),
		WITH_DESK(stopping_answers_what_is_open),
	};
	return cmocka_run_group_tests_name("brokering", tests, NULL, NULL);
}
