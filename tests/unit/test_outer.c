// SPDX-License-Identifier: Apache-2.0
/* The outer session from both ends, over a wire that the test cuts into pieces:
 * the rules of the hand-off (docs/relay-tls.md), one after the other. */
#include "tls/outer.h"

#include "certificates.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef TCP_ULP
#define TCP_ULP 31
#endif

enum { CLIENT, SERVER };
#define STEPS_MAX 200000

struct wire {
	SSL_CTX *contexts[2];
	struct outer ends[2];
	int own[2];   /* descriptors of the sessions */
	int outer[2]; /* the test's ends of them */
	size_t piece; /* bytes that move at a time */
};

static int setup(void **state)
{
	struct wire *wire = calloc(1, sizeof *wire);
	struct test_identity root = test_identity_make("root", NULL, NULL, NULL);
	struct test_identity leaf = test_identity_make("hd-1", &root, "DNS:hd-1", NULL);

	wire->contexts[CLIENT] = SSL_CTX_new(TLS_client_method());
	wire->contexts[SERVER] = SSL_CTX_new(TLS_server_method());
	for (unsigned i = 0; i < 2; i++) {
		SSL_CTX_use_certificate(wire->contexts[i], leaf.certificate);
		SSL_CTX_use_PrivateKey(wire->contexts[i], leaf.key);
		outer_context_prepare(wire->contexts[i]);
	}
	EVP_PKEY_free(root.key);
	X509_free(root.certificate);
	EVP_PKEY_free(leaf.key);
	X509_free(leaf.certificate);
	*state = wire;
	return 0;
}

static void hang_up(struct wire *wire)
{
	for (unsigned i = 0; i < 2; i++) {
		outer_clear(&wire->ends[i]);
		if (wire->own[i] > 0)
			close(wire->own[i]);
		if (wire->outer[i] > 0)
			close(wire->outer[i]);
		wire->own[i] = wire->outer[i] = 0;
	}
}

static int teardown(void **state)
{
	struct wire *wire = *state;

	hang_up(wire);
	SSL_CTX_free(wire->contexts[0]);
	SSL_CTX_free(wire->contexts[1]);
	free(wire);
	return 0;
}

static void dial(struct wire *wire, size_t piece)
{
	hang_up(wire);
	wire->piece = piece;
	for (unsigned i = 0; i < 2; i++) {
		int pair[2];
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
		wire->own[i] = pair[0];
		wire->outer[i] = pair[1];
		assert_int_equal(outer_start(&wire->ends[i], wire->contexts[i], wire->own[i], i == SERVER), 0);
	}
}

/* Moves one piece in each direction. */
static void carry(struct wire *wire)
{
	char bytes[65536];

	for (unsigned i = 0; i < 2; i++) {
		ssize_t got = recv(wire->outer[i], bytes, wire->piece < sizeof bytes ? wire->piece : sizeof bytes, 0);
		if (got > 0)
			assert_int_equal(send(wire->outer[!i], bytes, (size_t)got, 0), got);
	}
}

typedef enum outer_step step_function(struct outer *outer);

static enum outer_step last_step(struct wire *wire, unsigned end, step_function *step)
{
	enum outer_step result;
	unsigned steps = 0;

	while ((result = step(&wire->ends[end])) == OUTER_WANTS_READ || result == OUTER_WANTS_WRITE) {
		carry(wire);
		assert_true(++steps < STEPS_MAX);
	}
	return result;
}

static void do_step(struct wire *wire, unsigned end, step_function *step)
{
	if (last_step(wire, end, step) != OUTER_DONE)
		fail_msg("end %u: %s", end, wire->ends[end].reason);
}

static void finish_handshake(struct wire *wire)
{
	enum outer_step steps[2] = {OUTER_WANTS_READ, OUTER_WANTS_READ};

	for (unsigned i = 0; steps[0] != OUTER_DONE || steps[1] != OUTER_DONE; i++) {
		for (unsigned end = 0; end < 2; end++)
			if (steps[end] != OUTER_DONE)
				steps[end] = outer_handshake(&wire->ends[end]);
		assert_true(steps[0] != OUTER_FAILED && steps[1] != OUTER_FAILED && i < STEPS_MAX);
		carry(wire);
	}
}

static void shake(struct wire *wire, size_t piece)
{
	dial(wire, piece);
	finish_handshake(wire);
}

static void put_hello(struct wire *wire)
{
	struct relay_hello hello = {.version = 1, .payload_encrypted = true};
	uint8_t frame[RELAY_FRAME_MAX];

	memset(hello.token, 7, sizeof hello.token);
	outer_put(&wire->ends[CLIENT], frame, relay_hello_pack(&hello, frame));
}

static void put_answer(struct wire *wire)
{
	struct relay_answer answer = {.version = 1, .joined = true, .handed_off = true};
	uint8_t frame[RELAY_FRAME_MAX];

	outer_put(&wire->ends[SERVER], frame, relay_answer_pack(&answer, frame));
}

/* Up to the client having read the answer; both are about to close. */
static void greet(struct wire *wire, size_t piece)
{
	struct relay_hello hello;
	struct relay_answer answer;

	shake(wire, piece);
	put_hello(wire);
	do_step(wire, CLIENT, outer_write);
	do_step(wire, SERVER, outer_read);
	assert_int_equal(relay_hello_parse(wire->ends[SERVER].message, wire->ends[SERVER].message_size, &hello), 0);
	outer_forget(&wire->ends[SERVER]);
	put_answer(wire);
	do_step(wire, SERVER, outer_write);
	do_step(wire, CLIENT, outer_read);
	assert_int_equal(relay_answer_parse(wire->ends[CLIENT].message, wire->ends[CLIENT].message_size, &answer), 0);
	assert_true(answer.handed_off);
	outer_forget(&wire->ends[CLIENT]);
}

static void assert_reads(struct wire *wire, unsigned end, const char *wanted)
{
	char bytes[256] = "";
	size_t length = 0;

	for (unsigned i = 0; length < strlen(wanted); i++) {
		ssize_t got = recv(wire->own[end], bytes + length, sizeof bytes - 1 - length, 0);
		if (got > 0)
			length += (size_t)got;
		carry(wire);
		assert_true(i < STEPS_MAX);
	}
	assert_string_equal(bytes, wanted);
}

static const size_t pieces[] = {1, 2, 5, 23, 65536};
#define PIECES (sizeof pieces / sizeof *pieces)

/* ---- the hand-off ---- */

static void payload_right_behind_close_notify_stays_in_the_kernel(void **state)
{
	struct wire *wire = *state;

	for (size_t i = 0; i < PIECES; i++) {
		greet(wire, pieces[i]);
		/* Each side closes and sends payload before it has read anything of the other. */
		do_step(wire, SERVER, outer_close_sending);
		assert_int_equal(send(wire->own[SERVER], "from the server", 15, 0), 15);
		do_step(wire, CLIENT, outer_close_sending);
		assert_int_equal(send(wire->own[CLIENT], "\x16\x03 from the client", 18, 0), 18);
		if (pieces[i] == 65536) {
			/* All of it is there in one segment before the reader looks. */
			carry(wire);
		}
		do_step(wire, SERVER, outer_close_receiving);
		do_step(wire, CLIENT, outer_close_receiving);
		assert_reads(wire, SERVER, "\x16\x03 from the client");
		assert_reads(wire, CLIENT, "from the server");
	}
}

static void counts_of_the_socket_are_exact_at_the_switch(void **state)
{
	struct wire *wire = *state;

	greet(wire, 65536);
	do_step(wire, SERVER, outer_close_sending);
	do_step(wire, CLIENT, outer_close_sending);
	assert_int_equal(send(wire->own[CLIENT], "payload", 7, 0), 7);
	do_step(wire, SERVER, outer_close_receiving);
	do_step(wire, CLIENT, outer_close_receiving);
	assert_int_equal(outer_bytes_read(&wire->ends[SERVER]), outer_bytes_written(&wire->ends[CLIENT]));
	assert_int_equal(outer_bytes_read(&wire->ends[CLIENT]), outer_bytes_written(&wire->ends[SERVER]));
}

static void a_close_that_the_socket_does_not_take_is_written_later(void **state)
{
	struct wire *wire = *state;
	char filler[4096] = {0};
	int size = 1;
	size_t filled = 0;
	ssize_t sent;

	greet(wire, 65536);
	setsockopt(wire->own[SERVER], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	while ((sent = send(wire->own[SERVER], filler, sizeof filler, 0)) > 0)
		filled += (size_t)sent;
	assert_int_equal(outer_close_sending(&wire->ends[SERVER]), OUTER_WANTS_WRITE);
	assert_int_equal(outer_close_sending(&wire->ends[SERVER]), OUTER_WANTS_WRITE);
	while (filled > 0) { /* the filler is not for the client */
		ssize_t got = recv(wire->outer[SERVER], filler, filled < sizeof filler ? filled : sizeof filler, 0);
		assert_true(got > 0);
		filled -= (size_t)got;
	}
	assert_int_equal(outer_close_sending(&wire->ends[SERVER]), OUTER_DONE);
	do_step(wire, CLIENT, outer_close_receiving);
}

static void the_end_of_tcp_before_close_notify_is_an_error(void **state)
{
	struct wire *wire = *state;

	greet(wire, 65536);
	do_step(wire, SERVER, outer_close_sending);
	carry(wire);
	shutdown(wire->outer[SERVER], SHUT_WR);
	assert_int_equal(outer_close_receiving(&wire->ends[SERVER]), OUTER_FAILED);
	assert_string_equal(wire->ends[SERVER].reason, "the connection ended without close_notify");
	assert_false(wire->ends[SERVER].has_broken_rules);
}

static void data_instead_of_close_notify_is_an_error(void **state)
{
	struct wire *wire = *state;

	greet(wire, 65536);
	put_hello(wire); /* a second one */
	do_step(wire, CLIENT, outer_write);
	do_step(wire, SERVER, outer_close_sending);
	assert_int_equal(last_step(wire, SERVER, outer_close_receiving), OUTER_FAILED);
	assert_true(wire->ends[SERVER].has_broken_rules);
}

static void a_key_update_before_the_hand_off_is_refused(void **state)
{
	struct wire *wire = *state;
	static const int kinds[] = {SSL_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_REQUESTED};

	for (unsigned i = 0; i < 4; i++) {
		greet(wire, 65536);
		assert_int_equal(SSL_key_update(wire->ends[CLIENT].ssl, kinds[i % 2]), 1);
		assert_int_equal(SSL_do_handshake(wire->ends[CLIENT].ssl), 1);
		if (i < 2) /* before our close_notify, and after it */
			assert_int_equal(last_step(wire, SERVER, outer_watch), OUTER_FAILED);
		else
			do_step(wire, SERVER, outer_close_sending);
		do_step(wire, CLIENT, outer_close_sending);
		if (i >= 2)
			assert_int_equal(last_step(wire, SERVER, outer_close_receiving), OUTER_FAILED);
		if (i < 2)
			assert_true(wire->ends[SERVER].has_broken_rules);
	}
}

/* ---- before it ---- */

static void silence_is_told_from_data_and_from_an_end(void **state)
{
	struct wire *wire = *state;

	greet(wire, 1);
	assert_int_equal(outer_watch(&wire->ends[SERVER]), OUTER_WANTS_READ);
	put_hello(wire);
	do_step(wire, CLIENT, outer_write);
	assert_int_equal(last_step(wire, SERVER, outer_watch), OUTER_FAILED);
	assert_true(wire->ends[SERVER].has_broken_rules);

	greet(wire, 65536);
	do_step(wire, CLIENT, outer_close_sending);
	assert_int_equal(last_step(wire, SERVER, outer_watch), OUTER_ENDED);
}

static void a_message_of_a_wrong_length_is_refused(void **state)
{
	struct wire *wire = *state;
	static const char *const lengths[] = {"\0\0\0\0", "\0\0\x10\x01", "\xff\xff\xff\xff", "GET "};

	for (size_t i = 0; i < 4; i++) {
		shake(wire, 65536);
		outer_put(&wire->ends[CLIENT], (const uint8_t *)lengths[i], 4);
		do_step(wire, CLIENT, outer_write);
		assert_int_equal(last_step(wire, SERVER, outer_read), OUTER_FAILED);
		assert_true(wire->ends[SERVER].has_broken_rules);
	}
}

static void what_stands_behind_the_hello_in_its_record_stays_in_the_session(void **state)
{
	struct wire *wire = *state;
	uint8_t frame[RELAY_FRAME_MAX + 7];
	struct relay_hello hello = {.version = 1};
	char bytes[16];

	shake(wire, 65536);
	size_t size = relay_hello_pack(&hello, frame);
	memcpy(frame + size, "payload", 7);
	outer_put(&wire->ends[CLIENT], frame, size + 7);
	do_step(wire, CLIENT, outer_write);
	do_step(wire, SERVER, outer_read);
	assert_int_equal(SSL_pending(wire->ends[SERVER].ssl), 7);
	SSL *ssl = outer_take(&wire->ends[SERVER]);
	assert_int_equal(SSL_read(ssl, bytes, sizeof bytes), 7);
	assert_memory_equal(bytes, "payload", 7);
	SSL_free(ssl);
}

static unsigned tickets;
static int count_ticket(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl, (void)session;
	tickets++;
	return 0;
}

static void the_server_sends_no_tickets(void **state)
{
	struct wire *wire = *state;

	SSL_CTX_set_session_cache_mode(wire->contexts[CLIENT], SSL_SESS_CACHE_CLIENT);
	SSL_CTX_sess_set_new_cb(wire->contexts[CLIENT], count_ticket);
	greet(wire, 65536);
	do_step(wire, SERVER, outer_close_sending);
	do_step(wire, CLIENT, outer_close_receiving);
	assert_int_equal(tickets, 0);
}

static void no_session_is_resumed(void **state)
{
	struct wire *wire = *state;
	static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};

	for (unsigned i = 0; i < 2; i++) {
		SSL_CTX_set_max_proto_version(wire->contexts[CLIENT], versions[i]);
		greet(wire, 65536); /* whatever the server sends for the next time has come */
		SSL_SESSION *session = SSL_get1_session(wire->ends[CLIENT].ssl);
		for (unsigned end = 0; end < 2; end++) /* an orderly end: otherwise OpenSSL does not offer it again */
			SSL_set_shutdown(wire->ends[end].ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		dial(wire, 65536);
		assert_int_equal(SSL_set_session(wire->ends[CLIENT].ssl, session), 1);
		SSL_SESSION_free(session);
		finish_handshake(wire);
		assert_false(SSL_session_reused(wire->ends[CLIENT].ssl));
		assert_false(SSL_session_reused(wire->ends[SERVER].ssl));
	}
}

static void a_renegotiation_is_refused(void **state)
{
	struct wire *wire = *state;

	SSL_CTX_set_max_proto_version(wire->contexts[CLIENT], TLS1_2_VERSION);
	greet(wire, 65536);
	SSL *client = wire->ends[CLIENT].ssl;
	SSL_clear_options(client, SSL_OP_NO_RENEGOTIATION);
	assert_int_equal(SSL_renegotiate(client), 1);
	SSL_do_handshake(client);
	carry(wire);
	assert_int_equal(outer_watch(&wire->ends[SERVER]), OUTER_WANTS_READ);
	assert_false(SSL_in_init(wire->ends[SERVER].ssl));
	carry(wire);
	assert_true(SSL_do_handshake(client) <= 0);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_NO_RENEGOTIATION);
}

static void tls_1_2_is_recognised(void **state)
{
	struct wire *wire = *state;

	shake(wire, 65536);
	assert_true(outer_is_tls13(&wire->ends[SERVER]));
	SSL_CTX_set_max_proto_version(wire->contexts[CLIENT], TLS1_2_VERSION);
	shake(wire, 1);
	assert_false(outer_is_tls13(&wire->ends[SERVER]));
}

static void plain_bytes_are_no_handshake(void **state)
{
	struct wire *wire = *state;

	dial(wire, 65536);
	assert_int_equal(send(wire->outer[SERVER], "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
	assert_int_equal(outer_handshake(&wire->ends[SERVER]), OUTER_FAILED);
	assert_true(wire->ends[SERVER].reason[0]);
}

/* A socket with the TLS ULP can never enter a sockmap. */
static void the_session_attaches_nothing_to_its_socket(void **state)
{
	struct wire *wire = *state;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char name[16] = "";

	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(listener, 1), 0);
	getsockname(listener, (struct sockaddr *)&address, &size);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(outer_start(&wire->ends[SERVER], wire->contexts[SERVER], fd, true), 0);
	size = sizeof name;
	int error = getsockopt(fd, IPPROTO_TCP, TCP_ULP, name, &size);
	assert_true(error != 0 || size == 0 || name[0] == 0);
	outer_clear(&wire->ends[SERVER]);
	close(fd);
	close(listener);
}

int main(void)
{
#define ON_WIRE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		ON_WIRE(payload_right_behind_close_notify_stays_in_the_kernel),
		ON_WIRE(counts_of_the_socket_are_exact_at_the_switch),
		ON_WIRE(a_close_that_the_socket_does_not_take_is_written_later),
		ON_WIRE(the_end_of_tcp_before_close_notify_is_an_error),
		ON_WIRE(data_instead_of_close_notify_is_an_error),
		ON_WIRE(a_key_update_before_the_hand_off_is_refused),
		ON_WIRE(silence_is_told_from_data_and_from_an_end),
		ON_WIRE(a_message_of_a_wrong_length_is_refused),
		ON_WIRE(what_stands_behind_the_hello_in_its_record_stays_in_the_session),
		ON_WIRE(the_server_sends_no_tickets),
		ON_WIRE(no_session_is_resumed),
		ON_WIRE(a_renegotiation_is_refused),
		ON_WIRE(tls_1_2_is_recognised),
		ON_WIRE(plain_bytes_are_no_handshake),
		ON_WIRE(the_session_attaches_nothing_to_its_socket),
	};
	return cmocka_run_group_tests_name("outer session", tests, NULL, NULL);
}
