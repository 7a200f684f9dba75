// SPDX-License-Identifier: Apache-2.0
/* From the match to the join, for pairs of which at least one party came over
 * TLS: each such party gets its answer, and one that is handed off exchanges
 * close_notify with us. Each direction changes by itself: what a party sends
 * behind its close_notify, and what the other one sends already, waits in the
 * kernel until the relay has both sockets.
 *
 * A party that does not do its part within the time for a token takes the other
 * one with it: that one was told "joined", so both are reset, never ended as if
 * all had been well. */
#include "proxy/guest.h"

#include "base/address.h"
#include "base/log.h"
#include "relay/ktls.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static struct relay_party party_of(struct guest *guest)
{
	const struct ticket *ticket = &guest->ticket;
	struct relay_party party = {.fd = guest->fd, .watch = &guest->watch, .transport = TRANSPORT_PLAIN, .bytes_read = TOKEN_SIZE,
				    .asked = !guest->is_callee, .peer = guest->peer.ipv6};

	snprintf(party.operator_name, sizeof party.operator_name, "%s",
		 guest->is_callee ? ticket->callee : ticket->requester);
	if (guest->tls) {
		party.bytes_read = outer_bytes_read(&guest->tls->session);
		party.bytes_written = outer_bytes_written(&guest->tls->session);
		party.transport = guest->tls->is_handed_off ? TRANSPORT_HANDED_OFF : TRANSPORT_TLS;
		if (!guest->tls->is_handed_off) {
			party.tls = outer_take(&guest->tls->session);
			party.secrets = ktls_secrets_take(party.tls);
		}
	}
	guest->fd = -1;
	return party;
}

/* Joins two detached guests and frees them. */
static void join(struct worker *worker, struct guest *guests[2])
{
	struct endpoint *endpoint = worker->endpoint;
	const struct ticket *ticket = &guests[0]->ticket;
	struct relay_party parties[2] = {party_of(guests[0]), party_of(guests[1])};
	uint64_t pair_id;
	int error = relay_join(endpoint->options.relay, worker->index, parties, &pair_id);

	if (error) {
		broker_pair_over(endpoint->options.broker, ticket->requester);
		refusals_note(endpoint->options.refusals, guests[1]->tls, &guests[1]->peer.any, OUTCOME_NO_RESOURCES,
			      strerror(-error));
	} else {
		log_debug("ticket %llu: pair %llu joined, %s and %s", (unsigned long long)ticket->id,
			  (unsigned long long)pair_id, ticket->callee, ticket->requester);
	}
	guest_free(guests[1]);
	guest_free(guests[0]);
}

static void reset(struct guest *guest)
{
	struct linger at_once = {1, 0};

	setsockopt(guest->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	guest_detach(guest);
	guest_free(guest);
}

static void fail(struct guest *guest, enum outcome outcome, const char *reason)
{
	struct guest *partner = guest->partner;
	struct endpoint *endpoint = guest->worker->endpoint;
	char detail[256];

	snprintf(detail, sizeof detail, "%s of ticket %llu: %s",
		 guest->is_callee ? guest->ticket.callee : guest->ticket.requester, (unsigned long long)guest->ticket.id,
		 reason);
	refusals_note(endpoint->options.refusals, guest->tls, &guest->peer.any, outcome, detail);
	broker_pair_over(endpoint->options.broker, guest->ticket.requester);
	reset(guest);
	reset(partner);
}

static void settled(struct guest *guest)
{
	struct guest *partner = guest->partner;
	struct worker *worker = guest->worker;

	guest->is_settled = true;
	loop_watch_remove(worker->loop, &guest->watch);
	loop_timer_cancel(worker->loop, &guest->timer);
	if (!partner->is_settled)
		return;
	struct guest *guests[2] = {guest->second ? guest : partner, guest->second ? partner : guest};
	guest_detach(guests[0]);
	guest_detach(guests[1]);
	join(worker, guests);
}

void settling_ready(struct guest *guest)
{
	struct tls_guest *tls = guest->tls;
	enum outer_step step = OUTER_DONE;

	if (tls->session.has_broken_rules) {
		fail(guest, OUTCOME_BAD_HELLO, tls->session.reason);
		return;
	}
	if (tls->settle == SETTLE_ANSWERS) {
		step = outer_write(&tls->session);
		if (step == OUTER_DONE)
			tls->settle = SETTLE_CLOSES;
	}
	if (step == OUTER_DONE && tls->is_handed_off && tls->settle == SETTLE_CLOSES) {
		step = outer_close_sending(&tls->session);
		if (step == OUTER_DONE)
			tls->settle = SETTLE_AWAITS_CLOSE;
	}
	if (step == OUTER_DONE && tls->is_handed_off)
		step = outer_close_receiving(&tls->session);
	switch (step) {
	case OUTER_DONE:
		settled(guest);
		return;
	case OUTER_WANTS_READ:
		loop_watch_change(guest->worker->loop, &guest->watch, EPOLLIN);
		return;
	case OUTER_WANTS_WRITE:
		loop_watch_change(guest->worker->loop, &guest->watch, EPOLLOUT);
		return;
	default:
		fail(guest, OUTCOME_NOT_HANDED_OFF, step == OUTER_ENDED ? "it ended" : tls->session.reason);
		return;
	}
}

void settling_timeout(struct guest *guest)
{
	fail(guest, OUTCOME_NOT_HANDED_OFF, "it did not send close_notify in time");
}

/* Puts the answer into the session. */
static void prepare_answer(struct guest *guest)
{
	struct relay_answer answer = {.version = RELAY_PROTOCOL_VERSION, .joined = true,
				      .handed_off = guest->tls->is_handed_off};
	uint8_t frame[RELAY_FRAME_MAX];

	outer_put(&guest->tls->session, frame, relay_answer_pack(&answer, frame));
}

void settling_begin(struct worker *worker, struct guest *guests[2])
{
	guests[0]->ticket = guests[1]->ticket;
	guests[0]->is_callee = !guests[1]->is_callee;
	if (worker->is_stopped) {
		for (unsigned i = 0; i < 2; i++) {
			if (guests[i]->tls)
				tls_guest_tell(guests[i], OUTCOME_SHUTDOWN, NULL);
			guest_free(guests[i]);
		}
		return;
	}
	if (!guests[0]->tls && !guests[1]->tls) {
		join(worker, guests);
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		guests[i]->partner = guests[!i];
		guest_attach(guests[i], worker, GUEST_SETTLES);
		guests[i]->is_settled = !guests[i]->tls;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (!guests[i]->tls)
			continue;
		prepare_answer(guests[i]);
		guest_arm(guests[i], worker->endpoint->options.token_timeout_ms);
		/* Writable at once: the steps begin from the loop, one after the other. */
		int error = loop_watch_add(worker->loop, &guests[i]->watch, guests[i]->fd, EPOLLOUT,
					   guests[i]->watch.ready);
		if (error) {
			fail(guests[i], OUTCOME_NO_RESOURCES, strerror(-error));
			return;
		}
	}
}
