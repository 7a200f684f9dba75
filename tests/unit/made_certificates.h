// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Certificates made in a test: P-256, valid from an hour ago for a day. Without an
 * issuer a root, otherwise a leaf. */
#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

struct made {
	EVP_PKEY *key;
	X509 *certificate;
	char *file;
};

static inline void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	assert_non_null(extension);
	X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
}

/* NULL for an extension that is not wanted. */
static inline struct made make(struct made *issuer, const char *ca, const char *san, const char *usage, const char *extended)
{
	struct made made = { .key = EVP_EC_gen("P-256"), .certificate = X509_new() };
	X509_NAME *name = X509_get_subject_name(made.certificate);
	X509 *parent = issuer ? issuer->certificate : made.certificate;

	X509_set_version(made.certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), issuer ? 2 : 1);
	X509_gmtime_adj(X509_getm_notBefore(made.certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(made.certificate), 86400);
	X509_set_pubkey(made.certificate, made.key);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)(issuer ? "leaf" : "root"), -1, -1, 0);
	X509_set_issuer_name(made.certificate, X509_get_subject_name(parent));
	if (ca)
		add_extension(made.certificate, parent, NID_basic_constraints, ca);
	if (san)
		add_extension(made.certificate, parent, NID_subject_alt_name, san);
	if (usage)
		add_extension(made.certificate, parent, NID_key_usage, usage);
	if (extended)
		add_extension(made.certificate, parent, NID_ext_key_usage, extended);
	assert_true(X509_sign(made.certificate, issuer ? issuer->key : made.key, EVP_sha256()) > 0);
	return made;
}

static inline void write_pem(struct made *made, char **key_file)
{
	FILE *file;
	BIO *bio;

	assert_true(asprintf(&made->file, "/tmp/test-signature-%d-%p.crt", (int)getpid(), (void *)made->key) > 0);
	file = fopen(made->file, "w");
	PEM_write_X509(file, made->certificate);
	fclose(file);
	if (!key_file)
		return;
	assert_true(asprintf(key_file, "%s.key", made->file) > 0);
	bio = BIO_new_file(*key_file, "w");
	PEM_write_bio_PrivateKey_traditional(bio, made->key, NULL, NULL, 0, NULL, NULL);
	BIO_free(bio);
}

static inline void made_free(struct made *made)
{
	if (made->file)
		unlink(made->file);
	free(made->file);
	X509_free(made->certificate);
	EVP_PKEY_free(made->key);
}

static inline char *pem_of(X509 *certificate)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *start, *text;
	long size;

	PEM_write_bio_X509(bio, certificate);
	size = BIO_get_mem_data(bio, &start);
	text = strndup(start, (size_t)size);
	BIO_free(bio);
	return text;
}
