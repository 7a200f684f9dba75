// SPDX-License-Identifier: Apache-2.0
/* Verification of signed records, see verifier.h. A directory has few signers
 * and many records, so parsed certificates are kept, found by their PEM text.
 * Strangers can send any number of certificates: when the store is full it is
 * emptied, which costs time, never correctness. A certificate that could not
 * sign anything, or a text that is larger than any of them, never gets in. */
#include "directory/verifier.h"

#include "base/json.h"
#include "directory/record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KNOWN_MAX 64
#define CERTIFICATE_MAX (16 << 10) /* bytes of PEM text */

struct known_signer {
	struct signer *signer;
	bool has_chain;
	int64_t valid_from, valid_until;
};

struct verifier {
	struct signature_authority *authority;
	json_t *index; /* PEM text -> place in `known` */
	struct known_signer known[KNOWN_MAX];
	size_t count;
};

static bool refuse(char *reason, const char *why)
{
	snprintf(reason, SIGNATURE_REASON_SIZE, "%s", why);
	return false;
}

struct verifier *verifier_create(const struct string_list *root_files, const struct string_list *intermediate_files,
				 char reason[SIGNATURE_REASON_SIZE])
{
	struct verifier *verifier = calloc(1, sizeof(*verifier));

	if (!verifier || !(verifier->index = json_object())) {
		refuse(reason, "out of memory");
	} else {
		verifier->authority = signature_authority_load(root_files, intermediate_files, reason);
		if (verifier->authority)
			return verifier;
	}
	verifier_free(verifier);
	return NULL;
}

static void forget_all(struct verifier *verifier)
{
	for (size_t i = 0; i < verifier->count; i++)
		signer_free(verifier->known[i].signer);
	verifier->count = 0;
	json_object_clear(verifier->index);
}

void verifier_free(struct verifier *verifier)
{
	if (!verifier)
		return;
	forget_all(verifier);
	json_decref(verifier->index);
	signature_authority_free(verifier->authority);
	free(verifier);
}

static struct known_signer *find_signer(struct verifier *verifier, const char *pem, char *reason)
{
	const json_t *place = json_object_get(verifier->index, pem);
	struct known_signer *known;
	struct signer *signer;

	if (place)
		return &verifier->known[json_integer_value(place)];
	if (strlen(pem) > CERTIFICATE_MAX) {
		refuse(reason, "the signing certificate is larger than 16 KiB");
		return NULL;
	}
	signer = signer_parse(pem, strlen(pem), reason);
	if (!signer)
		return NULL;
	if (!signer_has_group(signer, SD_ADMIN_GROUP)) {
		refuse(reason, "the signer is not in the group " SD_ADMIN_GROUP);
		signer_free(signer);
		return NULL;
	}
	if (verifier->count == KNOWN_MAX)
		forget_all(verifier);
	if (json_object_set_new(verifier->index, pem, json_integer((json_int_t)verifier->count))) {
		signer_free(signer);
		refuse(reason, "out of memory");
		return NULL;
	}
	known = &verifier->known[verifier->count++];
	memset(known, 0, sizeof(*known));
	known->signer = signer;
	return known;
}

bool verifier_is_authentic(struct verifier *verifier, const json_t *signed_record, char reason[SIGNATURE_REASON_SIZE])
{
	const json_t *signature = json_object_get(signed_record, "signature");
	char hash[STRUCTURED_HASH_TEXT_SIZE];
	uint8_t digest[STRUCTURED_HASH_SIZE];
	struct known_signer *known;

	if (record_hash(signed_record_inner(signed_record), hash) || signed_record_digest(signed_record, digest))
		return refuse(reason, "out of memory");
	if (strcmp(hash, signed_record_hash(signed_record)))
		return refuse(reason, "the hash does not fit the record");
	known = find_signer(verifier, json_text(signature, "c"), reason);
	if (!known)
		return false;
	if (!signer_verify(known->signer, digest, sizeof(digest), json_text(signature, "r"), json_text(signature, "s")))
		return refuse(reason, "the signature is wrong");
	return true;
}

bool verifier_is_admissible(struct verifier *verifier, const json_t *signed_record, const json_t *pins,
			    int64_t unix_seconds, char reason[SIGNATURE_REASON_SIZE])
{
	const json_t *signature = json_object_get(signed_record, "signature");
	struct known_signer *known = find_signer(verifier, json_text(signature, "c"), reason);
	const char *pinned;

	if (!known)
		return false;
	pinned = json_text(pins, signer_name(known->signer));
	if (pinned && strcmp(pinned, signer_fingerprint(known->signer))) {
		snprintf(reason, SIGNATURE_REASON_SIZE, "the directory pins another signing key of %s", signer_name(known->signer));
		return false;
	}
	if (known->has_chain && unix_seconds >= known->valid_from && unix_seconds <= known->valid_until)
		return true;
	known->has_chain = signer_check_chain(known->signer, verifier->authority, unix_seconds, &known->valid_from,
					      &known->valid_until, reason);
	return known->has_chain;
}

int pins_note(json_t *pins, const json_t *signed_record)
{
	const json_t *record = signed_record_inner(signed_record), *data = json_object_get(record, "data");
	json_t *fingerprint = NULL;

	if (strcmp(record_section(record), "certificates"))
		return 0;
	for (size_t i = 0; i < json_array_size(data); i++) {
		const json_t *certificate = json_array_get(data, i);

		if (!strcmp(json_text(certificate, "key_usage"), "signing"))
			fingerprint = json_object_get(certificate, "fingerprint");
	}
	if (!fingerprint)
		return 0;
	return json_object_set(pins, record_name(record), fingerprint) ? -ENOMEM : 0;
}
