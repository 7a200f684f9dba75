// SPDX-License-Identifier: Apache-2.0
#pragma once
/* One round of one workload with one contender. Each opens its pairs, warms up, measures
 * for `seconds`, closes them, has the contender's counters checked, and says what it
 * measured with figure(). False: contender->error says why. */
#include "contender.h"

struct workload {
	const char *name;
	bool (*run)(struct contender *contender, const struct workload *workload, double seconds);
	size_t pairs;     /* or joins in flight */
	unsigned pause_us; /* chat: between an answer and the next question of a pair */
	double weight;    /* of the time of a round */
	bool ours_only;
};

bool workload_round_trip(struct contender *contender, const struct workload *workload, double seconds);
bool workload_chat(struct contender *contender, const struct workload *workload, double seconds);
bool workload_bulk(struct contender *contender, const struct workload *workload, double seconds);
bool workload_joins(struct contender *contender, const struct workload *workload, double seconds);

/* One line "workload contender figure value" into the results. */
void figure(const struct workload *workload, const struct contender *contender, const char *name, double value);
