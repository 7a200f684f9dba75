// SPDX-License-Identifier: Apache-2.0
/* Delivery as protocol page 5.3 says, with channels made here and a `json`
 * directory: every broker error, permissions, loops, internal methods. */
#include "directory/directory.h"
#include "router/grpc_failure.h"
#include "router/internal.h"
#include "router/relay_dialer.h"
#include "router/router.h"
#include "router/wrapping.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char records[] =
	"{\"records\":["
	"{\"name\":\"me\",\"section\":\"channels\",\"created_at\":\"2021-05-17T10:00:00Z\",\"data\":[]},"
	"{\"name\":\"me\",\"section\":\"services\",\"created_at\":\"2021-05-17T10:00:00Z\",\"data\":[{\"name\":\"s\","
	"\"permissions\":[{\"group\":\"friends\",\"rights\":[\"call\"]}],\"methods\":[{\"name\":\"f\",\"permissions\":[]},"
	"{\"name\":\"_ping\",\"permissions\":[]},{\"name\":\"_connectionRequest\",\"permissions\":[]}]}]},"
	"{\"name\":\"friend\",\"section\":\"groups\",\"created_at\":\"2021-05-17T10:00:00Z\",\"data\":[\"friends\"]},"
	"{\"name\":\"stranger\",\"section\":\"groups\",\"created_at\":\"2021-05-17T10:00:00Z\",\"data\":[\"others\"]}]}";

/* A channel that takes what it is told to and keeps it. */
struct fake_channel {
	struct channel channel;
	bool takes_own, takes_others, takes_connections;
	struct delivery *delivery;
	char *client; /* params._client.name of the last delivery */
	unsigned deliveries;
	connection_request_done connection_done;
	void *connection_context;
	uint8_t token[32];
};

static bool fake_can_deliver(struct channel *channel, const struct delivery *delivery)
{
	struct fake_channel *fake = (struct fake_channel *)channel;
	return delivery->to_own ? fake->takes_own : fake->takes_others;
}

static void fake_deliver(struct channel *channel, struct delivery *delivery)
{
	struct fake_channel *fake = (struct fake_channel *)channel;
	fake->delivery = delivery;
	fake->deliveries++;
	free(fake->client);
	const json_t *client = json_object_get(delivery->request->params, "_client");
	const char *name = json_string_value(json_object_get(client, "name"));
	assert_ptr_equal(json_object_get(client, "entry"),
			 name ? directory_entry(router_directory(channel->router), name) : NULL);
	fake->client = name ? strdup(name) : NULL;
}

static bool fake_take_connection(struct channel *channel, const struct connection_request *request,
				 connection_request_done done, void *context)
{
	struct fake_channel *fake = (struct fake_channel *)channel;
	if (!fake->takes_connections || strcmp(request->channel, "grpc_server") != 0)
		return false;
	fake->connection_done = done;
	fake->connection_context = context;
	memcpy(fake->token, request->token, sizeof(fake->token));
	return true;
}

static const struct channel_class fake_class = {
	.type = "fake",
	.can_deliver = fake_can_deliver,
	.deliver = fake_deliver,
	.take_connection = fake_take_connection,
};

struct fixture {
	char folder[32], path[64];
	struct event_base *base;
	struct directory *directory;
	struct router *router;
	struct fake_channel channels[2];
};

/* What came back last. */
struct outcome_copy {
	unsigned count;
	char *failure;
	bool has_response;
	struct hyper_response response;
};

static void outcome_clear(struct outcome_copy *copy)
{
	free(copy->failure);
	hyper_response_clear(&copy->response);
	*copy = (struct outcome_copy){ 0 };
}

static void outcome_came(const struct router_outcome *outcome, void *context)
{
	struct outcome_copy *copy = context;
	copy->count++;
	copy->failure = outcome->failure ? strdup(outcome->failure) : NULL;
	copy->has_response = outcome->response != NULL;
	if (outcome->response)
		hyper_response_copy(outcome->response, &copy->response);
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	strcpy(fixture->folder, "/tmp/test-router-XXXXXX");
	if (!mkdtemp(fixture->folder))
		return -1;
	snprintf(fixture->path, sizeof(fixture->path), "%s/records.json", fixture->folder);
	FILE *file = fopen(fixture->path, "w");
	fputs(records, file);
	fclose(file);

	fixture->base = event_base_new();
	struct directory_settings settings = { .type = DIRECTORY_JSON, .path = fixture->path };
	assert_int_equal(directory_create(fixture->base, &settings, &fixture->directory), 0);
	assert_int_equal(router_create(fixture->base, "me", fixture->directory, &fixture->router), 0);
	for (size_t i = 0; i < 2; i++) {
		fixture->channels[i].channel.class = &fake_class;
		assert_int_equal(router_add_channel(fixture->router, &fixture->channels[i].channel), 0);
	}
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	for (size_t i = 0; i < 2; i++)
		free(fixture->channels[i].client);
	directory_free(fixture->directory);
	router_free(fixture->router);
	event_base_free(fixture->base);
	unlink(fixture->path);
	rmdir(fixture->folder);
	free(fixture);
	return 0;
}

static void deliver(struct fixture *fixture, const char *caller, const char *id, const char *params,
		    struct outcome_copy *outcome)
{
	struct hyper_request request = { .id = (char *)id, .method = (char[]){ "me.f" } };
	if (params)
		request.params = json_loads(params, 0, NULL);
	router_deliver(fixture->router, &request, caller, outcome_came, outcome);
	/* The directory may need the loop. */
	for (int i = 0; i < 1000 && outcome->count == 0 && !fixture->channels[0].delivery &&
			!fixture->channels[1].delivery && !fixture->channels[0].connection_done;
	     i++)
		event_base_loop(fixture->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	json_decref(request.params);
}

static void expect_failure(struct fixture *fixture, const char *caller, const char *id, const char *text)
{
	struct outcome_copy outcome = { 0 };
	deliver(fixture, caller, id, "{}", &outcome);
	assert_int_equal(outcome.count, 1);
	assert_non_null(outcome.failure);
	assert_string_equal(outcome.failure, text);
	outcome_clear(&outcome);
	assert_int_equal(router_open_calls(fixture->router), 0);
}

static void expect_error(struct fixture *fixture, const char *caller, const char *id, int code, const char *text)
{
	struct outcome_copy outcome = { 0 };
	deliver(fixture, caller, id, "{}", &outcome);
	assert_int_equal(outcome.count, 1);
	assert_null(outcome.failure);
	assert_true(outcome.has_response && outcome.response.has_error);
	assert_int_equal(outcome.response.code, code);
	assert_string_equal(outcome.response.message, text);
	assert_null(outcome.response.data);
	outcome_clear(&outcome);
	assert_int_equal(router_open_calls(fixture->router), 0);
}

static void broker_errors_have_their_words(void **state)
{
	struct fixture *fixture = *state;
	expect_failure(fixture, NULL, "me.f(1)", "client info missing");
	expect_failure(fixture, "", "me.f(1)", "client info missing");
	expect_failure(fixture, "nobody", "me.f(1)",
		       "error retrieving directory entry for client 'nobody': no directory entry found");
	expect_failure(fixture, "me", "respond(1)", "error parsing address: invalid ID format");
	expect_failure(fixture, "me", "ghost.f(1)",
		       "error retrieving directory entry for recipient 'ghost': no directory entry found");
	expect_failure(fixture, "me", "friend.f(1)", "no channel can deliver this request");
	expect_failure(fixture, "friend", "me.f(1)", "no channel can deliver this request");
}

static void refusals_are_answers(void **state)
{
	struct fixture *fixture = *state;
	fixture->channels[0].takes_own = fixture->channels[0].takes_others = true;
	expect_error(fixture, "stranger", "me.f(1)", 403, "Permission denied for method 'f' and client 'stranger'");
	expect_error(fixture, "stranger", "me._ping(1)", 403,
		     "Permission denied for method '_ping' and client 'stranger'");
	expect_error(fixture, "friend", "me.unlisted(1)", 403,
		     "Permission denied for method 'unlisted' and client 'friend'");
	assert_int_equal(fixture->channels[0].deliveries, 0);
}

static void remote_caller_cannot_reach_a_third_operator(void **state)
{
	struct fixture *fixture = *state;
	fixture->channels[0].takes_others = true;
	expect_error(fixture, "friend", "stranger.f(1)", 403, "Permission denied for method 'f' and client 'friend'");
	assert_int_equal(fixture->channels[0].deliveries, 0);
}

static void first_channel_that_can_takes_it_and_sees_the_true_client(void **state)
{
	struct fixture *fixture = *state;
	fixture->channels[1].takes_own = true;
	struct outcome_copy outcome = { 0 };
	deliver(fixture, "friend", "me.f(1)", "{\"a\":1.0,\"_client\":{\"name\":\"me\"}}", &outcome);
	assert_int_equal(outcome.count, 0);
	assert_int_equal(fixture->channels[1].deliveries, 1);
	assert_string_equal(fixture->channels[1].client, "friend");

	json_t *result = json_pack("{s:i}", "x", 1);
	struct hyper_response response = { .result = result };
	delivery_respond(fixture->channels[1].delivery, &response);
	assert_int_equal(outcome.count, 1);
	assert_ptr_equal(outcome.response.result, result);
	json_decref(result);
	outcome_clear(&outcome);
}

static void channel_error_becomes_code_500_with_its_index(void **state)
{
	struct fixture *fixture = *state;
	fixture->channels[1].takes_others = true;
	struct outcome_copy outcome = { 0 };
	deliver(fixture, "me", "friend.f(1)", "{}", &outcome);
	delivery_fail(fixture->channels[1].delivery, "so it goes");
	assert_int_equal(outcome.response.code, 500);
	assert_string_equal(outcome.response.message,
			    "Channel 1 encountered an error delivering the message: so it goes");
	outcome_clear(&outcome);
}

static void request_without_params_stays_without(void **state)
{
	struct fixture *fixture = *state;
	fixture->channels[0].takes_own = true;
	struct outcome_copy outcome = { 0 };
	deliver(fixture, "me", "me.f(1)", NULL, &outcome);
	assert_null(fixture->channels[0].delivery->request->params);
	delivery_submitted(fixture->channels[0].delivery);
	assert_int_equal(outcome.count, 1);
	assert_null(outcome.failure);
	assert_false(outcome.has_response);
}

static void same_id_of_the_same_caller_is_a_loop(void **state)
{
	struct fixture *fixture = *state;
	fixture->channels[0].takes_own = true;
	struct outcome_copy first = { 0 }, second = { 0 }, third = { 0 };
	deliver(fixture, "friend", "me.f(1)", "{}", &first);
	struct delivery *held = fixture->channels[0].delivery;
	deliver(fixture, "friend", "me.f(1)", "{}", &second);
	assert_string_equal(second.failure, "request me.f(1) is already being processed (maybe a delivery loop)");
	/* Another caller with the same id is no loop (defect 25). */
	deliver(fixture, "me", "me.f(1)", "{}", &third);
	assert_int_equal(third.count, 0);
	assert_int_equal(fixture->channels[0].deliveries, 2);
	delivery_submitted(fixture->channels[0].delivery);
	delivery_submitted(held);
	assert_int_equal(first.count + third.count, 2);
	outcome_clear(&second);
	/* And afterwards the id is free again. */
	fixture->channels[0].delivery = NULL;
	struct outcome_copy again = { 0 };
	deliver(fixture, "friend", "me.f(1)", "{}", &again);
	assert_int_equal(fixture->channels[0].deliveries, 3);
	delivery_submitted(fixture->channels[0].delivery);
}

static void deliver_local(struct fixture *fixture, const char *origin, const char *id, struct outcome_copy *outcome)
{
	struct hyper_request request = { .id = (char *)id, .method = (char[]){ "me.f" }, .params = json_object() };
	router_deliver_local(fixture->router, &request, origin, outcome_came, outcome);
	for (int i = 0; i < 1000 && outcome->count == 0 && !fixture->channels[0].delivery; i++)
		event_base_loop(fixture->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	json_decref(request.params);
}

static void local_programs_may_use_the_same_id_at_once(void **state)
{
	struct fixture *fixture = *state;
	struct delivery *held[3];
	struct outcome_copy outcomes[3] = { 0 }, loop = { 0 };
	static const char *const origins[] = { "127.0.0.1:1001", "127.0.0.1:1002", "127.0.0.1:1003" };
	static const char *const ids[] = { "me.f(1)", "me.f(1/2)", "me.f(1/3)" };
	static const char looped[] = "is already being processed (maybe a delivery loop)";
	fixture->channels[0].takes_own = true;
	for (unsigned i = 0; i < 3; i++) {
		fixture->channels[0].delivery = NULL;
		deliver_local(fixture, origins[i], "me.f(1)", &outcomes[i]);
		held[i] = fixture->channels[0].delivery;
		assert_non_null(held[i]);
		assert_int_equal(outcomes[i].count, 0);
		assert_string_equal(fixture->channels[0].client, "me");
		/* The recipient could not tell them apart by who calls. */
		assert_string_equal(held[i]->request->id, ids[i]);
	}
	/* What comes back is a loop: over the connection that it came by, or from outside with any of the ids. */
	deliver_local(fixture, origins[0], "me.f(1)", &loop);
	assert_non_null(strstr(loop.failure, looped));
	outcome_clear(&loop);
	for (unsigned i = 0; i < 3; i++) {
		deliver(fixture, "me", ids[i], "{}", &loop);
		assert_non_null(strstr(loop.failure, looped));
		outcome_clear(&loop);
	}
	/* Its end frees the id for the next one. */
	for (unsigned i = 0; i < 3; i++) {
		delivery_submitted(held[i]);
		assert_int_equal(outcomes[i].count, 1);
		assert_null(outcomes[i].failure);
	}
	assert_int_equal(router_open_calls(fixture->router), 0);
	fixture->channels[0].delivery = NULL;
	deliver_local(fixture, origins[2], "me.f(1)", &loop);
	assert_string_equal(fixture->channels[0].delivery->request->id, "me.f(1)");
	delivery_submitted(fixture->channels[0].delivery);
}

static void a_call_from_outside_that_comes_back_at_the_door_is_a_loop(void **state)
{
	struct fixture *fixture = *state;
	struct outcome_copy first = { 0 }, second = { 0 };
	fixture->channels[0].takes_own = true;
	deliver(fixture, "me", "me.f(1)", "{}", &first);
	deliver_local(fixture, "127.0.0.1:1001", "me.f(1)", &second);
	assert_string_equal(second.failure, "request me.f(1) is already being processed (maybe a delivery loop)");
	outcome_clear(&second);
	delivery_submitted(fixture->channels[0].delivery);
}

static void ping_answers_with_params_and_own_entry(void **state)
{
	struct fixture *fixture = *state;
	struct outcome_copy outcome = { 0 };
	deliver(fixture, "friend", "me._ping(1)", "{\"a\":1.0}", &outcome);
	const json_t *result = outcome.response.result;
	assert_int_equal(json_object_size(result), 4);
	assert_string_equal(json_string_value(json_object_get(result, "version")), "development");
	assert_non_null(json_string_value(json_object_get(result, "timestamp")));
	const json_t *params = json_object_get(result, "params");
	assert_int_equal(json_object_size(params), 2);
	assert_string_equal(json_string_value(json_object_get(json_object_get(params, "_client"), "name")), "friend");
	const json_t *own = json_object_get(result, "serverInfo");
	assert_string_equal(json_string_value(json_object_get(own, "name")), "me");
	outcome_clear(&outcome);
}

static void directory_answers_with_matching_entries(void **state)
{
	struct fixture *fixture = *state;
	struct outcome_copy outcome = { 0 };
	deliver(fixture, "me", "me._directory(1)", "{\"group\":\"friends\",\"operator\":\"\",\"channels\":null}", &outcome);
	const json_t *entries = json_object_get(outcome.response.result, "entries");
	assert_int_equal(json_array_size(entries), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(entries, 0), "name")), "friend");
	outcome_clear(&outcome);
	deliver(fixture, "me", "me._directory(1)", "{\"channels\":[1]}", &outcome);
	assert_non_null(strstr(outcome.failure, "error handling internal request: "));
	outcome_clear(&outcome);
}

#define TOKEN "tHwXJ5a3Cl/2MyVYE/3pM1nfvXVf+YgLU/V7IsRUvls="

static void connection_request_goes_to_the_channel_it_names(void **state)
{
	struct fixture *fixture = *state;
	struct outcome_copy outcome = { 0 };
	static const char params[] =
		"{\"endpoint\":\"localhost:9999\",\"channel\":\"grpc_server\",\"token\":\"" TOKEN "\"}";
	deliver(fixture, "friend", "me._connectionRequest(1)", params, &outcome);
	assert_string_equal(outcome.failure, "error handling internal request: no channel accepted the request");
	outcome_clear(&outcome);

	fixture->channels[1].takes_connections = true;
	deliver(fixture, "friend", "me._connectionRequest(1)", params, &outcome);
	assert_int_equal(outcome.count, 0);
	assert_int_equal(fixture->channels[1].token[0], 0xb4);
	fixture->channels[1].connection_done("timeout", fixture->channels[1].connection_context);
	assert_string_equal(outcome.failure, "error handling internal request: timeout");
	outcome_clear(&outcome);
}

static void connection_request_is_checked(void **state)
{
	struct fixture *fixture = *state;
	fixture->channels[0].takes_connections = true;
	static const char *const bad[] = {
		"{}",
		"{\"endpoint\":\"a:1\",\"channel\":\"grpc_server\"}",
		"{\"endpoint\":\"a:1\",\"channel\":\"grpc_server\",\"token\":\"AAAA\"}",
		"{\"endpoint\":\"a:1\",\"channel\":\"grpc_server\",\"token\":\"" TOKEN "AAAA\"}",
		"{\"endpoint\":\"a:1\",\"channel\":\"grpc_server\",\"token\":5}",
		"{\"endpoint\":7,\"channel\":\"grpc_server\",\"token\":\"" TOKEN "\"}",
		"{\"endpoint\":\"a:1\",\"token\":\"" TOKEN "\"}",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct outcome_copy outcome = { 0 };
		deliver(fixture, "friend", "me._connectionRequest(1)", bad[i], &outcome);
		assert_int_equal(outcome.count, 1);
		assert_non_null(strstr(outcome.failure, "error handling internal request: invalid input data: "));
		outcome_clear(&outcome);
	}
}

static void cancelled_calls_fail_once(void **state)
{
	struct fixture *fixture = *state;
	fixture->channels[0].takes_own = true;
	struct outcome_copy outcome = { 0 };
	deliver(fixture, "me", "me.f(1)", "{}", &outcome);
	router_cancel(fixture->router);
	assert_int_equal(outcome.count, 1);
	assert_string_equal(outcome.failure, "the server is stopping");
	assert_int_equal(router_open_calls(fixture->router), 0);
	outcome_clear(&outcome);
}

static void own_entry_missing_is_told(void **state)
{
	struct fixture *fixture = *state;
	struct router *other;
	assert_int_equal(router_create(fixture->base, "absent", fixture->directory, &other), 0);
	struct router *kept = fixture->router;
	fixture->router = other;
	expect_failure(fixture, "friend", "me.f(1)", "error retrieving own entry: no directory entry found");
	fixture->router = kept;
	router_free(other);
}

struct dial_copy {
	struct fixture *fixture;
	char reason[64];
	unsigned count;
};

/* The question waited for the connection that is being dialled: it fails with it. */
static void dial_ended(int fd_or_error, const char *reason, void *context)
{
	struct dial_copy *copy = context;
	assert_int_equal(fd_or_error, -ETIMEDOUT);
	strncpy(copy->reason, reason, sizeof(copy->reason) - 1);
	copy->count++;
	delivery_fail(copy->fixture->channels[0].delivery, reason);
}

static void a_dial_whose_end_ends_its_question_is_freed_once(void **state)
{
	struct fixture *fixture = *state;
	struct relay_dialling dialling = { 0 };
	struct dial_copy copy = { .fixture = fixture };
	struct relay_dial *dial;
	fixture->channels[0].takes_others = true;
	assert_int_equal(relay_dial_start(fixture->router, &dialling, "stranger", "friend", 100, dial_ended, &copy,
					  &dial), 0);
	for (int i = 0; i < 1000 && copy.count == 0; i++)
		event_base_loop(fixture->base, EVLOOP_ONCE);
	assert_int_equal(copy.count, 1);
	assert_string_equal(copy.reason, "the proxy did not answer in time");
	assert_int_equal(fixture->channels[0].deliveries, 1);
	assert_int_equal(router_open_calls(fixture->router), 0);
}

static void values_are_wrapped_and_unwrapped(void **state)
{
	(void)state;
	json_t *text = json_string("v"), *map = json_pack("{s:i}", "a", 1), *null = json_null();
	json_t *wrapped = value_wrap(text), *back = value_unwrap(wrapped);
	assert_ptr_equal(json_object_get(wrapped, "_"), text);
	assert_ptr_equal(back, text);
	assert_null(value_wrap(null));
	assert_null(value_wrap(NULL));
	assert_null(value_unwrap(NULL));
	json_t *same = value_wrap(map), *unwrapped = value_unwrap(map);
	assert_ptr_equal(same, map);
	assert_ptr_equal(unwrapped, map);
	json_t *all[] = { text, map, wrapped, back, same, unwrapped };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		json_decref(all[i]);
}

static void grpc_failures_have_their_words(void **state)
{
	(void)state;
	char *dial = grpc_failure_dial("Permission denied for method 'f' and client 'me'");
	char *connection = grpc_failure_connection(dial), *call = grpc_failure_call(14, connection);
	assert_string_equal(call, "error sending request: error performing gRPC call: rpc error: code = Unavailable desc = "
				  "connection error: desc = \"transport: Error while dialing Permission denied for method "
				  "'f' and client 'me'\"");
	char *nested = grpc_failure_connection("a \"b\" \\ \n\x01 \u00fc");
	assert_string_equal(nested, "connection error: desc = \"transport: a \\\"b\\\" \\\\ \\n\\x01 \u00fc\"");
	free(dial);
	free(connection);
	free(call);
	free(nested);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(broker_errors_have_their_words),
		TEST(refusals_are_answers),
		TEST(remote_caller_cannot_reach_a_third_operator),
		TEST(first_channel_that_can_takes_it_and_sees_the_true_client),
		TEST(channel_error_becomes_code_500_with_its_index),
		TEST(request_without_params_stays_without),
		TEST(same_id_of_the_same_caller_is_a_loop),
		TEST(local_programs_may_use_the_same_id_at_once),
		TEST(a_call_from_outside_that_comes_back_at_the_door_is_a_loop),
		TEST(ping_answers_with_params_and_own_entry),
		TEST(directory_answers_with_matching_entries),
		TEST(connection_request_goes_to_the_channel_it_names),
		TEST(connection_request_is_checked),
		TEST(cancelled_calls_fail_once),
		TEST(own_entry_missing_is_told),
		TEST(a_dial_whose_end_ends_its_question_is_freed_once),
		cmocka_unit_test(values_are_wrapped_and_unwrapped),
		cmocka_unit_test(grpc_failures_have_their_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
