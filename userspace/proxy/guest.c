// SPDX-License-Identifier: Apache-2.0
/* Guests of both endpoints: how they come, wait, are matched and go.
 *
 * A waiting guest is named in the broker's table. Whoever takes it from there
 * (the second party's thread, or the main thread for an expired or refused
 * ticket) sends exactly one message to its worker: with `second` set it is
 * matched, otherwise let go. Only if its own broker_leave() succeeds does it end
 * without one. So a guest is never touched by two threads at a time, and the
 * pair is always joined on the first party's worker. A first party that dies
 * between match and join is joined all the same: the relay hands its end on. */
#include "proxy/guest.h"

#include "base/address.h"
#include "base/instant.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void count_guests(struct endpoint *endpoint, int change)
{
	pthread_mutex_lock(&endpoint->lock);
	endpoint->guests += (unsigned)change;
	if (endpoint->guests == 0)
		pthread_cond_broadcast(&endpoint->changed);
	pthread_mutex_unlock(&endpoint->lock);
}

static struct crowd *crowd_of(const struct guest *guest)
{
	return &guest->worker->crowds[guest->state == GUEST_SHAKES];
}

void guest_set_state(struct guest *guest, enum guest_state state)
{
	struct endpoint *endpoint = guest->worker->endpoint;

	crowd_leave(crowd_of(guest), &guest->place);
	atomic_fetch_add(&endpoint->in_state[state], 1);
	atomic_fetch_sub(&endpoint->in_state[guest->state], 1);
	guest->state = state;
}

void guest_attach(struct guest *guest, struct worker *worker, enum guest_state state)
{
	guest->worker = worker;
	guest->state = state;
	LIST_INSERT_HEAD(&worker->guests, guest, link);
	atomic_fetch_add(&worker->endpoint->in_state[state], 1);
}

/* But it stays watched. */
static void leave_worker(struct guest *guest)
{
	if (guest->tls)
		tls_guest_detach(guest);
	loop_timer_cancel(guest->worker->loop, &guest->timer);
	LIST_REMOVE(guest, link);
	crowd_leave(crowd_of(guest), &guest->place);
	atomic_fetch_sub(&guest->worker->endpoint->in_state[guest->state], 1);
}

void guest_detach(struct guest *guest)
{
	leave_worker(guest);
	loop_watch_remove(guest->worker->loop, &guest->watch);
}

void guest_free(struct guest *guest)
{
	struct endpoint *endpoint = guest->worker->endpoint;

	if (guest->tls)
		tls_guest_free(guest);
	if (guest->fd >= 0) {
		loop_watch_forget(guest->worker->loop, &guest->watch);
		close(guest->fd);
	}
	token_wipe(&guest->token);
	free(guest);
	count_guests(endpoint, -1); /* last: endpoint_stop() may return now */
}

void guest_refuse(struct guest *guest, enum outcome outcome, const char *detail)
{
	refusals_note(guest->worker->endpoint->options.refusals, guest->tls, &guest->peer.any, outcome, detail);
	if (guest->tls && tls_guest_say_goodbye(guest, outcome, detail))
		return;
	guest_detach(guest);
	guest_free(guest);
}

/* ---- match ---- */

static void guest_receive(struct loop_message *message)
{
	struct guest *guest = GUEST_OF(message, message);

	if (!guest->second) {
		guest_refuse(guest, guest->outcome, NULL);
		return;
	}
	struct guest *guests[2] = {guest, guest->second};
	if (guest->tls || guest->second->tls)
		guest_detach(guest);
	else
		leave_worker(guest); /* the relay takes its watch over */
	settling_begin(guest->worker, guests);
}

static void guest_matched(struct guest *guest, const struct ticket_match *match)
{
	struct guest *first = match->first;

	guest_detach(guest);
	/* Nothing on the wire says which of two plain parties is which. By the order of
	 * the protocol the callee connects before the requester learns the token. */
	guest->ticket = match->ticket;
	guest->is_callee = !match->first_is_callee;
	first->second = guest;
	if (first->worker == guest->worker)
		guest_receive(&first->message);
	else
		loop_post(first->worker->loop, &first->message);
}

static void guest_ready(struct loop_watch *watch, uint32_t events);

static void watch_guest(struct guest *guest, uint32_t events)
{
	struct loop *loop = guest->worker->loop;
	int error = guest->watch.slot ? loop_watch_change(loop, &guest->watch, events)
				      : loop_watch_add(loop, &guest->watch, guest->fd, events, guest_ready);

	if (!error)
		return;
	if (guest->state == GUEST_WAITS)
		guest_leave(guest, OUTCOME_NO_RESOURCES, strerror(-error));
	else
		guest_refuse(guest, OUTCOME_NO_RESOURCES, strerror(-error));
}

void guest_arrive(struct guest *guest, unsigned seats)
{
	struct endpoint *endpoint = guest->worker->endpoint;
	struct ticket_match match;

	loop_timer_cancel(guest->worker->loop, &guest->timer);
	guest->message.receive = guest_receive; /* from here on it may be sent */
	/* Before it is in the table: afterwards another thread may take it. */
	guest_set_state(guest, GUEST_WAITS);

	switch (broker_arrive_for(endpoint->options.broker, &guest->key, seats, guest, clock_now_ms(), &match)) {
	case ARRIVAL_UNKNOWN:
		guest_refuse(guest, OUTCOME_UNKNOWN_TOKEN, NULL);
		return;
	case ARRIVAL_TAKEN:
		guest_refuse(guest, OUTCOME_WRONG_OPERATOR, "the operator's connection is there already");
		return;
	case ARRIVAL_MATCHED:
		guest_matched(guest, &match);
		return;
	case ARRIVAL_WAITS:
		/* Its end raises an event even if it has come already. */
		watch_guest(guest, guest->tls ? tls_guest_waiting_events(guest) : EPOLLRDHUP);
		return;
	}
}

void guest_leave(struct guest *guest, enum outcome outcome, const char *detail)
{
	struct ticket_ending ending;
	char peer[ADDRESS_TEXT_SIZE];

	if (broker_leave(guest->worker->endpoint->options.broker, &guest->key, guest, &ending)) {
		guest_set_state(guest, GUEST_TAKEN);
		loop_watch_remove(guest->worker->loop, &guest->watch);
		return;
	}
	log_info("ticket %llu of %s to %s ended %s: %s (%s%s%s)", (unsigned long long)ending.ticket.id,
		 ending.ticket.requester, ending.ticket.callee, outcome_word(ending.outcome),
		 outcome_sentence(ending.outcome), address_format(&guest->peer.any, peer), detail ? ", " : "",
		 detail ? detail : "");
	if (outcome != OUTCOME_IMPATIENT) {
		guest_refuse(guest, outcome, detail);
		return;
	}
	guest_detach(guest);
	guest_free(guest);
}

/* ---- plain guests ---- */

static void await_token(struct guest *guest)
{
	guest_arm(guest, guest->worker->endpoint->options.token_timeout_ms);
	watch_guest(guest, guest->tls ? tls_guest_shaking_events() : EPOLLIN | EPOLLRDHUP);
}

static void guest_read(struct guest *guest)
{
	struct endpoint *endpoint = guest->worker->endpoint;

	while (guest->token_bytes < TOKEN_SIZE) {
		ssize_t got = recv(guest->fd, guest->token.bytes + guest->token_bytes,
				   TOKEN_SIZE - guest->token_bytes, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN) {
			if (!guest->watch.slot)
				await_token(guest);
			return;
		}
		if (got <= 0) {
			guest_refuse(guest, OUTCOME_NO_TOKEN, got == 0 ? "it closed" : strerror(errno));
			return;
		}
		guest->token_bytes += (unsigned)got;
	}
	guest->key = broker_key(endpoint->options.broker, &guest->token);
	token_wipe(&guest->token);
	guest_arrive(guest, SEAT_ANY);
}

static void guest_ready(struct loop_watch *watch, uint32_t events)
{
	struct guest *guest = GUEST_OF(watch, watch);

	if (guest->state == GUEST_SETTLES)
		settling_ready(guest);
	else if (guest->tls)
		tls_guest_ready(guest, events);
	else if (guest->state == GUEST_READS)
		guest_read(guest);
	else if (guest->state == GUEST_WAITS)
		guest_leave(guest, OUTCOME_IMPATIENT, NULL);
}

static void guest_timeout(struct loop_timer *timer)
{
	struct guest *guest = GUEST_OF(timer, timer);
	char detail[48];

	if (guest->state == GUEST_SETTLES) {
		settling_timeout(guest);
	} else if (guest->tls) {
		tls_guest_timeout(guest);
	} else {
		snprintf(detail, sizeof detail, "%u of %u bytes came", guest->token_bytes, TOKEN_SIZE);
		guest_refuse(guest, OUTCOME_NO_TOKEN, detail);
	}
}

void guest_arm(struct guest *guest, unsigned timeout_ms)
{
	loop_timer_arm(guest->worker->loop, &guest->timer, clock_now_ns() + timeout_ms * 1000000ull, guest_timeout);
}

/* ---- coming in ---- */

static bool is_overfull(struct endpoint *endpoint)
{
	return atomic_load(&endpoint->in_state[GUEST_READS]) + atomic_load(&endpoint->in_state[GUEST_SHAKES]) +
		       atomic_load(&endpoint->in_state[GUEST_IDENTIFIES]) >
	       endpoint->tokenless_max;
}

/* Too many connections without a token, or half-open handshakes: who sends most of them gives
 * one up, its oldest. Others lose none by a flood; and where everybody has sent one, an honest
 * party, who needs a few round trips, is through before its turn comes. */
static void turn_away(struct guest *victim)
{
	guest_refuse(victim, OUTCOME_NO_RESOURCES,
		     victim->state == GUEST_SHAKES ? "too many half-open handshakes, and most are from there"
						   : "too many connections without a token, and most are from there");
}

static struct guest *victim_of(const struct crowd *crowd)
{
	struct crowd_member *victim = crowd_victim(crowd);

	return victim ? GUEST_OF(victim, place) : NULL;
}

/* False: it was the newcomer itself who had to go. */
static bool make_room(struct guest *newcomer)
{
	struct worker *worker = newcomer->worker;

	/* Counted with the newcomer, which is never the oldest of those who have most: there are others. */
	if (crowd_is_full(crowd_of(newcomer)))
		turn_away(victim_of(crowd_of(newcomer)));
	if (!is_overfull(worker->endpoint))
		return true;
	/* Those that are being identified take up room, too. */
	struct guest *victim = victim_of(&worker->crowds[0]);
	if (!victim)
		victim = victim_of(&worker->crowds[1]);
	bool is_newcomer = victim == newcomer;
	turn_away(victim);
	return !is_newcomer;
}

static struct guest *guest_new(struct worker *worker, int fd, const struct sockaddr_in6 *peer, bool is_tls)
{
	struct guest *guest = calloc(1, sizeof *guest);
	struct source source;

	if (!guest)
		return NULL;
	guest->fd = fd;
	guest->peer.ipv6 = *peer;
	source_of(&guest->peer.any, &source);
	if (crowd_enter(&worker->crowds[is_tls], &guest->place, &source)) {
		free(guest);
		return NULL;
	}
	guest_attach(guest, worker, is_tls ? GUEST_SHAKES : GUEST_READS);
	count_guests(worker->endpoint, 1);
	return guest;
}

void guest_admit(struct worker *worker, int fd, const struct sockaddr_in6 *peer, bool is_tls)
{
	struct endpoint *endpoint = worker->endpoint;
	const struct sockaddr *address = (const struct sockaddr *)peer;

	atomic_fetch_add_explicit(is_tls ? &endpoint->tls_accepted : &endpoint->accepted, 1, memory_order_relaxed);
	if (!rate_limiter_admit(endpoint->options.limiter, address, time(NULL))) {
		close(fd);
		refusals_note(endpoint->options.refusals, is_tls, address, OUTCOME_RATE_LIMITED, NULL);
		return;
	}
	struct guest *guest = guest_new(worker, fd, peer, is_tls);
	if (!guest) {
		close(fd);
		refusals_note(endpoint->options.refusals, is_tls, address, OUTCOME_NO_RESOURCES, NULL);
		return;
	}
	if (!make_room(guest))
		return;
	if (!is_tls) {
		guest_read(guest); /* the token usually comes with the handshake's last packet */
		return;
	}
	int error = tls_guest_start(guest);
	if (error)
		guest_refuse(guest, OUTCOME_NO_RESOURCES, strerror(-error));
	else
		await_token(guest);
}
