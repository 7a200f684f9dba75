// SPDX-License-Identifier: Apache-2.0
/* Single TLS records: what a control record says that the kernel has opened; and
 * sealing and opening in userspace, the counterpart that the probe and the tests hold
 * against the kernel's, never used for a pair's bytes. Pure, any thread. */
#include "relay/ktls_keys.h"

#include <openssl/crypto.h>
#include <openssl/ssl3.h>
#include <string.h>

#define HEADER_SIZE 5
#define TAG_SIZE 16
#define EXPLICIT_NONCE_SIZE 8
#define RECORD_VERSION_MINOR 3

static bool has_explicit_nonce(const struct ktls_key *key)
{
	return key->version == KTLS_TLS_1_2 && key->cipher != KTLS_CHACHA20_POLY1305;
}

static const EVP_CIPHER *algorithm(const struct ktls_key *key)
{
	switch (key->cipher) {
	case KTLS_AES_128_GCM:
		return EVP_aes_128_gcm();
	case KTLS_AES_256_GCM:
		return EVP_aes_256_gcm();
	default:
		return EVP_chacha20_poly1305();
	}
}

static void put_number(uint8_t *bytes, uint64_t number, size_t size)
{
	for (size_t at = 0; at < size; at++)
		bytes[at] = (uint8_t)(number >> 8 * (size - 1 - at));
}

/* `explicit_nonce` NULL: it is the sequence number. */
static void make_nonce(const struct ktls_key *key, const uint8_t *explicit_nonce, uint8_t nonce[KTLS_NONCE_SIZE])
{
	uint8_t sequence[8];

	put_number(sequence, key->sequence, sizeof sequence);
	memcpy(nonce, key->iv, KTLS_NONCE_SIZE);
	if (has_explicit_nonce(key)) {
		memcpy(nonce + 4, explicit_nonce, EXPLICIT_NONCE_SIZE);
		return;
	}
	for (size_t at = 0; at < sizeof sequence; at++)
		nonce[4 + at] ^= sequence[at];
}

/* Additional data: the header itself in TLS 1.3; sequence, type, version and plain size in 1.2. */
static size_t make_additional(const struct ktls_key *key, const uint8_t *header, size_t plain_size, uint8_t data[13])
{
	if (key->version == KTLS_TLS_1_3) {
		memcpy(data, header, HEADER_SIZE);
		return HEADER_SIZE;
	}
	put_number(data, key->sequence, 8);
	memcpy(data + 8, header, 3);
	put_number(data + 11, plain_size, 2);
	return 13;
}

static bool crypt_record(const struct ktls_key *key, bool seals, const uint8_t *nonce, const uint8_t *additional,
			 size_t additional_size, const uint8_t *in, size_t size, uint8_t *out, uint8_t *tag)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int length = 0, rest = 0;
	bool done = context && EVP_CipherInit_ex(context, algorithm(key), NULL, key->key, nonce, seals) > 0 &&
		    (seals || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_SIZE, tag) > 0) &&
		    EVP_CipherUpdate(context, NULL, &length, additional, (int)additional_size) > 0 &&
		    (!size || EVP_CipherUpdate(context, out, &length, in, (int)size) > 0) &&
		    EVP_CipherFinal_ex(context, out + size, &rest) > 0 &&
		    (!seals || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE, tag) > 0);

	EVP_CIPHER_CTX_free(context);
	return done;
}

int ktls_record_seal(struct ktls_key *key, uint8_t type, const void *bytes, size_t size, uint8_t *record)
{
	size_t explicit_size = has_explicit_nonce(key) ? EXPLICIT_NONCE_SIZE : 0;
	size_t plain_size = size + (key->version == KTLS_TLS_1_3);
	uint8_t *body = record + HEADER_SIZE + explicit_size, nonce[KTLS_NONCE_SIZE], additional[13];

	record[0] = key->version == KTLS_TLS_1_3 ? TLS_RECORD_DATA : type;
	record[1] = 3;
	record[2] = RECORD_VERSION_MINOR;
	put_number(record + 3, explicit_size + plain_size + TAG_SIZE, 2);
	put_number(record + HEADER_SIZE, key->sequence, explicit_size);
	memcpy(body, bytes, size);
	if (key->version == KTLS_TLS_1_3)
		body[size] = type;
	make_nonce(key, record + HEADER_SIZE, nonce);
	size_t additional_size = make_additional(key, record, plain_size, additional);
	if (!crypt_record(key, true, nonce, additional, additional_size, body, plain_size, body, body + plain_size))
		return -1;
	key->sequence++;
	return (int)(HEADER_SIZE + explicit_size + plain_size + TAG_SIZE);
}

int ktls_record_open(struct ktls_key *key, const uint8_t *record, size_t size, uint8_t *bytes, uint8_t *type)
{
	size_t explicit_size = has_explicit_nonce(key) ? EXPLICIT_NONCE_SIZE : 0, plain_size;
	uint8_t nonce[KTLS_NONCE_SIZE], additional[13], tag[TAG_SIZE];

	if (size < HEADER_SIZE + explicit_size + TAG_SIZE || size - HEADER_SIZE != (size_t)(record[3] << 8 | record[4]))
		return -1;
	plain_size = size - HEADER_SIZE - explicit_size - TAG_SIZE;
	make_nonce(key, record + HEADER_SIZE, nonce);
	size_t additional_size = make_additional(key, record, plain_size, additional);
	memcpy(tag, record + size - TAG_SIZE, TAG_SIZE);
	if (!crypt_record(key, false, nonce, additional, additional_size, record + HEADER_SIZE + explicit_size, plain_size, bytes, tag))
		return -1;
	key->sequence++;
	*type = record[0];
	if (key->version == KTLS_TLS_1_2)
		return (int)plain_size;
	while (plain_size && !bytes[plain_size - 1])
		plain_size--;
	if (!plain_size)
		return -1;
	*type = bytes[plain_size - 1];
	return (int)(plain_size - 1);
}

/* RFC 8446, 6 and 4.6.3. */
enum ktls_control ktls_control_read(enum ktls_version version, uint8_t type, const uint8_t *bytes, size_t size, uint8_t *detail,
				    const char **fault)
{
	enum { CLOSE_NOTIFY = 0, USER_CANCELED = 90, NO_RENEGOTIATION = 100 };

	*detail = 0;
	*fault = NULL;
	if (type == TLS_RECORD_ALERT && size == 2) {
		*detail = bytes[1];
		return bytes[1] == CLOSE_NOTIFY						       ? KTLS_CONTROL_CLOSE
		       : bytes[1] == USER_CANCELED || bytes[1] == NO_RENEGOTIATION ? KTLS_CONTROL_NOTHING
											       : KTLS_CONTROL_ALERT;
	}
	if (type == TLS_RECORD_HANDSHAKE && version == KTLS_TLS_1_3 && size == 5 && bytes[0] == SSL3_MT_KEY_UPDATE && !bytes[1] &&
	    !bytes[2] && bytes[3] == 1 && bytes[4] <= 1) {
		*detail = bytes[4];
		return KTLS_CONTROL_KEY_UPDATE;
	}
	*fault = type == TLS_RECORD_ALERT     ? "a malformed alert"
		 : type == TLS_RECORD_HANDSHAKE ? "a handshake message"
						: "a record of unknown type";
	return KTLS_CONTROL_WRONG;
}
