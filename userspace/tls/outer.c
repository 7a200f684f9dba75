// SPDX-License-Identifier: Apache-2.0
/* The outer TLS session. What makes the hand-off safe lies in these rules:
 *
 * - OpenSSL reads the socket through BIO_s_socket without read-ahead: a record's
 *   header, then exactly its body. So what stands behind close_notify, even in
 *   the same segment, is still in the kernel when close_notify has been read.
 *   BIO_new_socket() and SSL_set_fd() are not used: they attach the TLS ULP, and
 *   such a socket can never enter a sockmap.
 * - A direction has changed to plain only when close_notify is written out, or
 *   was read with nothing left behind it in OpenSSL. The end of TCP before that
 *   is an error.
 * - A peer that updates its keys before the hand-off is refused: nothing in the
 *   protocol needs it, and a session that is to stay must be at its first keys. */
#include "tls/outer.h"

#include "tls/context.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHAIN_BYTES_MAX (32 * 1024)

static const char rekeyed[] = "the peer changed its keys (KeyUpdate)";
static int outer_index = -1;

__attribute__((constructor)) static void reserve_index(void)
{
	outer_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

void outer_context_prepare(SSL_CTX *context)
{
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_num_tickets(context, 0);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_max_early_data(context, 0);
	SSL_CTX_set_recv_max_early_data(context, 0);
	SSL_CTX_set_read_ahead(context, 0);
	SSL_CTX_set_max_cert_list(context, CHAIN_BYTES_MAX);
}

static void note_state(const SSL *ssl, int where, int value)
{
	struct outer *outer = SSL_get_ex_data(ssl, outer_index);
	OSSL_HANDSHAKE_STATE state = SSL_get_state(ssl);

	(void)where, (void)value;
	if (outer && (state == TLS_ST_SR_KEY_UPDATE || state == TLS_ST_CR_KEY_UPDATE))
		outer->is_rekeyed = true;
}

int outer_start(struct outer *outer, SSL_CTX *context, int fd, bool is_server)
{
	memset(outer, 0, sizeof(*outer));
	SSL *ssl = SSL_new(context);
	BIO *bio = ssl ? BIO_new(BIO_s_socket()) : NULL;

	if (!bio || !SSL_set_ex_data(ssl, outer_index, outer)) {
		BIO_free(bio);
		SSL_free(ssl);
		ERR_clear_error();
		return -ENOMEM;
	}
	BIO_set_fd(bio, fd, BIO_NOCLOSE);
	SSL_set_bio(ssl, bio, bio);
	SSL_set_info_callback(ssl, note_state);
	SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (is_server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	outer->ssl = ssl;
	return 0;
}

void outer_forget(struct outer *outer)
{
	if (outer->message)
		explicit_bzero(outer->message, outer->message_size);
	free(outer->message);
	outer->message = NULL;
	outer->message_size = outer->message_read = outer->length_read = 0;
}

void outer_clear(struct outer *outer)
{
	outer_forget(outer);
	explicit_bzero(outer->out, sizeof(outer->out));
	SSL_free(outer->ssl);
	outer->ssl = NULL;
}

SSL *outer_take(struct outer *outer)
{
	SSL *ssl = outer->ssl;

	SSL_set_ex_data(ssl, outer_index, NULL);
	SSL_set_info_callback(ssl, NULL);
	outer->ssl = NULL;
	outer_clear(outer);
	return ssl;
}

static enum outer_step fail(struct outer *outer, const char *reason)
{
	snprintf(outer->reason, sizeof(outer->reason), "%s", reason);
	ERR_clear_error();
	return OUTER_FAILED;
}

static enum outer_step refuse(struct outer *outer, const char *reason)
{
	outer->has_broken_rules = true;
	return fail(outer, reason);
}

/* What an SSL call that did not succeed waits for. */
static enum outer_step judge(struct outer *outer, int result, int system_error)
{
	int kind = SSL_get_error(outer->ssl, result);

	if (outer->is_rekeyed && outer->is_up)
		return refuse(outer, rekeyed);
	switch (kind) {
	case SSL_ERROR_WANT_READ:
		return OUTER_WANTS_READ;
	case SSL_ERROR_WANT_WRITE:
		return OUTER_WANTS_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return OUTER_ENDED;
	case SSL_ERROR_SYSCALL:
		return fail(outer, system_error ? strerror(system_error) : "the connection ended without close_notify");
	default:
		if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
			return fail(outer, "the connection ended without close_notify");
		return fail(outer, tls_error_text(outer->ssl));
	}
}

enum outer_step outer_handshake(struct outer *outer)
{
	ERR_clear_error();
	errno = 0;
	int result = SSL_do_handshake(outer->ssl), system_error = errno;

	if (result == 1) {
		outer->is_up = true;
		return OUTER_DONE;
	}
	enum outer_step step = judge(outer, result, system_error);
	return step == OUTER_ENDED ? fail(outer, "the peer closed the connection") : step;
}

/* Reads up to `size` bytes; OUTER_DONE: at least one came. */
static enum outer_step read_some(struct outer *outer, void *bytes, size_t size, size_t *got)
{
	ERR_clear_error();
	errno = 0;
	int result = SSL_read_ex(outer->ssl, bytes, size, got), system_error = errno;

	if (result == 1)
		return outer->is_rekeyed ? refuse(outer, rekeyed) : OUTER_DONE;
	return judge(outer, result, system_error);
}

static enum outer_step read_length(struct outer *outer)
{
	while (outer->length_read < sizeof(outer->length)) {
		size_t got;
		enum outer_step step = read_some(outer, outer->length + outer->length_read,
						 sizeof(outer->length) - outer->length_read, &got);
		if (step != OUTER_DONE)
			return step;
		outer->length_read += (unsigned)got;
	}
	int size = relay_length_parse(outer->length);
	if (size < 0) {
		return refuse(outer, "the message's length is not from 1 to 4096");
	}
	outer->message = malloc((size_t)size);
	if (!outer->message)
		return fail(outer, "no memory");
	outer->message_size = (size_t)size;
	return OUTER_DONE;
}

enum outer_step outer_read(struct outer *outer)
{
	if (!outer->message) {
		enum outer_step step = read_length(outer);
		if (step != OUTER_DONE)
			return step;
	}
	while (outer->message_read < outer->message_size) {
		size_t got;
		enum outer_step step = read_some(outer, outer->message + outer->message_read,
						 outer->message_size - outer->message_read, &got);
		if (step != OUTER_DONE)
			return step;
		outer->message_read += got;
	}
	return OUTER_DONE;
}

void outer_put(struct outer *outer, const uint8_t *frame, size_t size)
{
	memcpy(outer->out, frame, size);
	outer->out_size = size;
	outer->out_sent = 0;
}

enum outer_step outer_write(struct outer *outer)
{
	while (outer->out_sent < outer->out_size) {
		size_t sent;

		ERR_clear_error();
		errno = 0;
		int result = SSL_write_ex(outer->ssl, outer->out + outer->out_sent, outer->out_size - outer->out_sent, &sent);
		int system_error = errno;
		if (result != 1) {
			enum outer_step step = judge(outer, result, system_error);
			return step == OUTER_ENDED ? fail(outer, "the peer closed the session") : step;
		}
		outer->out_sent += sent;
	}
	explicit_bzero(outer->out, sizeof(outer->out));
	outer->out_size = outer->out_sent = 0;
	return OUTER_DONE;
}

enum outer_step outer_watch(struct outer *outer)
{
	char byte;
	size_t got;
	enum outer_step step = read_some(outer, &byte, 1, &got);

	return step == OUTER_DONE ? refuse(outer, "data came where nothing may be sent") : step;
}

enum outer_step outer_close_sending(struct outer *outer)
{
	ERR_clear_error();
	errno = 0;
	int result = SSL_shutdown(outer->ssl), system_error = errno;

	/* 0: ours is written out; 1: and the peer's was read before. */
	if (result >= 0)
		return OUTER_DONE;
	enum outer_step step = judge(outer, result, system_error);
	return step == OUTER_ENDED ? OUTER_DONE : step;
}

enum outer_step outer_close_receiving(struct outer *outer)
{
	char byte;
	size_t got;
	enum outer_step step = read_some(outer, &byte, 1, &got);

	if (step == OUTER_DONE)
		return refuse(outer, "data came where close_notify was due");
	if (step != OUTER_ENDED)
		return step;
	if (SSL_has_pending(outer->ssl))
		return fail(outer, "bytes behind close_notify were read already");
	return OUTER_DONE;
}

bool outer_is_tls13(const struct outer *outer)
{
	return SSL_version(outer->ssl) == TLS1_3_VERSION;
}

uint64_t outer_bytes_read(const struct outer *outer)
{
	return BIO_number_read(SSL_get_rbio(outer->ssl));
}

uint64_t outer_bytes_written(const struct outer *outer)
{
	return BIO_number_written(SSL_get_wbio(outer->ssl));
}
