// SPDX-License-Identifier: Apache-2.0
/* One pair, one message under way: 64 bytes there, 64 bytes back. One thread holds both
 * ends and sleeps in recv(): the wake-ups that are counted are those that the relay causes,
 * and not those between two threads of the client, whose cost depends on where the
 * scheduler happens to put them. The direct connection, where nothing sleeps, is the floor. */
#include "sample.h"
#include "workload.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE_SIZE 64
#define WARM_UP_TRIPS 300

static bool pass(int from, int to)
{
	char message[MESSAGE_SIZE];

	memset(message, 'm', sizeof message);
	return send(from, message, sizeof message, MSG_NOSIGNAL) == (ssize_t)sizeof message &&
	       recv(to, message, sizeof message, MSG_WAITALL) == (ssize_t)sizeof message;
}

/* There and back, by one thread that holds both ends. */
static bool trip(const int ends[2])
{
	return pass(ends[0], ends[1]) && pass(ends[1], ends[0]);
}

bool workload_round_trip(struct contender *contender, const struct workload *workload, double seconds)
{
	struct sample_list times = { 0 };
	struct machine_time from, to;
	uint64_t trips = 0;
	int ends[2];

	if (!contender_open_pair(contender, ends) || !contender_settle(contender, 1))
		return false;
	bool fine = true;
	while (fine && trips < WARM_UP_TRIPS)
		fine = trip(ends) && ++trips;
	machine_time_take(&from);
	uint64_t before = sample_now_ns(), deadline = before + (uint64_t)(seconds * 1e9);
	while (fine && before < deadline) {
		fine = trip(ends) && ++trips;
		uint64_t now = sample_now_ns();
		sample_add(&times, now - before);
		before = now;
	}
	machine_time_take(&to);
	shutdown(ends[0], SHUT_WR);
	close(ends[1]);
	close(ends[0]);
	if (!fine)
		return contender_fail(contender, "the pair broke: %s", strerror(errno));
	struct contender_round round = { .pairs = 1, .bytes = { trips * MESSAGE_SIZE + 1, trips * MESSAGE_SIZE + 1 } };
	if (!contender_check(contender, &round))
		return false;
	figure(workload, contender, "p50_us", (double)sample_percentile(&times, 0.5) / 1e3);
	figure(workload, contender, "p99_us", (double)sample_percentile(&times, 0.99) / 1e3);
	figure(workload, contender, "cpu_us_per_message", machine_busy_seconds(&from, &to) * 1e6 / (2.0 * (double)times.count));
	sample_free(&times);
	if (contender->kind == CONTENDER_OURS)
		figure(workload, contender, "redirected", round.redirected_share);
	return true;
}
