// SPDX-License-Identifier: Apache-2.0
/* One bulk pair next to pairs that chat: what the stream does to the chatters. */
#include "flood.h"
#include "talk.h"
#include "workload.h"

bool workload_mixed(struct contender *contender, const struct workload *workload, double seconds)
{
	const struct flood_plan plan = { .first = workload->pairs, .count = 1 };
	struct machine_time from, to;
	struct talk_figures figures;
	struct crowd crowd;
	double lost;

	if (!crowd_open(&crowd, contender, workload->pairs + 1))
		return false;
	struct talk *talk = talk_start(&crowd, 0, workload->pairs, workload->sizes[0], workload->pause_us);
	struct flood *flood = flood_start(&crowd, &plan);
	sample_sleep(workload_warm_up_s);
	uint64_t before = flood_received(flood);
	machine_time_take(&from);
	talk_measure(talk);
	sample_sleep(seconds);
	double bytes = (double)(flood_received(flood) - before);
	machine_time_take(&to);
	bool fine = talk_stop(talk, &figures);
	fine &= flood_stop(flood, &lost);
	if (!fine || !figures.answered) {
		fine = contender_fail(contender, "no answers");
	} else {
		figure(workload->name, contender, "p50_us", (double)sample_percentile(&figures.times, 0.5) / 1e3);
		figure(workload->name, contender, "p99_us", (double)sample_percentile(&figures.times, 0.99) / 1e3);
		figure(workload->name, contender, "p999_us", (double)sample_percentile(&figures.times, 0.999) / 1e3);
		figure(workload->name, contender, "messages_per_s", 2e9 * (double)figures.answered / (double)(to.now_ns - from.now_ns));
		figure(workload->name, contender, "gb_per_s", bytes / (double)(to.now_ns - from.now_ns));
	}
	sample_free(&figures.times);
	return crowd_close(&crowd, fine);
}
