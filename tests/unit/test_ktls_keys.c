// SPDX-License-Identifier: Apache-2.0
/* From secrets to records: the published trace of TLS 1.3 (RFC 8448, section 3), and
 * every suite of both versions against sessions of OpenSSL's own, in the middle of
 * their streams. */
#include "relay/ktls_keys.h"

#include "base/encoding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tls_pair.h"

static void read_hex(const char *text, uint8_t *bytes, size_t size)
{
	assert_int_equal(strlen(text), 2 * size);
	assert_int_equal(hex_decode(text, 2 * size, bytes, size), 0);
}

static void keys_and_records_are_those_of_the_published_trace(void **state)
{
	static const struct {
		const char *secret, *key, *iv;
	} trace[] = {
		{ "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5", "17422dda596ed5d9acd890e3c63f5051",
		  "5b78923dee08579033e523d9" },
		{ "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643", "9f02283b6c9c07efc26bb9f2ac92e356",
		  "cf782b88dd83549aadf1e984" },
	};
	static const char record_text[] = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a"
					  "20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
	uint8_t secret[32], wanted[16], record[72], bytes[128], sealed[128], type;
	struct ktls_key key, again;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		key = (struct ktls_key){ .version = KTLS_TLS_1_3, .cipher = KTLS_AES_128_GCM };
		read_hex(trace[i].secret, secret, sizeof secret);
		assert_int_equal(ktls_key_from_secret(EVP_sha256(), secret, &key), 0);
		read_hex(trace[i].key, wanted, 16);
		assert_memory_equal(key.key, wanted, 16);
		read_hex(trace[i].iv, wanted, 12);
		assert_memory_equal(key.iv, wanted, 12);
		if (i)
			continue;
		/* The client's first record: the bytes 0 to 49. */
		read_hex(record_text, record, sizeof record);
		again = key;
		assert_int_equal(ktls_record_open(&key, record, sizeof record, bytes, &type), 50);
		assert_int_equal(type, TLS_RECORD_DATA);
		for (unsigned at = 0; at < 50; at++)
			assert_int_equal(bytes[at], at);
		assert_int_equal(ktls_record_seal(&again, TLS_RECORD_DATA, bytes, 50, sealed), sizeof record);
		assert_memory_equal(sealed, record, sizeof record);
	}
}

static size_t take_record(int fd, uint8_t *record)
{
	size_t got = 0, size = 5;

	while (got < size) {
		ssize_t part = recv(fd, record + got, size - got, 0);

		assert_true(part > 0);
		got += (size_t)part;
		if (got == 5)
			size = 5u + (size_t)(record[3] << 8 | record[4]);
	}
	return got;
}

/* Goes on by hand with both directions of a session, at the record where OpenSSL stopped. */
static void go_on_by_hand(SSL *client, int server_fd, const struct ktls_secrets *secrets)
{
	uint8_t record[512], bytes[512], type;
	struct ktls_key in, out;
	int size;

	assert_int_equal(ktls_present_key(secrets, KTLS_RECEIVE, &in), 0);
	assert_int_equal(ktls_present_key(secrets, KTLS_SEND, &out), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(SSL_write(client, "to the server", 13), 13);
		size = ktls_record_open(&in, record, take_record(server_fd, record), bytes, &type);
		assert_int_equal(size, 13);
		assert_int_equal(type, TLS_RECORD_DATA);
		assert_memory_equal(bytes, "to the server", 13);
		size = ktls_record_seal(&out, TLS_RECORD_DATA, "to the client", 13, record);
		assert_int_equal(send(server_fd, record, (size_t)size, 0), size);
		assert_int_equal(SSL_read(client, bytes, sizeof bytes), 13);
		assert_memory_equal(bytes, "to the client", 13);
	}
	size = ktls_record_seal(&out, TLS_RECORD_ALERT, "\1\0", 2, record);
	assert_int_equal(send(server_fd, record, (size_t)size, 0), size);
	size = SSL_read(client, bytes, sizeof bytes);
	assert_int_equal(SSL_get_error(client, size), SSL_ERROR_ZERO_RETURN);
	/* A record that was changed on the way is not opened. */
	assert_int_equal(SSL_write(client, "x", 1), 1);
	size_t length = take_record(server_fd, record);
	record[length - 1] ^= 1;
	assert_int_equal(ktls_record_open(&in, record, length, bytes, &type), -1);
}

static void sessions_go_on_by_hand_at_the_record_where_openssl_stopped(void **state)
{
	char bytes[64];

	(void)state;
	for (size_t suite = 0; suite < TLS_SUITES; suite++)
		for (unsigned before = 0; before < 3; before++)
			for (unsigned updates = 0; updates < 2; updates++) {
				struct ktls_secrets *secrets;
				SSL *client, *server;
				int fds[2];

				if (updates && tls_suites[suite].version != TLS1_3_VERSION)
					continue;
				assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
				tls_pair_open(&tls_suites[suite], fds[0], fds[1], &client, &server);
				for (unsigned i = 0; i < before; i++) {
					assert_int_equal(SSL_write(client, "hello", 5), 5);
					assert_int_equal(SSL_read(server, bytes, sizeof bytes), 5);
					assert_int_equal(SSL_write(server, "answer", 6), 6);
					assert_int_equal(SSL_read(client, bytes, sizeof bytes), 6);
				}
				secrets = ktls_secrets_take(server);
				assert_non_null(secrets);
				assert_null(ktls_secrets_take(server));
				if (updates) {
					assert_int_equal(SSL_key_update(client, SSL_KEY_UPDATE_REQUESTED), 1);
					assert_int_equal(SSL_write(client, "more", 4), 4);
					assert_int_equal(SSL_read(server, bytes, sizeof bytes), 4);
					assert_int_equal(SSL_write(server, "yes", 3), 3);
					assert_int_equal(SSL_read(client, bytes, sizeof bytes), 3);
				}
				go_on_by_hand(client, fds[1], secrets);
				/* Either may go first. */
				if (before & 1) {
					ktls_secrets_free(secrets);
					SSL_free(server);
				} else {
					SSL_free(server);
					ktls_secrets_free(secrets);
				}
				SSL_free(client);
				close(fds[0]);
				close(fds[1]);
			}
}

static void secrets_that_nobody_takes_go_with_the_session(void **state)
{
	SSL *client, *server;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	tls_pair_open(&tls_suites[0], fds[0], fds[1], &client, &server);
	assert_null(ktls_secrets_take(client)); /* not prepared, not a server */
	SSL_free(server);
	SSL_free(client);
	close(fds[0]);
	close(fds[1]);
}

static void control_records_say_what_they_must(void **state)
{
	static const struct {
		uint8_t type, size, bytes[6];
		enum ktls_control in_1_3, in_1_2;
		uint8_t detail;
	} records[] = {
		{ TLS_RECORD_ALERT, 2, { 1, 0 }, KTLS_CONTROL_CLOSE, KTLS_CONTROL_CLOSE, 0 },
		{ TLS_RECORD_ALERT, 2, { 2, 0 }, KTLS_CONTROL_CLOSE, KTLS_CONTROL_CLOSE, 0 },
		{ TLS_RECORD_ALERT, 2, { 1, 90 }, KTLS_CONTROL_NOTHING, KTLS_CONTROL_NOTHING, 90 },
		{ TLS_RECORD_ALERT, 2, { 1, 100 }, KTLS_CONTROL_NOTHING, KTLS_CONTROL_NOTHING, 100 },
		{ TLS_RECORD_ALERT, 2, { 2, 20 }, KTLS_CONTROL_ALERT, KTLS_CONTROL_ALERT, 20 },
		{ TLS_RECORD_ALERT, 1, { 1 }, KTLS_CONTROL_WRONG, KTLS_CONTROL_WRONG, 0 },
		{ TLS_RECORD_ALERT, 4, { 1, 0, 1, 0 }, KTLS_CONTROL_WRONG, KTLS_CONTROL_WRONG, 0 },
		{ TLS_RECORD_HANDSHAKE, 5, { 24, 0, 0, 1, 0 }, KTLS_CONTROL_KEY_UPDATE, KTLS_CONTROL_WRONG, 0 },
		{ TLS_RECORD_HANDSHAKE, 5, { 24, 0, 0, 1, 1 }, KTLS_CONTROL_KEY_UPDATE, KTLS_CONTROL_WRONG, 1 },
		{ TLS_RECORD_HANDSHAKE, 5, { 24, 0, 0, 1, 2 }, KTLS_CONTROL_WRONG, KTLS_CONTROL_WRONG, 0 },
		{ TLS_RECORD_HANDSHAKE, 5, { 24, 0, 1, 1, 1 }, KTLS_CONTROL_WRONG, KTLS_CONTROL_WRONG, 0 },
		{ TLS_RECORD_HANDSHAKE, 6, { 24, 0, 0, 1, 1, 0 }, KTLS_CONTROL_WRONG, KTLS_CONTROL_WRONG, 0 },
		{ TLS_RECORD_HANDSHAKE, 4, { 0, 0, 0, 0 }, KTLS_CONTROL_WRONG, KTLS_CONTROL_WRONG, 0 },
		{ 20, 1, { 1 }, KTLS_CONTROL_WRONG, KTLS_CONTROL_WRONG, 0 },
		{ TLS_RECORD_DATA, 2, { 1, 0 }, KTLS_CONTROL_WRONG, KTLS_CONTROL_WRONG, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof records / sizeof *records; i++)
		for (enum ktls_version version = 0; version < KTLS_VERSION_COUNT; version++) {
			enum ktls_control wanted = version == KTLS_TLS_1_3 ? records[i].in_1_3 : records[i].in_1_2;
			const char *fault;
			uint8_t detail;
			assert_int_equal(ktls_control_read(version, records[i].type, records[i].bytes, records[i].size, &detail, &fault), wanted);
			assert_int_equal(fault != NULL, wanted == KTLS_CONTROL_WRONG);
			assert_int_equal(detail, wanted == KTLS_CONTROL_WRONG ? 0 : records[i].detail);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(control_records_say_what_they_must),
		cmocka_unit_test(keys_and_records_are_those_of_the_published_trace),
		cmocka_unit_test(sessions_go_on_by_hand_at_the_record_where_openssl_stopped),
		cmocka_unit_test(secrets_that_nobody_takes_go_with_the_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
