// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Change records of the service directory (protocol page 3.1): form check,
 * normalisation, hash, digest to sign. Pure functions on jansson values.
 *
 * Everything that enters a program (settings files, JSON-RPC, data files) goes
 * through one of the two `*_normalise` calls first; all other code relies on
 * what they guarantee: members present, types right, unknown keys gone. */
#include "directory/structured_hash.h"

#include <jansson.h>

#define RECORD_PROBLEM_SIZE 256

/* Normalised copies. NULL with a sentence in `problem` ("data[1].rights: …") if
 * the form is violated. `created_at` is rewritten as RFC3339Nano in its own
 * offset. The signed form also takes `parent_hash` absent as "". */
json_t *record_normalise(const json_t *record, char problem[RECORD_PROBLEM_SIZE]);
json_t *signed_record_normalise(const json_t *signed_record, char problem[RECORD_PROBLEM_SIZE]);

/* {"records": […]} as record files and `json` directories hold them: a new list
 * of normalised records, or NULL. */
json_t *record_file_normalise(const json_t *file, char problem[RECORD_PROBLEM_SIZE]);

/* Hash of a normalised record as lower-case hex. 0 or -ENOMEM. */
int record_hash(const json_t *record, char text[STRUCTURED_HASH_TEXT_SIZE]);

/* What is signed: the structured hash of {hash, parent_hash, record}. */
int signed_record_digest(const json_t *signed_record, uint8_t digest[STRUCTURED_HASH_SIZE]);

/* Borrowed members of normalised values. */
const char *signed_record_hash(const json_t *signed_record);
const char *signed_record_parent(const json_t *signed_record); /* "": none */
const json_t *signed_record_inner(const json_t *signed_record);
const char *record_name(const json_t *record);
const char *record_section(const json_t *record);
