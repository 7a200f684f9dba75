// SPDX-License-Identifier: Apache-2.0
/* The internal endpoint with real sockets and loops. The relay
 * records joins, and the test looks at the joined sockets. */
#include "base/instant.h"
#include "base/log.h"
#include "proxy/endpoint.h"

#include "recording_relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the stage ---- */

enum { TOKEN_MS = 300 }; /* a token's time */

struct stage {
	struct relay relay;
	struct broker *broker;
	struct refusals *refusals;
	struct rate_limiter *limiter;
	struct endpoint *endpoint;
	uint16_t port;
	bool is_stopped;
};

struct held {
	struct token token;
	struct token_key key;
	uint64_t id;
};

static struct stage *stage_new(const char *bind_address, const struct rate_rule *rules, size_t count,
			       unsigned token_timeout_ms)
{
	struct broker_limits limits = {60000, 60000, 100000, 100000, 0};
	struct stage *stage = calloc(1, sizeof *stage);
	struct relay *relay = &stage->relay;

	log_configure(LOG_LEVEL_PANIC, LOG_FORMAT_TEXT, "TST");
	pthread_mutex_init(&relay->lock, NULL);
	pthread_cond_init(&relay->joined, NULL);
	relay->pairs = calloc(PAIRS_MAX, sizeof *relay->pairs);
	for (unsigned i = 0; i < WORKERS; i++) {
		assert_int_equal(loop_create(&relay->loops[i]), 0);
		assert_int_equal(pthread_create(&relay->threads[i], NULL, run_loop, relay->loops[i]), 0);
	}
	assert_int_equal(broker_create(&limits, &stage->broker), 0);
	assert_int_equal(refusals_create(&stage->refusals), 0);
	if (count > 0)
		assert_int_equal(rate_limiter_create(rules, count, false, &stage->limiter), 0);
	struct endpoint_options options = {.relay = relay, .broker = stage->broker, .refusals = stage->refusals,
					   .limiter = stage->limiter, .bind_address = bind_address,
					   .token_timeout_ms = token_timeout_ms};
	assert_int_equal(endpoint_start(&options, &stage->endpoint), 0);
	assert_int_equal(atomic_load(&relay->prepared), WORKERS);
	stage->port = (uint16_t)atoi(strrchr(endpoint_address(stage->endpoint), ':') + 1);
	return stage;
}

static int setup(void **state)
{
	*state = stage_new("127.0.0.1:0", NULL, 0, TOKEN_MS);
	return 0;
}

static void stage_stop(struct stage *stage)
{
	if (!stage->is_stopped)
		endpoint_stop(stage->endpoint);
	stage->is_stopped = true;
}

static int teardown(void **state)
{
	struct stage *stage = *state;

	stage_stop(stage);
	for (unsigned i = 0; i < WORKERS; i++) {
		loop_stop(stage->relay.loops[i]);
		pthread_join(stage->relay.threads[i], NULL);
		loop_free(stage->relay.loops[i]);
	}
	endpoint_free(stage->endpoint);
	broker_free(stage->broker);
	refusals_free(stage->refusals);
	rate_limiter_free(stage->limiter);
	while (stage->relay.taken < stage->relay.count)
		pair_close(&stage->relay.pairs[stage->relay.taken++]);
	free(stage->relay.pairs);
	free(stage);
	return 0;
}

static struct held issue(struct stage *stage)
{
	struct ticket_request request = {"hd-1", "hd-2"};
	struct held held;

	assert_int_equal(broker_issue(stage->broker, &request, clock_now_ms(), &held.token, &held.key, &held.id), 0);
	assert_int_equal(broker_agree(stage->broker, &held.key, clock_now_ms()), 0);
	return held;
}

/* ---- the parties ---- */

/* A connection from that address, or -1 if nobody listens. */
static int dial_from(const struct stage *stage, uint32_t source)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(stage->port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof own), 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	close(fd);
	return -1;
}

static int try_dial(const struct stage *stage)
{
	return dial_from(stage, INADDR_LOOPBACK);
}

static int dial(const struct stage *stage)
{
	int fd = try_dial(stage);

	assert_true(fd >= 0);
	return fd;
}

static void send_all(int fd, const void *bytes, size_t size)
{
	assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static int dial_with(const struct stage *stage, const struct held *held)
{
	int fd = dial(stage);

	send_all(fd, held->token.bytes, TOKEN_SIZE);
	return fd;
}

/* The connection ends without a byte. */
static void assert_closed(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	char byte;

	assert_int_equal(poll(&poll_fd, 1, WAIT_MS), 1);
	ssize_t got = recv(fd, &byte, 1, 0);
	assert_true(got == 0 || (got < 0 && errno == ECONNRESET));
	close(fd);
}

static void wait_for_guests(const struct stage *stage, unsigned reading, unsigned waiting)
{
	uint64_t deadline = clock_now_ms() + WAIT_MS;
	struct endpoint_totals totals;

	do {
		endpoint_totals(stage->endpoint, &totals);
		if (totals.waiting == waiting && totals.reading == reading)
			return;
		poll(NULL, 0, 1);
	} while (clock_now_ms() < deadline);
	fail_msg("%u read and %u wait, %u and %u wanted", totals.reading, totals.waiting, reading, waiting);
}

static void wait_for_waiting(const struct stage *stage, unsigned wanted)
{
	wait_for_guests(stage, 0, wanted);
}

static void wait_for_refusal(const struct stage *stage, enum outcome outcome, uint64_t wanted)
{
	uint64_t deadline = clock_now_ms() + WAIT_MS;

	while (refusals_count(stage->refusals, outcome) < wanted && clock_now_ms() < deadline)
		poll(NULL, 0, 1);
	assert_int_equal(refusals_count(stage->refusals, outcome), wanted);
}

static void wait_for_impatient(const struct stage *stage, uint64_t wanted)
{
	uint64_t deadline = clock_now_ms() + WAIT_MS;
	struct broker_totals totals;

	do {
		broker_totals(stage->broker, &totals);
		poll(NULL, 0, 1);
	} while (totals.ended[OUTCOME_IMPATIENT] < wanted && clock_now_ms() < deadline);
	assert_int_equal(totals.ended[OUTCOME_IMPATIENT], wanted);
}

/* What the party sent behind its token has not been read. */
static void assert_holds(int fd, const char *text)
{
	char bytes[256];
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&poll_fd, 1, WAIT_MS), 1);
	ssize_t got = recv(fd, bytes, sizeof bytes - 1, 0);
	assert_true(got >= 0);
	bytes[got] = 0;
	assert_string_equal(bytes, text);
}

/* ---- tests ---- */

static void two_parties_with_one_token_are_joined(void **state)
{
	struct stage *stage = *state;

	for (unsigned i = 0; i < 50; i++) { /* enough to meet on equal and on different workers */
		struct held held = issue(stage);
		int a = dial_with(stage, &held);
		wait_for_waiting(stage, 1);
		int b = dial(stage);
		char both[TOKEN_SIZE + 5];
		memcpy(both, held.token.bytes, TOKEN_SIZE);
		memcpy(both + TOKEN_SIZE, "hello", 5);
		send_all(a, "first", 5);
		send_all(b, both, sizeof both);
		struct pair pair = take_pair(&stage->relay);
		assert_string_equal(pair.parties[0].operator_name, "hd-2");
		assert_string_equal(pair.parties[1].operator_name, "hd-1");
		assert_int_equal(pair.parties[0].bytes_read, TOKEN_SIZE);
		assert_int_equal(pair.parties[1].bytes_read, TOKEN_SIZE);
		assert_true(fcntl(pair.parties[1].fd, F_GETFL) & O_NONBLOCK);
		assert_holds(pair.parties[0].fd, "first");
		assert_holds(pair.parties[1].fd, "hello");
		assert_closed(dial_with(stage, &held)); /* used up */
		pair_close(&pair);
		close(a);
		close(b);
	}
	wait_for_waiting(stage, 0);
	assert_int_equal(refusals_count(stage->refusals, OUTCOME_UNKNOWN_TOKEN), 50);
}

static void a_token_may_come_byte_by_byte(void **state)
{
	struct stage *stage = *state;
	struct held held = issue(stage);
	int a = dial(stage), b = dial(stage), on = 1;

	setsockopt(a, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on);
	for (unsigned i = 0; i < TOKEN_SIZE; i++) {
		send_all(a, held.token.bytes + i, 1);
		send_all(b, held.token.bytes + i, 1);
	}
	struct pair pair = take_pair(&stage->relay);
	pair_close(&pair);
	close(a);
	close(b);
}

static void unknown_tokens_and_garbage_are_closed(void **state)
{
	struct stage *stage = *state;
	struct held held = issue(stage);
	char garbage[65536];

	memset(garbage, 'G', sizeof garbage);
	int fd = dial(stage);
	send_all(fd, garbage, sizeof garbage);
	assert_closed(fd);
	held.token.bytes[0] ^= 0x80;
	assert_closed(dial_with(stage, &held));
	assert_int_equal(refusals_count(stage->refusals, OUTCOME_UNKNOWN_TOKEN), 2);
	wait_for_waiting(stage, 0);
}

static void a_token_that_does_not_come_in_time_is_closed(void **state)
{
	struct stage *stage = *state;
	uint64_t start = clock_now_ms();
	int silent = dial(stage), slow = dial(stage), gone = dial(stage);

	send_all(slow, "only a part", 11);
	close(gone);
	assert_closed(silent);
	assert_closed(slow);
	assert_in_range(clock_now_ms() - start, 290, 5000);
	wait_for_refusal(stage, OUTCOME_NO_TOKEN, 3);
}

/* With room for 32 connections without a token, ten on each worker. */
static struct stage *small_stage_new(void)
{
	struct rlimit files, few;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	few = files;
	few.rlim_cur = 4 * 32; /* a quarter of them may be without a token */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	struct stage *stage = stage_new("127.0.0.1:0", NULL, 0, WAIT_MS);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	return stage;
}

static void the_oldest_reader_makes_room(void **state)
{
	struct stage *stage = small_stage_new();
	int silent[64], last;

	*state = stage;
	for (unsigned i = 0; i < 64; i++)
		silent[i] = dial(stage);
	/* Only the latest are left; whoever comes with a token is served. */
	struct held held = issue(stage);
	last = dial(stage);
	send_all(last, held.token.bytes, TOKEN_SIZE);
	struct endpoint_totals totals = {0};
	for (uint64_t end = clock_now_ms() + WAIT_MS; totals.waiting == 0 && clock_now_ms() < end; poll(NULL, 0, 1)) {
		endpoint_totals(stage->endpoint, &totals);
		assert_in_range(totals.reading, 0, 32);
	}
	assert_int_equal(totals.waiting, 1);
	for (uint64_t end = clock_now_ms() + WAIT_MS;
	     refusals_count(stage->refusals, OUTCOME_NO_RESOURCES) == 0 && clock_now_ms() < end;)
		poll(NULL, 0, 1);
	assert_true(refusals_count(stage->refusals, OUTCOME_NO_RESOURCES) > 0);
	close(last);
	for (unsigned i = 0; i < 64; i++)
		close(silent[i]);
}

/* It comes while the honest parties have shown half of their token. */
static void a_flood_from_one_address_takes_from_itself(void **state)
{
	enum { FLOOD = 300 };
	struct stage *stage = small_stage_new();
	int flood[FLOOD];

	*state = stage;
	struct held held = issue(stage);
	int first = dial(stage), second = dial(stage);
	send_all(first, held.token.bytes, TOKEN_SIZE / 2);
	send_all(second, held.token.bytes, TOKEN_SIZE / 2);
	for (unsigned i = 0; i < FLOOD; i++)
		flood[i] = dial_from(stage, 0x7f000002);
	wait_for_refusal(stage, OUTCOME_NO_RESOURCES, FLOOD + 2 - 3 * 10);
	send_all(first, held.token.bytes + TOKEN_SIZE / 2, TOKEN_SIZE / 2);
	send_all(second, held.token.bytes + TOKEN_SIZE / 2, TOKEN_SIZE / 2);
	struct pair pair = take_pair(&stage->relay);
	pair_close(&pair);
	close(first);
	close(second);
	for (unsigned i = 0; i < FLOOD; i++)
		close(flood[i]);
}

static void a_first_party_that_leaves_voids_the_token(void **state)
{
	struct stage *stage = *state;

	for (int how = 0; how < 4; how++) {
		struct held held = issue(stage);
		int a = dial_with(stage, &held);
		if (how < 3)
			wait_for_waiting(stage, 1); /* the fourth leaves before it was seen */
		struct linger reset = {1, 0};
		if (how == 1)
			setsockopt(a, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		if (how == 2)
			send_all(a, "and a payload", 13);
		close(a);
		wait_for_impatient(stage, (uint64_t)how + 1);
		assert_closed(dial_with(stage, &held));
	}
}

static void release_one(const struct ticket_ending *ending, void *context)
{
	struct stage *stage = context;

	if (ending->party)
		endpoint_release(stage->endpoint, ending->party, ending->outcome);
}

static void an_expired_party_is_let_go(void **state)
{
	struct stage *stage = *state;
	struct held held = issue(stage);
	int a = dial_with(stage, &held);

	wait_for_waiting(stage, 1);
	broker_expire(stage->broker, clock_now_ms() + 100000, release_one, stage);
	assert_closed(a);
	assert_int_equal(refusals_count(stage->refusals, OUTCOME_LONELY), 1);
	wait_for_waiting(stage, 0);
}

static void rate_limits_close_without_a_byte(void **state)
{
	struct rate_rule rule = {RATE_WINDOW_HOUR, 2};
	struct stage *stage = stage_new("127.0.0.1:0", &rule, 1, TOKEN_MS);

	*state = stage;
	struct held held = issue(stage);
	int a = dial_with(stage, &held), b = dial_with(stage, &held);
	struct pair pair = take_pair(&stage->relay);
	assert_closed(dial(stage));
	wait_for_refusal(stage, OUTCOME_RATE_LIMITED, 1); /* it is noted after the close */
	pair_close(&pair);
	close(a);
	close(b);
}

static void a_join_that_fails_closes_both(void **state)
{
	struct stage *stage = *state;
	struct held held = issue(stage);

	pthread_mutex_lock(&stage->relay.lock);
	stage->relay.join_error = -EMFILE;
	pthread_mutex_unlock(&stage->relay.lock);
	int a = dial_with(stage, &held), b = dial_with(stage, &held);
	assert_closed(a);
	assert_closed(b);
	wait_for_refusal(stage, OUTCOME_NO_RESOURCES, 1); /* it is noted after the sockets are closed */
}

static void stopping_closes_what_is_not_joined(void **state)
{
	struct stage *stage = *state;
	struct held held = issue(stage), other = issue(stage);
	int waiting = dial_with(stage, &held), reading = dial(stage), second = dial_with(stage, &other);

	send_all(reading, "x", 1);
	wait_for_guests(stage, 1, 2);
	stage_stop(stage);
	assert_closed(waiting);
	assert_closed(reading);
	assert_closed(second);
	assert_int_equal(try_dial(stage), -1);
}

static void a_second_proxy_on_the_same_address_is_an_error(void **state)
{
	struct stage *stage = *state;
	struct endpoint_options options = {.relay = &stage->relay, .broker = stage->broker, .refusals = stage->refusals,
					   .bind_address = endpoint_address(stage->endpoint)};
	struct endpoint *second;

	assert_int_equal(endpoint_start(&options, &second), -EADDRINUSE);
}

static void ipv6_is_served(void **state)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has_ipv6 = probe >= 0 && bind(probe, (struct sockaddr *)&address, sizeof address) == 0;

	close(probe);
	struct stage *stage = stage_new(has_ipv6 ? "[::1]:0" : "127.0.0.1:0", NULL, 0, TOKEN_MS);
	*state = stage;
	if (!has_ipv6)
		skip();
	address.sin6_port = htons(stage->port);
	struct held held = issue(stage);
	int fds[2];
	for (unsigned i = 0; i < 2; i++) {
		fds[i] = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fds[i], (struct sockaddr *)&address, sizeof address), 0);
		send_all(fds[i], held.token.bytes, TOKEN_SIZE);
	}
	struct pair pair = take_pair(&stage->relay);
	pair_close(&pair);
	close(fds[0]);
	close(fds[1]);
}

/* ---- races ----
 * Two threads dial for each ticket at once; a third of the first parties hang
 * up at once, and the main thread lets others expire meanwhile. */

enum { RACE_TICKETS = 1200, RACE_THREADS = 2 };

struct race {
	struct stage *stage;
	struct held *tickets;
	atomic_uint published, done;
	unsigned index;
};

static void *race_dial(void *context)
{
	struct race *race = context;
	struct race *shared = race - race->index;
	int open[16] = {0};
	struct linger reset = {1, 0}; /* no pile of TIME_WAIT sockets */

	for (unsigned i = 0; i < RACE_TICKETS; i++) {
		while (atomic_load(&shared->published) <= i)
			sched_yield();
		int fd = dial_with(race->stage, &shared->tickets[i]);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		atomic_store(&race->done, i + 1);
		if (i % 3 == race->index) {
			close(fd);
			continue;
		}
		if (open[i % 16] > 0)
			close(open[i % 16]);
		open[i % 16] = fd;
	}
	for (unsigned i = 0; i < 16; i++)
		if (open[i] > 0)
			close(open[i]);
	return NULL;
}

static void parties_race_on_all_workers(void **state)
{
	struct stage *stage = *state;
	struct race races[RACE_THREADS];
	pthread_t threads[RACE_THREADS];
	struct held *tickets = calloc(RACE_TICKETS, sizeof *tickets);
	struct broker_totals totals;

	for (unsigned i = 0; i < RACE_THREADS; i++)
		races[i] = (struct race){.stage = stage, .tickets = tickets, .index = i};
	for (unsigned i = 0; i < RACE_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race_dial, &races[i]), 0);
	for (unsigned i = 0; i < RACE_TICKETS; i++) {
		while (atomic_load(&races[0].done) + 8 < i || atomic_load(&races[1].done) + 8 < i)
			sched_yield();
		tickets[i] = issue(stage);
		atomic_store(&races[0].published, i + 1);
		if (i % 50 == 49)
			broker_expire(stage->broker, clock_now_ms() + 100000, release_one, stage);
	}
	for (unsigned i = 0; i < RACE_THREADS; i++)
		pthread_join(threads[i], NULL);

	uint64_t deadline = clock_now_ms() + WAIT_MS;
	struct endpoint_totals seen = {0};
	for (; (seen.accepted < RACE_TICKETS * RACE_THREADS || seen.reading > 0) && clock_now_ms() < deadline;
	     poll(NULL, 0, 1))
		endpoint_totals(stage->endpoint, &seen);
	while (broker_expire(stage->broker, clock_now_ms() + 100000, release_one, stage) && clock_now_ms() < deadline)
		poll(NULL, 0, 1);
	wait_for_waiting(stage, 0);
	stage_stop(stage);
	broker_totals(stage->broker, &totals);
	assert_int_equal(totals.open, 0);
	assert_int_equal(totals.matched, stage->relay.count);
	print_message("joined %u, impatient %u, lonely %u, unknown %u\n", stage->relay.count,
		      (unsigned)totals.ended[OUTCOME_IMPATIENT], (unsigned)totals.ended[OUTCOME_LONELY],
		      (unsigned)refusals_count(stage->refusals, OUTCOME_UNKNOWN_TOKEN));
	free(tickets);
}

int main(void)
{
#define WITH_STAGE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_STAGE(two_parties_with_one_token_are_joined),
		WITH_STAGE(a_token_may_come_byte_by_byte),
		WITH_STAGE(unknown_tokens_and_garbage_are_closed),
		WITH_STAGE(a_token_that_does_not_come_in_time_is_closed),
		WITH_STAGE(a_first_party_that_leaves_voids_the_token),
		WITH_STAGE(an_expired_party_is_let_go),
		cmocka_unit_test_teardown(the_oldest_reader_makes_room, teardown),
		cmocka_unit_test_teardown(a_flood_from_one_address_takes_from_itself, teardown),
		cmocka_unit_test_teardown(rate_limits_close_without_a_byte, teardown),
		WITH_STAGE(a_join_that_fails_closes_both),
		WITH_STAGE(stopping_closes_what_is_not_joined),
		WITH_STAGE(a_second_proxy_on_the_same_address_is_an_error),
		cmocka_unit_test_teardown(ipv6_is_served, teardown),
		WITH_STAGE(parties_race_on_all_workers),
	};
	return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
