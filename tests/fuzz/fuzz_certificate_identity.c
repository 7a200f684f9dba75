// SPDX-License-Identifier: Apache-2.0
#include "tls/identity.h"

#include <openssl/err.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct certificate_identity identity;
	X509 *certificate = d2i_X509(NULL, &data, (long)size);

	if (certificate && certificate_identity_read(certificate, &identity) == 0) {
		for (size_t i = 0; i < identity.name_count; i++) {
			if (!*identity.names[i])
				abort();
		}
		if (strlen(identity.fingerprint) != 64)
			abort();
		certificate_identity_clear(&identity);
	}
	X509_free(certificate);
	ERR_clear_error();
	return 0;
}
