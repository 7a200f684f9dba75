// SPDX-License-Identifier: Apache-2.0
#pragma once
/* How many tickets each requester has open and how many pairs they became, against
 * limits. Every open ticket may become a pair, so it counts as one already: a match
 * never fails for its requester. From any thread. */
#include <stddef.h>

struct requesters;

/* `pair_limit` 0: none. */
int requesters_create(unsigned ticket_limit, unsigned pair_limit, struct requesters **result);
void requesters_free(struct requesters *requesters);

/* Counts one more ticket. 0, -EDQUOT (tickets), -EUSERS (pairs) or -ENOMEM. */
int requesters_take(struct requesters *requesters, const char *name);
void requesters_give_back(struct requesters *requesters, const char *name); /* it ended without a pair */
void requesters_pair(struct requesters *requesters, const char *name); /* it became a pair */
void requesters_unpair(struct requesters *requesters, const char *name);
unsigned requesters_open(struct requesters *requesters, const char *name);
