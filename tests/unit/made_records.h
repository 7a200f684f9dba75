// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Signed records made in a test. */
#include "directory_vectors.h"

/* A record of `name`, created `second` seconds into an hour, behind `parent`. Steals `data`. */
static inline json_t *signed_by(struct signing_key *key, const char *name, const char *section, json_t *data, int second,
			 const json_t *parent)
{
	char created[40], hash[STRUCTURED_HASH_TEXT_SIZE];
	uint8_t digest[STRUCTURED_HASH_SIZE];
	json_t *record;

	snprintf(created, sizeof(created), "2021-05-17T10:%02d:%02dZ", second / 60, second % 60);
	record = json_pack("{s:s, s:{s:s, s:s, s:o, s:s}}", "parent_hash", parent ? signed_record_hash(parent) : "", "record",
			   "name", name, "section", section, "data", data, "created_at", created);
	assert_int_equal(record_hash(signed_record_inner(record), hash), 0);
	json_object_set_new(record, "hash", json_string(hash));
	assert_int_equal(signed_record_digest(record, digest), 0);
	json_object_set_new(record, "signature", signing_key_sign(key, digest, sizeof(digest)));
	return record;
}

static inline json_t *groups_by(struct signing_key *key, const char *name, int second, const json_t *parent)
{
	return signed_by(key, name, "groups", json_pack("[s]", "g"), second, parent);
}

static inline json_t *pin_by(struct signing_key *key, struct signing_key *pinned, int second, const json_t *parent)
{
	return signed_by(key, "hd-1", "certificates",
			 json_pack("[{s:s, s:s}]", "fingerprint", signer_fingerprint(signing_key_signer(pinned)), "key_usage",
				   "signing"),
			 second, parent);
}
