// SPDX-License-Identifier: Apache-2.0
/* Userspace's half of the credit gate (architecture.md 4.3).
 *
 * While a gate is open its direction costs this process nothing. The program
 * closes it when the target falls behind, and from then on hands every packet up
 * to the source's own queue, where TCP's window stops the sender. Here the way
 * back: wait until all that was redirected stands in the target's TCP queue
 * (nothing can overtake it then), wait until the target has taken half of what is
 * in flight, move what was handed up, and open the gate by a compare-and-swap
 * that fails if anything was handed up meanwhile.
 *
 * The word `gate` is loaded with acquire before anything else of the shared
 * struct. `base` is written only while the gate is closed. The compare-and-swap
 * that opens it releases what was written before; after it has succeeded, bytes
 * may be redirected at once. Bytes read beyond the count in `gate`, loaded again
 * after the recv, mean that program and daemon disagree: both sides are reset.
 *
 * The same pump serves a gated pair before (and without) its insertion: then the
 * gate stays closed, nothing is redirected, and it simply copies under the same
 * limit of bytes in flight. Worker's thread only. */
#include "relay/worker.h"

#include "base/instant.h"
#include "relay/gather.h"
#include "relay/hold.h"
#include "relay/pump.h"
#include "relay/throttle.h"

#include <errno.h>
#include <sys/socket.h>

#define TICK_LEAST_NS 50000u
#define TICK_MOST_NS 1000000u
#define TICK_READER_MOST_NS 250000000u
#define TICK_PROMISE_MOST_NS 64000000u
#define TICK_COARSE_NS 100000000u
#define TICK_GRAIN_NS 10000000u
#define NO_PROGRESS_NS 20000000000ull
#define ROUNDS_PER_TURN 16
#define ROOM_LEAST_BYTES 4096
#define NO_HOLD_WAIT_NS 1000000u
/* So many writes cannot make a send queue too large, whatever their size. */
#define WRITES_UNASKED 1024

static uint64_t load_word(const struct side *side)
{
	return __atomic_load_n(&side->gate->gate, __ATOMIC_ACQUIRE);
}

static uint64_t load_redirected(const struct side *side)
{
	return __atomic_load_n(&side->gate->redirected, __ATOMIC_RELAXED);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* In flight must come down to this before anything is moved. What one round of the
 * hold hands up is the same however long it lasts, so it lasts longer. On a long way
 * the credit may be little more than the way holds, and must not run down. A gathering
 * direction is moved whenever there is room, as on the copy plane. */
static int64_t low_mark(const struct side *side)
{
	return (int64_t)(side->is_shut ? side->bulk->hold_low
			 : side->is_far || side->gathers ? side->lent - side->lent / 8 : side->lent / 2);
}

/* ---- waiting ---- */

/* Long waits end together, so that a thousand stopped readers wake the thread a
 * hundred times a second and not thousands of times. */
static uint64_t due_after(uint64_t now, uint64_t wait)
{
	return wait < TICK_COARSE_NS ? now + wait : (now + wait) / TICK_GRAIN_NS * TICK_GRAIN_NS;
}

bool pump_is_drained(struct side *side)
{
	struct side *target = side_other(side);
	uint64_t wanted, stands;

	if (side->drained || !side->mapped)
		return true;
	if (!load_redirected(side))
		return side->drained = true;
	wanted = load_redirected(side) + side->base;
	/* First the acknowledged bytes: an acknowledgement in between must not be counted twice. */
	stands = tcp_acked(target->watch.fd);
	stands += tcp_unsent(target->watch.fd);
	if (stands >= wanted) {
		side->since_ns = 0;
		return side->drained = true;
	}
	if (!side->since_ns || stands != side->seen) {
		side->since_ns = loop_now_ns(side_pair(side)->worker->loop);
		side->seen = stands;
	}
	return false;
}

bool pump_is_overdue(struct side *side, uint64_t mark)
{
	uint64_t now = loop_now_ns(side_pair(side)->worker->loop);

	if (!side->since_ns || side->seen != mark) {
		side->since_ns = now;
		side->seen = mark;
	}
	return now - side->since_ns > NO_PROGRESS_NS;
}

static void wait_tick(struct side *side, unsigned waits, uint32_t most_ns)
{
	uint64_t now = loop_now_ns(side_pair(side)->worker->loop);

	side->tick_ns = !side->tick_ns ? TICK_LEAST_NS : side->tick_ns >= most_ns / 2 ? most_ns : side->tick_ns * 2;
	side->flown_at_ns = 0;
	side_wait_for(side, waits | WAIT_TIMER, due_after(now, side->tick_ns));
}

void pump_wait_tick(struct side *side, unsigned waits)
{
	wait_tick(side, waits, TICK_MOST_NS);
}

void pump_wait_reader_tick(struct side *side, unsigned waits)
{
	wait_tick(side, waits, TICK_READER_MOST_NS);
}

/* When will the reader, at its speed since the last look, have brought the bytes
 * in flight down to the low mark? It is as slow as the reader: no deadline. A
 * short look does not promise much, so the wait is at most eight times as long. */
static void wait_for_reader(struct side *side, int64_t flight)
{
	uint64_t now = clock_now_ns(), passed = now - side->flown_at_ns, wait;
	int64_t taken = side->flown - flight, left = flight - low_mark(side);

	if (!side->flown_at_ns || taken < 0) { /* the last round of a hold tells how long this one may take */
		wait = TICK_LEAST_NS;
		if (side->is_shut)
			wait = least((uint64_t)(0.75 * side->bulk->hold_pace * (double)left), TICK_PROMISE_MOST_NS);
	} else if (taken == 0) { /* nothing acknowledged in so short a time says nothing about the reader */
		/* A reader with a full buffer acknowledges in leaps: a hold must not miss one by much. */
		wait = least(side->is_shut ? passed / 4 : 2 * (uint64_t)side->tick_ns, TICK_READER_MOST_NS);
	} else {
		wait = (uint64_t)((double)passed * (double)left / (double)taken);
		wait = least(wait, least(8 * passed + TICK_MOST_NS, TICK_PROMISE_MOST_NS));
	}
	if (wait < TICK_LEAST_NS)
		wait = TICK_LEAST_NS;
	if (wait < TICK_COARSE_NS)
		buffers_look(side);
	if (!side->flown_at_ns || taken) {
		side->flown = (int32_t)flight;
		side->flown_at_ns = now;
	}
	side->since_ns = 0;
	side->tick_ns = (uint32_t)wait;
	side_wait_for(side, WAIT_TIMER, due_after(now, wait));
}

/* ---- credit ---- */

static void set_credit(struct side *side, uint64_t credit)
{
	side->lent = (uint32_t)credit;
	__atomic_store_n(&side->gate->max_packets, credit_packets(credit), __ATOMIC_RELAXED);
	__atomic_store_n(&side->gate->memory, side->lent > side->lent_most ? side->lent : side->lent_most, __ATOMIC_RELAXED);
	__atomic_store_n(&side->gate->credit, credit, __ATOMIC_RELAXED);
}

static void note_pressed(struct side *side)
{
	struct tcp_facts facts;

	if (!side->pressed) {
		side->pressed = true;
		tcp_facts_read(side_other(side)->watch.fd, &facts);
		side->rtt_us = facts.least_rtt_us;
		side->is_far = side->rtt_us > FAR_RTT_US;
		hold_begin(side);
		throttle_look(side, true);
		side->pressed_at_ns = loop_now_ns(side_pair(side)->worker->loop);
	}
}

/* Closings for want of credit, which may be over before this thread looks. */
static bool was_closed_for_credit(struct side *side)
{
	uint32_t closings = (uint32_t)(__atomic_load_n(&side->gate->closings[GATE_CREDIT], __ATOMIC_RELAXED) +
				       __atomic_load_n(&side->gate->closings[GATE_PILE], __ATOMIC_RELAXED));
	bool news = closings != side->closings_seen;

	side->closings_seen = closings;
	return news;
}

static uint64_t most_credit(struct side *side)
{
	struct tcp_facts facts;

	if (!side->is_far || side->lent < side->lent_most)
		return side->lent_most;
	tcp_facts_read(side_other(side)->watch.fd, &facts);
	/* A hold needs a round of it besides. */
	if (side->hold_bytes)
		facts.path_bytes += facts.path_bytes / 2;
	return credit_most(side->lent_most, side->lent_far_most, facts.path_bytes);
}

/* The target took half of the credit: if it was quick, it is lent more. */
static void raise_credit(struct side *side)
{
	struct worker *worker = side_pair(side)->worker;

	if (!side->pressed)
		return;
	side->pressed = false;
	if (credit_is_brisk(loop_now_ns(worker->loop) - side->pressed_at_ns, side->rtt_us))
		set_credit(side, credit_lend_more(&worker->relay->budget, side->lent, most_credit(side)));
}

void gate_take_credit_back(struct side *side)
{
	set_credit(side, credit_take_back(&side_pair(side)->worker->relay->budget, side->lent));
}

int64_t gate_in_flight(const struct side *side, int target_fd)
{
	return (int64_t)(load_redirected(side) + side->base - tcp_acked(target_fd));
}

bool gate_memory_is_low(struct side *side)
{
	return tcp_memory(side_other(side)->watch.fd) <= side->gate->memory / 4 * 3;
}

/* The send buffer is larger than its share of the pair's memory, so that a quarter of it is
 * credit enough for a long way; what small writes cost beyond their bytes must not fill it. */
static bool is_heavy(struct side *side)
{
	return side->reads > WRITES_UNASKED &&
	       tcp_memory(side_other(side)->watch.fd) > side_pair(side)->worker->relay->send_buffer_bytes / 2;
}

/* ---- the pump ---- */

bool gate_open(struct side *side, unsigned long long closed)
{
	side->flown_at_ns = 0;
	side->drained = side->moving = false; /* before it opens: bytes are redirected at once */
	__atomic_store_n(&side->gate->credit, side->lent, __ATOMIC_RELAXED); /* hold.c may have taken it */
	if (__atomic_compare_exchange_n(&side->gate->gate, &closed, closed & ~GATE_CLOSED, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE)) {
		side->openings++;
		side->tick_ns = 0;
		side->looks = side->quiet_looks = 0;
		return true;
	}
	side->drained = side->moving = true; /* still closed */
	return false;
}

/* Opens the gate if all that was handed up stands in the target's TCP queue. */
static bool try_open(struct side *side)
{
	unsigned long long closed = (unsigned long long)side->read << 1 | GATE_CLOSED;

	if (side->hold_length || side->head_bytes < HEAD_BYTES || !side->drained || load_word(side) != closed ||
	    ((side->copied || load_redirected(side)) && !gate_memory_is_low(side)))
		return false;
	if (!gate_open(side, closed))
		return false;
	if (side->lent > CREDIT_FIRST_BYTES)
		hold_begin(side);
	return true;
}

/* An open gate needs nobody, but for the looks of a throttled direction. */
static void wait_open(struct side *side)
{
	uint64_t due_ns;

	throttle_look(side, false);
	due_ns = throttle_due_ns(side);
	side_wait_for(side, due_ns ? WAIT_TIMER : WAIT_NOTHING, due_ns);
}

/* Nothing is to be read now. */
static void wait_after_empty(struct side *side)
{
	struct pair *pair = side_pair(side);
	uint64_t word, acked;

	if (side->gathers && !side->ending)
		return gather_wait_for_any(side);
	if (!side->mapped || !pair->in_map) {
		side->since_ns = 0;
		return side_wait_for(side, WAIT_READABLE, 0);
	}
	word = load_word(side);
	if (word & GATE_BROKEN)
		return pair_end(pair, OUTCOME_GATE_BROKEN, "side %u", side->number);
	if (side->read != GATE_HANDED_UP(word)) {
		/* Some of it still stands behind redirected bytes on this socket's own queue. */
		if (pump_is_overdue(side, side->read))
			return pair_end(pair, OUTCOME_BOOKS_WRONG, "side %u: %llu bytes handed up, %llu read", side->number,
					(unsigned long long)GATE_HANDED_UP(word), (unsigned long long)side->read);
		return pump_wait_tick(side, WAIT_READABLE);
	}
	side->since_ns = 0;
	if (try_open(side) && !side->ending)
		return wait_open(side);
	if (side->ending) /* FIN is there, or the program has not run on it yet */
		return pump_wait_tick(side, WAIT_READABLE);
	if (side->head_bytes < HEAD_BYTES)
		return side_wait_for(side, WAIT_READABLE, 0);
	/* The target's memory, or packets that came this moment. */
	acked = tcp_acked(side_other(side)->watch.fd);
	if (acked != side->seen && side->tick_ns > TICK_MOST_NS)
		side->tick_ns = TICK_MOST_NS;
	side->seen = acked;
	pump_wait_reader_tick(side, WAIT_READABLE);
}

/* Moves what was handed up, at most until in flight is the whole credit: what a
 * fast sender keeps in its receive queue must not hold the gate closed. Returns
 * false when the direction waits or the pair is over. */
static bool move_some(struct side *side, int64_t room)
{
	struct pair *pair = side_pair(side);
	char *scratch = pair->worker->scratch;
	size_t most = room < ROOM_LEAST_BYTES ? ROOM_LEAST_BYTES : room > CHUNK_BYTES ? CHUNK_BYTES : (size_t)room;
	ssize_t size;
	int error;

	if (!hold_drop_owed(side))
		return false;
	most = hold_limit(side, most);
	if (!copy_reserve(side)) {
		side_wait_for(side, WAIT_TIMER, loop_now_ns(pair->worker->loop) + NO_HOLD_WAIT_NS);
		return false;
	}
	size = recv(side->watch.fd, scratch, most, MSG_DONTWAIT);
	error = errno;
	hold_note_read(side);
	if (size > 0) {
		side->read += (uint64_t)size;
		side->reads++;
		if (side->mapped && side->read > GATE_HANDED_UP(load_word(side))) {
			pair_end(pair, OUTCOME_BOOKS_WRONG, "side %u: more bytes read than handed up", side->number);
			return false;
		}
		side->since_ns = side->tick_ns = 0;
		if (!handoff_check_head(side, scratch, (size_t)size))
			return false;
		/* While open, the gate may have closed behind redirected bytes only now. */
		if (!side->drained && !pump_is_drained(side))
			copy_keep(side, scratch, (size_t)size);
		else if (copy_give(side, scratch, (size_t)size) < 0)
			return false;
		copy_release(side);
		if (side->gathers && (size_t)size < most && !side->hold_length && !side->ending && !side->urgent) {
			gather_wait_for_more(side);
			return false;
		}
		/* What comes behind a short read is a new event; in the map there may be none. */
		if (side->mapped || (size_t)size == most || side->hold_length || side->ending || side->urgent)
			return true;
		side_wait_for(side, WAIT_READABLE, 0);
		return false;
	}
	copy_release(side);
	if (size == 0)
		ends_stream(side);
	else if (error == EAGAIN || error == EINTR)
		wait_after_empty(side);
	else
		pair_fail(side, error, "recv");
	return false;
}

void gate_pump(struct side *side)
{
	struct pair *pair = side_pair(side);
	int target_fd = side_other(side)->watch.fd;

	gather_look(side);
	throttle_look(side, false);
	for (unsigned round = 0; round <= ROUNDS_PER_TURN; round++) {
		uint64_t word = load_word(side);
		int64_t flight, room;

		if (side->mapped && (word & GATE_BROKEN))
			return pair_end(pair, OUTCOME_GATE_BROKEN, "side %u", side->number);
		if (side->ended)
			return side_wait_for(side, WAIT_NOTHING, 0);
		if (side->mapped && !(word & GATE_CLOSED) && !side->ending && !side->hold_length)
			return hold_look_again(side) ? (void)0 : wait_open(side);
		if (side->mapped && ((word & GATE_CLOSED) || side->hold_length) && !pump_is_drained(side)) {
			if (pump_is_overdue(side, side->seen))
				return pair_end(pair, OUTCOME_NOT_DRAINED, "side %u", side->number);
			return pump_wait_tick(side, WAIT_TIMER);
		}
		if (side->hold_length) {
			if (!copy_flush_hold(side)) {
				if (!pair->over)
					side_wait_for(side, WAIT_WRITABLE, 0);
				return;
			}
			continue;
		}
		if (!side->moving && was_closed_for_credit(side))
			note_pressed(side);
		if (hold_shut(side))
			return;
		/* At most: TCP need not be asked each time. */
		flight = (int64_t)(load_redirected(side) + side->base - side->acked_seen);
		if (flight > low_mark(side)) {
			side->acked_seen = tcp_acked(target_fd);
			flight = (int64_t)(load_redirected(side) + side->base - side->acked_seen);
		}
		room = (int64_t)side->lent - flight;
		if (flight <= low_mark(side)) {
			side->moving = true;
			raise_credit(side);
			room = (int64_t)side->lent - flight;
		} else if (room <= 0) {
			side->moving = false;
			note_pressed(side);
		} else if (!side->moving) {
			note_pressed(side);
		}
		if (!side->moving && !side->ending)
			return wait_for_reader(side, flight);
		if (round == 0 && is_heavy(side))
			return pump_wait_reader_tick(side, WAIT_TIMER);
		if (hold_release(side) || pair->over || !move_some(side, room))
			return;
	}
	/* The sender is so quick that the gate would stay closed. */
	hold_begin(side);
	/* The others want their turn too. */
	side_wait_for(side, WAIT_TIMER, loop_now_ns(pair->worker->loop));
}

