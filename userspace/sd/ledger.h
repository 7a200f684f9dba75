// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The records of a service directory (protocol page 3.9): what is stored, which
 * chain of it is the directory, and the entries made from that. Belongs to the
 * thread of the event loop. All values are shared and never changed. */
#include "directory/signature.h"

#include <jansson.h>

struct ledger;

/* Opens the data file and selects the chain as of `unix_seconds`. 0 or a
 * negative errno, logged. */
int ledger_open(const char *filename, const struct string_list *root_files, const struct string_list *intermediate_files,
		int64_t unix_seconds, struct ledger **result);
void ledger_close(struct ledger *ledger);

/* Verifies and stores one normalised record. 0, or a negative errno with a
 * sentence for the log in `reason`: -EPERM refused, -ESTALE its parent is not the
 * tip, -EEXIST stored already, or what writing it returned. */
int ledger_append(struct ledger *ledger, json_t *signed_record, int64_t unix_seconds,
		  char reason[SIGNATURE_REASON_SIZE]);

/* Borrowed: the winning chain in order; entries by name. */
const json_t *ledger_records(const struct ledger *ledger);
const json_t *ledger_entries(const struct ledger *ledger);
/* Last record of the chain, NULL if there is none. */
json_t *ledger_tip(const struct ledger *ledger);
/* New list of the records behind the one with that hash; all if it is unknown. */
json_t *ledger_records_after(const struct ledger *ledger, const char *hash);
