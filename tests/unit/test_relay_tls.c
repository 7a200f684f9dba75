// SPDX-License-Identifier: Apache-2.0
/* Parties whose TLS stays on at the relay, and handed-off ones: what they may not do
 * and how their pairs end then, in userspace and, where the kernel can, in the kernel
 * (guests run this too). Bytes at speed are the contract's. */
#include "relay_rig.h"
#include "tls_pair.h"

#include "base/log.h"
#include "relay/session.h"
#include "relay/worker.h"

#include <netinet/tcp.h>

static const struct tls_suite *const suites[] = { &tls_suites[0], &tls_suites[3] };

struct party { /* a client with TLS, joined to a plain one */
	struct rig rig;
	SSL *tls;
	int client, plain;
	uint64_t id;
};

static void join_parties(struct rig *rig, const struct relay_party parties[2], uint64_t *id)
{
	struct rig_join_message join = { .rig = rig };

	join.message.receive = rig_receive_join;
	memcpy(join.parties, parties, sizeof join.parties);
	sem_init(&join.done, 0, 0);
	loop_post(relay_worker_loop(rig->relay, 0), &join.message);
	while (sem_wait(&join.done) && errno == EINTR)
		;
	sem_destroy(&join.done);
	assert_int_equal(join.error, 0);
	*id = join.id;
}

/* `early`: written by the client before the join; of it, the endpoint has read `hello` bytes as its own. */
static void open_party(struct party *party, const struct tls_suite *suite, const char *early, int hello)
{
	struct relay_settings settings = rig_settings(PLANE_MASK_ALL);
	struct relay_party parties[2] = { { .transport = TRANSPORT_TLS }, { .transport = TRANSPORT_PLAIN } };
	char bytes[64];

	rig_open_with(&party->rig, &settings, AF_INET);
	rig_connect(&party->rig, &party->client, &parties[0].fd);
	rig_connect(&party->rig, &party->plain, &parties[1].fd);
	tls_pair_open(suite, party->client, parties[0].fd, &party->tls, &parties[0].tls);
	if (early) {
		struct pollfd poll_fd = { .fd = parties[0].fd, .events = POLLIN };

		assert_int_equal(SSL_write(party->tls, early, (int)strlen(early)), strlen(early));
		assert_int_equal(poll(&poll_fd, 1, RIG_DEADLINE_MS), 1);
		assert_int_equal(SSL_read(parties[0].tls, bytes, hello), hello);
	}
	parties[0].secrets = ktls_secrets_take(parties[0].tls);
	assert_non_null(parties[0].secrets);
	join_parties(&party->rig, parties, &party->id);
}

static void close_party(struct party *party)
{
	SSL_free(party->tls);
	close(party->client);
	close(party->plain);
	rig_close(&party->rig);
}

static bool has_ktls(const struct rig *rig)
{
	return relay_probed(rig->relay)->planes[PLANE_KTLS_SPLICE];
}

static void expect_text(int fd, const char *text)
{
	char bytes[64];

	assert_true(rig_receive_all(fd, bytes, strlen(text)));
	assert_memory_equal(bytes, text, strlen(text));
}

static void expect_outcome(struct party *party, enum outcome outcome)
{
	struct pair_report report = rig_wait_end(&party->rig, party->id);

	if (report.outcome != outcome)
		fail_msg("ended %s (%s) and not %s", outcome_word(report.outcome), report.detail, outcome_word(outcome));
}

static void expect_end(struct party *party, enum outcome outcome)
{
	expect_outcome(party, outcome);
	if (outcome != OUTCOME_HAPPY)
		rig_expect_reset(party->plain);
}

static void bytes_behind_the_hello_are_delivered_first(void **state)
{
	char bytes[16];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct party party;

		/* In the same record as the hello: OpenSSL has decrypted them already. */
		open_party(&party, suites[i], "hello and more", 5);
		expect_text(party.plain, " and more");
		assert_true(rig_send_all(party.plain, "back", 4));
		assert_int_equal(SSL_read(party.tls, bytes, sizeof bytes), 4);
		SSL_shutdown(party.tls);
		assert_int_equal(recv(party.plain, bytes, sizeof bytes, 0), 0);
		assert_true(rig_send_all(party.plain, "last", 4));
		shutdown(party.plain, SHUT_WR);
		assert_int_equal(SSL_read(party.tls, bytes, sizeof bytes), 4);
		assert_int_equal(SSL_get_error(party.tls, SSL_read(party.tls, bytes, sizeof bytes)), SSL_ERROR_ZERO_RETURN);
		shutdown(party.client, SHUT_WR);
		expect_end(&party, OUTCOME_HAPPY);
		close_party(&party);
	}
}

static void an_end_without_close_notify_is_an_error(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct party party;

		open_party(&party, suites[i], NULL, 0);
		assert_int_equal(SSL_write(party.tls, "text", 4), 4);
		expect_text(party.plain, "text");
		shutdown(party.client, SHUT_WR);
		expect_end(&party, OUTCOME_TRUNCATED);
		close_party(&party);
	}
}

/* A closed socket answers what the relay still says with a reset: an end without close_notify all the same. */
static void a_close_without_close_notify_is_the_same_error(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct party party;

		open_party(&party, suites[i], NULL, 0);
		assert_int_equal(SSL_write(party.tls, "text", 4), 4);
		expect_text(party.plain, "text");
		close(party.client);
		expect_end(&party, OUTCOME_TRUNCATED);
		party.client = socket(AF_INET, SOCK_STREAM, 0);
		close_party(&party);
	}
}

static void a_record_with_a_wrong_tag_is_an_error(void **state)
{
	static const uint8_t record[] = { 23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct party party;

		open_party(&party, suites[i], NULL, 0);
		assert_true(rig_send_all(party.client, record, sizeof record));
		expect_end(&party, OUTCOME_TLS_BROKEN);
		close_party(&party);
	}
}

static void bytes_behind_close_notify_are_an_error(void **state)
{
	(void)state;
	for (unsigned together = 0; together < 2; together++) {
		struct party party;
		int corked = 1;
		char byte;

		open_party(&party, suites[0], NULL, 0);
		if (together) /* in one segment, so that no event tells of the second part */
			setsockopt(party.client, IPPROTO_TCP, TCP_CORK, &corked, sizeof corked);
		assert_int_equal(SSL_shutdown(party.tls), 0);
		if (!together)
			assert_int_equal(recv(party.plain, &byte, 1, 0), 0);
		assert_true(rig_send_all(party.client, "\x17\x03\x03\x00\x01x", 6));
		corked = 0;
		setsockopt(party.client, IPPROTO_TCP, TCP_CORK, &corked, sizeof corked);
		/* The stream to the plain party had ended before; the client is reset. */
		expect_outcome(&party, OUTCOME_TLS_BROKEN);
		rig_expect_reset(party.client);
		close_party(&party);
	}
}

/* Reads a record off the socket behind OpenSSL's back and gives it to the client's session changed. */
static void spoil_next_record(int fd, SSL *tls, char *bytes, size_t size)
{
	uint8_t record[128];
	ssize_t length = recv(fd, record, sizeof record, 0);
	BIO *changed = BIO_new(BIO_s_mem());

	assert_true(length > 5);
	record[length - 1] ^= 1;
	assert_int_equal(BIO_write(changed, record, (int)length), length);
	SSL_set0_rbio(tls, changed);
	assert_true(SSL_read(tls, bytes, (int)size) < 0);
}

static void a_fatal_alert_of_the_party_has_its_own_outcome(void **state)
{
	char bytes[64];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct party party;

		open_party(&party, suites[i], NULL, 0);
		/* A record that the client cannot open makes it send an alert: the next one of ours is not what it expects. */
		assert_true(rig_send_all(party.plain, "text", 4));
		spoil_next_record(party.client, party.tls, bytes, sizeof bytes);
		expect_end(&party, OUTCOME_TLS_ALERT);
		close_party(&party);
	}
}

static void new_keys_of_the_party_are_followed(void **state)
{
	struct party party;
	char bytes[16];

	(void)state;
	open_party(&party, suites[0], NULL, 0);
	if (has_ktls(&party.rig) && !relay_probed(party.rig.relay)->ktls_rekeys) {
		assert_int_equal(SSL_key_update(party.tls, SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_equal(SSL_write(party.tls, "there", 5), 5);
		expect_end(&party, OUTCOME_KEY_UPDATE);
		return close_party(&party);
	}
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(SSL_key_update(party.tls, SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_equal(SSL_write(party.tls, "there", 5), 5);
		expect_text(party.plain, "there");
		assert_true(rig_send_all(party.plain, "back", 4));
		assert_int_equal(SSL_read(party.tls, bytes, sizeof bytes), 4);
	}
	close_party(&party);
}

static bool is_limit_passed(const struct pair_report *report)
{
	return report->directions[1].packets > 40;
}

static void a_key_is_not_used_for_ever(void **state)
{
	uint64_t before = session_records_most;
	struct party party;
	bool rekeys;

	(void)state;
	session_records_most = 20;
	for (unsigned i = 0; i < 2; i++) {
		open_party(&party, suites[i], NULL, 0);
		if (!has_ktls(&party.rig)) {
			close_party(&party);
			session_records_most = before;
			skip(); /* in userspace OpenSSL looks after it */
		}
		rekeys = i == 0 && relay_probed(party.rig.relay)->ktls_rekeys;
		bool is_over = false;
		for (unsigned sent = 0; sent < 50; sent++) {
			char bytes[16];

			bool is_through = rig_send_all(party.plain, "text", 4) && SSL_read(party.tls, bytes, sizeof bytes) == 4;
			is_over = !is_through && !rekeys;
			if (is_over)
				break; /* the limit was seen already, and maybe the reset */
			assert_true(is_through);
		}
		if (rekeys) {
			/* The limit is looked at once a second; bytes go on under new keys. */
			rig_wait_pair(&party.rig, party.id, is_limit_passed);
			for (unsigned sent = 0; sent < 30; sent++) {
				char bytes[16];

				assert_true(rig_send_all(party.plain, "more", 4));
				assert_int_equal(SSL_read(party.tls, bytes, sizeof bytes), 4);
				poll(NULL, 0, 50);
			}
		} else {
			(is_over ? expect_outcome : expect_end)(&party, OUTCOME_KEY_LIMIT);
		}
		close_party(&party);
	}
	session_records_most = before;
}

static void a_reset_stays_a_reset(void **state)
{
	struct linger at_once = { .l_onoff = 1 };
	struct party party;

	(void)state;
	open_party(&party, suites[0], NULL, 0);
	assert_int_equal(SSL_write(party.tls, "text", 4), 4);
	expect_text(party.plain, "text");
	setsockopt(party.client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	close(party.client);
	expect_end(&party, OUTCOME_RESET_BY_PARTY);
	party.client = socket(AF_INET, SOCK_STREAM, 0);
	close_party(&party);
}

#define LUMP_BYTES 16384

struct reset_message {
	struct loop_message message; /* first */
	struct party *party;
	sem_t done;
};

/* On the worker's thread: it reads what comes after its last look for events. */
static void send_and_reset(struct loop_message *message)
{
	struct reset_message *reset = (struct reset_message *)message;
	struct linger at_once = { .l_onoff = 1 };
	struct party *party = reset->party;
	static const char lump[LUMP_BYTES];

	if (SSL_write(party->tls, lump, sizeof lump) != sizeof lump)
		abort();
	setsockopt(party->client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	close(party->client);
	pair_pump(&party->rig.relay->workers[0].first->sides[0]);
	sem_post(&reset->done);
}

static bool has_moved_one(const struct pair_report *report)
{
	return report->directions[0].bytes == 1 + LUMP_BYTES;
}

static bool has_moved_two(const struct pair_report *report)
{
	return report->directions[0].bytes == 1 + 2 * LUMP_BYTES;
}

/* The read that meets the reset also brings bytes, which the other party does not take: no event tells of
 * the reset again. */
static void a_reset_behind_bytes_is_not_overlooked(void **state)
{
	static const char lump[LUMP_BYTES];
	int least = 1;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct party party;
		struct reset_message reset = { .message.receive = send_and_reset, .party = &party };

		open_party(&party, suites[i], NULL, 0);
		assert_int_equal(SSL_write(party.tls, "x", 1), 1);
		expect_text(party.plain, "x");
		/* The first lump fills the reader's buffer, the second one what is sent to it. */
		setsockopt(party.plain, SOL_SOCKET, SO_RCVBUF, &least, sizeof least);
		setsockopt(party.rig.relay->workers[0].first->sides[1].watch.fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
		assert_int_equal(SSL_write(party.tls, lump, sizeof lump), sizeof lump);
		rig_wait_pair(&party.rig, party.id, has_moved_one);
		assert_int_equal(SSL_write(party.tls, lump, sizeof lump), sizeof lump);
		rig_wait_pair(&party.rig, party.id, has_moved_two);
		sem_init(&reset.done, 0, 0);
		loop_post(relay_worker_loop(party.rig.relay, 0), &reset.message);
		while (sem_wait(&reset.done) && errno == EINTR)
			;
		sem_destroy(&reset.done);
		expect_outcome(&party, OUTCOME_RESET_BY_PARTY);
		party.client = socket(AF_INET, SOCK_STREAM, 0);
		close_party(&party);
	}
}

/* ---- handed off ---- */

static void join_handed_off(struct rig *rig, unsigned planes, struct rig_ends *ends)
{
	struct relay_settings settings = rig_settings(planes);
	struct relay_party parties[2] = { { .transport = TRANSPORT_HANDED_OFF }, { .transport = TRANSPORT_PLAIN } };

	rig_open_with(rig, &settings, AF_INET);
	for (unsigned i = 0; i < 2; i++)
		rig_connect(rig, &ends->client[i], &parties[i].fd);
	join_parties(rig, parties, &ends->id);
}

static const unsigned bare_planes[] = { PLANE_MASK_COPY, PLANE_MASK_SPLICE, PLANE_MASK_ALL };

static bool is_in_map(const struct pair_report *report)
{
	return report->plane == PLANE_SOCKMAP && report->directions[1].gate == GATE_STATE_OPEN;
}

static bool is_all_open(const struct pair_report *report)
{
	return rig_is_open(report);
}

static void handed_off_parties_must_speak_tls(void **state)
{
	static const char *const wrong[] = { "plain text", "\x16", "\x15\x02", "\x17\x03\x03" };

	(void)state;
	for (unsigned plane = 0; plane < 3; plane++)
		for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
			struct rig_ends ends;
			struct rig rig;

			join_handed_off(&rig, bare_planes[plane], &ends);
			if (i == 1) { /* the second byte comes later */
				assert_true(rig_send_all(ends.client[0], "\x16", 1));
				expect_text(ends.client[1], "\x16");
				assert_true(rig_send_all(ends.client[0], "\x01", 1));
			} else {
				assert_true(rig_send_all(ends.client[0], wrong[i], strlen(wrong[i])));
			}
			assert_int_equal(rig_wait_end(&rig, ends.id).outcome, OUTCOME_NOT_ENCRYPTED);
			rig_expect_reset(ends.client[0]);
			rig_expect_reset(ends.client[1]);
			rig_close_ends(&ends);
			rig_close(&rig);
		}
}

static void a_gate_waits_for_the_first_bytes_of_a_handed_off_party(void **state)
{
	struct pair_report report;
	struct rig_ends ends;
	struct rig rig;

	(void)state;
	join_handed_off(&rig, PLANE_MASK_ALL, &ends);
	rig_need_sockmap(&rig);
	report = rig_wait_pair(&rig, ends.id, is_in_map);
	assert_int_equal(report.directions[0].gate, GATE_STATE_CLOSED);
	assert_true(rig_send_all(ends.client[0], "\x16", 1));
	expect_text(ends.client[1], "\x16");
	assert_int_equal(relay_find_pair(rig.relay, ends.id, &report), 0);
	assert_int_equal(report.directions[0].gate, GATE_STATE_CLOSED);
	assert_true(rig_send_all(ends.client[0], "\x03", 1));
	expect_text(ends.client[1], "\x03");
	rig_wait_pair(&rig, ends.id, is_all_open);
	assert_true(rig_send_all(ends.client[0], "whatever", 8));
	expect_text(ends.client[1], "whatever");
	assert_int_equal(relay_find_pair(rig.relay, ends.id, &report), 0);
	assert_int_equal(report.directions[0].redirected_bytes, 8);
	rig_close_ends(&ends);
	assert_int_equal(rig_wait_end(&rig, ends.id).outcome, OUTCOME_HAPPY);
	rig_close(&rig);
}

static void a_handed_off_party_may_begin_with_an_alert_or_say_nothing(void **state)
{
	(void)state;
	for (unsigned plane = 0; plane < 3; plane++)
		for (unsigned speaks = 0; speaks < 2; speaks++) {
			struct rig_ends ends;
			struct rig rig;

			join_handed_off(&rig, bare_planes[plane], &ends);
			if (speaks) {
				assert_true(rig_send_all(ends.client[0], "\x15\x03\x03", 3));
				expect_text(ends.client[1], "\x15\x03\x03");
			}
			shutdown(ends.client[0], SHUT_WR);
			shutdown(ends.client[1], SHUT_WR);
			assert_int_equal(rig_wait_end(&rig, ends.id).outcome, OUTCOME_HAPPY);
			rig_close_ends(&ends);
			rig_close(&rig);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_behind_the_hello_are_delivered_first),
		cmocka_unit_test(an_end_without_close_notify_is_an_error),
		cmocka_unit_test(a_close_without_close_notify_is_the_same_error),
		cmocka_unit_test(a_record_with_a_wrong_tag_is_an_error),
		cmocka_unit_test(bytes_behind_close_notify_are_an_error),
		cmocka_unit_test(a_fatal_alert_of_the_party_has_its_own_outcome),
		cmocka_unit_test(new_keys_of_the_party_are_followed),
		cmocka_unit_test(a_key_is_not_used_for_ever),
		cmocka_unit_test(a_reset_stays_a_reset),
		cmocka_unit_test(a_reset_behind_bytes_is_not_overlooked),
		cmocka_unit_test(handed_off_parties_must_speak_tls),
		cmocka_unit_test(a_gate_waits_for_the_first_bytes_of_a_handed_off_party),
		cmocka_unit_test(a_handed_off_party_may_begin_with_an_alert_or_say_nothing),
	};

	log_configure(LOG_LEVEL_WARNING, LOG_FORMAT_TEXT, "PRO");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
