// SPDX-License-Identifier: Apache-2.0
/* Own signing key and certificate, see signature.h. Key files may be of any
 * unencrypted PEM form; nobody is asked for a password. */
#include "directory/signature.h"

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct signing_key {
	struct signer *signer;
	EVP_PKEY *key;
};

static void refuse_file(char *reason, const char *file, const char *why)
{
	snprintf(reason, SIGNATURE_REASON_SIZE, "%s: %s", file, why);
	ERR_clear_error();
}

static bool read_whole_file(const char *file, char **text, size_t *length)
{
	BIO *bio = BIO_new_file(file, "r"), *memory = BIO_new(BIO_s_mem());
	char chunk[4096], *start;
	bool fine = false;
	long size;
	int got;

	if (bio && memory) {
		while ((got = BIO_read(bio, chunk, sizeof(chunk))) > 0)
			if (BIO_write(memory, chunk, got) != got)
				break;
		size = BIO_get_mem_data(memory, &start);
		*text = got <= 0 ? strndup(start, (size_t)size) : NULL;
		*length = *text ? strlen(*text) : 0;
		fine = *text;
	}
	BIO_free(bio);
	BIO_free(memory);
	ERR_clear_error();
	return fine;
}

struct signing_key *signing_key_load(const char *certificate_file, const char *key_file, char reason[SIGNATURE_REASON_SIZE])
{
	struct signing_key *key = calloc(1, sizeof(*key));
	char why[SIGNATURE_REASON_SIZE - 64], *pem = NULL;
	BIO *bio = NULL;
	size_t length;

	if (!key) {
		snprintf(reason, SIGNATURE_REASON_SIZE, "out of memory");
		return NULL;
	}
	if (!read_whole_file(certificate_file, &pem, &length)) {
		refuse_file(reason, certificate_file, "cannot be read");
		goto fail;
	}
	key->signer = signer_parse(pem, length, reason);
	free(pem);
	if (!key->signer) {
		snprintf(why, sizeof(why), "%.*s", (int)sizeof(why) - 1, reason);
		refuse_file(reason, certificate_file, why);
		goto fail;
	}
	bio = BIO_new_file(key_file, "r");
	/* A password that is given, though empty, keeps OpenSSL from asking the terminal. */
	key->key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"") : NULL;
	BIO_free(bio);
	if (!key->key) {
		refuse_file(reason, key_file, bio ? "holds no unencrypted private key" : "cannot be opened");
		goto fail;
	}
	if (X509_check_private_key(signer_certificate(key->signer), key->key) != 1) {
		refuse_file(reason, key_file, "is not the key of the signing certificate");
		goto fail;
	}
	return key;
fail:
	signing_key_free(key);
	return NULL;
}

void signing_key_free(struct signing_key *key)
{
	if (!key)
		return;
	signer_free(key->signer);
	EVP_PKEY_free(key->key);
	free(key);
}

const struct signer *signing_key_signer(const struct signing_key *key) { return key->signer; }

static char *certificate_pem(X509 *certificate)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *start, *text = NULL;
	long size;

	if (bio && PEM_write_bio_X509(bio, certificate)) {
		size = BIO_get_mem_data(bio, &start);
		text = strndup(start, (size_t)size);
	}
	BIO_free(bio);
	return text;
}

json_t *signing_key_sign(const struct signing_key *key, const uint8_t *digest, size_t size)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key->key, NULL);
	unsigned char der[512];
	const unsigned char *at = der;
	size_t der_size = sizeof(der);
	ECDSA_SIG *signature = NULL;
	char *r = NULL, *s = NULL, *pem = certificate_pem(signer_certificate(key->signer));
	json_t *result = NULL;

	if (context && EVP_PKEY_sign_init(context) == 1 && EVP_PKEY_sign(context, der, &der_size, digest, size) == 1)
		signature = d2i_ECDSA_SIG(NULL, &at, (long)der_size);
	if (signature) {
		r = BN_bn2dec(ECDSA_SIG_get0_r(signature));
		s = BN_bn2dec(ECDSA_SIG_get0_s(signature));
	}
	if (r && s && pem)
		result = json_pack("{s:s, s:s, s:s}", "r", r, "s", s, "c", pem);
	OPENSSL_free(r);
	OPENSSL_free(s);
	free(pem);
	ECDSA_SIG_free(signature);
	EVP_PKEY_CTX_free(context);
	ERR_clear_error();
	return result;
}
