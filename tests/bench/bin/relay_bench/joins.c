// SPDX-License-Identifier: Apache-2.0
/* Complete joins: one party connects and shows its token, the other one connects and shows
 * it too with the first byte of its stream behind, and the join is complete when the first
 * party has the byte. Then both close and the next join takes their place, so that always
 * as many are in flight as the workload says. Tickets are fetched before. */
#include "sample.h"
#include "workload.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS 2
#define TOKEN_SIZE 32
#define STOCK_A_SECOND 20000
#define WARM_UP_S 0.2
#define QUIET_MS 5000
#define FIRST_ADDRESS 0x7f000002u /* 127.0.0.2 */

struct join {
	int ends[2];
	uint32_t address;
	uint64_t begun_ns;
};

struct joiner {
	pthread_t thread;
	struct contender *contender;
	pthread_mutex_t *token_lock;
	struct join joins[64];
	unsigned count;
	int epoll;
	const atomic_bool *stop, *measures;
	_Atomic uint64_t complete;
	struct sample_list times;
	bool failed;
};

static bool show(const struct joiner *joiner, struct join *join, int side, const uint8_t *bytes, size_t size)
{
	join->ends[side] = contender_dial(joiner->contender, join->address);
	return join->ends[side] >= 0 && send(join->ends[side], bytes, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static bool begin(struct joiner *joiner, struct join *join)
{
	uint8_t bytes[TOKEN_SIZE + 1] = { 0 };

	pthread_mutex_lock(joiner->token_lock);
	bool fine = contender_token(joiner->contender, bytes);
	pthread_mutex_unlock(joiner->token_lock);
	join->begun_ns = sample_now_ns();
	fine = fine && show(joiner, join, 0, bytes, TOKEN_SIZE) && show(joiner, join, 1, bytes, TOKEN_SIZE + 1);
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = join };
	return fine && !epoll_ctl(joiner->epoll, EPOLL_CTL_ADD, join->ends[0], &event);
}

static bool complete(struct joiner *joiner, struct join *join)
{
	char byte;

	if (recv(join->ends[0], &byte, 1, 0) != 1)
		return false;
	atomic_fetch_add(&joiner->complete, 1);
	if (atomic_load(joiner->measures))
		sample_add(&joiner->times, sample_now_ns() - join->begun_ns);
	close(join->ends[0]);
	close(join->ends[1]);
	return true;
}

static void *join_on(void *context)
{
	struct joiner *joiner = context;
	struct epoll_event events[64];
	unsigned open = 0;
	bool fine = true;

	while (fine && open < joiner->count)
		fine = begin(joiner, &joiner->joins[open]) && ++open;
	while (fine && open) {
		int count = epoll_wait(joiner->epoll, events, 64, QUIET_MS);
		fine = count > 0;
		for (int at = 0; at < count && fine; at++) {
			fine = complete(joiner, events[at].data.ptr);
			if (fine && atomic_load(joiner->stop))
				open--;
			else if (fine)
				fine = begin(joiner, events[at].data.ptr);
		}
	}
	joiner->failed = !fine;
	return NULL;
}

static uint64_t count_complete(const struct joiner *joiners)
{
	uint64_t count = 0;

	for (int at = 0; at < THREADS; at++)
		count += atomic_load(&joiners[at].complete);
	return count;
}

bool workload_joins(struct contender *contender, const struct workload *workload, double seconds)
{
	pthread_mutex_t token_lock = PTHREAD_MUTEX_INITIALIZER;
	struct joiner joiners[THREADS];
	struct machine_time from, to;
	atomic_bool stop = false, measures = false;

	memset(joiners, 0, sizeof joiners);
	if (!contender_stock_tokens(contender, (size_t)(STOCK_A_SECOND * (seconds + WARM_UP_S))))
		return false;
	for (unsigned at = 0; at < THREADS; at++) {
		struct joiner *joiner = &joiners[at];
		joiner->contender = contender;
		joiner->token_lock = &token_lock;
		joiner->count = (unsigned)workload->pairs / THREADS;
		for (unsigned one = 0; one < joiner->count; one++)
			joiner->joins[one].address = FIRST_ADDRESS + at * joiner->count + one;
		joiner->epoll = epoll_create1(EPOLL_CLOEXEC);
		joiner->stop = &stop;
		joiner->measures = &measures;
		pthread_create(&joiner->thread, NULL, join_on, joiner);
	}
	sample_sleep(WARM_UP_S);
	uint64_t before = count_complete(joiners);
	machine_time_take(&from);
	measures = true;
	sample_sleep(seconds);
	uint64_t joined = count_complete(joiners) - before;
	machine_time_take(&to);
	stop = true;
	struct sample_list times = { 0 };
	bool fine = true;
	for (int at = 0; at < THREADS; at++) {
		struct joiner *joiner = &joiners[at];
		pthread_join(joiner->thread, NULL);
		fine &= !joiner->failed;
		for (size_t one = 0; one < joiner->times.count; one++)
			sample_add(&times, joiner->times.values[one]);
		sample_free(&joiner->times);
		close(joiner->epoll);
	}
	uint64_t all = count_complete(joiners);
	struct contender_round round = { .pairs = all, .bytes = { 0, all } };
	if (!fine)
		return contender_fail(contender, "a join did not come through: %s", strerror(errno));
	if (!contender_check(contender, &round))
		return false;
	figure(workload, contender, "joins_per_s", 1e9 * (double)joined / (double)(to.now_ns - from.now_ns));
	figure(workload, contender, "p50_us", (double)sample_percentile(&times, 0.5) / 1e3);
	figure(workload, contender, "p99_us", (double)sample_percentile(&times, 0.99) / 1e3);
	figure(workload, contender, "cpu_us_per_join", machine_busy_seconds(&from, &to) * 1e6 / (double)joined);
	figure(workload, contender, "client_us_per_join", (double)(to.own_ns - from.own_ns) / 1e3 / (double)joined);
	sample_free(&times);
	return true;
}
