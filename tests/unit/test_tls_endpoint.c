// SPDX-License-Identifier: Apache-2.0
/* The TLS endpoint with real sockets, loops and a directory in a file; the relay
 * records joins. What parties see is tested with an independent client
 * (tests/integration/functional); here it is about what reaches the relay, and
 * about parties that come and go on all workers at once. */
#include "base/cleanup.h"
#include "base/instant.h"
#include "base/log.h"
#include "proxy/endpoint.h"
#include "proxy/operators.h"
#include "relay/ktls.h"
#include "tls/outer.h"

#include "certificates.h"
#include "recording_relay.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { OPERATORS = 2, TICKETS = 240, THREADS = 2, TICKET_MS = 60000, PATIENCE_MS = 150 };
static const char *const names[OPERATORS] = {"hd-1", "hd-2"};

struct stage {
	struct relay relay;
	struct broker *broker;
	struct refusals *refusals;
	struct operators *operators;
	struct endpoint *endpoint;
	struct event_base *base;
	struct event *end;
	atomic_bool is_over;
	pthread_t main;
	SSL_CTX *server, *clients[OPERATORS];
	char folder[64];
	uint16_t port;
};

static SSL_CTX *context_of(const SSL_METHOD *method, const struct test_identity *identity,
			   const struct test_identity *root)
{
	SSL_CTX *context = SSL_CTX_new(method);

	SSL_CTX_use_certificate(context, identity->certificate);
	SSL_CTX_use_PrivateKey(context, identity->key);
	X509_STORE_add_cert(SSL_CTX_get_cert_store(context), root->certificate);
	return context;
}

static void identity_free(const struct test_identity *identity)
{
	EVP_PKEY_free(identity->key);
	X509_free(identity->certificate);
}

static void write_directory(struct stage *stage, const struct test_identity operators[OPERATORS])
{
	char path[96];

	snprintf(stage->folder, sizeof stage->folder, "/tmp/p2p-directory-XXXXXX");
	assert_non_null(mkdtemp(stage->folder));
	snprintf(path, sizeof path, "%s/records.json", stage->folder);
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	fputs("{\"records\": [", file);
	for (unsigned i = 0; i < OPERATORS; i++) {
		struct certificate_identity identity;
		assert_int_equal(certificate_identity_read(operators[i].certificate, &identity), 0);
		fprintf(file,
			"%s{\"name\": \"%s\", \"section\": \"certificates\", \"created_at\": \"2026-01-01T00:00:00Z\", "
			"\"data\": [{\"fingerprint\": \"%s\", \"key_usage\": \"encryption\"}]}",
			i ? ", " : "", names[i], identity.fingerprint);
		certificate_identity_clear(&identity);
	}
	fputs("]}", file);
	fclose(file);
}

static void look_for_end(evutil_socket_t fd, short events, void *context)
{
	struct stage *stage = context;

	(void)fd, (void)events;
	if (atomic_load(&stage->is_over))
		event_base_loopbreak(stage->base);
}

static void *run_main(void *context)
{
	struct stage *stage = context;

	event_base_dispatch(stage->base);
	return NULL;
}

static void stage_stop(struct stage *stage)
{
	if (atomic_exchange(&stage->is_over, true))
		return;
	pthread_join(stage->main, NULL);
	operators_stop(stage->operators);
	endpoint_stop(stage->endpoint);
}

static int setup(void **state)
{
	struct broker_limits limits = {TICKET_MS, TICKET_MS, 100000, 100000, 0};
	struct stage *stage = calloc(1, sizeof *stage);
	struct relay *relay = &stage->relay;
	struct test_identity root = test_identity_make("root", NULL, NULL, NULL), operators[OPERATORS];

	log_configure(LOG_LEVEL_PANIC, LOG_FORMAT_TEXT, "TST");
	signal(SIGPIPE, SIG_IGN); /* as the daemons do */
	pthread_mutex_init(&relay->lock, NULL);
	pthread_cond_init(&relay->joined, NULL);
	relay->pairs = calloc(PAIRS_MAX, sizeof *relay->pairs);
	for (unsigned i = 0; i < OPERATORS; i++) {
		operators[i] = test_identity_make(names[i], &root, "DNS:unused", NULL);
		stage->clients[i] = context_of(TLS_client_method(), &operators[i], &root);
	}
	write_directory(stage, operators);
	stage->server = context_of(TLS_server_method(), &operators[0], &root);
	SSL_CTX_set_verify(stage->server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	outer_context_prepare(stage->server);
	assert_int_equal(relay_tls_context_prepare(stage->server), 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		assert_int_equal(loop_create(&relay->loops[i]), 0);
		assert_int_equal(pthread_create(&relay->threads[i], NULL, run_loop, relay->loops[i]), 0);
	}
	assert_int_equal(broker_create(&limits, &stage->broker), 0);
	assert_int_equal(refusals_create(&stage->refusals), 0);
	stage->base = event_base_new();
	static struct directory_settings directory = {.type = DIRECTORY_JSON};
	directory.path = stage->folder;
	struct operators_options who = {.base = stage->base, .own_name = "p", .directory = &directory};
	assert_int_equal(operators_create(&who, &stage->operators), 0);
	stage->end = event_new(stage->base, -1, EV_PERSIST, look_for_end, stage);
	event_add(stage->end, &(struct timeval){.tv_usec = 10000});
	assert_int_equal(pthread_create(&stage->main, NULL, run_main, stage), 0);
	struct endpoint_options options = {.relay = relay, .broker = stage->broker, .refusals = stage->refusals,
					   .bind_address = "127.0.0.1:0", .token_timeout_ms = 2000,
					   .tls_bind_address = "127.0.0.1:0", .tls = stage->server,
					   .operators = stage->operators};
	assert_int_equal(endpoint_start(&options, &stage->endpoint), 0);
	stage->port = (uint16_t)atoi(strrchr(endpoint_tls_address(stage->endpoint), ':') + 1);
	for (unsigned i = 0; i < OPERATORS; i++)
		identity_free(&operators[i]);
	identity_free(&root);
	*state = stage;
	return 0;
}

static void party_free(const struct relay_party *party)
{
	SSL_free(party->tls);
	ktls_secrets_free(party->secrets);
	close(party->fd);
}

static int teardown(void **state)
{
	struct stage *stage = *state;
	char path[96];

	stage_stop(stage);
	for (unsigned i = 0; i < WORKERS; i++) {
		loop_stop(stage->relay.loops[i]);
		pthread_join(stage->relay.threads[i], NULL);
		loop_receive(stage->relay.loops[i]);
		loop_free(stage->relay.loops[i]);
	}
	endpoint_free(stage->endpoint);
	operators_free(stage->operators);
	event_free(stage->end);
	event_base_free(stage->base);
	broker_free(stage->broker);
	refusals_free(stage->refusals);
	while (stage->relay.taken < stage->relay.count) {
		const struct pair *pair = &stage->relay.pairs[stage->relay.taken++];
		party_free(&pair->parties[0]);
		party_free(&pair->parties[1]);
	}
	free(stage->relay.pairs);
	SSL_CTX_free(stage->server);
	for (unsigned i = 0; i < OPERATORS; i++)
		SSL_CTX_free(stage->clients[i]);
	snprintf(path, sizeof path, "%s/records.json", stage->folder);
	unlink(path);
	rmdir(stage->folder);
	free(stage);
	return 0;
}

static struct token issue(struct stage *stage)
{
	struct ticket_request request = {"hd-1", "hd-2"};
	struct token token;
	struct token_key key;
	uint64_t id;

	assert_int_equal(broker_issue(stage->broker, &request, clock_now_ms(), &token, &key, &id), 0);
	assert_int_equal(broker_agree(stage->broker, &key, clock_now_ms()), 0);
	return token;
}

/* ---- a party that blocks ---- */

struct party {
	struct outer session;
	int fd;
};

static bool party_dial(struct party *party, const struct stage *stage, unsigned operator_index)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(stage->port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	party->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return connect(party->fd, (struct sockaddr *)&address, sizeof address) == 0 &&
	       outer_start(&party->session, stage->clients[operator_index], party->fd, false) == 0;
}

static bool party_say_hello(struct party *party, const struct token *token, bool payload_encrypted)
{
	struct relay_hello hello = {.version = 1, .payload_encrypted = payload_encrypted};
	uint8_t frame[RELAY_FRAME_MAX];

	memcpy(hello.token, token->bytes, TOKEN_SIZE);
	outer_put(&party->session, frame, relay_hello_pack(&hello, frame));
	return outer_write(&party->session) == OUTER_DONE;
}

static bool party_is_joined(struct party *party, struct relay_answer *answer)
{
	return outer_read(&party->session) == OUTER_DONE &&
	       relay_answer_parse(party->session.message, party->session.message_size, answer) == 0 && answer->joined;
}

static void party_close(struct party *party)
{
	struct linger reset = {1, 0}; /* no pile of TIME_WAIT sockets */

	outer_clear(&party->session);
	setsockopt(party->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	close(party->fd);
}

/* ---- tests ---- */

static void the_relay_gets_plain_sockets_and_exact_counts(void **state)
{
	struct stage *stage = *state;

	for (unsigned round = 0; round < 20; round++) {
		struct token token = issue(stage);
		struct party parties[2] = {0};
		struct relay_answer answer;
		char bytes[16];
		for (unsigned i = 0; i < 2; i++) {
			assert_true(party_dial(&parties[i], stage, i ^ (round & 1)));
			assert_int_equal(outer_handshake(&parties[i].session), OUTER_DONE);
			assert_true(party_say_hello(&parties[i], &token, true));
		}
		for (unsigned i = 0; i < 2; i++) {
			assert_true(party_is_joined(&parties[i], &answer) && answer.handed_off);
			assert_int_equal(outer_close_sending(&parties[i].session), OUTER_DONE);
			assert_int_equal(send(parties[i].fd, "\x16\x03 plain", 8, 0), 8);
			assert_int_equal(outer_close_receiving(&parties[i].session), OUTER_DONE);
		}
		struct pair pair = take_pair(&stage->relay);
		uint64_t written = outer_bytes_written(&parties[0].session) + outer_bytes_written(&parties[1].session);
		uint64_t read = outer_bytes_read(&parties[0].session) + outer_bytes_read(&parties[1].session);
		assert_int_equal(pair.parties[0].bytes_read + pair.parties[1].bytes_read, written);
		assert_int_equal(pair.parties[0].bytes_written + pair.parties[1].bytes_written, read);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(pair.parties[i].transport, TRANSPORT_HANDED_OFF);
			assert_null(pair.parties[i].tls);
			struct pollfd readable = {.fd = pair.parties[i].fd, .events = POLLIN};
			assert_int_equal(poll(&readable, 1, WAIT_MS), 1); /* it may be still on its way */
			assert_int_equal(recv(pair.parties[i].fd, bytes, sizeof bytes, 0), 8);
			assert_memory_equal(bytes, "\x16\x03 plain", 8);
		}
		assert_string_not_equal(pair.parties[0].operator_name, pair.parties[1].operator_name);
		pair_close(&pair);
		party_close(&parties[0]);
		party_close(&parties[1]);
	}
}

static void a_session_that_stays_is_given_to_the_relay(void **state)
{
	struct stage *stage = *state;
	struct token token = issue(stage);
	struct party parties[2] = {0};
	struct relay_answer answer;

	for (unsigned i = 0; i < 2; i++) {
		assert_true(party_dial(&parties[i], stage, i));
		assert_int_equal(outer_handshake(&parties[i].session), OUTER_DONE);
		assert_true(party_say_hello(&parties[i], &token, false));
	}
	for (unsigned i = 0; i < 2; i++)
		assert_true(party_is_joined(&parties[i], &answer) && !answer.handed_off);
	struct pair pair = take_pair(&stage->relay);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pair.parties[i].transport, TRANSPORT_TLS);
		assert_non_null(pair.parties[i].tls);
		assert_non_null(pair.parties[i].secrets);
		assert_int_equal(SSL_get_fd(pair.parties[i].tls), pair.parties[i].fd);
		party_free(&pair.parties[i]);
		party_close(&parties[i]);
	}
}

/* ---- races ----
 * Two threads, one an operator each, show every token at about the same time; each
 * of them gives up at some point of most of its attempts. */

struct race {
	struct stage *stage;
	const struct token *tokens;
	unsigned index, joined;
	atomic_uint *published; /* tokens that are there */
	atomic_uint done;
};

static void race_once(struct race *race, unsigned i)
{
	struct party party = {0};
	struct relay_answer answer;
	unsigned fate = (i * 7 + race->index * 3) % 11; /* where it gives up; most not at all */

	if (party_dial(&party, race->stage, race->index) && fate != 0 &&
	    outer_handshake(&party.session) == OUTER_DONE && fate != 1 &&
	    party_say_hello(&party, &race->tokens[i], i % 4 != 3) && fate != 2) {
		if (fate == 3)
			party_say_hello(&party, &race->tokens[i], true); /* twice */
		if (party_is_joined(&party, &answer) && fate != 4) {
			race->joined++;
			if (answer.handed_off && outer_close_sending(&party.session) == OUTER_DONE && fate != 5)
				outer_close_receiving(&party.session);
		}
	}
	party_close(&party);
}

static void *race_run(void *context)
{
	struct race *race = context;

	for (unsigned i = 0; i < TICKETS; i++) {
		while (atomic_load(race->published) <= i)
			sched_yield();
		race_once(race, i);
		atomic_store(&race->done, i + 1);
	}
	return NULL;
}

static void release_one(const struct ticket_ending *ending, void *context)
{
	struct stage *stage = context;

	if (ending->party)
		endpoint_release(stage->endpoint, ending->party, ending->outcome);
}

static void parties_race_and_give_up_anywhere(void **state)
{
	struct stage *stage = *state;
	struct token tokens[TICKETS];
	struct race races[THREADS];
	pthread_t threads[THREADS];
	struct endpoint_totals totals;
	struct broker_totals tickets;
	atomic_uint published = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		races[i] = (struct race){.stage = stage, .tokens = tokens, .index = i, .published = &published};
		assert_int_equal(pthread_create(&threads[i], NULL, race_run, &races[i]), 0);
	}
	uint64_t deadline = clock_now_ms() + 120000;
	for (unsigned i = 0; atomic_load(&races[0].done) < TICKETS || atomic_load(&races[1].done) < TICKETS;) {
		if (i < TICKETS && atomic_load(&races[0].done) + 1 >= i && atomic_load(&races[1].done) + 1 >= i) {
			tokens[i++] = issue(stage);
			atomic_store(&published, i);
		}
		/* One whose partner gave up would wait for the ticket's whole time. */
		broker_expire(stage->broker, clock_now_ms() + TICKET_MS - PATIENCE_MS, release_one, stage);
		poll(NULL, 0, 1);
		assert_true(clock_now_ms() < deadline);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	broker_expire(stage->broker, clock_now_ms() + 100000, release_one, stage);
	do {
		poll(NULL, 0, 1);
		endpoint_totals(stage->endpoint, &totals);
	} while ((totals.waiting || totals.reading || totals.settling) && clock_now_ms() < deadline);
	assert_int_equal(totals.waiting + totals.reading + totals.settling, 0);
	broker_totals(stage->broker, &tickets);
	assert_int_equal(tickets.open, 0);
	assert_true(stage->relay.count > 0);
	assert_true(stage->relay.count <= tickets.matched);
	print_message("matched %u, joined %u, impatient %u, lonely %u\n", (unsigned)tickets.matched, stage->relay.count,
		      (unsigned)tickets.ended[OUTCOME_IMPATIENT], (unsigned)tickets.ended[OUTCOME_LONELY]);
}

/* The ClientHello and the end come in one segment; the answer is an end without a byte. */
static void one_that_has_closed_costs_no_handshake(void **state)
{
	struct stage *stage = *state;
	struct party party = {0};
	char byte;

	assert_true(party_dial(&party, stage, 0));
	assert_int_equal(setsockopt(party.fd, IPPROTO_TCP, TCP_CORK, &(int){1}, sizeof(int)), 0);
	assert_int_equal(fcntl(party.fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(outer_handshake(&party.session), OUTER_WANTS_READ);
	assert_int_equal(shutdown(party.fd, SHUT_WR), 0);
	struct pollfd readable = {.fd = party.fd, .events = POLLIN};
	assert_int_equal(poll(&readable, 1, WAIT_MS), 1);
	assert_int_equal(recv(party.fd, &byte, 1, 0), 0);
	assert_int_equal(refusals_count(stage->refusals, OUTCOME_TLS_FAILED), 1);
	party_close(&party);
}

static void stopping_lets_everybody_go(void **state)
{
	struct stage *stage = *state;
	struct token token = issue(stage);
	struct party waits = {0}, shakes = {0}, silent = {0};
	struct endpoint_totals totals;
	struct relay_answer answer;

	assert_true(party_dial(&silent, stage, 0));
	assert_true(party_dial(&shakes, stage, 0));
	assert_int_equal(outer_handshake(&shakes.session), OUTER_DONE);
	assert_true(party_dial(&waits, stage, 1));
	assert_int_equal(outer_handshake(&waits.session), OUTER_DONE);
	assert_true(party_say_hello(&waits, &token, true));
	do {
		endpoint_totals(stage->endpoint, &totals);
		poll(NULL, 0, 1);
	} while (totals.waiting < 1);
	stage_stop(stage);
	assert_false(party_is_joined(&waits, &answer));
	assert_string_equal(answer.outcome, "shutdown");
	assert_false(party_is_joined(&shakes, &answer));
	assert_string_equal(answer.outcome, "shutdown");
	assert_int_equal(outer_handshake(&silent.session), OUTER_FAILED);
	party_close(&waits);
	party_close(&shakes);
	party_close(&silent);
}

int main(void)
{
#define WITH_STAGE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_STAGE(the_relay_gets_plain_sockets_and_exact_counts),
		WITH_STAGE(a_session_that_stays_is_given_to_the_relay),
		WITH_STAGE(parties_race_and_give_up_anywhere),
		WITH_STAGE(one_that_has_closed_costs_no_handshake),
		WITH_STAGE(stopping_lets_everybody_go),
	};
	return cmocka_run_group_tests_name("TLS endpoint", tests, NULL, NULL);
}
