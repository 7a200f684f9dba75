// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Internal to relay/: from the secrets of a session to the keys of its records. Pure
 * functions on buffers; the caller wipes what it gets. */
#include "relay/ktls.h"

#include <openssl/evp.h>
#include <stddef.h>

#define KTLS_SECRET_MOST 48 /* SHA-384 */
#define KTLS_KEY_MOST 32
#define KTLS_NONCE_SIZE 12
#define KTLS_RANDOM_SIZE 32

/* What protects the records of one direction. */
struct ktls_key {
	enum ktls_version version;
	enum ktls_cipher cipher;
	uint8_t key[KTLS_KEY_MOST];
	/* TLS 1.3, and CHACHA20 in 1.2: the whole nonce, to which the sequence number is added. AES-GCM in 1.2:
	 * the first four bytes; the rest stands in each record. */
	uint8_t iv[KTLS_NONCE_SIZE];
	uint64_t sequence; /* of the next record */
};

/* What protects the direction's next record (ktls.c). 0 or -EPROTO. */
int ktls_present_key(const struct ktls_secrets *secrets, enum ktls_direction direction, struct ktls_key *key);
/* Gives a key to a socket (ktls.c). 0 or a negative errno. */
int ktls_give_key(int fd, const struct ktls_key *key, enum ktls_direction direction);

size_t ktls_key_size(enum ktls_cipher cipher);

/* RFC 8446, 7.1. 0 or -EPROTO. */
int ktls_expand_label(const EVP_MD *digest, const uint8_t *secret, const char *label, uint8_t *out, size_t size);
/* RFC 8446, 7.3: fills `key` and `iv` for a traffic secret of the digest's size. */
int ktls_key_from_secret(const EVP_MD *digest, const uint8_t *secret, struct ktls_key *key);
/* RFC 8446, 7.2: replaces the secret by the one after a KeyUpdate. */
int ktls_secret_advance(const EVP_MD *digest, uint8_t *secret);

/* RFC 5246, 6.3: keys of both writers from the 48 bytes of the master secret. */
int ktls_keys_from_master(const EVP_MD *digest, const uint8_t master[48], const uint8_t client_random[KTLS_RANDOM_SIZE],
			  const uint8_t server_random[KTLS_RANDOM_SIZE], struct ktls_key *client, struct ktls_key *server);

/* ---- control records: what the kernel gives up unread, from anybody ---- */

enum ktls_control {
	KTLS_CONTROL_NOTHING,    /* goes on as if it had not come */
	KTLS_CONTROL_CLOSE,      /* close_notify */
	KTLS_CONTROL_ALERT,      /* any other alert ends the session; `detail` is its number */
	KTLS_CONTROL_KEY_UPDATE, /* the sender's next record has its next key; `detail` 1: it asks for ours too */
	KTLS_CONTROL_WRONG,      /* `fault` says how */
};

/* What a record of another type than data says. `fault` is static text. Pure. */
enum ktls_control ktls_control_read(enum ktls_version version, uint8_t type, const uint8_t *bytes, size_t size, uint8_t *detail,
				    const char **fault);

/* ---- single records, in userspace: for the probe and for tests ---- */

#define KTLS_RECORD_OVERHEAD_MOST 64

/* Protects `size` bytes as one record of `type`; returns the record's size or -1. `record` has room for
 * size + KTLS_RECORD_OVERHEAD_MOST. */
int ktls_record_seal(struct ktls_key *key, uint8_t type, const void *bytes, size_t size, uint8_t *record);
/* Opens one whole record; returns the number of payload bytes and sets `type`, or -1. `bytes` has room for `size`. */
int ktls_record_open(struct ktls_key *key, const uint8_t *record, size_t size, uint8_t *bytes, uint8_t *type);
