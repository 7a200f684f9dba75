// SPDX-License-Identifier: Apache-2.0
#include "progress.h"
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void progress_plan(struct progress *progress, const char *workload, const char *contender)
{
	if (progress->count == PROGRESS_STEPS)
		abort();
	progress->steps[progress->count].workload = workload;
	progress->steps[progress->count++].contender = contender;
}

static double seconds_left(const struct progress *progress)
{
	double average = progress->finished ? progress->taken_s / (double)progress->finished : 0, left = 0;

	for (size_t at = 0; at < progress->count; at++) {
		unsigned done = progress->steps[at].done;
		left += (progress->rounds - done) * (done ? progress->steps[at].taken_s / done : average);
	}
	return left;
}

static void show(struct progress *progress, const char *workload, unsigned round)
{
	double part = (double)progress->finished / (double)(progress->count * progress->rounds);

	progress->shown = workload;
	progress->shown_round = round;
	fprintf(stderr, "  round %u of %u, %-16s %3.0f %%", round + 1, progress->rounds, workload, 100 * part);
	if (progress->finished > progress->count / 20)
		fprintf(stderr, ", about %.0f min left", seconds_left(progress) / 60 + 0.5);
	fputc('\n', stderr);
}

void progress_begin(struct progress *progress, const char *workload, const char *contender, unsigned round)
{
	if (progress->shown != workload || progress->shown_round != round)
		show(progress, workload, round);
	progress->current = 0;
	while (progress->current + 1 < progress->count &&
	       (progress->steps[progress->current].workload != workload || progress->steps[progress->current].contender != contender))
		progress->current++;
	progress->begun_ns = sample_now_ns();
}

void progress_end(struct progress *progress)
{
	double taken_s = (double)(sample_now_ns() - progress->begun_ns) / 1e9;

	progress->steps[progress->current].taken_s += taken_s;
	progress->steps[progress->current].done++;
	progress->taken_s += taken_s;
	progress->finished++;
}

/* What was planned for a contender that gave up did not happen. */
void progress_done(const struct progress *progress)
{
	fprintf(stderr, "  %zu of %zu measurements in %.1f min\n", progress->finished, progress->count * progress->rounds, progress->taken_s / 60);
}
