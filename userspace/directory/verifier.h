// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Verification of signed records (protocol page 3.6), in two parts because one
 * of them never changes its mind: whether a record is *authentic* (hash,
 * certificate, group, signature) depends on the record alone, so callers
 * remember the answer; whether it is *admissible* (pinned key, chain valid at a
 * time) depends on the records before it and on the clock, and is cheap: a
 * certificate's chain is built once and remembered with its span of validity.
 *
 * No clock of its own: the time is a parameter. One thread. Records must be
 * normalised (record.h). */
#include "directory/signature.h"

#define SD_ADMIN_GROUP "sd-admin"

struct verifier;
struct verifier *verifier_create(const struct string_list *root_files, const struct string_list *intermediate_files,
				 char reason[SIGNATURE_REASON_SIZE]);
void verifier_free(struct verifier *verifier);

bool verifier_is_authentic(struct verifier *verifier, const json_t *signed_record, char reason[SIGNATURE_REASON_SIZE]);
bool verifier_is_admissible(struct verifier *verifier, const json_t *signed_record, const json_t *pins,
			    int64_t unix_seconds, char reason[SIGNATURE_REASON_SIZE]);

/* Which key signs for whom, as the records so far say: an object of operator
 * name -> fingerprint. Notes what one more (signed) record says; 0 or -ENOMEM. */
int pins_note(json_t *pins, const json_t *signed_record);
