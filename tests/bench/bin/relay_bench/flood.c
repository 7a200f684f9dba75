// SPDX-License-Identifier: Apache-2.0
#include "flood.h"
#include "sample.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PIECE_SIZE (256u << 10)
#define SINGLE_BYTES 32 /* sends for one event */
#define MOST_THREADS 2
#define LOOK_MS 20
#define TICK_S 0.01
#define QUIET_NS 20000000000ull
#define LOST_AFTER_NS 1000000000ull /* where bytes may be lost */

struct stream {
	struct end *from, *to;
	uint64_t sent;
	bool begun; /* TLS has begun to send what it could not finish */
	_Atomic uint64_t received;
};

struct worker {
	pthread_t thread;
	struct flood *flood;
	struct stream *streams;
	size_t count;
	bool failed;
};

struct flood {
	struct crowd *crowd;
	struct flood_plan plan;
	struct stream *streams;
	size_t count;
	unsigned threads;
	atomic_bool stop, all_sent;
	struct worker writers[MOST_THREADS], readers[MOST_THREADS];
};

static char nothing[PIECE_SIZE];

static int watch(struct worker *worker, bool writes)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	for (size_t at = 0; at < worker->count; at++) {
		struct stream *stream = &worker->streams[at];
		struct epoll_event event = { .events = writes ? EPOLLOUT : EPOLLIN, .data.ptr = stream };
		epoll_ctl(epoll, EPOLL_CTL_ADD, writes ? stream->from->fd : stream->to->fd, &event);
	}
	return epoll;
}

static bool write_stream(struct stream *stream, bool single_bytes)
{
	for (int sends = single_bytes ? SINGLE_BYTES : 1; sends > 0; sends--) {
		ssize_t count = end_send(stream->from, nothing, single_bytes ? 1 : PIECE_SIZE);

		stream->begun = stream->from->tls && count < 0 && errno == EAGAIN;
		if (count <= 0)
			return count < 0 && errno == EAGAIN;
		stream->sent += (uint64_t)count;
	}
	return true;
}

static bool any_begun(const struct worker *worker)
{
	for (size_t at = 0; at < worker->count; at++)
		if (worker->streams[at].begun)
			return true;
	return false;
}

static void *write_streams(void *context)
{
	struct worker *worker = context;
	struct flood *flood = worker->flood;
	struct epoll_event events[64];
	int epoll = watch(worker, true);
	bool stop = false;

	while (!worker->failed && (!stop || any_begun(worker))) {
		int count = epoll_wait(epoll, events, 64, LOOK_MS);

		for (int at = 0; at < count; at++) {
			struct stream *stream = events[at].data.ptr;
			if (!stop || stream->begun)
				worker->failed |= !write_stream(stream, flood->plan.single_bytes);
		}
		stop = atomic_load_explicit(&flood->stop, memory_order_relaxed);
	}
	close(epoll);
	return NULL;
}

/* Takes what there is, up to `size`. */
static bool read_stream(struct stream *stream, char *piece, size_t size)
{
	do {
		ssize_t count = end_receive(stream->to, piece, size);
		if (count <= 0)
			return count < 0 && errno == EAGAIN;
		atomic_fetch_add_explicit(&stream->received, (uint64_t)count, memory_order_relaxed);
	} while (end_has_bytes(stream->to));
	return true;
}

static uint64_t worker_received(const struct worker *worker)
{
	uint64_t received = 0;

	for (size_t at = 0; at < worker->count; at++)
		received += atomic_load_explicit(&worker->streams[at].received, memory_order_relaxed);
	return received;
}

static bool has_all(const struct worker *worker)
{
	uint64_t sent = 0;

	for (size_t at = 0; at < worker->count; at++)
		sent += worker->streams[at].sent;
	return worker_received(worker) == sent;
}

/* Each reader a share of its rate at every tick, until the writers are told to stop. */
static void read_slowly(struct worker *worker, char *piece)
{
	const struct flood_plan *plan = &worker->flood->plan;
	size_t share = (size_t)((double)plan->rate * TICK_S);

	while (!worker->failed && !atomic_load(&worker->flood->stop)) {
		sample_sleep(TICK_S);
		for (size_t at = 0; at < worker->count && !plan->readers_wait; at++)
			worker->failed |= !read_stream(&worker->streams[at], piece, share);
	}
}

static void *read_streams(void *context)
{
	struct worker *worker = context;
	struct flood *flood = worker->flood;
	struct epoll_event events[64];
	int epoll = watch(worker, false);
	char *piece = malloc(PIECE_SIZE);
	bool may_lose = flood->crowd->contender->loses_bytes;
	uint64_t last_ns;

	if (flood->plan.rate || flood->plan.readers_wait)
		read_slowly(worker, piece);
	last_ns = sample_now_ns();
	while (!worker->failed && !(atomic_load(&flood->all_sent) && has_all(worker))) {
		int count = epoll_wait(epoll, events, 64, LOOK_MS);

		for (int at = 0; at < count; at++)
			worker->failed |= !read_stream(events[at].data.ptr, piece, PIECE_SIZE);
		uint64_t now = sample_now_ns();
		if (count > 0)
			last_ns = now;
		if (may_lose && atomic_load(&flood->all_sent) && now > last_ns + LOST_AFTER_NS)
			break;
		worker->failed |= now > last_ns + QUIET_NS;
	}
	close(epoll);
	free(piece);
	return NULL;
}

static void start_workers(struct flood *flood, struct worker *workers, void *(*run)(void *))
{
	for (unsigned at = 0; at < flood->threads; at++) {
		size_t from = flood->count * at / flood->threads, to = flood->count * (at + 1) / flood->threads;

		workers[at] = (struct worker){ .flood = flood, .streams = flood->streams + from, .count = to - from };
		pthread_create(&workers[at].thread, NULL, run, &workers[at]);
	}
}

struct flood *flood_start(struct crowd *crowd, const struct flood_plan *plan)
{
	struct flood *flood = calloc(1, sizeof *flood);

	flood->crowd = crowd;
	flood->plan = *plan;
	flood->count = plan->count * (plan->both_ways ? 2 : 1);
	flood->threads = flood->count < MOST_THREADS ? (unsigned)flood->count : MOST_THREADS;
	flood->streams = calloc(flood->count, sizeof *flood->streams);
	for (size_t at = 0; at < flood->count; at++) {
		struct end *ends = crowd->pairs[plan->first + at % plan->count];
		bool back = at >= plan->count;

		flood->streams[at].from = &ends[back];
		flood->streams[at].to = &ends[!back];
		end_set_blocking(&ends[0], false);
		end_set_blocking(&ends[1], false);
	}
	start_workers(flood, flood->readers, read_streams);
	start_workers(flood, flood->writers, write_streams);
	return flood;
}

uint64_t flood_received(const struct flood *flood)
{
	uint64_t received = 0;

	for (unsigned at = 0; at < flood->threads; at++)
		received += worker_received(&flood->readers[at]);
	return received;
}

bool flood_stop(struct flood *flood, double *lost)
{
	struct contender *contender = flood->crowd->contender;
	uint64_t sent[2] = { 0 }, received = 0;
	bool fine = true;

	atomic_store(&flood->stop, true);
	for (unsigned at = 0; at < flood->threads; at++) {
		pthread_join(flood->writers[at].thread, NULL);
		fine &= !flood->writers[at].failed;
	}
	atomic_store(&flood->all_sent, true);
	for (unsigned at = 0; at < flood->threads; at++) {
		pthread_join(flood->readers[at].thread, NULL);
		fine &= !flood->readers[at].failed;
		received += worker_received(&flood->readers[at]);
	}
	for (size_t at = 0; at < flood->count; at++)
		sent[at >= flood->plan.count] += flood->streams[at].sent;
	crowd_count(flood->crowd, sent[0], sent[1]);
	free(flood->streams);
	free(flood);
	uint64_t all = sent[0] + sent[1];
	*lost = all ? 1 - (double)received / (double)all : 0;
	if (fine && (received == all || contender->loses_bytes))
		return true;
	return contender_fail(contender, "a stream broke, or bytes are missing: %llu sent, %llu arrived", (unsigned long long)all,
			      (unsigned long long)received);
}
