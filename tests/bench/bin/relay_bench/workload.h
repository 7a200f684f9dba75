// SPDX-License-Identifier: Apache-2.0
#pragma once
/* One round of one workload with one contender. Each opens its pairs, warms up, measures
 * for `seconds`, closes them, has the contender's counters checked, and says what it
 * measured with figure(). False: contender->error says why. */
#include "contender.h"

#include <stdio.h>

#define WORKLOAD_SIZES 3
#define WORKLOAD_LABEL_SIZE 48

struct workload {
	const char *name;
	bool (*run)(struct contender *contender, const struct workload *workload, double seconds);
	unsigned suites;  /* it belongs to, as bits */
	size_t pairs;     /* or joins in flight */
	size_t sizes[WORKLOAD_SIZES]; /* of messages, each measured on the same pairs; 0: not used */
	unsigned pause_us; /* chat: between an answer and the next question of a pair */
	size_t joins;     /* of a storm, or the most that a round of joins makes; 0: as many as come */
	double weight;    /* of the time of a round */
	bool with_tls;    /* for the contenders with TLS; else for the others */
	bool needs_tickets; /* for contenders that have tickets only */
	bool both_ways;   /* bulk: measured one way, then both ways */
};

/* How long pairs carry traffic before it is measured. */
extern double workload_warm_up_s;

bool workload_trip(struct contender *contender, const struct workload *workload, double seconds);
bool workload_chat(struct contender *contender, const struct workload *workload, double seconds);
bool workload_bulk(struct contender *contender, const struct workload *workload, double seconds);
bool workload_mixed(struct contender *contender, const struct workload *workload, double seconds);
bool workload_slow_readers(struct contender *contender, const struct workload *workload, double seconds);
bool workload_segments(struct contender *contender, const struct workload *workload, double seconds);
bool workload_joins(struct contender *contender, const struct workload *workload, double seconds);
bool workload_storm(struct contender *contender, const struct workload *workload, double seconds);
bool workload_idle(struct contender *contender, const struct workload *workload, double seconds);

/* The workload's name, and behind it the size of the messages if it has several. */
const char *workload_label(const struct workload *workload, size_t size, char label[WORKLOAD_LABEL_SIZE]);

/* One line "workload contender figure value" into the results. */
void figure(const char *label, const struct contender *contender, const char *name, double value);
