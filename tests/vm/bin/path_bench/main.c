// SPDX-License-Identifier: Apache-2.0
/* One pair over a slow path (guest/path.sh makes it): does the relay's credit follow the
 * product of bandwidth and delay?
 *
 *   path_bench LABEL SECONDS [--hold MB-PER-S] CONTENDER...        direct, sockmap, splice, copy
 *
 * Runs in the network namespace "r", where the relay is; the two parties are in "a" and "b",
 * which reach each other through r as a router, too: that is the direct connection. First
 * round trips of 64 bytes, then a stream from a to b for SECONDS after a warm-up, as it comes
 * out at b. Results are lines "path-LABEL CONTENDER FIGURE VALUE".
 *
 * With --hold b reads at that pace (0: at full speed), and it is a test: the relay must keep up with b, redirect
 * nearly all, and nobody may wait for a timer or drop anything. Then there is one line of result for each
 * contender. */
#include "../../../integration/bin/relay_contract/host.h"
#include "../guest_bench/end.h"

#include "base/instant.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
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
#define PIECE_BYTES (64u << 10)
/* What --hold asks for. */
#define SHARE_LEAST 0.9
#define PACE_LEAST 0.95
#define WINDOWS_MOST 6
#define WARM_UP_MB 48 /* the relay holds from the 16th on */

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
	double pace; /* bytes that are read in a nanosecond; 0: all that come */
	atomic_bool stop;
	_Atomic uint64_t received;
	uint64_t sent;
	bool failed;
};

static void *write_stream(void *context)
{
	static char piece[PIECE_BYTES];
	struct stream *stream = context;

	while (!atomic_load(&stream->stop) && !stream->failed) {
		stream->failed = !end_send(stream->from, piece, sizeof piece);
		stream->sent += sizeof piece;
	}
	end_finish(stream->from);
	return NULL;
}

static void wait_for(double seconds)
{
	struct timespec wait = { .tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) };

	nanosleep(&wait, NULL);
}

static void *read_stream(void *context)
{
	static char piece[4 * PIECE_BYTES];
	struct stream *stream = context;
	uint64_t start_ns = clock_now_ns();
	ssize_t got;

	while ((got = end_receive(stream->to, piece, stream->pace ? PIECE_BYTES : sizeof piece)) > 0) {
		double due_ns = (double)(atomic_fetch_add(&stream->received, (uint64_t)got) + (uint64_t)got) / stream->pace;
		double late_ns = (double)(clock_now_ns() - start_ns);

		if (stream->pace && due_ns > late_ns && !atomic_load(&stream->stop))
			wait_for((due_ns - late_ns) / 1e9);
	}
	if (got < 0)
		stream->failed = true;
	return NULL;
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

/* ---- a reader that is slower than its sender ---- */

/* What TCP does only when it has lost something or waits in vain. */
static uint64_t count_troubles(void)
{
	static const char *const wanted[] = { "TCPTimeouts", "TCPWinProbe", "TCPRcvQDrop", "TCPBacklogDrop",
					      "TCPZeroWindowDrop", "RcvPruned", "PruneCalled" };
	static const char *const places[] = { "a", "b", "r" }; /* r last: there it stays */
	uint64_t sum = 0;

	for (size_t place = 0; place < sizeof places / sizeof *places; place++) {
		char names[8192], values[8192], *saved[2];
		FILE *file = enter(places[place]) ? fopen("/proc/self/net/netstat", "re") : NULL;

		if (!file || !fgets(names, sizeof names, file) || !fgets(values, sizeof values, file))
			abort();
		fclose(file);
		char *name = strtok_r(names, " \n", &saved[0]), *value = strtok_r(values, " \n", &saved[1]);
		for (; name && value; name = strtok_r(NULL, " \n", &saved[0]), value = strtok_r(NULL, " \n", &saved[1]))
			for (size_t at = 0; at < sizeof wanted / sizeof *wanted; at++)
				if (!strcmp(name, wanted[at]))
					sum += strtoull(value, NULL, 10);
	}
	return sum;
}

struct sample {
	uint64_t at_ns, received, bytes, redirected, troubles;
};

static bool take_sample(struct host *host, struct stream *stream, struct sample *sample)
{
	struct pair_report report;
	uint16_t ports[2];
	json_t *answer = host_ask(host, "pairs");
	const json_t *pair = json_array_get(json_object_get(answer, "pairs"), 0);

	if (pair)
		host_read_report(pair, &report, ports);
	json_decref(answer);
	if (!pair)
		return fail("no report of the pair");
	const struct direction_report *busy = &report.directions[report.directions[1].bytes > report.directions[0].bytes];
	*sample = (struct sample){ clock_now_ns(), atomic_load(&stream->received), busy->bytes, busy->redirected_bytes,
				   count_troubles() };
	return true;
}

/* Looks at windows of so many seconds until one is fine: a machine that is busy with other things may not run
 * a sender or a reader for longer than TCP waits. */
static bool hold_stream(struct host *host, const char *label, const char *name, struct end ends[2], double seconds,
			double mb_per_s)
{
	struct stream stream = { .from = &ends[0], .to = &ends[1], .pace = mb_per_s / 1e3 };
	double share = 0, reached = 0;
	bool is_fine = false, is_sampled = true;
	uint64_t troubles = 0;
	pthread_t writer, reader;
	unsigned windows = 0;

	if (pthread_create(&reader, NULL, read_stream, &stream) || pthread_create(&writer, NULL, write_stream, &stream))
		abort();
	for (unsigned waits = 0; atomic_load(&stream.received) < WARM_UP_MB * 1000000ull && waits < WAIT_S * 10; waits++)
		wait_for(0.1);
	for (; windows < WINDOWS_MOST && !is_fine && is_sampled; windows++) {
		struct sample before = { 0 }, after = { 0 };

		is_sampled = take_sample(host, &stream, &before);
		wait_for(seconds);
		is_sampled = is_sampled && take_sample(host, &stream, &after) && after.bytes > before.bytes;
		if (!is_sampled)
			break;
		share = (double)(after.redirected - before.redirected) / (double)(after.bytes - before.bytes);
		reached = (double)(after.received - before.received) / (double)(after.at_ns - before.at_ns) * 1e3;
		troubles = after.troubles - before.troubles;
		is_fine = share >= SHARE_LEAST && !troubles && reached >= PACE_LEAST * mb_per_s;
	}
	atomic_store(&stream.stop, true);
	pthread_join(writer, NULL);
	pthread_join(reader, NULL);
	if (!is_sampled || stream.failed || stream.sent != stream.received)
		return fail("nothing moved, the stream broke, or bytes are missing");
	printf("%s %s-%s - %.1f %% redirected at %.1f MB/s, %llu timeouts, probes and drops, in the window no. %u\n",
	       is_fine ? "ok  " : "FAIL", label, name, 100 * share, reached, (unsigned long long)troubles, windows);
	return is_fine;
}

/* Of a pair that has ended. With a label it is a figure, too. */
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
		if (label)
			printf("path-%s %s redirected %.4f\n", label, contender->name,
			       (double)redirected / (double)(d[0].bytes + d[1].bytes));
		return (report.plane == contender->plane && report.outcome == OUTCOME_HAPPY && (redirected || contender->plane != PLANE_SOCKMAP)) ||
		       fail("the pair was not moved by its plane, or ended unhappily");
	}
	return fail("no last report of the pair");
}

/* `hold_mb_per_s` below 0: no slow reader. */
static bool run(const char *label, double seconds, const struct contender *contender, double hold_mb_per_s)
{
	struct host_settings settings = { .planes = contender->planes, .both_families = true };
	struct end ends[2] = { { .fd = -1 }, { .fd = -1 } };
	struct host host = { 0 };
	bool is_relayed = contender->planes != 0, is_hold = hold_mb_per_s >= 0;

	if (is_relayed && !host_start(&host, &settings))
		return fail(host.error);
	bool is_fine = (is_relayed ? open_relayed(&host, ends) : open_direct(ends)) && (trip(ends) || fail("no pair")) &&
		       (!is_relayed || settle(&host, contender)) &&
		       (is_hold ? hold_stream(&host, label, contender->name, ends, seconds, hold_mb_per_s)
				: measure_trips(label, contender->name, ends) && measure_stream(label, contender->name, ends, seconds));
	end_finish(&ends[1]);
	end_close(&ends[0]);
	end_close(&ends[1]);
	is_fine = is_fine && (!is_relayed || check_report(&host, contender, is_hold ? NULL : label));
	fflush(stdout);
	return host_stop(&host) && is_fine;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "hold", required_argument, NULL, 'h' }, { 0 } };
	double hold_mb_per_s = -1;
	int letter;

	signal(SIGPIPE, SIG_IGN);
	while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (letter != 'h')
			return 2;
		hold_mb_per_s = atof(optarg);
	}
	bool is_fine = argc - optind > 2;
	for (int at = optind + 2; at < argc; at++) {
		const struct contender *found = NULL;

		for (size_t one = 0; one < sizeof contenders / sizeof *contenders; one++)
			if (!strcmp(contenders[one].name, argv[at]))
				found = &contenders[one];
		if (!found || (hold_mb_per_s >= 0 && !found->planes)) {
			fprintf(stderr, "path_bench: no contender '%s'\n", argv[at]);
			return 2;
		}
		is_fine = run(argv[optind], atof(argv[optind + 1]), found, hold_mb_per_s) && is_fine;
	}
	return is_fine ? 0 : 1;
}
