// SPDX-License-Identifier: Apache-2.0
#include "talk.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MOST_THREADS 2 /* a side */
#define MOST_SIZE 65536
#define QUIET_NS 20000000000ull
#define LOST_AFTER_NS 1000000000ull /* where answers may be lost */

struct talker {
	struct end *end;
	size_t heard;        /* bytes of a message that have come */
	size_t unsaid;       /* bytes of a message still to be sent */
	bool waits;          /* until the socket takes them */
	uint64_t asked_ns;   /* askers: when the question under way was sent */
	uint64_t due_ns;     /* askers: when the next one is to be sent */
	struct talker *next; /* in the queue of those that pause; the pause is the same for all */
};

struct party { /* a thread and its ends of pairs */
	pthread_t thread;
	struct talk *talk;
	struct talker *talkers;
	size_t count;
	bool asks;
	int epoll;
	_Atomic uint64_t answered;
	uint64_t sent;
	size_t open; /* questions under way */
	struct talker *first, *last;
	struct sample_list times;
	bool failed;
	int error; /* of the end that failed, or 0 */
};

struct talk {
	struct crowd *crowd;
	size_t message_size;
	uint64_t pause_ns, answered_before;
	atomic_bool stop, measures;
	int askers_done; /* an eventfd */
	unsigned threads; /* a side */
	struct party parties[2 * MOST_THREADS];
	struct talker *talkers;
};

static char nothing[MOST_SIZE];

/* Anything but a call that would have had to wait is a broken pair. */
static void check_error(struct party *party, ssize_t count)
{
	if (count < 0 && errno == EAGAIN)
		return;
	party->failed = true;
	party->error = count < 0 ? errno : 0;
}

/* What the socket does not take at once is sent when it says so. */
static void say(struct party *party, struct talker *talker)
{
	while (talker->unsaid) {
		ssize_t count = end_send(talker->end, nothing, talker->unsaid);
		if (count <= 0) {
			check_error(party, count);
			break;
		}
		talker->unsaid -= (size_t)count;
		party->sent += (uint64_t)count;
	}
	if (talker->waits == (talker->unsaid > 0))
		return;
	talker->waits = talker->unsaid > 0;
	struct epoll_event event = { .events = EPOLLIN | (talker->waits ? (uint32_t)EPOLLOUT : 0), .data.ptr = talker };
	epoll_ctl(party->epoll, EPOLL_CTL_MOD, talker->end->fd, &event);
}

static void ask(struct party *party, struct talker *talker)
{
	talker->asked_ns = sample_now_ns();
	talker->unsaid = party->talk->message_size;
	party->open++;
	say(party, talker);
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
	if (atomic_load_explicit(&party->talk->measures, memory_order_relaxed))
		sample_add(&party->times, now - talker->asked_ns);
	if (atomic_load_explicit(&party->talk->stop, memory_order_relaxed))
		return;
	if (party->talk->pause_ns)
		pause_talker(party, talker, now + party->talk->pause_ns);
	else
		ask(party, talker);
}

/* One receive for an event, but all that TLS holds decrypted. */
static void hear(struct party *party, struct talker *talker)
{
	char message[MOST_SIZE];

	do {
		ssize_t count = end_receive(talker->end, message, party->talk->message_size - talker->heard);

		if (count <= 0) {
			check_error(party, count);
			return;
		}
		talker->heard += (size_t)count;
		if (talker->heard < party->talk->message_size)
			continue;
		talker->heard = 0;
		if (party->asks) {
			hear_answer(party, talker);
		} else {
			talker->unsaid = party->talk->message_size;
			say(party, talker);
		}
	} while (!party->failed && end_has_bytes(talker->end));
}

static struct timespec span(uint64_t nanoseconds)
{
	return (struct timespec){ .tv_sec = (time_t)(nanoseconds / 1000000000u), .tv_nsec = (long)(nanoseconds % 1000000000u) };
}

static void join_in(struct party *party)
{
	uint64_t now = sample_now_ns();
	struct epoll_event done = { .events = EPOLLIN };

	if (!party->asks)
		epoll_ctl(party->epoll, EPOLL_CTL_ADD, party->talk->askers_done, &done);
	for (size_t at = 0; at < party->count; at++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = &party->talkers[at] };
		epoll_ctl(party->epoll, EPOLL_CTL_ADD, party->talkers[at].end->fd, &event);
		if (party->asks) /* spread over the first pause */
			pause_talker(party, &party->talkers[at], now + party->talk->pause_ns * at / party->count);
	}
}

/* Askers end when told to and all their questions are answered; answerers when the askers
 * have ended. */
static void *chat(void *context)
{
	struct party *party = context;
	struct talk *talk = party->talk;
	struct epoll_event events[64];
	uint64_t last_ns = sample_now_ns(), quiet_ns = talk->crowd->contender->loses_bytes ? LOST_AFTER_NS : QUIET_NS;

	join_in(party);
	while (!party->failed) {
		bool stop = atomic_load(&talk->stop);
		if (party->asks && stop && !party->open)
			break;
		uint64_t now = sample_now_ns(), until = now + quiet_ns;
		if (!stop) {
			ask_those_due(party, now);
			if (party->first)
				until = party->first->due_ns;
		}
		struct timespec wait = span(until > now ? until - now : 0);
		int count = epoll_pwait2(party->epoll, events, 64, &wait, NULL);
		for (int at = 0; at < count && !party->failed; at++) {
			struct talker *talker = events[at].data.ptr;
			if (!talker)
				return NULL;
			if (events[at].events & EPOLLOUT)
				say(party, talker);
			if (events[at].events & ~(uint32_t)EPOLLOUT)
				hear(party, talker);
		}
		if (count > 0 || party->first)
			last_ns = sample_now_ns();
		if (sample_now_ns() < last_ns + quiet_ns)
			continue;
		if (stop && quiet_ns == LOST_AFTER_NS)
			break;
		party->failed |= quiet_ns == QUIET_NS;
	}
	return NULL;
}

struct talk *talk_start(struct crowd *crowd, size_t first, size_t count, size_t message_size, unsigned pause_us)
{
	struct talk *talk = calloc(1, sizeof *talk);

	talk->crowd = crowd;
	talk->askers_done = eventfd(0, EFD_CLOEXEC);
	talk->message_size = message_size;
	talk->pause_ns = pause_us * 1000ull;
	talk->threads = count < MOST_THREADS ? (unsigned)count : MOST_THREADS;
	talk->talkers = calloc(2 * count, sizeof *talk->talkers);
	for (size_t at = 0; at < 2 * count; at++) {
		talk->talkers[at].end = &crowd->pairs[first + at % count][at / count];
		end_set_blocking(talk->talkers[at].end, false);
	}
	for (unsigned at = 0; at < 2 * talk->threads; at++) {
		struct party *party = &talk->parties[at];
		unsigned share = at % talk->threads;
		size_t from = count * share / talk->threads, to = count * (share + 1) / talk->threads;

		party->talk = talk;
		party->asks = at < talk->threads;
		party->talkers = talk->talkers + (party->asks ? 0 : count) + from;
		party->count = to - from;
		party->epoll = epoll_create1(EPOLL_CLOEXEC);
		pthread_create(&party->thread, NULL, chat, party);
	}
	return talk;
}

static uint64_t count_answers(struct talk *talk)
{
	uint64_t answered = 0;

	for (unsigned at = 0; at < talk->threads; at++)
		answered += atomic_load(&talk->parties[at].answered);
	return answered;
}

void talk_measure(struct talk *talk)
{
	talk->answered_before = count_answers(talk);
	atomic_store(&talk->measures, true);
}

bool talk_stop(struct talk *talk, struct talk_figures *figures)
{
	uint64_t sent[2] = { 0 };
	bool fine = true;

	*figures = (struct talk_figures){ .answered = count_answers(talk) - talk->answered_before };
	atomic_store(&talk->measures, false);
	atomic_store(&talk->stop, true);
	for (unsigned at = 0; at < 2 * talk->threads; at++) {
		struct party *party = &talk->parties[at];

		pthread_join(party->thread, NULL);
		if (at + 1 == talk->threads)
			eventfd_write(talk->askers_done, 1);
		if (party->failed)
			fine = contender_fail(talk->crowd->contender, "a pair broke, or answers did not come (%s, %s)", party->asks ? "asker" : "answerer",
					      strerror(party->error));
		sent[!party->asks] += party->sent;
		for (size_t one = 0; one < party->times.count; one++)
			sample_add(&figures->times, party->times.values[one]);
		sample_free(&party->times);
		close(party->epoll);
	}
	crowd_count(talk->crowd, sent[0], sent[1]);
	close(talk->askers_done);
	free(talk->talkers);
	free(talk);
	return fine;
}
