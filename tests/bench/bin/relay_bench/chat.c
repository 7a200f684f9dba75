// SPDX-License-Identifier: Apache-2.0
/* Many pairs that chat: one end asks with 64 bytes, the other answers with 64 bytes, and
 * after a pause, if the workload has one, comes the next question. Askers and answerers
 * have two threads each, so that no thread of the client waits for another one. What is
 * counted is messages, two for each question that was answered. */
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

#define MESSAGE_SIZE 64
#define THREADS_A_SIDE 2
#define WARM_UP_S 0.3
#define QUIET_MS 20000

struct talker {
	int fd;
	unsigned partial;    /* bytes of a message that have come */
	uint64_t asked_ns;   /* askers: when the question under way was sent */
	uint64_t due_ns;     /* askers: when the next one is to be sent */
	struct talker *next; /* in the queue of those that pause; the pause is the same for all */
};

struct party { /* a thread and its ends of pairs */
	pthread_t thread;
	struct talker *talkers;
	size_t count;
	bool asks;
	uint64_t pause_ns;
	const atomic_bool *stop;
	const atomic_bool *measures;
	_Atomic uint64_t answered;
	uint64_t sent;
	size_t open; /* questions under way */
	struct talker *first, *last;
	struct sample_list times;
	bool failed;
};

static bool say(struct party *party, struct talker *talker)
{
	char message[MESSAGE_SIZE];

	memset(message, 'm', sizeof message);
	party->sent++;
	if (send(talker->fd, message, sizeof message, MSG_NOSIGNAL) == (ssize_t)sizeof message)
		return true;
	party->failed = true;
	return false;
}

static void ask(struct party *party, struct talker *talker)
{
	talker->asked_ns = sample_now_ns();
	if (say(party, talker))
		party->open++;
}

static void pause_talker(struct party *party, struct talker *talker, uint64_t due_ns)
{
	talker->due_ns = due_ns;
	talker->next = NULL;
	if (party->last)
		party->last->next = talker;
	else
		party->first = talker;
	party->last = talker;
}

static void ask_those_due(struct party *party, uint64_t now_ns)
{
	while (party->first && party->first->due_ns <= now_ns && !party->failed) {
		struct talker *talker = party->first;
		party->first = talker->next;
		if (!party->first)
			party->last = NULL;
		ask(party, talker);
	}
}

static void hear_answer(struct party *party, struct talker *talker)
{
	uint64_t now = sample_now_ns();

	party->open--;
	atomic_fetch_add_explicit(&party->answered, 1, memory_order_relaxed);
	if (atomic_load_explicit(party->measures, memory_order_relaxed))
		sample_add(&party->times, now - talker->asked_ns);
	if (atomic_load_explicit(party->stop, memory_order_relaxed))
		return;
	if (party->pause_ns)
		pause_talker(party, talker, now + party->pause_ns);
	else
		ask(party, talker);
}

/* Returns false at the end of the stream. */
static bool hear(struct party *party, struct talker *talker)
{
	char message[MESSAGE_SIZE];
	ssize_t count = recv(talker->fd, message, sizeof message - talker->partial, MSG_DONTWAIT);

	if (count <= 0) {
		party->failed |= count < 0 && errno != EAGAIN;
		return count < 0 && errno == EAGAIN;
	}
	talker->partial += (unsigned)count;
	if (talker->partial < MESSAGE_SIZE)
		return true;
	talker->partial = 0;
	if (party->asks)
		hear_answer(party, talker);
	else
		say(party, talker);
	return true;
}

static void wait_ns(uint64_t nanoseconds, struct timespec *wait)
{
	*wait = (struct timespec){ .tv_sec = (time_t)(nanoseconds / 1000000000u), .tv_nsec = (long)(nanoseconds % 1000000000u) };
}

/* Askers end when told to and all their questions are answered; answerers when the
 * other ends are gone. */
static void *chat(void *context)
{
	struct party *party = context;
	struct epoll_event events[64];
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	size_t live = party->count;

	for (size_t at = 0; at < party->count; at++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = &party->talkers[at] };
		epoll_ctl(epoll, EPOLL_CTL_ADD, party->talkers[at].fd, &event);
		if (party->asks) /* spread over the first pause */
			pause_talker(party, &party->talkers[at], sample_now_ns() + party->pause_ns * at / party->count);
	}
	while (!party->failed && live) {
		bool stop = atomic_load(party->stop);
		if (party->asks && stop && !party->open)
			break;
		uint64_t now = sample_now_ns(), until = now + QUIET_MS * 1000000ull;
		if (!stop) {
			ask_those_due(party, now);
			if (party->first)
				until = party->first->due_ns;
		}
		struct timespec wait;
		wait_ns(until > now ? until - now : 0, &wait);
		int count = epoll_pwait2(epoll, events, 64, &wait, NULL);
		for (int at = 0; at < count; at++)
			if (!hear(party, events[at].data.ptr)) {
				epoll_ctl(epoll, EPOLL_CTL_DEL, ((struct talker *)events[at].data.ptr)->fd, NULL);
				live--;
			}
		party->failed |= count == 0 && sample_now_ns() > now + QUIET_MS * 1000000ull / 2;
	}
	close(epoll);
	return NULL;
}

static uint64_t count_answers(struct party *parties)
{
	uint64_t answered = 0;

	for (int at = 0; at < THREADS_A_SIDE; at++)
		answered += atomic_load(&parties[at].answered);
	return answered;
}

bool workload_chat(struct contender *contender, const struct workload *workload, double seconds)
{
	struct party parties[2 * THREADS_A_SIDE];
	struct talker *talkers = calloc(2 * workload->pairs, sizeof *talkers);
	atomic_bool stop = false, measures = false;
	struct machine_time from, to;
	struct contender_round round = { .pairs = workload->pairs, .bytes = { workload->pairs, workload->pairs } };
	bool fine = contender_stock_tokens(contender, workload->pairs);

	memset(parties, 0, sizeof parties);
	for (size_t at = 0; fine && at < workload->pairs; at++) {
		int ends[2];
		fine = contender_open_pair(contender, ends);
		talkers[at].fd = ends[0];
		talkers[workload->pairs + at].fd = ends[1];
	}
	if (!fine || !contender_settle(contender, workload->pairs))
		return false;
	size_t share = workload->pairs / THREADS_A_SIDE;
	for (size_t at = 0; at < 2 * THREADS_A_SIDE; at++) {
		parties[at].talkers = talkers + at * share;
		parties[at].count = share;
		parties[at].asks = at < THREADS_A_SIDE;
		parties[at].pause_ns = workload->pause_us * 1000ull;
		parties[at].stop = &stop;
		parties[at].measures = &measures;
		pthread_create(&parties[at].thread, NULL, chat, &parties[at]);
	}
	sample_sleep(WARM_UP_S);
	uint64_t before = count_answers(parties);
	machine_time_take(&from);
	measures = true;
	sample_sleep(seconds);
	uint64_t answered = count_answers(parties) - before;
	machine_time_take(&to);
	measures = false;
	stop = true;
	struct sample_list times = { 0 };
	for (size_t at = 0; at < 2 * THREADS_A_SIDE; at++) {
		struct party *party = &parties[at];
		pthread_join(party->thread, NULL);
		fine &= !party->failed;
		round.bytes[!party->asks] += party->sent * MESSAGE_SIZE;
		for (size_t one = 0; one < party->times.count; one++)
			sample_add(&times, party->times.values[one]);
		sample_free(&party->times);
		for (size_t one = 0; one < party->count; one++)
			close(party->talkers[one].fd);
	}
	free(talkers);
	if (!fine)
		return contender_fail(contender, "a pair broke, or answers did not come");
	if (!contender_check(contender, &round))
		return false;
	figure(workload, contender, "cpu_us_per_message", machine_busy_seconds(&from, &to) * 1e6 / (2.0 * (double)answered));
	figure(workload, contender, "client_us_per_message", (double)(to.own_ns - from.own_ns) / 1e3 / (2.0 * (double)answered));
	figure(workload, contender, "messages_per_s", 2e9 * (double)answered / (double)(to.now_ns - from.now_ns));
	figure(workload, contender, "p50_us", (double)sample_percentile(&times, 0.5) / 1e3);
	figure(workload, contender, "p99_us", (double)sample_percentile(&times, 0.99) / 1e3);
	sample_free(&times);
	if (contender->kind == CONTENDER_OURS)
		figure(workload, contender, "redirected", round.redirected_share);
	return true;
}
