// SPDX-License-Identifier: Apache-2.0
/* Key schedule of TLS 1.3 and key block of TLS 1.2, for the three suites that kernels
 * know. OpenSSL does the hashing; what is ours is which bytes are taken for what.
 * Pure functions: no I/O, no globals, any thread. Intermediate secrets are wiped. */
#include "relay/ktls_keys.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>

#define LABEL_MOST 32
#define IMPLICIT_SALT_SIZE 4 /* of AES-GCM in TLS 1.2 */

size_t ktls_key_size(enum ktls_cipher cipher)
{
	return cipher == KTLS_AES_128_GCM ? 16 : 32;
}

static int derive(const char *algorithm, const OSSL_PARAM *parameters, uint8_t *out, size_t size)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, algorithm, NULL);
	EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	bool done = context && EVP_KDF_derive(context, out, size, parameters) > 0;

	EVP_KDF_CTX_free(context);
	EVP_KDF_free(kdf);
	return done ? 0 : -EPROTO;
}

int ktls_expand_label(const EVP_MD *digest, const uint8_t *secret, const char *label, uint8_t *out, size_t size)
{
	static const char prefix[] = "tls13 ";
	uint8_t info[4 + LABEL_MOST];
	size_t length = strlen(label), at = 0;
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;

	if (length + sizeof prefix - 1 > LABEL_MOST)
		return -EPROTO;
	info[at++] = (uint8_t)(size >> 8);
	info[at++] = (uint8_t)size;
	info[at++] = (uint8_t)(length + sizeof prefix - 1);
	memcpy(info + at, prefix, sizeof prefix - 1);
	at += sizeof prefix - 1;
	memcpy(info + at, label, length);
	at += length;
	info[at++] = 0; /* no context */

	OSSL_PARAM parameters[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)EVP_MD_get0_name(digest), 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret, (size_t)EVP_MD_get_size(digest)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, at),
		OSSL_PARAM_construct_end(),
	};
	return derive("HKDF", parameters, out, size);
}

int ktls_key_from_secret(const EVP_MD *digest, const uint8_t *secret, struct ktls_key *key)
{
	return ktls_expand_label(digest, secret, "key", key->key, ktls_key_size(key->cipher))
		?: ktls_expand_label(digest, secret, "iv", key->iv, sizeof key->iv);
}

int ktls_secret_advance(const EVP_MD *digest, uint8_t *secret)
{
	uint8_t next[KTLS_SECRET_MOST];
	size_t size = (size_t)EVP_MD_get_size(digest);
	int error = ktls_expand_label(digest, secret, "traffic upd", next, size);

	if (!error)
		memcpy(secret, next, size);
	OPENSSL_cleanse(next, sizeof next);
	return error;
}

int ktls_keys_from_master(const EVP_MD *digest, const uint8_t master[48], const uint8_t client_random[KTLS_RANDOM_SIZE],
			  const uint8_t server_random[KTLS_RANDOM_SIZE], struct ktls_key *client, struct ktls_key *server)
{
	static const char label[] = "key expansion";
	uint8_t seed[sizeof label - 1 + 2 * KTLS_RANDOM_SIZE], block[2 * (KTLS_KEY_MOST + KTLS_NONCE_SIZE)];
	size_t key_size = ktls_key_size(client->cipher);
	size_t iv_size = client->cipher == KTLS_CHACHA20_POLY1305 ? KTLS_NONCE_SIZE : IMPLICIT_SALT_SIZE;

	memcpy(seed, label, sizeof label - 1);
	memcpy(seed + sizeof label - 1, server_random, KTLS_RANDOM_SIZE);
	memcpy(seed + sizeof label - 1 + KTLS_RANDOM_SIZE, client_random, KTLS_RANDOM_SIZE);

	OSSL_PARAM parameters[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)EVP_MD_get0_name(digest), 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, (void *)(uintptr_t)master, 48),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof seed),
		OSSL_PARAM_construct_end(),
	};
	int error = derive("TLS1-PRF", parameters, block, 2 * (key_size + iv_size));
	if (!error) {
		memcpy(client->key, block, key_size);
		memcpy(server->key, block + key_size, key_size);
		memcpy(client->iv, block + 2 * key_size, iv_size);
		memcpy(server->iv, block + 2 * key_size + iv_size, iv_size);
	}
	OPENSSL_cleanse(block, sizeof block);
	return error;
}
