// SPDX-License-Identifier: Apache-2.0
/* Bulk, one way and then both ways on the same pairs. The speed is taken where the bytes
 * arrive, over a window in the middle; CPU time is that of the whole machine in the same
 * window; memory is looked at when it ends, with the bytes still under way. */
#include "flood.h"
#include "memory.h"
#include "sample.h"
#include "workload.h"

static bool measure(struct crowd *crowd, const struct workload *workload, bool both_ways, const char *label, double seconds)
{
	struct contender *contender = crowd->contender;
	struct flood_plan plan = { .count = workload->pairs, .both_ways = both_ways };
	struct machine_time from, to;
	struct memory start, now;
	double lost;

	memory_take(contender, &start);
	struct flood *flood = flood_start(crowd, &plan);
	sample_sleep(workload_warm_up_s);
	uint64_t before = flood_received(flood);
	machine_time_take(&from);
	sample_sleep(seconds);
	double bytes = (double)(flood_received(flood) - before);
	machine_time_take(&to);
	memory_take(contender, &now);
	if (!flood_stop(flood, &lost))
		return false;
	figure(label, contender, "gb_per_s", bytes / (double)(to.now_ns - from.now_ns));
	figure(label, contender, "cpu_s_per_gb", machine_busy_seconds(&from, &to) * 1e9 / bytes);
	figure(label, contender, "client_s_per_gb", (double)(to.own_ns - from.own_ns) / bytes);
	figure(label, contender, "resident_mb", now.resident_kb / 1024);
	figure(label, contender, "sockets_mb", now.sockets_kb / 1024);
	if (contender->loses_bytes)
		figure(label, contender, "lost_share", lost);
	figure(label, contender, "taken_mb", (start.available_kb - now.available_kb) / 1024);
	return true;
}

bool workload_bulk(struct contender *contender, const struct workload *workload, double seconds)
{
	char label[WORKLOAD_LABEL_SIZE];
	struct crowd crowd;

	if (!crowd_open(&crowd, contender, workload->pairs))
		return false;
	bool fine = measure(&crowd, workload, false, workload->name, seconds);
	if (fine && workload->both_ways) {
		snprintf(label, sizeof label, "%s-both", workload->name);
		fine = measure(&crowd, workload, true, label, seconds);
	}
	if (!crowd_close(&crowd, fine))
		return false;
	if (contender->kind->check)
		figure(workload->name, contender, "redirected", crowd.round.redirected_share);
	return true;
}
