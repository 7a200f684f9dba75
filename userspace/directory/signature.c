// SPDX-License-Identifier: Apache-2.0
/* Signing certificates and ECDSA, see signature.h. Parsing takes bytes of
 * strangers: it reads one PEM block, wants all of its DER to be one certificate,
 * and asks nobody for passwords. Chains are built without a purpose, since
 * OpenSSL's code-signing purpose wants more than the protocol does; the extended
 * key usage of every certificate in the chain is looked at here instead. */
#include "directory/signature.h"

#include "base/encoding.h"

#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

struct signature_authority {
	STACK_OF(X509) *roots;
	STACK_OF(X509) *intermediates;
};

struct signer {
	X509 *certificate;
	char fingerprint[65];
	char *name;
	char **groups;
	size_t group_count;
};

static void *refuse(char *reason, const char *why)
{
	snprintf(reason, SIGNATURE_REASON_SIZE, "%s", why);
	ERR_clear_error();
	return NULL;
}

static void *refuse_file(char *reason, const char *file, const char *why)
{
	snprintf(reason, SIGNATURE_REASON_SIZE, "%s: %s", file, why);
	ERR_clear_error();
	return NULL;
}

/* ---- authority ---- */

static bool load_certificates(const struct string_list *files, STACK_OF(X509) *stack, char *reason)
{
	for (size_t i = 0; i < files->count; i++) {
		BIO *bio = BIO_new_file(files->items[i], "r");
		X509 *certificate;
		int count = 0;

		if (!bio)
			return refuse_file(reason, files->items[i], "cannot be opened");
		while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, (void *)""))) {
			count++;
			if (!sk_X509_push(stack, certificate)) {
				X509_free(certificate);
				count = 0;
				break;
			}
		}
		BIO_free(bio);
		ERR_clear_error();
		if (!count)
			return refuse_file(reason, files->items[i], "holds no certificate");
	}
	return true;
}

struct signature_authority *signature_authority_load(const struct string_list *root_files,
						     const struct string_list *intermediate_files, char reason[SIGNATURE_REASON_SIZE])
{
	struct signature_authority *authority = calloc(1, sizeof(*authority));

	if (!authority)
		return refuse(reason, "out of memory");
	authority->roots = sk_X509_new_null();
	authority->intermediates = sk_X509_new_null();
	if (!authority->roots || !authority->intermediates) {
		refuse(reason, "out of memory");
	} else if (load_certificates(root_files, authority->roots, reason) &&
		   load_certificates(intermediate_files, authority->intermediates, reason)) {
		return authority;
	}
	signature_authority_free(authority);
	return NULL;
}

void signature_authority_free(struct signature_authority *authority)
{
	if (!authority)
		return;
	sk_X509_pop_free(authority->roots, X509_free);
	sk_X509_pop_free(authority->intermediates, X509_free);
	free(authority);
}

/* ---- signer ---- */

/* Host of "scheme://host…", a malloc'd copy; NULL if the URI is of no or another
 * scheme. `*broken` if it cannot be read as a URI. */
static char *uri_host(const char *uri, size_t length, const char *scheme, bool *broken)
{
	size_t scheme_length = strlen(scheme), end;
	const char *host, *at;

	for (size_t i = 0; i < length; i++)
		if ((unsigned char)uri[i] <= ' ' || uri[i] == 0x7f)
			*broken = true;
	if (*broken || length < scheme_length + 3 || strncasecmp(uri, scheme, scheme_length) ||
	    memcmp(uri + scheme_length, "://", 3))
		return NULL;
	host = uri + scheme_length + 3;
	length -= scheme_length + 3;
	for (end = 0; end < length && !strchr("/?#", host[end]); end++)
		;
	at = memrchr(host, '@', end);
	if (at) {
		end -= (size_t)(at + 1 - host);
		host = at + 1;
	}
	if (memchr(host, '%', end)) {
		*broken = true;
		return NULL;
	}
	return strndup(host, end);
}

static bool read_uri(struct signer *signer, const char *uri, size_t length)
{
	bool broken = false;
	char *host = uri_host(uri, length, "iris-name", &broken), **groups;

	if (host) {
		free(signer->name);
		signer->name = host;
		return true;
	}
	host = uri_host(uri, length, "iris-group", &broken);
	if (!host)
		return !broken;
	if (!*host) {
		free(host);
		return true;
	}
	groups = realloc(signer->groups, (signer->group_count + 1) * sizeof(*groups));
	if (!groups) {
		free(host);
		return false;
	}
	signer->groups = groups;
	groups[signer->group_count++] = host;
	return true;
}

static bool read_names(struct signer *signer)
{
	int critical;
	GENERAL_NAMES *names = X509_get_ext_d2i(signer->certificate, NID_subject_alt_name, &critical, NULL);
	bool fine = names || critical == -1; /* -1: there is no such extension */

	for (int i = 0; fine && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_URI)
			fine = read_uri(signer, (const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier),
					(size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier));
	}
	GENERAL_NAMES_free(names);
	return fine;
}

static X509 *parse_certificate(const char *pem, size_t length)
{
	BIO *bio = length <= INT32_MAX ? BIO_new_mem_buf(pem, (int)length) : NULL;
	char *label = NULL, *header = NULL;
	unsigned char *der = NULL;
	const unsigned char *at;
	X509 *certificate = NULL;
	long size = 0;

	if (bio && PEM_read_bio(bio, &label, &header, &der, &size) && !strcmp(label, PEM_STRING_X509)) {
		at = der;
		certificate = d2i_X509(NULL, &at, size);
		if (certificate && at != der + size) {
			X509_free(certificate);
			certificate = NULL;
		}
	}
	OPENSSL_free(label);
	OPENSSL_free(header);
	OPENSSL_free(der);
	BIO_free(bio);
	ERR_clear_error();
	return certificate;
}

struct signer *signer_parse(const char *pem, size_t length, char reason[SIGNATURE_REASON_SIZE])
{
	struct signer *signer = calloc(1, sizeof(*signer));
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned digest_size = 0;
	const EVP_PKEY *key;
	const char *why = NULL;

	if (!signer)
		return refuse(reason, "out of memory");
	signer->name = strdup("");
	signer->certificate = parse_certificate(pem, length);
	if (!signer->certificate || !signer->name) {
		why = "the signing certificate cannot be parsed";
	} else if (!(X509_get_extension_flags(signer->certificate) & EXFLAG_KUSAGE) ||
		   !(X509_get_key_usage(signer->certificate) & KU_DIGITAL_SIGNATURE)) {
		why = "the certificate is not for signing (key usage digitalSignature)";
	} else if (!(key = X509_get0_pubkey(signer->certificate)) || EVP_PKEY_get_base_id(key) != EVP_PKEY_EC) {
		why = "the signing certificate has no ECDSA key";
	} else if (!read_names(signer)) {
		why = "the names in the signing certificate cannot be read";
	} else if (X509_digest(signer->certificate, EVP_sha256(), digest, &digest_size) != 1) {
		why = "the signing certificate cannot be hashed";
	}
	if (why) {
		signer_free(signer);
		return refuse(reason, why);
	}
	hex_encode(digest, digest_size, signer->fingerprint);
	ERR_clear_error();
	return signer;
}

void signer_free(struct signer *signer)
{
	if (!signer)
		return;
	for (size_t i = 0; i < signer->group_count; i++)
		free(signer->groups[i]);
	free(signer->groups);
	free(signer->name);
	X509_free(signer->certificate);
	free(signer);
}

X509 *signer_certificate(const struct signer *signer) { return signer->certificate; }
const char *signer_name(const struct signer *signer) { return signer->name; }
const char *signer_fingerprint(const struct signer *signer) { return signer->fingerprint; }

bool signer_has_group(const struct signer *signer, const char *group)
{
	for (size_t i = 0; i < signer->group_count; i++)
		if (!strcmp(signer->groups[i], group))
			return true;
	return false;
}

bool signer_has_dns_name(const struct signer *signer, const char *name)
{
	return X509_check_host(signer->certificate, name, strlen(name), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
}

/* ---- chain ---- */

static int64_t unix_time(const ASN1_TIME *time)
{
	struct tm parts;

	return ASN1_TIME_to_tm(time, &parts) == 1 ? (int64_t)timegm(&parts) : INT64_MIN;
}

static bool allows_code_signing(STACK_OF(X509) *chain)
{
	for (int i = 0; i < sk_X509_num(chain); i++) {
		X509 *certificate = sk_X509_value(chain, i);

		if ((X509_get_extension_flags(certificate) & EXFLAG_XKUSAGE) &&
		    !(X509_get_extended_key_usage(certificate) & (XKU_CODE_SIGN | XKU_ANYEKU)))
			return false;
	}
	return true;
}

static void validity_of(STACK_OF(X509) *chain, int64_t *from, int64_t *until)
{
	*from = INT64_MIN;
	*until = INT64_MAX;
	for (int i = 0; i < sk_X509_num(chain); i++) {
		int64_t start = unix_time(X509_get0_notBefore(sk_X509_value(chain, i)));
		int64_t end = unix_time(X509_get0_notAfter(sk_X509_value(chain, i)));

		if (start > *from)
			*from = start;
		if (end < *until)
			*until = end;
	}
}

static bool check_with_root(const struct signer *signer, X509 *root, STACK_OF(X509) *intermediates, int64_t when,
			    int64_t *from, int64_t *until, char reason[SIGNATURE_REASON_SIZE])
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *parameters;
	bool fine = false;

	refuse(reason, "out of memory");
	if (!store || !context || !X509_STORE_add_cert(store, root) ||
	    !X509_STORE_CTX_init(context, store, signer->certificate, intermediates))
		goto out;
	parameters = X509_STORE_CTX_get0_param(context);
	X509_VERIFY_PARAM_set_time(parameters, (time_t)when);
	X509_VERIFY_PARAM_set_auth_level(parameters, 1); /* no SHA-1, no short RSA keys */
	/* Whatever is configured as a root is one, self-signed or not. */
	X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN);
	if (X509_verify_cert(context) != 1) {
		snprintf(reason, SIGNATURE_REASON_SIZE, "the signing certificate does not verify: %s",
			 X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
	} else if (!allows_code_signing(X509_STORE_CTX_get0_chain(context))) {
		refuse(reason, "the signing certificate's chain does not permit code signing");
	} else {
		validity_of(X509_STORE_CTX_get0_chain(context), from, until);
		fine = true;
	}
out:
	X509_STORE_CTX_free(context);
	X509_STORE_free(store);
	ERR_clear_error();
	return fine;
}

bool signer_check_chain(const struct signer *signer, const struct signature_authority *authority, int64_t unix_seconds,
			int64_t *valid_from, int64_t *valid_until, char reason[SIGNATURE_REASON_SIZE])
{
	int64_t from, until;

	refuse(reason, "there is no root certificate");
	for (int i = 0; i < sk_X509_num(authority->roots); i++) {
		if (!check_with_root(signer, sk_X509_value(authority->roots, i), authority->intermediates, unix_seconds, &from,
				     &until, reason))
			continue;
		if (valid_from)
			*valid_from = from;
		if (valid_until)
			*valid_until = until;
		return true;
	}
	return false;
}

/* ---- ECDSA ---- */

bool signer_verify(const struct signer *signer, const uint8_t *digest, size_t size, const char *r, const char *s)
{
	ECDSA_SIG *signature = ECDSA_SIG_new();
	BIGNUM *r_number = NULL, *s_number = NULL;
	EVP_PKEY_CTX *context = NULL;
	unsigned char *der = NULL;
	bool fine = false;
	int der_size;

	if (!signature || strspn(r, "0123456789") != strlen(r) || strspn(s, "0123456789") != strlen(s) ||
	    !BN_dec2bn(&r_number, r) || !BN_dec2bn(&s_number, s))
		goto out;
	if (ECDSA_SIG_set0(signature, r_number, s_number) != 1)
		goto out;
	r_number = s_number = NULL; /* the signature owns them now */
	der_size = i2d_ECDSA_SIG(signature, &der);
	context = EVP_PKEY_CTX_new(X509_get0_pubkey(signer->certificate), NULL);
	if (der_size > 0 && context && EVP_PKEY_verify_init(context) == 1)
		fine = EVP_PKEY_verify(context, der, (size_t)der_size, digest, size) == 1;
out:
	EVP_PKEY_CTX_free(context);
	OPENSSL_free(der);
	BN_free(r_number);
	BN_free(s_number);
	ECDSA_SIG_free(signature);
	ERR_clear_error();
	return fine;
}
