// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Certificates made by the tests that need some, with the OpenSSL API. */
#include <assert.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test_identity {
	EVP_PKEY *key;
	X509 *certificate;
};

static inline void test_add_extension(X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert(extension);
	X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
}

/* `issuer` NULL: a self-signed CA. `alternative` ("DNS:a,IP:127.0.0.1"), `usage`
 * (extended key usage) may be NULL. */
static inline struct test_identity test_identity_make(const char *name, const struct test_identity *issuer,
						      const char *alternative, const char *usage)
{
	static long serial = 1;
	struct test_identity made = { EVP_EC_gen("P-256"), X509_new() };
	X509_NAME *subject = X509_get_subject_name(made.certificate);

	assert(made.key && made.certificate);
	X509_set_version(made.certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), serial++);
	X509_gmtime_adj(X509_getm_notBefore(made.certificate), -60);
	X509_gmtime_adj(X509_getm_notAfter(made.certificate), 3600);
	X509_set_pubkey(made.certificate, made.key);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(made.certificate, issuer ? X509_get_subject_name(issuer->certificate) : subject);
	if (!alternative)
		test_add_extension(made.certificate, NID_basic_constraints, "critical,CA:TRUE");
	else
		test_add_extension(made.certificate, NID_subject_alt_name, alternative);
	if (usage)
		test_add_extension(made.certificate, NID_ext_key_usage, usage);
	assert(X509_sign(made.certificate, issuer ? issuer->key : made.key, EVP_sha256()));
	return made;
}

static inline void test_identity_free(struct test_identity *identity)
{
	EVP_PKEY_free(identity->key);
	X509_free(identity->certificate);
}

/* Writes FOLDER/NAME.crt (the certificates in order) and FOLDER/NAME.key; the
 * paths are malloc'd. */
static inline void test_identity_write(const char *folder, const char *name, const struct test_identity *identity,
				       const struct test_identity *issuer, char **chain_file, char **key_file)
{
	FILE *file;

	assert(asprintf(chain_file, "%s/%s.crt", folder, name) > 0);
	assert(asprintf(key_file, "%s/%s.key", folder, name) > 0);
	file = fopen(*chain_file, "w");
	assert(file);
	PEM_write_X509(file, identity->certificate);
	if (issuer)
		PEM_write_X509(file, issuer->certificate);
	fclose(file);
	file = fopen(*key_file, "w");
	assert(file);
	PEM_write_PrivateKey(file, identity->key, NULL, NULL, 0, NULL, NULL);
	fclose(file);
}
