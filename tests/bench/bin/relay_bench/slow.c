// SPDX-License-Identifier: Apache-2.0
/* What pairs may cost in memory: readers of 1 MB/s behind writers at full speed; and segments
 * of one byte, each of which occupies far more than a byte, that nobody reads. */
#include "flood.h"
#include "memory.h"
#include "sample.h"
#include "workload.h"

#define SLOW_RATE 1000000u

static bool run(struct contender *contender, const struct workload *workload, const struct flood_plan *plan, double seconds)
{
	struct memory_watch watch;
	struct crowd crowd;
	double lost;

	if (!crowd_open(&crowd, contender, workload->pairs))
		return false;
	memory_watch_start(&watch, contender);
	struct flood *flood = flood_start(&crowd, plan);
	sample_sleep(seconds / 2);
	uint64_t before = flood_received(flood), from_ns = sample_now_ns();
	sample_sleep(seconds / 2);
	double rate = (double)(flood_received(flood) - before) * 1e3 / (double)(sample_now_ns() - from_ns);
	memory_watch_stop(&watch);
	bool fine = flood_stop(flood, &lost);
	figure(workload->name, contender, "resident_mb", watch.worst.resident_kb / 1024);
	figure(workload->name, contender, "sockets_mb", watch.worst.sockets_kb / 1024);
	figure(workload->name, contender, "taken_mb", (watch.start.available_kb - watch.worst.available_kb) / 1024);
	if (plan->rate)
		figure(workload->name, contender, "mb_per_s_a_reader", rate / (double)workload->pairs);
	return crowd_close(&crowd, fine);
}

bool workload_slow_readers(struct contender *contender, const struct workload *workload, double seconds)
{
	const struct flood_plan plan = { .count = workload->pairs, .rate = SLOW_RATE };

	return run(contender, workload, &plan, seconds);
}

bool workload_segments(struct contender *contender, const struct workload *workload, double seconds)
{
	const struct flood_plan plan = { .count = workload->pairs, .single_bytes = true, .readers_wait = true };

	return run(contender, workload, &plan, seconds);
}
