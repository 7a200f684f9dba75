// SPDX-License-Identifier: Apache-2.0
/* How a TLS session gets from OpenSSL into the kernel.
 *
 * The handshake stays in userspace. OpenSSL tells the traffic secrets of TLS 1.3 to
 * a keylog callback, and the master secret of TLS 1.2 when it is asked; key and iv
 * of each direction are derived from them (ktls_keys.c). The kernel also has to
 * know the sequence number of the next record, and OpenSSL does not say it. So a
 * message callback counts record headers, from the moment that a direction's key
 * is in use: in TLS 1.3 the callback for the direction's secret, in TLS 1.2 the
 * ChangeCipherSpec record, which is itself not protected. A KeyUpdate moves the
 * secret on and starts the count again.
 *
 * This state hangs on the SSL object; ktls_secrets_take() hands it out while the
 * callbacks go on with it, so the two know of each other and whichever is freed
 * first lets the other one go. It is used by one thread at a time, that of the
 * session.
 *
 * kTLS cannot be taken off a socket, and never meets a sockmap: the ULP is attached
 * only by session.c to sockets of pairs that stay out of the map. */
#include "relay/ktls_keys.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TLS_RX_EXPECT_NO_PAD
#define TLS_RX_EXPECT_NO_PAD 4
#endif

#define RECORD_BYTES_MOST 16384u

struct ktls_way { /* one direction */
	uint8_t secret[KTLS_SECRET_MOST]; /* TLS 1.3 */
	bool is_known;
	uint64_t records; /* under the present key */
};

struct ktls_secrets {
	SSL *tls; /* NULL: freed */
	bool taken;
	enum ktls_version version;
	enum ktls_cipher cipher;
	const EVP_MD *digest;
	struct ktls_way ways[KTLS_DIRECTION_COUNT];
	struct ktls_key keys[KTLS_DIRECTION_COUNT]; /* TLS 1.2; without sequence numbers */
};

/* ---- the state of a session ---- */

static int state_index = -1;
static pthread_once_t state_once = PTHREAD_ONCE_INIT;

static void free_state(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long argument, void *context)
{
	struct ktls_secrets *state = pointer;

	(void)parent, (void)data, (void)index, (void)argument, (void)context;
	if (!state)
		return;
	state->tls = NULL;
	if (!state->taken)
		ktls_secrets_free(state);
}

static void make_index(void)
{
	state_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_state);
}

/* NULL: no memory; the session cannot go into the kernel then. */
static struct ktls_secrets *state_of(const SSL *tls)
{
	struct ktls_secrets *state = SSL_get_ex_data(tls, state_index);

	if (state)
		return state;
	state = calloc(1, sizeof *state);
	if (!state)
		return NULL;
	state->tls = (SSL *)(uintptr_t)tls;
	if (!SSL_set_ex_data(state->tls, state_index, state)) {
		free(state);
		return NULL;
	}
	return state;
}

void ktls_secrets_free(struct ktls_secrets *secrets)
{
	if (!secrets)
		return;
	if (secrets->tls)
		SSL_set_ex_data(secrets->tls, state_index, NULL);
	OPENSSL_cleanse(secrets, sizeof *secrets);
	free(secrets);
}

enum ktls_version ktls_secrets_version(const struct ktls_secrets *secrets)
{
	return secrets->version;
}

enum ktls_cipher ktls_secrets_cipher(const struct ktls_secrets *secrets)
{
	return secrets->cipher;
}

/* ---- callbacks ---- */

static int read_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_secret(const char *text, uint8_t secret[KTLS_SECRET_MOST])
{
	size_t at = 0;

	while (at < KTLS_SECRET_MOST && read_digit(text[2 * at]) >= 0 && read_digit(text[2 * at + 1]) >= 0) {
		secret[at] = (uint8_t)(read_digit(text[2 * at]) << 4 | read_digit(text[2 * at + 1]));
		at++;
	}
	return at >= 32 && !text[2 * at];
}

/* "LABEL <client random> <secret>", called when OpenSSL begins to use the secret. */
static void on_secret(const SSL *tls, const char *line)
{
	static const struct {
		const char *label;
		enum ktls_direction direction;
	} labels[] = { { "CLIENT_TRAFFIC_SECRET_0 ", KTLS_RECEIVE }, { "SERVER_TRAFFIC_SECRET_0 ", KTLS_SEND } };

	for (unsigned i = 0; i < sizeof labels / sizeof *labels; i++) {
		if (strncmp(line, labels[i].label, strlen(labels[i].label)))
			continue;
		struct ktls_secrets *state = state_of(tls);
		if (!state)
			return;
		state->ways[labels[i].direction].is_known = read_secret(strrchr(line, ' ') + 1, state->ways[labels[i].direction].secret);
		state->ways[labels[i].direction].records = 0;
	}
}

static const EVP_MD *session_digest(const SSL *tls)
{
	const SSL_CIPHER *suite = SSL_get_current_cipher(tls);

	return suite ? SSL_CIPHER_get_handshake_digest(suite) : NULL;
}

static void on_message(int is_sent, int version, int type, const void *bytes, size_t size, SSL *tls, void *context)
{
	const uint8_t *first = bytes;
	struct ktls_secrets *state;

	(void)version, (void)context;
	if (!size || (type != SSL3_RT_HEADER && type != SSL3_RT_HANDSHAKE))
		return;
	state = state_of(tls);
	if (!state)
		return;
	struct ktls_way *way = &state->ways[is_sent ? KTLS_SEND : KTLS_RECEIVE];
	if (type == SSL3_RT_HEADER) {
		if (*first == SSL3_RT_CHANGE_CIPHER_SPEC)
			way->records = 0;
		else
			way->records++;
	} else if (*first == SSL3_MT_KEY_UPDATE && way->is_known) {
		const EVP_MD *digest = session_digest(tls);

		way->is_known = digest && !ktls_secret_advance(digest, way->secret);
		way->records = 0;
	}
}

int relay_tls_context_prepare(SSL_CTX *context)
{
	pthread_once(&state_once, make_index);
	if (state_index < 0 || !SSL_CTX_set_num_tickets(context, 0) || !SSL_CTX_set_max_early_data(context, 0))
		return -ENOMEM;
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
#ifdef SSL_OP_ENABLE_KTLS
	SSL_CTX_clear_options(context, SSL_OP_ENABLE_KTLS);
#endif
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(context, 0);
	SSL_CTX_set_keylog_callback(context, on_secret);
	SSL_CTX_set_msg_callback(context, on_message);
	return 0;
}

/* ---- taking ---- */

static bool find_cipher(const SSL *tls, enum ktls_cipher *cipher)
{
	const SSL_CIPHER *suite = SSL_get_current_cipher(tls);

	switch (suite ? SSL_CIPHER_get_cipher_nid(suite) : NID_undef) {
	case NID_aes_128_gcm:
		*cipher = KTLS_AES_128_GCM;
		return true;
	case NID_aes_256_gcm:
		*cipher = KTLS_AES_256_GCM;
		return true;
	case NID_chacha20_poly1305:
		*cipher = KTLS_CHACHA20_POLY1305;
		return true;
	default:
		return false;
	}
}

static int take_key_block(const SSL *tls, struct ktls_secrets *state)
{
	uint8_t master[48], client_random[KTLS_RANDOM_SIZE], server_random[KTLS_RANDOM_SIZE];
	struct ktls_key *client = &state->keys[KTLS_RECEIVE], *server = &state->keys[KTLS_SEND];
	int error = -EPROTO;

	client->version = server->version = KTLS_TLS_1_2;
	client->cipher = server->cipher = state->cipher;
	if (SSL_SESSION_get_master_key(SSL_get_session(tls), master, sizeof master) == sizeof master &&
	    SSL_get_client_random(tls, client_random, sizeof client_random) == sizeof client_random &&
	    SSL_get_server_random(tls, server_random, sizeof server_random) == sizeof server_random)
		error = ktls_keys_from_master(state->digest, master, client_random, server_random, client, server);
	OPENSSL_cleanse(master, sizeof master);
	return error;
}

struct ktls_secrets *ktls_secrets_take(SSL *tls)
{
	struct ktls_secrets *state = state_index >= 0 ? SSL_get_ex_data(tls, state_index) : NULL;
	int version = SSL_version(tls);

	if (!state || state->taken || !SSL_is_init_finished(tls) || !SSL_is_server(tls) || !find_cipher(tls, &state->cipher))
		return NULL;
	state->digest = session_digest(tls);
	if (!state->digest || (size_t)EVP_MD_get_size(state->digest) > KTLS_SECRET_MOST)
		return NULL;
	if (version == TLS1_3_VERSION) {
		state->version = KTLS_TLS_1_3;
		if (!state->ways[KTLS_SEND].is_known || !state->ways[KTLS_RECEIVE].is_known)
			return NULL;
	} else if (version == TLS1_2_VERSION) {
		state->version = KTLS_TLS_1_2;
		if (take_key_block(tls, state))
			return NULL;
	} else {
		return NULL;
	}
	state->taken = true;
	return state;
}

/* ---- into the kernel ---- */

int ktls_attach(int fd)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") ? -errno : 0;
}

int ktls_present_key(const struct ktls_secrets *secrets, enum ktls_direction direction, struct ktls_key *key)
{
	int error = 0;

	if (secrets->version == KTLS_TLS_1_2) {
		*key = secrets->keys[direction];
	} else {
		*key = (struct ktls_key){ .version = KTLS_TLS_1_3, .cipher = secrets->cipher };
		error = secrets->ways[direction].is_known ? ktls_key_from_secret(secrets->digest, secrets->ways[direction].secret, key)
							  : -EPROTO;
	}
	key->sequence = secrets->ways[direction].records;
	return error;
}

int ktls_give_key(int fd, const struct ktls_key *key, enum ktls_direction direction)
{
	union {
		struct tls_crypto_info info;
		struct tls12_crypto_info_aes_gcm_128 aes_128;
		struct tls12_crypto_info_aes_gcm_256 aes_256;
		struct tls12_crypto_info_chacha20_poly1305 chacha;
	} crypto;
	uint8_t sequence[8];
	socklen_t size;

	memset(&crypto, 0, sizeof crypto);
	crypto.info.version = key->version == KTLS_TLS_1_3 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
	for (unsigned at = 0; at < sizeof sequence; at++)
		sequence[at] = (uint8_t)(key->sequence >> 8 * (7 - at));
	/* The explicit part of AES-GCM's nonce in TLS 1.2 begins at the sequence number, so that it never repeats. */
	const uint8_t *iv = key->version == KTLS_TLS_1_3 ? key->iv + 4 : sequence;
	switch (key->cipher) {
	case KTLS_AES_128_GCM:
		crypto.info.cipher_type = TLS_CIPHER_AES_GCM_128;
		memcpy(crypto.aes_128.key, key->key, sizeof crypto.aes_128.key);
		memcpy(crypto.aes_128.salt, key->iv, sizeof crypto.aes_128.salt);
		memcpy(crypto.aes_128.iv, iv, sizeof crypto.aes_128.iv);
		memcpy(crypto.aes_128.rec_seq, sequence, sizeof sequence);
		size = sizeof crypto.aes_128;
		break;
	case KTLS_AES_256_GCM:
		crypto.info.cipher_type = TLS_CIPHER_AES_GCM_256;
		memcpy(crypto.aes_256.key, key->key, sizeof crypto.aes_256.key);
		memcpy(crypto.aes_256.salt, key->iv, sizeof crypto.aes_256.salt);
		memcpy(crypto.aes_256.iv, iv, sizeof crypto.aes_256.iv);
		memcpy(crypto.aes_256.rec_seq, sequence, sizeof sequence);
		size = sizeof crypto.aes_256;
		break;
	default:
		crypto.info.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
		memcpy(crypto.chacha.key, key->key, sizeof crypto.chacha.key);
		memcpy(crypto.chacha.iv, key->iv, sizeof crypto.chacha.iv);
		memcpy(crypto.chacha.rec_seq, sequence, sizeof sequence);
		size = sizeof crypto.chacha;
		break;
	}
	int error = setsockopt(fd, SOL_TLS, direction == KTLS_SEND ? TLS_TX : TLS_RX, &crypto, size) ? -errno : 0;
	OPENSSL_cleanse(&crypto, sizeof crypto);
	return error;
}

int ktls_arm(int fd, const struct ktls_secrets *secrets, enum ktls_direction direction)
{
	struct ktls_key key;
	int error = ktls_present_key(secrets, direction, &key);

	if (!error)
		error = ktls_give_key(fd, &key, direction);
	OPENSSL_cleanse(&key, sizeof key);
	return error;
}

int ktls_rearm(int fd, struct ktls_secrets *secrets, enum ktls_direction direction)
{
	struct ktls_way *way = &secrets->ways[direction];

	if (secrets->version != KTLS_TLS_1_3)
		return -EPROTO;
	way->records = 0;
	return ktls_secret_advance(secrets->digest, way->secret) ?: ktls_arm(fd, secrets, direction);
}

int ktls_expect_no_padding(int fd)
{
	int on = 1;

	return setsockopt(fd, SOL_TLS, TLS_RX_EXPECT_NO_PAD, &on, sizeof on) ? -errno : 0;
}

/* ---- records ---- */

ssize_t ktls_receive(int fd, void *bytes, size_t size, uint8_t *type)
{
	char control[CMSG_SPACE(sizeof *type)];
	struct iovec part = { bytes, size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	ssize_t done = recvmsg(fd, &message, MSG_DONTWAIT);

	*type = TLS_RECORD_DATA;
	if (done < 0)
		return -1;
	for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header))
		if (header->cmsg_level == SOL_TLS && header->cmsg_type == TLS_GET_RECORD_TYPE)
			*type = *CMSG_DATA(header);
	return done;
}

/* TCP would get each record by itself, pass it through the network's layers and wake the reader for it. So all records
 * but the last are told that more comes. */
ssize_t ktls_send(int fd, const void *bytes, size_t size)
{
	size_t before = size ? (size - 1) / RECORD_BYTES_MOST * RECORD_BYTES_MOST : 0;
	ssize_t first = before ? send(fd, bytes, before, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE) : 0, last = 0;
	int on = 1;

	if (first < 0)
		return first;
	if ((size_t)first == before)
		last = send(fd, (const char *)bytes + before, size - before, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (first == 0 || last > 0)
		return last < 0 ? last : first + last;
	/* The rest was not taken: what TCP holds back for it is let go. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return first;
}

int ktls_send_control(int fd, uint8_t type, const void *bytes, size_t size)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof type)];
	} control;
	struct iovec part = { (void *)(uintptr_t)bytes, size };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes
	};

	memset(&control, 0, sizeof control);
	control.header.cmsg_level = SOL_TLS;
	control.header.cmsg_type = TLS_SET_RECORD_TYPE;
	control.header.cmsg_len = CMSG_LEN(sizeof type);
	*CMSG_DATA(&control.header) = type;
	ssize_t done = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	/* A control record is a few bytes: it goes whole or not at all. */
	return done < 0 ? -errno : (size_t)done == size ? 0 : -EPIPE;
}
