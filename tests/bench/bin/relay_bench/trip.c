// SPDX-License-Identifier: Apache-2.0
/* One pair, one message under way, there and back. One thread holds both ends and sleeps in
 * recv(): the wake-ups that are counted are those that the relay causes, and not those
 * between two threads of the client, whose cost depends on where the scheduler happens to
 * put them. The direct connection, where nothing sleeps, is the floor. */
#include "crowd.h"
#include "sample.h"
#include "workload.h"

#include <errno.h>
#include <string.h>

#define MOST_SIZE 16384

static bool pass(struct end *from, struct end *to, size_t size)
{
	static char message[MOST_SIZE];

	return end_send_all(from, message, size) && end_receive_all(to, message, size);
}

bool workload_trip(struct contender *contender, const struct workload *workload, double seconds)
{
	char label[WORKLOAD_LABEL_SIZE];
	struct crowd crowd;

	if (!crowd_open(&crowd, contender, 1))
		return false;
	struct end *ends = crowd.pairs[0];
	bool fine = true;
	for (int at = 0; fine && at < WORKLOAD_SIZES && workload->sizes[at]; at++) {
		size_t size = workload->sizes[at];
		struct sample_list times = { 0 };
		struct machine_time from, to;
		uint64_t trips = 0;

		for (uint64_t until = sample_now_ns() + (uint64_t)(workload_warm_up_s * 1e9); fine && sample_now_ns() < until; trips++)
			fine = pass(&ends[0], &ends[1], size) && pass(&ends[1], &ends[0], size);
		machine_time_take(&from);
		uint64_t before = sample_now_ns(), deadline = before + (uint64_t)(seconds * 1e9);
		while (fine && before < deadline) {
			fine = pass(&ends[0], &ends[1], size) && pass(&ends[1], &ends[0], size);
			uint64_t now = sample_now_ns();
			sample_add(&times, now - before);
			before = now;
			trips++;
		}
		machine_time_take(&to);
		crowd_count(&crowd, trips * size, trips * size);
		if (!fine) {
			contender_fail(contender, "the pair broke: %s", strerror(errno));
		} else {
			workload_label(workload, size, label);
			figure(label, contender, "p50_us", (double)sample_percentile(&times, 0.5) / 1e3);
			figure(label, contender, "p99_us", (double)sample_percentile(&times, 0.99) / 1e3);
			figure(label, contender, "p999_us", (double)sample_percentile(&times, 0.999) / 1e3);
			figure(label, contender, "cpu_us_per_message", machine_busy_seconds(&from, &to) * 1e6 / (2.0 * (double)times.count));
		}
		sample_free(&times);
	}
	if (!crowd_close(&crowd, fine))
		return false;
	if (contender->kind->check)
		figure(workload->name, contender, "redirected", crowd.round.redirected_share);
	return true;
}
