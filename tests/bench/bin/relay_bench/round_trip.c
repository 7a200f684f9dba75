// SPDX-License-Identifier: Apache-2.0
/* One pair, one message under way: 64 bytes there, 64 bytes back. Each end has a thread
 * that sleeps in recv(), so that a wake-up is part of it as it is between two programs. */
#include "sample.h"
#include "workload.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE_SIZE 64
#define WARM_UP_TRIPS 300

static void *echo(void *context)
{
	int fd = *(const int *)context;
	char message[MESSAGE_SIZE];

	while (recv(fd, message, sizeof message, MSG_WAITALL) == (ssize_t)sizeof message)
		if (send(fd, message, sizeof message, MSG_NOSIGNAL) != (ssize_t)sizeof message)
			break;
	return NULL;
}

static bool trip(int fd)
{
	char message[MESSAGE_SIZE];

	memset(message, 'm', sizeof message);
	return send(fd, message, sizeof message, MSG_NOSIGNAL) == (ssize_t)sizeof message &&
	       recv(fd, message, sizeof message, MSG_WAITALL) == (ssize_t)sizeof message;
}

bool workload_round_trip(struct contender *contender, const struct workload *workload, double seconds)
{
	struct sample_list times = { 0 };
	struct machine_time from, to;
	pthread_t answerer;
	uint64_t trips = 0;
	int ends[2];

	if (!contender_open_pair(contender, ends) || !contender_settle(contender, 1))
		return false;
	pthread_create(&answerer, NULL, echo, &ends[1]);
	bool fine = true;
	while (fine && trips < WARM_UP_TRIPS)
		fine = trip(ends[0]) && ++trips;
	machine_time_take(&from);
	uint64_t before = sample_now_ns(), deadline = before + (uint64_t)(seconds * 1e9);
	while (fine && before < deadline) {
		fine = trip(ends[0]) && ++trips;
		uint64_t now = sample_now_ns();
		sample_add(&times, now - before);
		before = now;
	}
	machine_time_take(&to);
	shutdown(ends[0], SHUT_WR);
	pthread_join(answerer, NULL);
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
