// SPDX-License-Identifier: Apache-2.0
/* What a worker looks at ten times a second for every pair, so that no state
 * hangs on a lost event: closed gates that nobody works on, broken ones whatever
 * they wait for, plain directions that wait for room, pairs that may now enter
 * the map, idle credit, and the stall limit. Everything but the rare repair only
 * reads memory. Worker's thread only. */
#include "relay/session.h"
#include "relay/worker.h"

#include "relay/pump.h"
#include "relay/throttle.h"

/* A plain direction that waits for room is tried again this often. */
#define RETRY_NS 1000000000ull
/* Credit that nothing was redirected with for so long is given back. */
#define IDLE_CREDIT_NS 10000000000ull

static bool is_due(uint64_t now, uint64_t id, uint64_t period)
{
	/* Spread over the pairs by their ids. */
	return (now / 100000000 + id) % (period / 100000000) == 0;
}

static uint64_t bytes_moved(const struct pair *pair)
{
	uint64_t moved = 0;

	for (unsigned i = 0; i < 2; i++) {
		const struct side *side = &pair->sides[i];

		moved += side->copied + side->read;
		if (side->gate)
			moved += __atomic_load_n(&side->gate->redirected, __ATOMIC_RELAXED);
	}
	return moved;
}

static void sweep_gate(struct side *side)
{
	struct worker *worker = side_pair(side)->worker;
	uint64_t word, now = loop_now_ns(worker->loop);

	if (side->ended)
		return; /* its credit was taken back with its end */
	word = side->mapped ? __atomic_load_n(&side->gate->gate, __ATOMIC_ACQUIRE) : 0;
	if (word & GATE_BROKEN || ((word & GATE_CLOSED) && side->waits == WAIT_NOTHING && side_pair(side)->in_map)) {
		worker->past.found_by_sweep++;
		return pair_pump(side);
	}
	if (throttle_is_asleep(side))
		return pair_pump(side);
	if (side->rests && __atomic_load_n(&side->gate->endings, __ATOMIC_RELAXED)) { /* its record was lost */
		worker->past.found_by_sweep++;
		side_stir(side);
	}
	if (side->lent > CREDIT_FIRST_BYTES && is_due(now, side_pair(side)->id, IDLE_CREDIT_NS)) {
		uint32_t redirected = (uint32_t)(__atomic_load_n(&side->gate->redirected, __ATOMIC_RELAXED) + side->copied);

		if (redirected == side->idle_mark)
			gate_take_credit_back(side);
		side->idle_mark = redirected;
	}
}

static bool is_open(const struct side *side)
{
	return side->waits == WAIT_NOTHING && !(__atomic_load_n(&side->gate->gate, __ATOMIC_RELAXED) & GATE_CLOSED);
}

/* Bytes wait for somebody who does not take them: what a party has sent and
 * the other has not acknowledged. A pair that merely is silent has not stalled. */
static bool has_waiting_bytes(const struct pair *pair)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct side *side = &pair->sides[i];

		if (side->hold_length || side->pipe_bytes || tcp_unsent(side->watch.fd))
			return true;
		if (side->gate && gate_in_flight(side, pair->sides[!i].watch.fd) > 0)
			return true;
	}
	return false;
}

static void sweep_stall(struct pair *pair, uint64_t limit_ns)
{
	uint64_t now = loop_now_ns(pair->worker->loop), moved = bytes_moved(pair);

	/* Acknowledgements are progress too. */
	for (unsigned i = 0; i < 2; i++)
		moved += tcp_acked(pair->sides[i].watch.fd);
	if ((uint32_t)moved != pair->moved_mark || !has_waiting_bytes(pair)) {
		pair->moved_mark = (uint32_t)moved;
		pair->moved_at_ns = now;
	} else if (now - pair->moved_at_ns > limit_ns) {
		pair_end(pair, OUTCOME_STALLED, "nothing moved for %llu ms",
			 (unsigned long long)((now - pair->moved_at_ns) / 1000000));
	}
}

void sweep_pair(struct pair *pair)
{
	struct worker *worker = pair->worker;
	uint64_t now = loop_now_ns(worker->loop);
	uint64_t limit_ns = worker->relay->options.settings.stall_limit_ms * 1000000ull;

	for (unsigned i = 0; i < 2 && !pair->over; i++) {
		struct side *side = &pair->sides[i];

		buffers_sweep(side);
		if (is_due(now, pair->id, IDLE_CREDIT_NS))
			buffers_sweep_idle(side);
		if (pair->gated)
			sweep_gate(side);
		else if ((side->waits & WAIT_WRITABLE) && is_due(now, pair->id, RETRY_NS))
			pair_pump(side);
		if (!pair->over && side->session && is_due(now, pair->id, RETRY_NS))
			session_sweep(side);
	}
	if (pair->over)
		return;
	if (pair->in_map && is_open(&pair->sides[0]) && is_open(&pair->sides[1])) {
		side_rest(&pair->sides[0]);
		side_rest(&pair->sides[1]);
	}
	if (pair->gated && !pair->in_map && !pair->stays_out) {
		uint32_t copied = (uint32_t)(pair->sides[0].copied + pair->sides[1].copied);

		if (copied == pair->copied_mark)
			join_try(pair);
		pair->copied_mark = copied;
	}
	if (!pair->over && limit_ns)
		sweep_stall(pair, limit_ns);
}
