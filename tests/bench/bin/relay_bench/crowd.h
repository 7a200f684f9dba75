// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The pairs of a round: opened together, settled, closed together. */
#include "contender.h"

struct crowd {
	struct contender *contender;
	struct end (*pairs)[2];
	size_t count;
	struct contender_round round; /* the first byte each way of each pair is counted here */
};

/* False: contender->error; nothing is left open. */
bool crowd_open(struct crowd *crowd, struct contender *contender, size_t count);
/* Counts what the traffic has written. */
void crowd_count(struct crowd *crowd, uint64_t by_first, uint64_t by_second);
/* Closes, and has the contender's counters checked, unless `fine` is false already. */
bool crowd_close(struct crowd *crowd, bool fine);
