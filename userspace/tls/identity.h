// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Names and fingerprint of a leaf certificate (protocol page 6.4). Pure. */
#include <openssl/x509.h>
#include <stddef.h>

#define FINGERPRINT_TEXT_SIZE 65 /* lower-case hex SHA-256 of the DER form, and NUL */

struct certificate_identity {
	char fingerprint[FINGERPRINT_TEXT_SIZE];
	char **names; /* subject CN, then every DNS SAN; duplicates stay; a name with a NUL byte is left out */
	size_t name_count;
};

/* Returns 0, -ENOMEM or -EINVAL. */
int certificate_identity_read(X509 *certificate, struct certificate_identity *identity);
void certificate_identity_clear(struct certificate_identity *identity);
