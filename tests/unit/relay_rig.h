// SPDX-License-Identifier: Apache-2.0
#pragma once
/* For tests of the relay: a relay of its own, connections to it over loopback,
 * and a record of how pairs ended. Everything waits for conditions with a
 * deadline. Included by one test program each. */
#include "relay/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define RIG_ENDS_MOST 4096
#define RIG_DEADLINE_MS 20000

struct rig {
	struct relay *relay;
	int listener;
	struct sockaddr_in6 address;
	socklen_t address_size;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct pair_report *ends;
	unsigned end_count;
};

struct rig_ends { /* one joined pair */
	int client[2];
	uint64_t id;
	int error;
};

static void rig_on_end(const struct pair_report *report, void *context)
{
	struct rig *rig = context;

	pthread_mutex_lock(&rig->lock);
	if (rig->end_count < RIG_ENDS_MOST)
		rig->ends[rig->end_count++] = *report;
	pthread_cond_broadcast(&rig->changed);
	pthread_mutex_unlock(&rig->lock);
}

static inline struct relay_settings rig_settings(unsigned planes)
{
	return (struct relay_settings){
		.workers = 2, .planes = planes, .pair_memory_bytes = 32 << 20, .max_pairs = 1024, .stop_deadline_ms = 0,
	};
}

static void (*rig_thread_started)(void *context);

static inline void rig_open_with(struct rig *rig, const struct relay_settings *settings, int family)
{
	struct relay_options options = { .settings = *settings, .ended = rig_on_end,
					 .thread_started = rig_thread_started, .context = rig };
	struct sockaddr_in *four = (struct sockaddr_in *)&rig->address;

	memset(rig, 0, sizeof *rig);
	pthread_mutex_init(&rig->lock, NULL);
	pthread_cond_init(&rig->changed, NULL);
	rig->ends = calloc(RIG_ENDS_MOST, sizeof *rig->ends);
	assert_int_equal(relay_create(&options, &rig->relay), 0);
	rig->listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(rig->listener >= 0);
	assert_int_equal(relay_prepare_listener(rig->relay, rig->listener), 0);
	rig->address_size = family == AF_INET ? sizeof *four : sizeof rig->address;
	rig->address.sin6_family = (sa_family_t)family;
	if (family == AF_INET)
		four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		rig->address.sin6_addr = in6addr_loopback;
	assert_int_equal(bind(rig->listener, (struct sockaddr *)&rig->address, rig->address_size), 0);
	assert_int_equal(listen(rig->listener, 128), 0);
	assert_int_equal(getsockname(rig->listener, (struct sockaddr *)&rig->address, &rig->address_size), 0);
}

static inline void rig_close(struct rig *rig)
{
	relay_stop(rig->relay);
	relay_free(rig->relay);
	close(rig->listener);
	free(rig->ends);
	pthread_cond_destroy(&rig->changed);
	pthread_mutex_destroy(&rig->lock);
}

/* Skips the test where the relay has no sockmap plane. */
static inline void rig_need_sockmap(struct rig *rig)
{
	if (relay_probed(rig->relay)->planes[PLANE_SOCKMAP])
		return;
	print_message("no sockmap here\n");
	rig_close(rig);
	skip();
}

static inline void rig_connect(struct rig *rig, int *client, int *relay_end)
{
	*client = socket(rig->address.sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(*client, (struct sockaddr *)&rig->address, rig->address_size), 0);
	*relay_end = accept4(rig->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(*relay_end >= 0);
}

struct rig_join_message {
	struct loop_message message; /* first */
	struct rig *rig;
	unsigned worker;
	struct relay_party parties[2];
	uint64_t id;
	int error;
	sem_t done;
};

static void rig_receive_join(struct loop_message *message)
{
	struct rig_join_message *join = (struct rig_join_message *)message;

	join->error = relay_join(join->rig->relay, join->worker, join->parties, &join->id);
	sem_post(&join->done);
}

static inline int rig_join_sockets(struct rig *rig, unsigned worker, const int fds[2], const uint64_t bytes_read[2], uint64_t *id)
{
	struct rig_join_message join = { .rig = rig, .worker = worker };

	join.message.receive = rig_receive_join;
	for (unsigned i = 0; i < 2; i++) {
		join.parties[i].fd = fds[i];
		join.parties[i].bytes_read = bytes_read ? bytes_read[i] : 0;
		snprintf(join.parties[i].operator_name, RELAY_NAME_SIZE, "operator-%u", i);
	}
	sem_init(&join.done, 0, 0);
	loop_post(relay_worker_loop(rig->relay, worker), &join.message);
	while (sem_wait(&join.done) && errno == EINTR)
		;
	sem_destroy(&join.done);
	*id = join.id;
	return join.error;
}

static inline void rig_join(struct rig *rig, unsigned worker, struct rig_ends *ends)
{
	int fds[2];

	for (unsigned i = 0; i < 2; i++)
		rig_connect(rig, &ends->client[i], &fds[i]);
	assert_int_equal(rig_join_sockets(rig, worker, fds, NULL, &ends->id), 0);
}

static inline void rig_close_ends(const struct rig_ends *ends)
{
	for (unsigned i = 0; i < 2; i++)
		close(ends->client[i]);
}

/* The report of the pair's end; fails the test if it does not come. */
static inline struct pair_report rig_wait_end(struct rig *rig, uint64_t id)
{
	struct timespec deadline;
	struct pair_report report = { 0 };
	int found = -1, error = 0;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += RIG_DEADLINE_MS / 1000;
	pthread_mutex_lock(&rig->lock);
	for (;;) {
		for (unsigned i = 0; i < rig->end_count && found < 0; i++)
			if (rig->ends[i].id == id)
				found = (int)i;
		if (found >= 0 || error)
			break;
		error = pthread_cond_timedwait(&rig->changed, &rig->lock, &deadline);
	}
	if (found >= 0)
		report = rig->ends[found];
	pthread_mutex_unlock(&rig->lock);
	if (found < 0)
		fail_msg("pair %llu did not end", (unsigned long long)id);
	return report;
}

/* Waits until `is_so` holds for the live pair. */
static inline struct pair_report rig_wait_pair(struct rig *rig, uint64_t id, bool (*is_so)(const struct pair_report *report))
{
	struct pair_report report;

	for (unsigned waited = 0; waited < RIG_DEADLINE_MS; waited++) {
		assert_int_equal(relay_find_pair(rig->relay, id, &report), 0);
		if (is_so(&report))
			return report;
		poll(NULL, 0, 1);
	}
	fail_msg("pair %llu did not come into the state waited for", (unsigned long long)id);
	return report;
}

static inline bool rig_is_open(const struct pair_report *report)
{
	if (report->plane != PLANE_SOCKMAP)
		return strncmp(report->plane_reason, "young", 5) != 0;
	return report->directions[0].gate == GATE_STATE_OPEN && report->directions[1].gate == GATE_STATE_OPEN;
}

/* A stream of bytes that both ends can compute. */
static inline void rig_fill(uint8_t *bytes, size_t size, uint64_t seed, uint64_t position)
{
	for (size_t i = 0; i < size; i++) {
		uint64_t word = (position + i) / 8 * 0x9e3779b97f4a7c15ull + seed;

		word ^= word >> 29;
		word *= 0xbf58476d1ce4e5b9ull;
		bytes[i] = (uint8_t)(word >> ((position + i) % 8 * 8));
	}
}

static inline bool rig_send_all(int fd, const void *bytes, size_t size)
{
	size_t sent = 0;

	while (sent < size) {
		ssize_t part = send(fd, (const char *)bytes + sent, size - sent, MSG_NOSIGNAL);

		if (part < 0)
			return false;
		sent += (size_t)part;
	}
	return true;
}

static inline bool rig_receive_all(int fd, void *bytes, size_t size)
{
	size_t got = 0;

	while (got < size) {
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		ssize_t part;

		if (poll(&poll_fd, 1, RIG_DEADLINE_MS) <= 0)
			return false;
		part = recv(fd, (char *)bytes + got, size - got, 0);
		if (part <= 0)
			return false;
		got += (size_t)part;
	}
	return true;
}

/* Bytes may come before the reset. */
static inline void rig_expect_reset(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	char bytes[4096];
	ssize_t size;

	do {
		assert_int_equal(poll(&poll_fd, 1, RIG_DEADLINE_MS), 1);
		size = recv(fd, bytes, sizeof bytes, 0);
	} while (size > 0);
	assert_int_equal(size, -1);
	assert_int_equal(errno, ECONNRESET);
}

struct rig_stream { /* one direction, driven by two threads */
	int from, to;
	uint64_t seed, size;
	unsigned write_most, read_most; /* bytes a call */
	unsigned write_pause_us, read_pause_us; /* most; now and then */
	bool half_close;
	const char *problem; /* NULL: right */
	uint64_t received;
};

static inline void rig_pause(unsigned *state, unsigned most_us)
{
	if (most_us && rand_r(state) % 8 == 0)
		usleep((unsigned)rand_r(state) % most_us);
}

static inline void *rig_write_stream(void *argument)
{
	struct rig_stream *stream = argument;
	unsigned state = (unsigned)stream->seed;
	uint8_t *bytes = malloc(stream->write_most);

	for (uint64_t done = 0; done < stream->size;) {
		size_t size = 1 + (size_t)rand_r(&state) % stream->write_most;

		if (size > stream->size - done)
			size = (size_t)(stream->size - done);
		rig_fill(bytes, size, stream->seed, done);
		if (!rig_send_all(stream->from, bytes, size)) {
			stream->problem = "cannot send";
			break;
		}
		done += size;
		rig_pause(&state, stream->write_pause_us);
	}
	if (stream->half_close)
		shutdown(stream->from, SHUT_WR);
	free(bytes);
	return NULL;
}

static inline void *rig_read_stream(void *argument)
{
	struct rig_stream *stream = argument;
	unsigned state = (unsigned)stream->seed + 1;
	uint8_t *bytes = malloc(stream->read_most), *wanted = malloc(stream->read_most);

	while (!stream->problem) {
		struct pollfd poll_fd = { .fd = stream->to, .events = POLLIN };
		size_t most = 1 + (size_t)rand_r(&state) % stream->read_most;
		ssize_t size;

		if (!stream->half_close && stream->received == stream->size)
			break;
		if (poll(&poll_fd, 1, RIG_DEADLINE_MS) <= 0) {
			stream->problem = "nothing came";
			break;
		}
		size = recv(stream->to, bytes, most, 0);
		if (size < 0) {
			stream->problem = "cannot receive";
		} else if (size == 0) {
			if (stream->received != stream->size || !stream->half_close)
				stream->problem = "early end";
			break;
		} else {
			rig_fill(wanted, (size_t)size, stream->seed, stream->received);
			if (memcmp(bytes, wanted, (size_t)size) != 0)
				stream->problem = "wrong bytes";
			stream->received += (uint64_t)size;
			if (stream->received > stream->size)
				stream->problem = "too many bytes";
			rig_pause(&state, stream->read_pause_us);
		}
	}
	free(bytes);
	free(wanted);
	return NULL;
}

/* Runs all streams at once and fails the test if one of them went wrong. */
static inline void rig_run_streams(struct rig_stream *streams, unsigned count)
{
	pthread_t threads[64];

	assert_true(count <= 32);
	for (unsigned i = 0; i < count; i++) {
		pthread_create(&threads[2 * i], NULL, rig_write_stream, &streams[i]);
		pthread_create(&threads[2 * i + 1], NULL, rig_read_stream, &streams[i]);
	}
	for (unsigned i = 0; i < 2 * count; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < count; i++)
		if (streams[i].problem)
			fail_msg("stream %u: %s after %llu of %llu bytes", i, streams[i].problem,
				 (unsigned long long)streams[i].received, (unsigned long long)streams[i].size);
}
