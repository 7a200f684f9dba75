// SPDX-License-Identifier: Apache-2.0
#pragma once
/* A verified copy of a service directory's chain, and the entries made from it
 * (the rules of protocol page 3.8, without I/O or clock). An update is taken as
 * a whole or not at all, and a directory with the same first record never gets
 * shorter: it goes on behind the known records or is refused. What was verified once is not verified again; that the
 * old records' certificates still hold at the time is looked at whenever
 * something new comes. */
#include "directory/verifier.h"

struct replica {
	struct verifier *verifier; /* not owned */
	json_t *records;           /* list of normalised signed records */
	json_t *entries;           /* name -> entry */
	json_t *pins;
};

/* 0 or -ENOMEM. */
int replica_init(struct replica *replica, struct verifier *verifier);
void replica_clear(struct replica *replica);

/* Hash of the last record, "" if there is none. */
const char *replica_tip(const struct replica *replica);
/* Hash of the first record, "" likewise: another one is another directory. */
const char *replica_root(const struct replica *replica);

/* `list`: what `getRecords` answered to the tip. 0: taken (or nothing new); else
 * -EBADMSG (or -ENOMEM) with a sentence in `reason`, and nothing has changed. */
int replica_update(struct replica *replica, const json_t *list, int64_t unix_seconds, char reason[SIGNATURE_REASON_SIZE]);
