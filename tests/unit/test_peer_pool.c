// SPDX-License-Identifier: Apache-2.0
/* How calls share outgoing connections, with gRPC connections made here: one
 * attempt for all who wait, repeating only what was not delivered, retiring what
 * the directory no longer names. */
#include "base/address.h"
#include "directory/directory.h"
#include "directory/entry.h"
#include "grpc/client.h"
#include "router/peer_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- what the pool dials and talks through ---- */

#define MAX 8

struct fake_call {
	grpc_call_done done;
	void *context;
};

struct grpc_connection {
	struct grpc_connection_options options;
	bool is_finished, is_freed, is_going_away, refuses;
	struct fake_call calls[MAX];
	size_t call_count, open_calls;
};

static struct grpc_connection connections[MAX];
static size_t connection_count, dial_count;
static int dial_error;
static void (*while_dialling)(void); /* then the start fails */
static char last_dialled[64];

struct connector {
	struct event *event;
	connector_done done;
	void *context;
};

static void connector_fired(evutil_socket_t fd, short events, void *context)
{
	struct connector *connector = context;
	(void)fd;
	(void)events;
	connector_done done = connector->done;
	void *owner = connector->context;
	event_free(connector->event);
	free(connector);
	if (dial_error)
		done(dial_error, "connecting to nowhere: refused", owner);
	else
		done(open("/dev/null", O_RDWR | O_CLOEXEC), "connected", owner);
}

int connector_start(struct event_base *base, const char *text, unsigned timeout_ms, connector_done done, void *context,
		    struct connector **result)
{
	if (while_dialling) {
		while_dialling();
		return -EMFILE;
	}
	struct connector *connector = calloc(1, sizeof(*connector));
	assert_true(timeout_ms > 0);
	strncpy(last_dialled, text, sizeof(last_dialled) - 1);
	connector->event = event_new(base, -1, 0, connector_fired, connector);
	connector->done = done;
	connector->context = context;
	event_active(connector->event, EV_TIMEOUT, 0);
	dial_count++;
	*result = connector;
	return 0;
}

void connector_cancel(struct connector *connector)
{
	event_free(connector->event);
	free(connector);
}

int grpc_connection_start(struct event_base *base, const struct grpc_connection_options *options,
			  struct grpc_connection **result)
{
	(void)base;
	assert_true(connection_count < MAX);
	struct grpc_connection *connection = &connections[connection_count++];
	*connection = (struct grpc_connection){ .options = *options };
	close(options->fd);
	*result = connection;
	return 0;
}

void grpc_connection_finish(struct grpc_connection *connection)
{
	connection->is_finished = true;
}

void grpc_connection_free(struct grpc_connection *connection)
{
	connection->is_freed = true;
}

size_t grpc_connection_open_calls(const struct grpc_connection *connection)
{
	return connection->open_calls;
}

bool grpc_connection_accepts_calls(const struct grpc_connection *connection)
{
	return !connection->is_finished;
}

bool grpc_connection_is_going_away(const struct grpc_connection *connection)
{
	return connection->is_going_away;
}

int grpc_connection_call(struct grpc_connection *connection, const struct hyper_request *request, unsigned timeout_ms,
			 grpc_call_done done, void *context)
{
	(void)request;
	assert_true(timeout_ms > 0 && timeout_ms <= 30000);
	if (connection->refuses)
		return -ESHUTDOWN;
	connection->calls[connection->call_count++] = (struct fake_call){ done, context };
	connection->open_calls++;
	return 0;
}

static void end_call(struct grpc_connection *connection, size_t index, const struct grpc_result *result)
{
	connection->open_calls--;
	connection->calls[index].done(result, connection->calls[index].context);
	if (connection->options.call_ended)
		connection->options.call_ended(connection, connection->options.context);
}

/* ---- fixture ---- */

struct fixture {
	struct event_base *base;
	char path[32];
	struct directory *directory;
	struct router *router;
	struct peer_pool *pool;
	json_t *entry;
	struct grpc_server_entry target;
};

struct answer {
	unsigned count;
	bool is_response;
	char failure[256];
};

static void answered(const struct hyper_response *response, const char *failure, void *context)
{
	struct answer *answer = context;
	answer->count++;
	answer->is_response = response != NULL;
	if (failure)
		strncpy(answer->failure, failure, sizeof(answer->failure) - 1);
}

static json_t *make_entry(const char *address, const char *fingerprint)
{
	return json_pack("{s:s, s:[{s:s, s:{s:s}}], s:[{s:s, s:s}]}", "name", "peer", "channels", "type", "grpc_server",
			 "settings", "address", address, "certificates", "fingerprint", fingerprint, "key_usage",
			 "encryption");
}

static void start_pool(struct fixture *fixture, unsigned idle_timeout_ms)
{
	struct peer_pool_options options = {
		.router = fixture->router, .call_timeout_ms = 30000, .idle_timeout_ms = idle_timeout_ms
	};
	assert_int_equal(peer_pool_create(&options, &fixture->pool), 0);
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	static const char records[] = "{\"records\":[]}";
	strcpy(fixture->path, "/tmp/test-pool-XXXXXX");
	int fd = mkstemp(fixture->path);
	if (fd < 0 || write(fd, records, sizeof(records) - 1) < 0)
		return -1;
	close(fd);
	fixture->base = event_base_new();
	struct directory_settings settings = { .type = DIRECTORY_JSON, .path = fixture->path };
	assert_int_equal(directory_create(fixture->base, &settings, &fixture->directory), 0);
	assert_int_equal(router_create(fixture->base, "me", fixture->directory, &fixture->router), 0);
	start_pool(fixture, 60000);
	fixture->entry = make_entry("localhost:1", "aa");
	assert_int_equal(entry_grpc_server(fixture->entry, &fixture->target), 0);
	connection_count = dial_count = 0;
	dial_error = 0;
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	peer_pool_cancel(fixture->pool);
	peer_pool_free(fixture->pool);
	directory_free(fixture->directory);
	router_free(fixture->router);
	event_base_free(fixture->base);
	json_decref(fixture->entry);
	unlink(fixture->path);
	free(fixture);
	return 0;
}

static struct hyper_request request = { .id = (char *)"peer.f(1)" };

static void call(struct fixture *fixture, struct answer *answer)
{
	assert_int_equal(peer_pool_call(fixture->pool, "peer", fixture->entry, &fixture->target, &request, answered, answer),
			 0);
}

static void turn(struct fixture *fixture)
{
	event_base_loop(fixture->base, EVLOOP_NONBLOCK);
}

static void be_ready(struct grpc_connection *connection)
{
	connection->options.ready(connection, connection->options.context);
}

static struct hyper_response response;
static const struct grpc_result fine = { .status = GRPC_STATUS_OK, .message = "", .response = &response };
static const struct grpc_result lost = { .status = GRPC_STATUS_UNAVAILABLE, .message = "gone" };
static const struct grpc_result unsent = { .status = GRPC_STATUS_UNAVAILABLE, .message = "gone", .undelivered = true };

/* ---- tests ---- */

static void concurrent_calls_share_one_attempt(void **state)
{
	struct fixture *fixture = *state;
	struct answer answers[3] = { 0 };
	for (size_t i = 0; i < 3; i++)
		call(fixture, &answers[i]);
	turn(fixture);
	assert_int_equal(dial_count, 1);
	assert_int_equal(connection_count, 1);
	assert_int_equal(connections[0].call_count, 0);
	be_ready(&connections[0]);
	assert_int_equal(connections[0].call_count, 3);
	for (size_t i = 0; i < 3; i++)
		end_call(&connections[0], i, &fine);
	for (size_t i = 0; i < 3; i++)
		assert_true(answers[i].count == 1 && answers[i].is_response);
	/* And the connection is used again. */
	call(fixture, &answers[0]);
	assert_int_equal(connections[0].call_count, 4);
	end_call(&connections[0], 3, &fine);
	assert_int_equal(dial_count, 1);
}

static void failed_attempt_fails_all_who_wait(void **state)
{
	struct fixture *fixture = *state;
	struct answer answers[2] = { 0 };
	dial_error = -ECONNREFUSED;
	call(fixture, &answers[0]);
	call(fixture, &answers[1]);
	turn(fixture);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(answers[i].count, 1);
		assert_string_equal(answers[i].failure,
				    "error sending request: error performing gRPC call: rpc error: code = Unavailable desc = "
				    "connection error: desc = \"transport: Error while dialing connecting to nowhere: refused\"");
	}
	/* The next call tries anew. */
	dial_error = 0;
	call(fixture, &answers[0]);
	turn(fixture);
	assert_int_equal(dial_count, 2);
	connections[0].options.closed(&connections[0], "authentication handshake failed: EOF", connections[0].options.context);
	assert_non_null(strstr(answers[0].failure, "desc = \"transport: authentication handshake failed: EOF\""));
	assert_int_equal(answers[0].count, 2);
}

static struct fixture *dialling_fixture;
static struct answer inner_answer;

static void call_from_inside(void)
{
	call(dialling_fixture, &inner_answer);
}

static void an_attempt_that_does_not_start_fails_who_came_meanwhile(void **state)
{
	struct answer answer = { 0 };
	dialling_fixture = *state;
	while_dialling = call_from_inside;
	call(dialling_fixture, &answer);
	while_dialling = NULL;
	assert_true(inner_answer.count == 1 && !inner_answer.is_response);
	assert_true(answer.count == 1 && !answer.is_response);
}

static void undelivered_call_is_repeated_at_most_twice(void **state)
{
	struct fixture *fixture = *state;
	struct answer answer = { 0 };
	call(fixture, &answer);
	for (size_t i = 0; i < 3; i++) {
		turn(fixture);
		assert_int_equal(connection_count, i + 1);
		be_ready(&connections[i]);
		assert_int_equal(connections[i].call_count, 1);
		assert_int_equal(answer.count, 0);
		end_call(&connections[i], 0, &unsent);
	}
	assert_int_equal(answer.count, 1);
	assert_false(answer.is_response);
	assert_true(connections[0].is_finished && connections[1].is_finished);
	assert_int_equal(dial_count, 3);
}

static void call_that_may_have_arrived_is_not_repeated(void **state)
{
	struct fixture *fixture = *state;
	struct answer answer = { 0 };
	call(fixture, &answer);
	turn(fixture);
	be_ready(&connections[0]);
	end_call(&connections[0], 0, &lost);
	assert_int_equal(answer.count, 1);
	assert_string_equal(answer.failure,
			    "error sending request: error performing gRPC call: rpc error: code = Unavailable desc = gone");
	assert_int_equal(dial_count, 1);
}

static void connection_that_takes_no_calls_is_replaced(void **state)
{
	struct fixture *fixture = *state;
	struct answer answer = { 0 };
	call(fixture, &answer);
	turn(fixture);
	connections[0].refuses = true;
	be_ready(&connections[0]);
	turn(fixture);
	assert_int_equal(connection_count, 2);
	be_ready(&connections[1]);
	end_call(&connections[1], 0, &fine);
	assert_true(answer.is_response);
}

static void new_address_or_certificate_needs_a_new_connection(void **state)
{
	struct fixture *fixture = *state;
	static const char *const changes[][2] = { { "localhost:2", "aa" }, { "localhost:2", "bb" } };
	struct answer answer = { 0 };
	call(fixture, &answer);
	turn(fixture);
	be_ready(&connections[0]);
	end_call(&connections[0], 0, &fine);
	for (size_t i = 0; i < 2; i++) {
		json_decref(fixture->entry);
		fixture->entry = make_entry(changes[i][0], changes[i][1]);
		assert_int_equal(entry_grpc_server(fixture->entry, &fixture->target), 0);
		call(fixture, &answer);
		assert_true(connections[i].is_finished);
		turn(fixture);
		assert_int_equal(connection_count, i + 2);
		assert_string_equal(last_dialled, "localhost:2");
		be_ready(&connections[i + 1]);
		end_call(&connections[i + 1], 0, &fine);
	}
	/* An entry that differs in other parts only does not. */
	json_t *same = json_deep_copy(fixture->entry);
	json_object_set_new(same, "groups", json_array());
	json_decref(fixture->entry);
	fixture->entry = same;
	assert_int_equal(entry_grpc_server(fixture->entry, &fixture->target), 0);
	call(fixture, &answer);
	end_call(&connections[2], 1, &fine);
	assert_int_equal(dial_count, 3);
}

static struct grpc_connection *held;
static char lost_reason[64];

static void hold_ready(struct grpc_connection *connection, void *context)
{
	(void)context;
	held = connection;
}

static void hold_lost(const char *reason, void *context)
{
	(void)context;
	strncpy(lost_reason, reason, sizeof(lost_reason) - 1);
}

static void held_connection_serves_calls_and_outlives_idleness(void **state)
{
	struct fixture *fixture = *state;
	peer_pool_cancel(fixture->pool);
	peer_pool_free(fixture->pool);
	start_pool(fixture, 0);
	struct peer_hold_options options = { hold_ready, hold_lost, NULL };
	struct peer_hold *hold;
	struct answer answer = { 0 };
	held = NULL;
	assert_int_equal(
		peer_pool_hold(fixture->pool, "peer", fixture->entry, &fixture->target, &options, &hold), 0);
	turn(fixture);
	be_ready(&connections[0]);
	assert_ptr_equal(held, &connections[0]);
	call(fixture, &answer);
	assert_int_equal(connections[0].call_count, 1);
	end_call(&connections[0], 0, &fine);
	/* Past two sweeps it is still there, although anything without calls is idle at once. */
	event_base_loopexit(fixture->base, &(struct timeval){ 2, 200000 });
	event_base_dispatch(fixture->base);
	assert_false(connections[0].is_finished);
	connections[0].options.closed(&connections[0], "gone", connections[0].options.context);
	assert_string_equal(lost_reason, "gone");
}

static void idle_connection_is_closed(void **state)
{
	struct fixture *fixture = *state;
	peer_pool_cancel(fixture->pool);
	peer_pool_free(fixture->pool);
	start_pool(fixture, 0);
	struct answer answer = { 0 };
	call(fixture, &answer);
	turn(fixture);
	be_ready(&connections[0]);
	end_call(&connections[0], 0, &fine);
	for (int i = 0; i < 100 && !connections[0].is_finished; i++) {
		event_base_loopexit(fixture->base, &(struct timeval){ 0, 50000 });
		event_base_dispatch(fixture->base);
	}
	assert_true(connections[0].is_finished);
}

static void cancelling_fails_what_waits(void **state)
{
	struct fixture *fixture = *state;
	struct answer answer = { 0 };
	struct peer_hold_options options = { hold_ready, hold_lost, NULL };
	struct peer_hold *hold;
	call(fixture, &answer);
	assert_int_equal(
		peer_pool_hold(fixture->pool, "peer", fixture->entry, &fixture->target, &options, &hold), 0);
	peer_pool_cancel(fixture->pool);
	assert_int_equal(answer.count, 1);
	assert_string_equal(lost_reason, "the server is stopping");
	assert_int_equal(
		peer_pool_call(fixture->pool, "peer", fixture->entry, &fixture->target, &request, answered, &answer),
		-ESHUTDOWN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(concurrent_calls_share_one_attempt),
		TEST(failed_attempt_fails_all_who_wait),
		TEST(an_attempt_that_does_not_start_fails_who_came_meanwhile),
		TEST(undelivered_call_is_repeated_at_most_twice),
		TEST(call_that_may_have_arrived_is_not_repeated),
		TEST(connection_that_takes_no_calls_is_replaced),
		TEST(new_address_or_certificate_needs_a_new_connection),
		TEST(held_connection_serves_calls_and_outlives_idleness),
		TEST(idle_connection_is_closed),
		TEST(cancelling_fails_what_waits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
