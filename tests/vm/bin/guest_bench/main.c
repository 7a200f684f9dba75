// SPDX-License-Identifier: Apache-2.0
/* What a relay costs, for a guest whose clock counts instructions (see tests/vm/bench.py):
 *
 *   guest_bench [--mb N] [--trips N] [--workload NAME] CONTENDER...
 *
 * Three workloads over one pair each: a stream of records of 16,384 bytes, one of 1,000
 * bytes, N million bytes each, and N round trips of 64 bytes. Results are lines
 * "WORKLOAD CONTENDER FIGURE VALUE"; times are totals in nanoseconds of the measured part.
 * --workload runs one of them alone: records-16384, records-1000 or trips-64. */
#include "account.h"
#include "contender.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAD_BYTES 4 /* of contender_open_pair() */
#define TRIP_BYTES 64

struct stream {
	struct end *from, *to;
	size_t record;
	uint64_t total, received;
	bool failed;
};

static void print_figure(const char *workload, const struct contender *contender, const char *name, double value)
{
	printf("%s %s %s %.9g\n", workload, contender->name, name, value);
	fflush(stdout);
}

static void print_account(const char *workload, const struct contender *contender, const struct account *used)
{
	print_figure(workload, contender, "relay_ns", (double)used->relay_ns);
	print_figure(workload, contender, "kernel_ns", (double)used->kernel_ns);
	print_figure(workload, contender, "client_ns", (double)used->client_ns);
	print_figure(workload, contender, "all_ns", (double)used->busy_ns);
	print_figure(workload, contender, "elapsed_ns", (double)used->now_ns);
}

static void *write_stream(void *context)
{
	struct stream *stream = context;
	char *record = calloc(1, stream->record);

	for (uint64_t sent = 0; record && sent < stream->total && !stream->failed; sent += stream->record)
		if (!end_send(stream->from, record, stream->record))
			stream->failed = true;
	free(record);
	return NULL;
}

static void *read_stream(void *context)
{
	static char piece[256u << 10];
	struct stream *stream = context;

	while (stream->received < stream->total) {
		ssize_t got = end_receive(stream->to, piece, sizeof piece);

		if (got <= 0) {
			stream->failed = true;
			break;
		}
		stream->received += (uint64_t)got;
	}
	return NULL;
}

static bool run_bulk(struct contender *contender, const char *name, size_t record, uint64_t bytes)
{
	struct end ends[2];
	struct stream stream = { .from = &ends[0], .to = &ends[1], .record = record, .total = bytes / record * record };
	struct account from, to;
	pthread_t writer, reader;
	double redirected;

	if (!contender_open_pair(contender, ends))
		return false;
	account_take(&from, contender->pid);
	if (pthread_create(&reader, NULL, read_stream, &stream) || pthread_create(&writer, NULL, write_stream, &stream))
		abort();
	pthread_join(writer, NULL);
	pthread_join(reader, NULL);
	account_take(&to, contender->pid);
	if (stream.failed)
		return contender_fail(contender, "the stream broke: %s", end_error());
	if (!contender_close_pair(contender, ends, stream.total + HEAD_BYTES, &redirected))
		return false;
	account_subtract(&to, &from);
	print_figure(name, contender, "bytes", (double)stream.total);
	print_figure(name, contender, "messages", (double)(stream.total / record));
	print_account(name, contender, &to);
	if (contender->plane == PLANE_SOCKMAP)
		print_figure(name, contender, "redirected", redirected);
	return true;
}

/* One thread holds both ends: only wake-ups of the relay count. */
static bool run_trips(struct contender *contender, uint64_t trips)
{
	char message[TRIP_BYTES] = { 0 };
	struct end ends[2];
	struct account from, to;
	double redirected;

	if (!contender_open_pair(contender, ends))
		return false;
	account_take(&from, contender->pid);
	for (uint64_t trip = 0; trip < trips; trip++)
		for (int side = 0; side < 2; side++)
			if (!end_send(&ends[side], message, sizeof message) || !end_receive_all(&ends[!side], message, sizeof message))
				return contender_fail(contender, "the pair broke: %s", end_error());
	account_take(&to, contender->pid);
	if (!contender_close_pair(contender, ends, 2 * trips * TRIP_BYTES + HEAD_BYTES, &redirected))
		return false;
	account_subtract(&to, &from);
	print_figure("trips-64", contender, "bytes", (double)(2 * trips * TRIP_BYTES));
	print_figure("trips-64", contender, "messages", 2 * (double)trips);
	print_account("trips-64", contender, &to);
	if (contender->plane == PLANE_SOCKMAP)
		print_figure("trips-64", contender, "redirected", redirected);
	return true;
}

static bool run_workloads(struct contender *contender, const char *only, uint64_t bytes, uint64_t trips)
{
	static const size_t records[] = { 16384, 1000 };
	char name[32];

	for (unsigned i = 0; i < sizeof records / sizeof *records; i++) {
		snprintf(name, sizeof name, "records-%zu", records[i]);
		if ((!only || !strcmp(only, name)) && !run_bulk(contender, name, records[i], bytes))
			return false;
	}
	return (only && strcmp(only, "trips-64") != 0) || run_trips(contender, trips);
}

static struct contender *find_contender(const char *name)
{
	for (struct contender *one = contenders; one->name; one++)
		if (!strcmp(one->name, name))
			return one;
	fprintf(stderr, "guest_bench: no contender '%s'\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	uint64_t bytes = 100000000, trips = 5000;
	const char *workload = NULL;
	bool is_fine = true;

	signal(SIGPIPE, SIG_IGN);
	for (int at = 1; at < argc; at++) {
		if (at + 1 < argc && !strcmp(argv[at], "--mb")) {
			bytes = strtoull(argv[++at], NULL, 10) * 1000000;
			continue;
		}
		if (at + 1 < argc && !strcmp(argv[at], "--trips")) {
			trips = strtoull(argv[++at], NULL, 10);
			continue;
		}
		if (at + 1 < argc && !strcmp(argv[at], "--workload")) {
			workload = argv[++at];
			continue;
		}
		struct contender *contender = find_contender(argv[at]);
		is_fine = contender_start(contender) && run_workloads(contender, workload, bytes, trips) && is_fine;
		contender_stop(contender);
		if (*contender->error) {
			printf("guest_bench: %s: %s\n", contender->name, contender->error);
			is_fine = false;
		}
	}
	return is_fine ? 0 : 1;
}
