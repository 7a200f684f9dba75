// SPDX-License-Identifier: Apache-2.0
/* Complete joins: one party connects and shows its ticket, the other one connects and shows
 * it too with the first byte of its stream behind, and the join is complete when the first
 * party has the byte. Where the relay answers a party, the second one comes when the first
 * has its answer. Then both close and the next join takes their place, so that always
 * as many are in flight as the workload says; in a storm there is no next one. Tickets
 * are fetched before. */
#include "contender.h"
#include "sample.h"
#include "workload.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_THREADS 2
#define STOCK_A_SECOND 20000
#define LOOK_S 0.002
#define WARM_UP_SHARE 0.1
#define QUIET_MS 10000
#define FIRST_ADDRESS 0x7f000002u /* 127.0.0.2 */
#define ADDRESSES 60

struct join {
	int ends[2];
	uint64_t begun_ns;
	struct ticket ticket;
	size_t heard[2];
	uint8_t bytes[2][REPLY_MAX + 1];
};

struct joining;

struct joiner {
	pthread_t thread;
	struct joining *joining;
	struct join *joins;
	unsigned count, number;
	int epoll;
	_Atomic uint64_t complete, refused;
	struct sample_list times;
	const char *failure; /* NULL: none; with `error` */
	int error;
};

struct joining {
	struct contender *contender;
	pthread_mutex_t lock; /* of the tickets */
	struct join *joins;
	struct joiner joiners[MOST_THREADS];
	size_t in_flight;
	unsigned threads;
	bool once; /* a storm */
	atomic_bool stop, measures;
};

/* The first one is told; what comes behind it follows from it. */
static void fail(struct joiner *joiner, const char *what, int error)
{
	if (joiner->failure)
		return;
	joiner->failure = what;
	joiner->error = error;
}

static bool watch(const struct joiner *joiner, const struct join *join, int side)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 2 * (uint64_t)(join - joiner->joins) + (unsigned)side };

	return !epoll_ctl(joiner->epoll, EPOLL_CTL_ADD, join->ends[side], &event);
}

/* The second party sends the first byte of its stream right behind. */
static bool show(const struct joiner *joiner, struct join *join, int side)
{
	uint8_t bytes[sizeof join->ticket.shown[0] + 1] = { 0 };
	size_t size = join->ticket.size + (side ? 1 : 0);
	uint32_t number = joiner->number + (uint32_t)(join - joiner->joins) * MOST_THREADS;
	uint32_t address = place_is_loopback(PLACE_RELAY) ? FIRST_ADDRESS + number % ADDRESSES : 0;

	memcpy(bytes, join->ticket.shown[side], join->ticket.size);
	bytes[join->ticket.size] = 'x';
	join->ends[side] = contender_dial(joiner->joining->contender, side, address);
	if (join->ends[side] < 0)
		return false;
	return send(join->ends[side], bytes, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* Whether one began: the tickets may be used up. */
static bool begin(struct joiner *joiner, struct join *join)
{
	struct joining *joining = joiner->joining;
	bool answers = joining->contender->kind->reply_size;

	pthread_mutex_lock(&joining->lock);
	bool fine = contender_tickets_left(joining->contender) && contender_ticket(joining->contender, &join->ticket);
	pthread_mutex_unlock(&joining->lock);
	if (!fine)
		return false;
	join->heard[0] = join->heard[1] = 0;
	join->ends[0] = join->ends[1] = -1;
	join->begun_ns = sample_now_ns();
	fine = show(joiner, join, 0) && (answers || show(joiner, join, 1)) && watch(joiner, join, 0);
	if (!fine)
		fail(joiner, "cannot begin", errno);
	return fine;
}

static void end(struct join *join)
{
	for (int side = 0; side < 2; side++)
		if (join->ends[side] >= 0)
			close(join->ends[side]);
}

static void complete(struct joiner *joiner, struct join *join)
{
	atomic_fetch_add(&joiner->complete, 1);
	if (atomic_load(&joiner->joining->measures))
		sample_add(&joiner->times, sample_now_ns() - join->begun_ns);
	end(join);
}

static void refuse(struct joiner *joiner, struct join *join)
{
	atomic_fetch_add(&joiner->refused, 1);
	end(join);
}

/* What a party has been sent: an answer, if the relay gives one, and then a byte. True: the join is over. */
static bool hear(struct joiner *joiner, struct join *join, int side)
{
	const struct contender_kind *kind = joiner->joining->contender->kind;
	size_t wanted = kind->reply_size + (side ? 0 : 1);
	ssize_t count = recv(join->ends[side], join->bytes[side] + join->heard[side], wanted - join->heard[side], 0);

	if (count > 0)
		join->heard[side] += (size_t)count;
	bool answered = kind->reply_size && join->heard[side] >= kind->reply_size;
	if (count <= 0 || (answered && memcmp(join->bytes[side], kind->reply, kind->reply_size) != 0)) {
		if (!kind->reply_size)
			fail(joiner, count ? "cannot hear" : "closed by the relay", count < 0 ? errno : 0);
		refuse(joiner, join);
		return true;
	}
	if (!side && join->heard[0] == wanted) {
		complete(joiner, join);
		return true;
	}
	if (side && join->heard[1] == wanted)
		epoll_ctl(joiner->epoll, EPOLL_CTL_DEL, join->ends[1], NULL);
	if (!side && join->heard[0] == kind->reply_size && join->ends[1] < 0)
		if (!show(joiner, join, 1) || !watch(joiner, join, 1))
			fail(joiner, "the second party cannot come", errno);
	return false;
}

static bool is_old_event(const struct join *join, int side)
{
	return join->ends[side] < 0;
}

static void *join_on(void *context)
{
	struct joiner *joiner = context;
	struct joining *joining = joiner->joining;
	struct epoll_event events[64];
	unsigned open = 0;

	for (unsigned at = 0; at < joiner->count && begin(joiner, &joiner->joins[at]); at++)
		open++;
	while (!joiner->failure && open) {
		int count = epoll_wait(joiner->epoll, events, 64, QUIET_MS);

		if (count <= 0)
			fail(joiner, "nothing comes", count ? errno : ETIMEDOUT);
		for (int at = 0; at < count && !joiner->failure; at++) {
			struct join *join = &joiner->joins[events[at].data.u64 / 2];
			int side = (int)(events[at].data.u64 % 2);

			if (is_old_event(join, side) || !hear(joiner, join, side))
				continue;
			join->ends[0] = join->ends[1] = -1;
			if (joining->once || atomic_load(&joining->stop) || !begin(joiner, join))
				open--;
		}
	}
	return NULL;
}

static uint64_t count_complete(const struct joining *joining)
{
	uint64_t count = 0;

	for (unsigned at = 0; at < joining->threads; at++)
		count += atomic_load(&joining->joiners[at].complete);
	return count;
}

static void start(struct joining *joining, struct contender *contender, size_t in_flight)
{
	*joining = (struct joining){ .contender = contender, .lock = PTHREAD_MUTEX_INITIALIZER, .in_flight = in_flight };
	joining->joins = calloc(in_flight, sizeof *joining->joins);
	for (size_t at = 0; at < in_flight; at++)
		joining->joins[at].ends[0] = joining->joins[at].ends[1] = -1;
	joining->threads = in_flight < MOST_THREADS ? (unsigned)in_flight : MOST_THREADS;
	for (unsigned at = 0; at < joining->threads; at++) {
		struct joiner *joiner = &joining->joiners[at];
		size_t from = in_flight * at / joining->threads, to = in_flight * (at + 1) / joining->threads;

		joiner->joining = joining;
		joiner->joins = joining->joins + from;
		joiner->count = (unsigned)(to - from);
		joiner->number = at;
		joiner->epoll = epoll_create1(EPOLL_CLOEXEC);
	}
}

static void let_go(struct joining *joining)
{
	for (unsigned at = 0; at < joining->threads; at++)
		pthread_create(&joining->joiners[at].thread, NULL, join_on, &joining->joiners[at]);
}

/* Waits for the joiners. False: a join did not come through. */
static bool finish(struct joining *joining, struct sample_list *times, uint64_t *refused)
{
	const char *failure = NULL;
	int error = 0;

	*times = (struct sample_list){ 0 };
	*refused = 0;
	atomic_store(&joining->stop, true);
	for (unsigned at = 0; at < joining->threads; at++) {
		struct joiner *joiner = &joining->joiners[at];

		pthread_join(joiner->thread, NULL);
		if (joiner->failure) {
			failure = joiner->failure;
			error = joiner->error;
		}
		*refused += atomic_load(&joiner->refused);
		for (size_t one = 0; one < joiner->times.count; one++)
			sample_add(times, joiner->times.values[one]);
		sample_free(&joiner->times);
		close(joiner->epoll);
	}
	/* Descriptors of a failure would be missing later. */
	for (size_t at = 0; at < joining->in_flight; at++)
		end(&joining->joins[at]);
	free(joining->joins);
	return !failure ||
	       contender_fail(joining->contender, "a join did not come through: %s: %s", failure, strerror(error));
}

static bool check(const struct joining *joining, struct contender *contender)
{
	uint64_t all = count_complete(joining);
	struct contender_round round = { .pairs = all, .bytes = { 0, all } };

	return contender_check(contender, &round);
}

static void say_latency(const struct workload *workload, struct contender *contender, struct sample_list *times, uint64_t refused)
{
	figure(workload->name, contender, "p50_us", (double)sample_percentile(times, 0.5) / 1e3);
	figure(workload->name, contender, "p99_us", (double)sample_percentile(times, 0.99) / 1e3);
	figure(workload->name, contender, "refused", (double)refused);
	sample_free(times);
}

static bool stock(struct contender *contender, const struct workload *workload, size_t count)
{
	uint64_t before = sample_now_ns();
	size_t left = contender_tickets_left(contender);

	if (!contender_stock(contender, count))
		return false;
	if (!left)
		figure(workload->name, contender, "tickets_per_s", (double)count * 1e9 / (double)(sample_now_ns() - before));
	return true;
}

bool workload_joins(struct contender *contender, const struct workload *workload, double seconds)
{
	size_t most = (size_t)(STOCK_A_SECOND * (seconds + workload_warm_up_s));
	struct joining joining;
	struct machine_time from, to;
	struct sample_list times;
	uint64_t refused;

	if (contender->most_tickets && most > contender->most_tickets)
		most = contender->most_tickets;
	if (!stock(contender, workload, most))
		return false;
	start(&joining, contender, workload->pairs);
	let_go(&joining);
	/* Warm until some time has passed, or a part of the tickets is used. */
	uint64_t warm_ns = sample_now_ns() + (uint64_t)(workload_warm_up_s * 1e9);
	while (sample_now_ns() < warm_ns && (double)count_complete(&joining) < WARM_UP_SHARE * (double)most)
		sample_sleep(LOOK_S);
	uint64_t before = count_complete(&joining), relay_ns = process_time_ns(contender->pid);
	machine_time_take(&from);
	atomic_store(&joining.measures, true);
	while (sample_now_ns() < from.now_ns + (uint64_t)(seconds * 1e9) && count_complete(&joining) + 2 * workload->pairs < most)
		sample_sleep(LOOK_S);
	uint64_t joined = count_complete(&joining) - before;
	machine_time_take(&to);
	relay_ns = process_time_ns(contender->pid) - relay_ns;
	atomic_store(&joining.measures, false);
	if (!finish(&joining, &times, &refused) || !check(&joining, contender))
		return false;
	figure(workload->name, contender, "joins_per_s", 1e9 * (double)joined / (double)(to.now_ns - from.now_ns));
	figure(workload->name, contender, "cpu_us_per_join", machine_busy_seconds(&from, &to) * 1e6 / (double)joined);
	figure(workload->name, contender, "client_us_per_join", (double)(to.own_ns - from.own_ns) / 1e3 / (double)joined);
	figure(workload->name, contender, "relay_us_per_join", (double)relay_ns / 1e3 / (double)joined);
	say_latency(workload, contender, &times, refused);
	return true;
}

bool workload_storm(struct contender *contender, const struct workload *workload, double seconds)
{
	struct joining joining;
	struct machine_time from, to;
	struct sample_list times;
	uint64_t refused;

	(void)seconds;
	if (!stock(contender, workload, workload->joins))
		return false;
	start(&joining, contender, workload->joins);
	joining.once = true;
	joining.measures = true;
	uint64_t relay_ns = process_time_ns(contender->pid);
	machine_time_take(&from);
	let_go(&joining);
	bool fine = finish(&joining, &times, &refused);
	machine_time_take(&to);
	relay_ns = process_time_ns(contender->pid) - relay_ns;
	if (!fine || !check(&joining, contender))
		return false;
	if (times.count + refused < workload->joins)
		return contender_fail(contender, "only %zu of %zu joins began", times.count + (size_t)refused,
				      workload->joins);
	figure(workload->name, contender, "all_ms", (double)(to.now_ns - from.now_ns) / 1e6);
	figure(workload->name, contender, "joins_per_s", 1e9 * (double)times.count / (double)(to.now_ns - from.now_ns));
	figure(workload->name, contender, "relay_us_per_join", (double)relay_ns / 1e3 / (double)times.count);
	say_latency(workload, contender, &times, refused);
	return true;
}
