// SPDX-License-Identifier: Apache-2.0
/* Reads the names that a leaf certificate claims and its fingerprint. Pure: it
 * says nothing about whether the certificate may be trusted, so it must also
 * survive certificates of peers that were not verified. */
#include "tls/identity.h"

#include "base/encoding.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

static int append_name(struct certificate_identity *identity, const ASN1_STRING *text)
{
	unsigned char *utf8 = NULL;
	int length = ASN1_STRING_to_UTF8(&utf8, text);

	if (length < 0)
		return 0; /* not representable: no name that a directory could hold */
	/* "hd-1\0.evil" must not pass as "hd-1". */
	if (length == 0 || memchr(utf8, 0, (size_t)length)) {
		OPENSSL_free(utf8);
		return 0;
	}
	char **names = realloc(identity->names, (identity->name_count + 1) * sizeof(*names));
	if (!names)
		goto no_memory;
	identity->names = names;
	char *name = strndup((const char *)utf8, (size_t)length);
	if (!name)
		goto no_memory;
	names[identity->name_count++] = name;
	OPENSSL_free(utf8);
	return 0;
no_memory:
	OPENSSL_free(utf8);
	return -ENOMEM;
}

static int append_common_names(struct certificate_identity *identity, const X509 *certificate)
{
	const X509_NAME *subject = X509_get_subject_name(certificate);
	int last = -1, found = -1;

	/* A subject may repeat CN; the last, most specific one counts. */
	while ((found = X509_NAME_get_index_by_NID((X509_NAME *)subject, NID_commonName, found)) >= 0)
		last = found;
	if (last < 0)
		return 0;
	return append_name(identity, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last)));
}

static int append_alternative_names(struct certificate_identity *identity, const X509 *certificate)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	int error = 0;

	for (int i = 0; !error && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_DNS)
			error = append_name(identity, name->d.dNSName);
	}
	GENERAL_NAMES_free(names);
	return error;
}

int certificate_identity_read(X509 *certificate, struct certificate_identity *identity)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned size = 0;
	int error;

	memset(identity, 0, sizeof(*identity));
	if (!certificate || !X509_digest(certificate, EVP_sha256(), digest, &size) || size != 32)
		return -EINVAL;
	hex_encode(digest, size, identity->fingerprint);
	error = append_common_names(identity, certificate);
	if (!error)
		error = append_alternative_names(identity, certificate);
	if (error)
		certificate_identity_clear(identity);
	return error;
}

void certificate_identity_clear(struct certificate_identity *identity)
{
	for (size_t i = 0; i < identity->name_count; i++)
		free(identity->names[i]);
	free(identity->names);
	memset(identity, 0, sizeof(*identity));
}
