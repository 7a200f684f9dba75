// SPDX-License-Identifier: Apache-2.0
#pragma once
/* A relay that only records what is joined, for one test program: it defines
 * the functions of relay/relay.h that the endpoint calls, with real loops. */
#include "relay/relay.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { WORKERS = 3, PAIRS_MAX = 4096 };
#define WAIT_MS 10000

struct pair {
	struct relay_party parties[2];
};

struct relay {
	struct loop *loops[WORKERS];
	pthread_t threads[WORKERS];
	pthread_mutex_t lock;
	pthread_cond_t joined;
	struct pair *pairs;
	unsigned count, taken;
	atomic_uint prepared;
	int join_error;
};

unsigned relay_worker_count(const struct relay *relay)
{
	(void)relay;
	return WORKERS;
}

struct loop *relay_worker_loop(const struct relay *relay, unsigned worker)
{
	return relay->loops[worker];
}

int relay_prepare_listener(const struct relay *relay, int fd)
{
	int listening = 1;
	socklen_t size = sizeof listening;

	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
	assert_false(listening); /* buffer sizes come before listen() */
	atomic_fetch_add(&((struct relay *)relay)->prepared, 1);
	return 0;
}

int relay_join(struct relay *relay, unsigned worker, const struct relay_party parties[2], uint64_t *pair_id)
{
	assert_true(pthread_equal(pthread_self(), relay->threads[worker]));
	for (unsigned i = 0; i < 2; i++)
		if (parties[i].watch)
			loop_watch_remove(relay_worker_loop(relay, worker), parties[i].watch);
	pthread_mutex_lock(&relay->lock);
	int error = relay->join_error;
	if (error) {
		close(parties[0].fd);
		close(parties[1].fd);
	} else {
		assert_true(relay->count < PAIRS_MAX);
		relay->pairs[relay->count++] = (struct pair){{parties[0], parties[1]}};
		*pair_id = relay->count;
		pthread_cond_broadcast(&relay->joined);
	}
	pthread_mutex_unlock(&relay->lock);
	return error;
}

static inline void *run_loop(void *loop)
{
	loop_run(loop);
	return NULL;
}

/* The next recorded pair; its descriptors are the test's. */
static inline struct pair take_pair(struct relay *relay)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_MS / 1000;
	pthread_mutex_lock(&relay->lock);
	while (relay->taken == relay->count)
		if (pthread_cond_timedwait(&relay->joined, &relay->lock, &until) == ETIMEDOUT)
			fail_msg("no pair was joined");
	struct pair pair = relay->pairs[relay->taken++];
	pthread_mutex_unlock(&relay->lock);
	return pair;
}

static inline void pair_close(const struct pair *pair)
{
	close(pair->parties[0].fd);
	close(pair->parties[1].fd);
}
