// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Signatures of the service directory (protocol page 3.5, and 3.6 as far as it
 * is about one certificate): signing certificates, who they speak for, their
 * chain at a given time, and ECDSA over a digest with r and s as decimal texts.
 *
 * Nothing here knows records. All objects belong to one thread. Functions that
 * can fail write a sentence to `reason`. */
#include "settings/settings.h"

#include <jansson.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIGNATURE_REASON_SIZE 256

/* Roots and intermediates that record signatures are checked against. */
struct signature_authority;
/* Each file may hold several certificates. NULL with a reason that names the file. */
struct signature_authority *signature_authority_load(const struct string_list *root_files,
						     const struct string_list *intermediate_files,
						     char reason[SIGNATURE_REASON_SIZE]);
void signature_authority_free(struct signature_authority *authority);

/* A signing certificate: the first PEM block of a text. It has key usage
 * digitalSignature and an ECDSA key, or parsing fails. */
struct signer;
struct signer *signer_parse(const char *pem, size_t length, char reason[SIGNATURE_REASON_SIZE]);
void signer_free(struct signer *signer);
X509 *signer_certificate(const struct signer *signer);       /* borrowed */
const char *signer_name(const struct signer *signer);        /* of iris-name://, "" if none */
const char *signer_fingerprint(const struct signer *signer); /* lower-case hex SHA-256 of the DER form */
bool signer_has_group(const struct signer *signer, const char *group);   /* of iris-group:// */
bool signer_has_dns_name(const struct signer *signer, const char *name); /* wildcards count */

/* Does the certificate lead to one of the roots, each tried alone, at that time
 * and permitted for code signing? On success `valid_from` and `valid_until` say for which
 * times (unix seconds, both included) the same chain is good; either may be NULL. */
bool signer_check_chain(const struct signer *signer, const struct signature_authority *authority, int64_t unix_seconds,
			int64_t *valid_from, int64_t *valid_until, char reason[SIGNATURE_REASON_SIZE]);

/* ECDSA directly over `digest`; r and s are unsigned decimal texts. */
bool signer_verify(const struct signer *signer, const uint8_t *digest, size_t size, const char *r, const char *s);

/* Own key and certificate. */
struct signing_key;
struct signing_key *signing_key_load(const char *certificate_file, const char *key_file,
				     char reason[SIGNATURE_REASON_SIZE]);
void signing_key_free(struct signing_key *key);
const struct signer *signing_key_signer(const struct signing_key *key);
/* {"r", "s", "c"}, or NULL. `c` is the leaf certificate alone, encoded anew. */
json_t *signing_key_sign(const struct signing_key *key, const uint8_t *digest, size_t size);
