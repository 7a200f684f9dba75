// SPDX-License-Identifier: Apache-2.0
/* One pair over a slow path (guest/path.sh makes it): does the relay's credit follow the
 * product of bandwidth and delay?
 *
 *   path_bench LABEL SECONDS CONTENDER...        direct, sockmap, splice, copy
 *
 * Runs in the network namespace "r", where the relay is; the two parties are in "a" and "b",
 * which reach each other through r as a router, too: that is the direct connection. First
 * round trips of 64 bytes, then a stream from a to b for SECONDS after a warm-up, as it comes
 * out at b. Results are lines "path-LABEL CONTENDER FIGURE VALUE". */
#include "../../../integration/bin/relay_contract/host.h"
#include "../guest_bench/end.h"

#include "base/instant.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RELAY_FROM_A "10.1.0.1"
#define RELAY_FROM_B "10.2.0.1"
#define PARTY_B "10.2.0.2"
#define TRIPS 20
#define TRIP_BYTES 64
#define WAIT_S 60

static const struct contender {
	const char *name;
	enum plane plane;
	unsigned planes;
} contenders[] = {
	{ "direct", PLANE_COUNT, 0 },
	{ "sockmap", PLANE_SOCKMAP, PLANE_MASK_SOCKMAP | PLANE_MASK_COPY },
	{ "splice", PLANE_SPLICE, PLANE_MASK_SPLICE | PLANE_MASK_COPY },
	{ "copy", PLANE_COPY, PLANE_MASK_COPY },
};

static bool fail(const char *what)
{
	printf("path_bench: %s: %s\n", what, strerror(errno));
	return false;
}

/* Sockets belong to the namespace in which they were made. */
static bool enter(const char *name)
{
	char path[64];

	snprintf(path, sizeof path, "/var/run/netns/%s", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		return fail(path);
	close(fd);
	return true;
}

static int dial_from(const char *place, const char *address, uint16_t port)
{
	int fd = enter(place) ? end_dial(inet_addr(address), port) : -1;

	return enter("r") ? fd : -1;
}

static bool open_direct(struct end ends[2])
{
	uint16_t port = 0;
	int listener = enter("b") ? end_listen(INADDR_ANY, &port) : -1;

	if (listener < 0)
		return fail("listen");
	ends[0].fd = dial_from("a", PARTY_B, port);
	if (ends[0].fd >= 0)
		ends[1].fd = end_accept(listener);
	close(listener);
	return ends[1].fd >= 0 || fail("connect");
}

static bool open_relayed(struct host *host, struct end ends[2])
{
	uint8_t token[32];

	if (!host_token(host, 1, token))
		return fail(host->error);
	ends[0].fd = dial_from("a", RELAY_FROM_A, host->port);
	ends[1].fd = dial_from("b", RELAY_FROM_B, host->port);
	return (ends[0].fd >= 0 && ends[1].fd >= 0 && end_send(&ends[0], token, sizeof token) && end_send(&ends[1], token, sizeof token)) ||
	       fail("connect");
}

static bool settle(struct host *host, const struct contender *contender)
{
	for (uint64_t deadline = clock_now_ms() + WAIT_S * 1000; clock_now_ms() < deadline; poll(NULL, 0, 5)) {
		json_t *answer = host_ask(host, "gates");
		const json_t *pair = json_array_get(json_object_get(answer, "gates"), 0);
		bool is_open = contender->plane != PLANE_SOCKMAP || (json_integer_value(json_array_get(pair, 4)) == GATE_STATE_OPEN &&
								      json_integer_value(json_array_get(pair, 5)) == GATE_STATE_OPEN);
		bool is_settled = pair && is_open && json_integer_value(json_array_get(pair, 3)) == (json_int_t)contender->plane;

		json_decref(answer);
		if (is_settled)
			return true;
		if (!answer)
			return fail(host->error);
	}
	return fail("the pair did not get to its plane");
}

/* ---- workloads ---- */

static bool trip(struct end ends[2])
{
	char message[TRIP_BYTES] = { 0 };

	for (int from = 0; from < 2; from++)
		if (!end_send(&ends[from], message, sizeof message) || !end_receive_all(&ends[!from], message, sizeof message))
			return false;
	return true;
}

static int compare(const void *one, const void *other)
{
	uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

	return (a > b) - (a < b);
}

static bool measure_trips(const char *label, const char *name, struct end ends[2])
{
	uint64_t times[TRIPS];

	for (int at = 0; at < TRIPS; at++) {
		uint64_t before = clock_now_ns();

		if (!trip(ends))
			return fail("the pair broke");
		times[at] = clock_now_ns() - before;
	}
	qsort(times, TRIPS, sizeof *times, compare);
	printf("path-%s %s trip_us %.1f\n", label, name, (double)times[TRIPS / 2] / 1000);
	return true;
}

struct stream {
	struct end *from, *to;
	atomic_bool stop;
	_Atomic uint64_t received;
	uint64_t sent;
	bool failed;
};

static void *write_stream(void *context)
{
	static char piece[64u << 10];
	struct stream *stream = context;

	while (!atomic_load(&stream->stop) && !stream->failed) {
		stream->failed = !end_send(stream->from, piece, sizeof piece);
		stream->sent += sizeof piece;
	}
	end_finish(stream->from);
	return NULL;
}

static void *read_stream(void *context)
{
	static char piece[256u << 10];
	struct stream *stream = context;
	ssize_t got;

	while ((got = end_receive(stream->to, piece, sizeof piece)) > 0)
		atomic_fetch_add(&stream->received, (uint64_t)got);
	if (got < 0)
		stream->failed = true;
	return NULL;
}

static void wait_for(double seconds)
{
	struct timespec wait = { .tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) };

	nanosleep(&wait, NULL);
}

static bool measure_stream(const char *label, const char *name, struct end ends[2], double seconds)
{
	struct stream stream = { .from = &ends[0], .to = &ends[1] };
	pthread_t writer, reader;

	if (pthread_create(&reader, NULL, read_stream, &stream) || pthread_create(&writer, NULL, write_stream, &stream))
		abort();
	wait_for(seconds / 4); /* slow start */
	uint64_t early = atomic_load(&stream.received), before = clock_now_ns();
	wait_for(seconds);
	uint64_t bytes = atomic_load(&stream.received) - early, now = clock_now_ns();
	atomic_store(&stream.stop, true);
	pthread_join(writer, NULL);
	pthread_join(reader, NULL);
	if (stream.failed || stream.sent != stream.received)
		return fail("the stream broke, or bytes are missing");
	printf("path-%s %s mb_per_s %.4g\n", label, name, (double)bytes * 1e3 / (double)(now - before));
	printf("path-%s %s early_mb %.4g\n", label, name, (double)early / 1e6);
	return true;
}

static bool check_report(struct host *host, const struct contender *contender, const char *label)
{
	struct pair_report report;
	uint16_t ports[2];

	for (uint64_t deadline = clock_now_ms() + WAIT_S * 1000; clock_now_ms() < deadline; poll(NULL, 0, 20)) {
		json_t *answer = host_ask(host, "ended");
		const json_t *pair = json_array_get(json_object_get(answer, "ended"), 0);

		if (pair)
			host_read_report(pair, &report, ports);
		bool has_come = pair != NULL;
		json_decref(answer);
		if (!has_come)
			continue;
		const struct direction_report *d = report.directions;
		uint64_t redirected = d[0].redirected_bytes + d[1].redirected_bytes;
		printf("path-%s %s redirected %.4f\n", label, contender->name, (double)redirected / (double)(d[0].bytes + d[1].bytes));
		return (report.plane == contender->plane && report.outcome == OUTCOME_HAPPY && (redirected || contender->plane != PLANE_SOCKMAP)) ||
		       fail("the pair was not moved by its plane, or ended unhappily");
	}
	return fail("no last report of the pair");
}

static bool run(const char *label, double seconds, const struct contender *contender)
{
	struct host_settings settings = { .planes = contender->planes, .both_families = true };
	struct end ends[2] = { { .fd = -1 }, { .fd = -1 } };
	struct host host = { 0 };
	bool is_relayed = contender->planes != 0;

	if (is_relayed && !host_start(&host, &settings))
		return fail(host.error);
	bool is_fine = (is_relayed ? open_relayed(&host, ends) : open_direct(ends)) && (trip(ends) || fail("no pair")) &&
		       (!is_relayed || settle(&host, contender)) && measure_trips(label, contender->name, ends) &&
		       measure_stream(label, contender->name, ends, seconds);
	end_finish(&ends[1]);
	end_close(&ends[0]);
	end_close(&ends[1]);
	is_fine = is_fine && (!is_relayed || check_report(&host, contender, label));
	fflush(stdout);
	return host_stop(&host) && is_fine;
}

int main(int argc, char **argv)
{
	bool is_fine = argc > 3;

	signal(SIGPIPE, SIG_IGN);
	for (int at = 3; at < argc; at++) {
		const struct contender *found = NULL;

		for (size_t one = 0; one < sizeof contenders / sizeof *contenders; one++)
			if (!strcmp(contenders[one].name, argv[at]))
				found = &contenders[one];
		if (!found) {
			fprintf(stderr, "path_bench: no contender '%s'\n", argv[at]);
			return 2;
		}
		is_fine = run(argv[1], atof(argv[2]), found) && is_fine;
	}
	return is_fine ? 0 : 1;
}
