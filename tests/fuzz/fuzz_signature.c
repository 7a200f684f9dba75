// SPDX-License-Identifier: Apache-2.0
/* Signing certificates and signatures from strangers: as text, and as bare DER that
 * is wrapped here, so that mutations reach the certificate itself. */
#include "base/encoding.h"
#include "directory/signature.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_pem(const char *pem, size_t length, const uint8_t *data, size_t size)
{
	static const uint8_t digest[32] = { 7 };
	struct signature_authority *authority;
	struct string_list none = { 0 };
	char reason[SIGNATURE_REASON_SIZE], r[101], s[101];
	struct signer *signer = signer_parse(pem, length, reason);

	if (!signer)
		return;
	signer_has_group(signer, "sd-admin");
	signer_has_dns_name(signer, "hd-1");
	authority = signature_authority_load(&none, &none, reason);
	signer_check_chain(signer, authority, 1800000000, NULL, NULL, reason);
	signature_authority_free(authority);
	snprintf(r, sizeof(r), "%.*s", (int)(size < 100 ? size : 100), (const char *)data);
	snprintf(s, sizeof(s), "%zu%010zu", size, length);
	signer_verify(signer, digest, sizeof(digest), r, s);
	signer_verify(signer, digest, sizeof(digest), s, s);
	signer_free(signer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char head[] = "-----BEGIN CERTIFICATE-----\n", tail[] = "-----END CERTIFICATE-----\n";
	char *base64, *pem;
	size_t length, at;

	try_pem((const char *)data, size, data, size);
	base64 = malloc(4 * ((size + 2) / 3) + 1);
	length = base64_encode(data, size, base64);
	pem = malloc(length + length / 64 + sizeof(head) + sizeof(tail) + 2);
	at = (size_t)sprintf(pem, "%s", head);
	for (size_t i = 0; i < length; i += 64)
		at += (size_t)sprintf(pem + at, "%.64s\n", base64 + i);
	at += (size_t)sprintf(pem + at, "%s", tail);
	try_pem(pem, at, data, size);
	free(pem);
	free(base64);
	return 0;
}
