// SPDX-License-Identifier: Apache-2.0
/* A pair from the join to its end, and how events reach its two directions.
 *
 * Plain pairs (copy, splice) are watched for everything, edge-triggered, from
 * the beginning. Gated pairs (sockmap) are watched for as little as possible,
 * because an open gate must wake nobody: EPOLLIN only while a direction waits for
 * it, EPOLLOUT only while the opposite one does. Even a poll for the end alone costs
 * each packet a walk through the socket's waiters and the lock of the worker's epoll;
 * so a socket whose gates stay open rests: the kernel program announces its end.
 *
 * pair_end() is the only way out. Should a keeper ever hold duplicates of the
 * sockets, they have to be given up here first: indices and poll are free only
 * when the last descriptor is closed. Worker's thread only. */
#include "relay/worker.h"

#include "relay/gather.h"
#include "relay/pump.h"
#include "relay/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void reset_and_close(int fd)
{
	struct linger at_once = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	close(fd);
}

/* ---- events ---- */

static uint32_t wanted_events(struct side *side)
{
	uint32_t events = EPOLLET | EPOLLRDHUP;

	if (!side_pair(side)->gated)
		return events | EPOLLIN | EPOLLOUT | EPOLLPRI;
	if (side->waits & WAIT_READABLE)
		events |= EPOLLIN | EPOLLPRI;
	if (side_other(side)->waits & WAIT_WRITABLE)
		events |= EPOLLOUT;
	return events;
}

static void on_ready(struct loop_watch *watch, uint32_t events);

static void update_watch(struct side *side)
{
	uint32_t events = wanted_events(side);
	int error;

	if (side->rests && (side->waits || side_other(side)->waits))
		return side_stir(side);
	if (!side->watch.slot || events == side->watch.events)
		return;
	if (side->ended && !(events & ~side->watch.events))
		return; /* nothing more comes */
	error = loop_watch_change(side_pair(side)->worker->loop, &side->watch, events);
	if (error)
		pair_end(side_pair(side), OUTCOME_NO_RESOURCES, "epoll_ctl: %s", strerror(-error));
}

void side_rest(struct side *side)
{
	struct worker *worker = side_pair(side)->worker;

	if (side->rests || side->ending || !side->watch.slot || !worker->relay->object->endings)
		return;
	/* An end that was counted before the program sees `rests` is not announced, later ones are. */
	__atomic_store_n(&side->gate->rests, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&side->gate->endings, __ATOMIC_SEQ_CST)) {
		__atomic_store_n(&side->gate->rests, 0, __ATOMIC_RELAXED);
		return;
	}
	loop_watch_remove(worker->loop, &side->watch);
	side->rests = true;
}

void side_stir(struct side *side)
{
	struct pair *pair = side_pair(side);
	int error;

	if (!side->rests)
		return;
	side->rests = false;
	__atomic_store_n(&side->gate->rests, 0, __ATOMIC_RELAXED);
	/* What has happened meanwhile raises its event now. */
	error = loop_watch_add(pair->worker->loop, &side->watch, side->watch.fd, wanted_events(side), on_ready);
	if (error)
		pair_end(pair, OUTCOME_NO_RESOURCES, "epoll_ctl: %s", strerror(-error));
}

static void on_timer(struct loop_timer *timer)
{
	struct side *side = timer_side(timer);

	side->waits &= (uint8_t)~WAIT_TIMER;
	pair_pump(side);
}

void side_wait_for(struct side *side, unsigned waits, uint64_t due_ns)
{
	struct pair *pair = side_pair(side);

	if (waits & WAIT_TIMER)
		loop_timer_arm(pair->worker->loop, &side->timer, due_ns, on_timer);
	else
		loop_timer_cancel(pair->worker->loop, &side->timer);
	side->waits = (uint8_t)waits;
	if (!pair->gated)
		return;
	update_watch(side);
	if (!pair->over)
		update_watch(side_other(side));
}

static void on_ready(struct loop_watch *watch, uint32_t events)
{
	struct side *side = watch_side(watch), *other = side_other(side);
	struct pair *pair = side_pair(side);

	if (events & EPOLLERR) {
		int error = 0;
		socklen_t size = sizeof error;

		getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (session_is_through(side)) {
			loop_watch_remove(pair->worker->loop, &side->watch);
			return pair->closing ? ends_wait_for_tails(pair) : (void)0;
		}
		return session_fail(side, error ? error : ECONNRESET, "connection");
	}
	if (events & (EPOLLRDHUP | EPOLLHUP))
		side->ending = true;
	if (events & EPOLLPRI)
		side->urgent = true;
	if (pair->closing)
		return ends_wait_for_tails(pair);
	if (session_is_gathering(side))
		events &= ~(uint32_t)EPOLLIN;
	/* A side that holds bytes reads nothing before its target took them. */
	if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) && !(side->waits & WAIT_WRITABLE))
		pair_pump(side);
	if (!pair->over && (events & (EPOLLOUT | EPOLLHUP)) && (other->waits & WAIT_WRITABLE))
		pair_pump(other);
}

void pair_pump(struct side *side)
{
	struct pair *pair = side_pair(side);

	if (pair->over || pair->closing)
		return;
	buffers_guard(side);
	if (pair->gated) {
		if (pair->plane_reason == REASON_YOUNG || pair->plane_reason == REASON_JOINING)
			join_try(pair);
		if (!pair->over)
			gate_pump(side);
	} else if (side->session || side_other(side)->session) {
		session_pump(side);
	} else if (pair->plane == PLANE_SPLICE) {
		splice_pump(side);
	} else {
		copy_pump(side);
	}
	if (!pair->over)
		buffers_note_moved(side);
}

/* ---- beginning ---- */

static void choose_plane(struct pair *pair)
{
	struct relay *relay = pair->worker->relay;
	const bool *planes = relay->probe.planes;
	uint32_t index, generation;

	pair->plane = planes[PLANE_SPLICE] ? PLANE_SPLICE : PLANE_COPY;
	pair->plane_reason = REASON_BEST;
	if (pair->sides[0].session || pair->sides[1].session) {
		pair->plane = PLANE_COPY;
		pair->plane_reason = REASON_TLS;
		return;
	}
	if (!planes[PLANE_SOCKMAP] || !relay->object)
		return;
	if (slots_take(&relay->slots, &index, &generation)) {
		pair->plane_reason = REASON_NO_INDEX;
		return;
	}
	pair->gated = true;
	pair->plane = PLANE_COPY;
	pair->plane_reason = REASON_YOUNG;
	for (unsigned i = 0; i < 2; i++) {
		struct side *side = &pair->sides[i];

		side->index = index + i;
		side->generation = generation;
		side->gate = &relay->object->directions[side->index];
	}
	pair->worker->pairs[index / 2] = pair;
}

/* What must be asked of TCP is asked when the pair is to enter the map. */
static void prepare_gate(struct side *side, uint64_t target_written)
{
	struct worker *worker = side_pair(side)->worker;
	struct gate_direction *gate = side->gate;

	/* set_send_buffer() asks for no more. */
	side->lent_most = (uint32_t)(worker->relay->send_buffer_bytes < INT32_MAX ? worker->relay->send_buffer_bytes / 4 : INT32_MAX / 4);
	side->lent_far_most = side->lent_most;
	side->lent = (uint32_t)credit_lend_first(&worker->relay->budget, side->lent_most);
	side->base = target_written;
	/* Neither socket is in the map and the grace period has passed: no program runs on this slot. */
	memset(gate, 0, sizeof *gate);
	gate->credit = side->lent;
	gate->max_packets = credit_packets(side->lent);
	gate->memory = side->lent_most;
	gate->worker = worker->number;
	gate->base = side->base;
	gate->small_most = worker->relay->never_gathers ? 0 : GATHER_TICKS_MOST;
	gate->generation = side->generation;
	__atomic_store_n(&gate->gate, GATE_CLOSED, __ATOMIC_RELEASE);
}

/* Names are short, and a pair may be idle for a long time: only what they need. */
static struct pair *allocate(const struct relay_party parties[2])
{
	size_t sizes[2] = { strnlen(parties[0].operator_name, RELAY_NAME_SIZE - 1), strnlen(parties[1].operator_name, RELAY_NAME_SIZE - 1) };
	struct pair *pair = calloc(1, offsetof(struct pair, operator_names) + sizes[0] + sizes[1] + 2);

	if (pair) {
		memcpy(pair->operator_names, parties[0].operator_name, sizes[0]);
		memcpy(pair->operator_names + sizes[0] + 1, parties[1].operator_name, sizes[1]);
	}
	return pair;
}

static int watch_party(struct side *side, const struct relay_party *party)
{
	struct loop *loop = side_pair(side)->worker->loop;

	if (party->watch && party->watch->slot)
		return loop_watch_take(loop, &side->watch, party->watch, wanted_events(side), on_ready);
	return loop_watch_add(loop, &side->watch, party->fd, wanted_events(side), on_ready);
}

static void forget_watch(struct worker *worker, const struct relay_party *party)
{
	if (party->watch)
		loop_watch_forget(worker->loop, party->watch);
}

int pair_start(struct worker *worker, const struct relay_party parties[2], uint64_t *id)
{
	struct relay *relay = worker->relay;
	struct session *sessions[2] = { NULL, NULL };
	struct pair *pair = NULL;
	int error, opened[2] = { session_open(&parties[0], &sessions[0]), session_open(&parties[1], &sessions[1]) };

	error = -EMFILE;

	if (atomic_fetch_add_explicit(&relay->pairs_live, 1, memory_order_relaxed) >= relay->options.settings.max_pairs)
		goto refuse;
	error = -ESHUTDOWN;
	if (atomic_load_explicit(&relay->refuses, memory_order_relaxed) || worker->stopping)
		goto refuse;
	error = -ENOMEM;
	pair = opened[0] || opened[1] ? NULL : allocate(parties);
	if (!pair)
		goto refuse;
	pair->worker = worker;
	pair->joined_ns = pair->moved_at_ns = loop_now_ns(worker->loop);
	for (unsigned i = 0; i < 2; i++) {
		struct side *side = &pair->sides[i];
		socklen_t size = sizeof pair->addresses[i];

		side->number = (uint8_t)i;
		side->watch.fd = parties[i].fd;
		side->read_before = parties[i].bytes_read;
		side->session = sessions[i];
		side->head_bytes = parties[i].transport == TRANSPORT_HANDED_OFF ? 0 : HEAD_BYTES;
		pair->transports[i] = (uint8_t)parties[i].transport;
		pair->sides[i].asked = parties[i].asked;
		pair->addresses[i] = parties[i].peer;
		if (parties[i].peer.sin6_family == AF_UNSPEC && getpeername(parties[i].fd, (struct sockaddr *)&pair->addresses[i], &size))
			pair->addresses[i].sin6_family = AF_UNSPEC;
	}
	choose_plane(pair);
	for (unsigned i = 0; i < 2; i++) {
		struct side *side = &pair->sides[i];

		buffers_begin(side);
		if (pair->gated)
			prepare_gate(side, parties[!i].bytes_written);
		/* What has come already is an event of the next round. */
		side->waits = WAIT_READABLE;
	}
	for (unsigned i = 0; i < 2; i++) {
		error = watch_party(&pair->sides[i], &parties[i]);
		if (error)
			goto out;
	}
	pair->id = atomic_fetch_add_explicit(&relay->next_id, 1, memory_order_relaxed);
	pair->previous = worker->last;
	*(worker->last ? &worker->last->next : &worker->first) = pair;
	worker->last = pair;
	worker->pair_count++;
	worker->past.pairs_joined++;
	join_await(pair);
	/* What a session has read raises no event. Behind the caller, so that a pair never ends before its id is known. */
	for (unsigned i = 0; i < 2 && (sessions[0] || sessions[1]); i++)
		side_wait_for(&pair->sides[i], WAIT_TIMER, pair->joined_ns);
	*id = pair->id;
	return 0;
out:
	for (unsigned i = 0; i < 2; i++) {
		loop_watch_forget(worker->loop, &pair->sides[i].watch);
		buffers_end(&pair->sides[i]);
	}
	if (pair->gated) {
		for (unsigned i = 0; i < 2; i++)
			credit_return(&relay->budget, pair->sides[i].lent);
		worker->pairs[pair->sides[0].index / 2] = NULL;
		slots_give_back(&relay->slots, pair->sides[0].index);
	}
refuse:
	pair_free(pair);
	for (unsigned i = 0; i < 2; i++)
		session_free(sessions[i]);
	atomic_fetch_sub_explicit(&relay->pairs_live, 1, memory_order_relaxed);
	for (unsigned i = 0; i < 2; i++) {
		forget_watch(worker, &parties[i]);
		reset_and_close(parties[i].fd);
	}
	return error;
}

bool side_has_bulk(struct side *side)
{
	if (!side->bulk)
		side->bulk = calloc(1, sizeof *side->bulk);
	return side->bulk;
}

/* ---- end ---- */

void pair_free(struct pair *pair)
{
	for (unsigned i = 0; pair && i < 2; i++)
		free(pair->sides[i].bulk);
	free(pair);
}

static void close_side(struct side *side, bool reset)
{
	struct pair *pair = side_pair(side);
	struct worker *worker = pair->worker;

	loop_watch_forget(worker->loop, &side->watch);
	loop_timer_cancel(worker->loop, &side->timer);
	session_free(side->session);
	side->session = NULL;
	/* First, so that closing announces nothing; what the program passes to the socket uncounted is lost with it. */
	if (side->mapped)
		gate_object_leave(worker->relay->object, side->index);
	/* It is the only descriptor: the socket leaves the map. */
	if (reset)
		reset_and_close(side->watch.fd);
	else
		close(side->watch.fd);
	if (side->hold)
		worker_give_hold(worker, side->hold);
	if (side->pipe && side->pipe_bytes)
		worker_drop_pipe(worker, side->pipe);
	else if (side->pipe)
		worker_give_pipe(worker, side->pipe);
	if (side->gate)
		credit_return(&worker->relay->budget, side->lent);
	buffers_end(side);
}

void pair_end(struct pair *pair, enum outcome outcome, const char *detail, ...)
{
	struct worker *worker = pair->worker;
	struct relay *relay = worker->relay;
	struct pair_report report;

	if (pair->over)
		return;
	report_fill(pair, &report);
	report.outcome = outcome;
	if (detail) {
		va_list arguments;

		va_start(arguments, detail);
		vsnprintf(report.detail, sizeof report.detail, detail, arguments);
		va_end(arguments);
	}
	pair->over = true;
	loop_timer_cancel(worker->loop, &pair->tail_timer);
	for (unsigned i = 0; i < 2; i++)
		close_side(&pair->sides[i], outcome != OUTCOME_HAPPY);
	if (pair->gated)
		worker->pairs[pair->sides[0].index / 2] = NULL;
	report_add_totals(pair, &worker->past);
	worker->past.ended[outcome]++;
	if (outcome == OUTCOME_BOOKS_WRONG)
		worker->past.books_wrong++;
	if (pair->slots_seen)
		slots_retire(&relay->slots, pair->sides[0].index);
	else if (pair->gated)
		slots_give_back(&relay->slots, pair->sides[0].index);
	join_forget(pair);
	*(pair->previous ? &pair->previous->next : &worker->first) = pair->next;
	*(pair->next ? &pair->next->previous : &worker->last) = pair->previous;
	worker->pair_count--;
	atomic_fetch_sub_explicit(&relay->pairs_live, 1, memory_order_relaxed);
	worker_bury(worker, pair);
	if (relay->options.ended)
		relay->options.ended(&report, relay->options.context);
}

void pair_fail(struct side *side, int error, const char *what)
{
	bool reset = error == ECONNRESET || error == EPIPE || error == ENOTCONN;

	pair_end(side_pair(side), reset ? OUTCOME_RESET_BY_PARTY : OUTCOME_PARTY_ERROR, "side %u, %s: %s", side->number, what,
		 strerror(error));
}
