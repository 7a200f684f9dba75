// SPDX-License-Identifier: Apache-2.0
#pragma once
/* A line on the standard error for every workload of a round, with an estimate of the time
 * left: what a step took in earlier rounds, or, in the first one, the average of all steps so far. */
#include <stddef.h>
#include <stdint.h>

#define PROGRESS_STEPS 512

struct progress {
	unsigned rounds;
	struct {
		const char *workload, *contender;
		double taken_s;
		unsigned done;
	} steps[PROGRESS_STEPS];
	size_t count, current, finished;
	double taken_s;
	uint64_t begun_ns;
	const char *shown;
	unsigned shown_round;
};

/* Each step of a round, in advance. */
void progress_plan(struct progress *progress, const char *workload, const char *contender);
void progress_begin(struct progress *progress, const char *workload, const char *contender, unsigned round);
void progress_end(struct progress *progress);
void progress_done(const struct progress *progress);
