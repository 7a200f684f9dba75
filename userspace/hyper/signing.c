// SPDX-License-Identifier: Apache-2.0
/* Signing with the operator's key, see signing.h. */
#include "hyper/signing.h"

#include "base/instant.h"
#include "base/log.h"
#include "directory/record.h"

#include <stdio.h>
#include <time.h>

void signing_clear(struct signing *signing)
{
	signing_key_free(signing->key);
	verifier_free(signing->verifier);
	signature_authority_free(signing->authority);
}

bool signing_load_authority(const struct hyper_settings *settings, struct signing *signing)
{
	const struct signing_settings *own = settings->signing;
	char reason[SIGNATURE_REASON_SIZE];
	struct string_list roots;

	*signing = (struct signing){ 0 };
	if (!own) {
		log_fatal("the settings have no section `signing`");
		return false;
	}
	roots = (struct string_list){ (char **)&own->ca_certificate_file, own->ca_certificate_file ? 1 : 0 };
	signing->authority = signature_authority_load(&roots, &own->ca_intermediate_certificate_files, reason);
	signing->verifier = signing->authority ? verifier_create(&roots, &own->ca_intermediate_certificate_files, reason) : NULL;
	if (!signing->verifier) {
		log_fatal("signing: %s", reason);
		signing_clear(signing);
		return false;
	}
	return true;
}

bool signing_load(const struct hyper_settings *settings, struct signing *signing)
{
	const struct signing_settings *own = settings->signing;
	char reason[SIGNATURE_REASON_SIZE];

	if (!signing_load_authority(settings, signing))
		return false;
	if (!own->certificate_file || !own->key_file) {
		snprintf(reason, sizeof(reason), "certificate_file and key_file are needed");
	} else if ((signing->key = signing_key_load(own->certificate_file, own->key_file, reason)) &&
		   signer_check_chain(signing_key_signer(signing->key), signing->authority, (int64_t)time(NULL), NULL, NULL,
				      reason)) {
		if (signer_has_dns_name(signing_key_signer(signing->key), settings->name))
			return true;
		snprintf(reason, sizeof(reason), "the certificate does not carry the name %s", settings->name);
	}
	log_fatal("signing: %s", reason);
	signing_clear(signing);
	return false;
}

/* Fills in `hash` and `signature` of one record behind `parent`. */
static json_t *sign_record(const struct signing *signing, const json_t *record, const char *parent)
{
	char created[INSTANT_TEXT_SIZE], hash[STRUCTURED_HASH_TEXT_SIZE], reason[SIGNATURE_REASON_SIZE];
	uint8_t digest[STRUCTURED_HASH_SIZE];
	json_t *inner = json_copy((json_t *)record), *result, *signature;

	if (!inner || json_object_set_new(inner, "created_at", json_string(instant_format(instant_now(), created))) ||
	    record_hash(inner, hash)) {
		json_decref(inner);
		return NULL;
	}
	result = json_pack("{s:s, s:s, s:o}", "parent_hash", parent, "hash", hash, "record", inner);
	if (!result)
		return NULL;
	signature = signed_record_digest(result, digest) ? NULL : signing_key_sign(signing->key, digest, sizeof(digest));
	if (!signature || json_object_set_new(result, "signature", signature)) {
		json_decref(result);
		return NULL;
	}
	if (!verifier_is_authentic(signing->verifier, result, reason)) {
		log_fatal("the new record does not verify: %s", reason);
		json_decref(result);
		return NULL;
	}
	return result;
}

json_t *signing_sign_records(const struct signing *signing, const json_t *records, const char *parent)
{
	json_t *result = json_array(), *record;
	size_t i;

	json_array_foreach(records, i, record)
	{
		json_t *signed_record = sign_record(signing, record, parent);

		if (!signed_record || json_array_append_new(result, signed_record)) {
			log_fatal("record %zu cannot be signed", i);
			json_decref(result);
			return NULL;
		}
		parent = signed_record_hash(signed_record);
		log_info("%s of %s: %s", record_section(record), record_name(record), parent);
	}
	return result;
}
