// SPDX-License-Identifier: Apache-2.0
/* One OpenSSL session each. Decrypted bytes are staged here by whole records, because
 * the engine takes them in small portions and polls the socket in between. */
#include "secure.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define STAGE_SIZE 16384

enum stage { STAGE_HANDSHAKE, STAGE_HELLO, STAGE_ANSWER, STAGE_OPEN };

struct secure {
	SSL *tls;
	int fd;
	enum stage stage;
	char kind;
	uint8_t hello[33];
	bool has_closed;   /* handed off: our close_notify is written out */
	bool waits_write;
	size_t begun;
	size_t staged, taken;
	uint8_t bytes[STAGE_SIZE];
};

static SSL_CTX *context;

static const struct {
	int version;
	const char *suite;
} varieties[] = {
	{ TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384" },
	{ TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256" },
	{ TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305" },
};

struct secure *secure_start(int fd, char kind, const uint8_t name[32], unsigned variety)
{
	struct secure *secure = calloc(1, sizeof *secure);
	BIO *bio = BIO_new(BIO_s_socket());

	if (!context)
		context = SSL_CTX_new(TLS_client_method());
	if (!secure || !bio || !context || !(secure->tls = SSL_new(context)))
		abort();
	variety %= kind == 'H' ? 3 : sizeof varieties / sizeof *varieties;
	SSL_set_min_proto_version(secure->tls, varieties[variety].version);
	SSL_set_max_proto_version(secure->tls, varieties[variety].version);
	if (!(varieties[variety].version == TLS1_3_VERSION ? SSL_set_ciphersuites(secure->tls, varieties[variety].suite)
							   : SSL_set_cipher_list(secure->tls, varieties[variety].suite)))
		abort();
	SSL_set_mode(secure->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	BIO_set_fd(bio, fd, BIO_NOCLOSE);
	SSL_set_bio(secure->tls, bio, bio);
	SSL_set_connect_state(secure->tls);
	secure->fd = fd;
	secure->kind = kind;
	secure->hello[0] = (uint8_t)kind;
	memcpy(secure->hello + 1, name, 32);
	secure->waits_write = true; /* the connection is not up yet */
	return secure;
}

void secure_free(struct secure *secure)
{
	if (!secure)
		return;
	SSL_free(secure->tls);
	free(secure);
}

/* -1 with errno, or 0 at close_notify. */
static ssize_t explain(struct secure *secure, int result, int saved_errno)
{
	secure->waits_write = false;
	switch (SSL_get_error(secure->tls, result)) {
	case SSL_ERROR_WANT_WRITE:
		secure->waits_write = true;
		/* fall through */
	case SSL_ERROR_WANT_READ:
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		errno = saved_errno ? saved_errno : EPROTO;
		return -1;
	default:
		errno = EPROTO;
		return -1;
	}
}

static ssize_t meaning(struct secure *secure, int result)
{
	int saved_errno = errno;

	return explain(secure, result, saved_errno);
}

static ssize_t try_answer(struct secure *secure)
{
	uint8_t answer;
	int result = SSL_read(secure->tls, &answer, 1);

	if (result <= 0)
		return meaning(secure, result);
	if (answer == secure->hello[0])
		return 1;
	errno = EPROTO;
	return -1;
}

static ssize_t try_hand_off(struct secure *secure)
{
	char byte;
	int result;

	if (!secure->has_closed) {
		result = SSL_shutdown(secure->tls);
		if (result < 0)
			return meaning(secure, result);
		secure->has_closed = true;
	}
	result = SSL_read(secure->tls, &byte, 1);
	if (result > 0 || SSL_has_pending(secure->tls)) {
		errno = EPROTO;
		return -1;
	}
	return meaning(secure, result) == 0 ? 1 : -1;
}

/* One step of what comes before the stream: 1 done, else as the calls. */
static ssize_t advance(struct secure *secure)
{
	int result;

	ERR_clear_error();
	errno = 0;
	switch (secure->stage) {
	case STAGE_HANDSHAKE:
		result = SSL_connect(secure->tls);
		if (result <= 0)
			return meaning(secure, result);
		secure->stage = STAGE_HELLO;
		return 1;
	case STAGE_HELLO:
		result = SSL_write(secure->tls, secure->hello, sizeof secure->hello);
		if (result <= 0)
			return meaning(secure, result);
		secure->stage = STAGE_ANSWER;
		return 1;
	case STAGE_ANSWER:
		if (!secure->has_closed) {
			ssize_t answered = try_answer(secure);
			if (answered <= 0)
				return answered;
		}
		if (secure->kind == 'H') {
			ssize_t done = try_hand_off(secure);
			if (done <= 0)
				return done;
		}
		secure->stage = STAGE_OPEN;
		return 1;
	case STAGE_OPEN:
		break;
	}
	return 1;
}

int secure_step(struct secure *secure)
{
	while (secure->stage != STAGE_OPEN) {
		ssize_t done = advance(secure);

		if (done > 0)
			continue;
		if (done == 0)
			return EPROTO;
		return errno == EAGAIN || errno == ENOTCONN ? 0 : errno;
	}
	secure->waits_write = false;
	return 0;
}

bool secure_wants_read(const struct secure *secure)
{
	return secure->stage != STAGE_OPEN && !secure->waits_write;
}

bool secure_wants_write(const struct secure *secure)
{
	return secure->stage != STAGE_OPEN && secure->waits_write;
}

bool secure_may_send(const struct secure *secure)
{
	return secure->stage == STAGE_OPEN || (secure->stage == STAGE_ANSWER && (secure->kind == 'H' ? secure->has_closed : true));
}

bool secure_may_receive(const struct secure *secure)
{
	return secure->stage == STAGE_OPEN;
}

bool secure_is_open(const struct secure *secure)
{
	return secure->stage == STAGE_OPEN;
}

ssize_t secure_send(struct secure *secure, const void *bytes, size_t size)
{
	int result;

	if (secure->kind == 'H')
		return send(secure->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (secure->begun)
		size = secure->begun;
	ERR_clear_error();
	errno = 0;
	result = SSL_write(secure->tls, bytes, (int)size);
	if (result <= 0) {
		int saved_errno = errno;
		ssize_t done = explain(secure, result, saved_errno);

		if (done == 0) { /* behind the peer's close_notify OpenSSL says only that */
			errno = saved_errno ? saved_errno : EPIPE;
			done = -1;
		}
		secure->begun = errno == EAGAIN ? size : 0;
		return done;
	}
	secure->begun = 0;
	return result;
}

size_t secure_begun(const struct secure *secure)
{
	return secure->begun;
}

ssize_t secure_receive(struct secure *secure, void *bytes, size_t size)
{
	if (secure->kind == 'H')
		return recv(secure->fd, bytes, size, MSG_DONTWAIT);
	if (secure->taken == secure->staged) {
		ERR_clear_error();
		errno = 0;
		int result = SSL_read(secure->tls, secure->bytes, sizeof secure->bytes);
		if (result <= 0)
			return meaning(secure, result);
		secure->staged = (size_t)result;
		secure->taken = 0;
	}
	if (size > secure->staged - secure->taken)
		size = secure->staged - secure->taken;
	memcpy(bytes, secure->bytes + secure->taken, size);
	secure->taken += size;
	return (ssize_t)size;
}

bool secure_has_bytes(const struct secure *secure)
{
	return secure->taken < secure->staged;
}

int secure_close(struct secure *secure)
{
	int result;

	if (secure->kind == 'H')
		return 0;
	ERR_clear_error();
	errno = 0;
	result = SSL_shutdown(secure->tls);
	return result >= 0 ? 0 : (int)meaning(secure, result);
}

bool secure_update_keys(struct secure *secure, bool asks)
{
	return SSL_key_update(secure->tls, asks ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED) == 1;
}
