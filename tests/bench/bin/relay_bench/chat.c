// SPDX-License-Identifier: Apache-2.0
/* Pairs that chat, with messages of each size of the workload, on the same pairs. */
#include "talk.h"
#include "workload.h"

static void say_figures(const char *label, struct contender *contender, const struct machine_time *from, const struct machine_time *to,
			struct talk_figures *figures)
{
	double messages = 2.0 * (double)figures->answered;

	figure(label, contender, "cpu_us_per_message", machine_busy_seconds(from, to) * 1e6 / messages);
	figure(label, contender, "client_us_per_message", (double)(to->own_ns - from->own_ns) / 1e3 / messages);
	figure(label, contender, "messages_per_s", 1e9 * messages / (double)(to->now_ns - from->now_ns));
	figure(label, contender, "p50_us", (double)sample_percentile(&figures->times, 0.5) / 1e3);
	figure(label, contender, "p99_us", (double)sample_percentile(&figures->times, 0.99) / 1e3);
	figure(label, contender, "p999_us", (double)sample_percentile(&figures->times, 0.999) / 1e3);
}

bool workload_chat(struct contender *contender, const struct workload *workload, double seconds)
{
	struct crowd crowd;
	char label[WORKLOAD_LABEL_SIZE];

	if (!crowd_open(&crowd, contender, workload->pairs))
		return false;
	bool fine = true;
	for (int at = 0; fine && at < WORKLOAD_SIZES && workload->sizes[at]; at++) {
		struct talk *talk = talk_start(&crowd, 0, workload->pairs, workload->sizes[at], workload->pause_us);
		struct machine_time from, to;
		struct talk_figures figures;

		sample_sleep(workload_warm_up_s);
		machine_time_take(&from);
		talk_measure(talk);
		sample_sleep(seconds);
		machine_time_take(&to);
		fine = talk_stop(talk, &figures);
		if (!fine || !figures.answered)
			fine = contender_fail(contender, "no answers");
		else
			say_figures(workload_label(workload, workload->sizes[at], label), contender, &from, &to, &figures);
		sample_free(&figures.times);
	}
	if (!crowd_close(&crowd, fine))
		return false;
	if (contender->kind->check)
		figure(workload->name, contender, "redirected", crowd.round.redirected_share);
	return true;
}
