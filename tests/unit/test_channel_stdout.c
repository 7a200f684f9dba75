// SPDX-License-Identifier: Apache-2.0
/* The stdout channel with a pipe for stdout: a reader that does not read costs
 * requests, never the loop. Deliveries are ended here instead of by a router. */
#include "base/log.h"
#include "router/channels.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static unsigned submitted, failed;
static char failure[128];

void delivery_submitted(struct delivery *delivery)
{
	(void)delivery;
	submitted++;
}

void delivery_fail(struct delivery *delivery, const char *detail)
{
	(void)delivery;
	failed++;
	snprintf(failure, sizeof(failure), "%s", detail);
}

void delivery_respond(struct delivery *delivery, const struct hyper_response *response)
{
	(void)delivery;
	(void)response;
	fail_msg("stdout does not answer");
}

void delivery_respond_remote(struct delivery *delivery, const struct hyper_response *response)
{
	delivery_respond(delivery, response);
}

struct fixture {
	struct channel *channel;
	int reader, real_stdout;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	int fds[2];

	fflush(stdout);
	if (pipe2(fds, O_CLOEXEC))
		return -1;
	fixture->real_stdout = dup(STDOUT_FILENO);
	fixture->reader = fds[0];
	dup2(fds[1], STDOUT_FILENO);
	close(fds[1]);
	submitted = failed = 0;
	if (channel_stdout_create(&fixture->channel) || fixture->channel->class->open(fixture->channel))
		return -1;
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	if (fixture->channel)
		fixture->channel->class->free(fixture->channel);
	dup2(fixture->real_stdout, STDOUT_FILENO);
	close(fixture->real_stdout);
	if (fixture->reader >= 0)
		close(fixture->reader);
	free(fixture);
	return 0;
}

static void deliver(struct fixture *fixture, const char *text)
{
	struct hyper_request request = {
		.id = (char[]){ "me.f(1)" }, .method = (char[]){ "me.f" }, .params = json_pack("{s:s}", "text", text)
	};
	struct delivery delivery = { .request = &request, .to_own = true };

	fixture->channel->class->deliver(fixture->channel, &delivery);
	json_decref(request.params);
}

static void a_request_is_printed(void **state)
{
	struct fixture *fixture = *state;
	char text[512] = "";
	size_t size = 0;

	deliver(fixture, "hello");
	assert_int_equal(submitted, 1);
	while (size < 2 || strcmp(text + size - 2, "}\n") != 0 || !strstr(text, "hello")) {
		ssize_t got = read(fixture->reader, text + size, sizeof(text) - 1 - size);

		assert_true(got > 0);
		size += (size_t)got;
		text[size] = 0;
	}
	json_t *value = json_loads(text, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(value, "method")), "me.f");
	assert_string_equal(json_string_value(json_object_get(value, "id")), "me.f(1)");
	json_decref(value);
}

static void a_reader_that_does_not_read_costs_requests_only(void **state)
{
	struct fixture *fixture = *state;
	char *text = malloc(10001), *bytes = malloc(1 << 16);

	memset(text, 'x', 10000);
	text[10000] = 0;
	for (int i = 0; i < 300; i++)
		deliver(fixture, text);
	assert_int_equal(submitted + failed, 300);
	assert_in_range(submitted, 100, 150);
	assert_string_equal(failure, "nobody reads the output");
	/* It reads again: what was taken comes, and new ones are taken. */
	size_t xs = 0;
	while (xs < submitted * (size_t)10000) {
		ssize_t got = read(fixture->reader, bytes, 1 << 16);

		assert_true(got > 0);
		for (ssize_t i = 0; i < got; i++)
			xs += bytes[i] == 'x';
	}
	failed = submitted = 0;
	deliver(fixture, "again");
	assert_int_equal(submitted, 1);
	free(text);
	free(bytes);
}

/* The program's end waits a second for a reader, not longer. */
static void a_blocked_writer_does_not_stop_the_end(void **state)
{
	struct fixture *fixture = *state;
	char *text = malloc(200001);

	memset(text, 'x', 200000);
	text[200000] = 0;
	deliver(fixture, text);
	assert_int_equal(submitted, 1);
	fixture->channel->class->free(fixture->channel);
	fixture->channel = NULL;
	free(text);
}

static void a_closed_output_fails_requests(void **state)
{
	struct fixture *fixture = *state;

	close(fixture->reader);
	fixture->reader = -1;
	/* The first ones may be taken before the writer has met the error. */
	for (int i = 0; i < 100000 && !failed; i++)
		deliver(fixture, "hello");
	assert_true(failed);
	while (strcmp(failure, "nobody reads the output") == 0)
		deliver(fixture, "hello");
	assert_string_equal(failure, "Broken pipe");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_request_is_printed),
		TEST(a_reader_that_does_not_read_costs_requests_only),
		TEST(a_blocked_writer_does_not_stop_the_end),
		TEST(a_closed_output_fails_requests),
	};

	signal(SIGPIPE, SIG_IGN);
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "TEST");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
