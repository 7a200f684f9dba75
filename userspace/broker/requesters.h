// SPDX-License-Identifier: Apache-2.0
#pragma once
/* How many tickets each requester has open, against a limit. From any thread. */
#include <stddef.h>

struct requesters;

int requesters_create(unsigned limit, struct requesters **result);
void requesters_free(struct requesters *requesters);

/* Counts one more. 0, -EDQUOT or -ENOMEM. */
int requesters_take(struct requesters *requesters, const char *name);
void requesters_give_back(struct requesters *requesters, const char *name);
unsigned requesters_open(struct requesters *requesters, const char *name);
