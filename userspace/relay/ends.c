// SPDX-License-Identifier: Apache-2.0
/* How a direction and a pair come to a clean end (architecture.md 4.5).
 *
 * FIN is passed on only when all of these hold: every byte that the program
 * handed up was read; every byte that it redirected stands in the target's TCP
 * queue; the source was not reset; and the books are right, that is, the source's
 * tcpi_bytes_received is exactly what was read and redirected, plus one for the
 * FIN. A pair ends when both directions have ended and nothing is unsent.
 * Worker's thread only. */
#include "relay/session.h"
#include "relay/worker.h"

#include "relay/pump.h"

#include <errno.h>
#include <sys/socket.h>

#define TAIL_TICK_FIRST_NS 100000u
#define TAIL_TICK_MOST_NS 250000000u

static void check_tails(struct loop_timer *timer)
{
	ends_wait_for_tails((struct pair *)((char *)timer - offsetof(struct pair, tail_timer)));
}

static unsigned unsent(const struct side *side)
{
	return side->session && side->session->is_gone ? 0 : tcp_unsent(side->watch.fd);
}

void ends_wait_for_tails(struct pair *pair)
{
	struct loop *loop = pair->worker->loop;

	pair->closing = true;
	for (unsigned i = 0; i < 2; i++)
		if (pair->sides[i].session && !session_check_silence(&pair->sides[i]))
			return;
	if (!unsent(&pair->sides[0]) && !unsent(&pair->sides[1]))
		return pair_end(pair, OUTCOME_HAPPY, NULL);
	/* The last acknowledgement closes the socket, which is an event; the timer is for what is lost. */
	pair->tail_tick_ns = !pair->tail_tick_ns ? TAIL_TICK_FIRST_NS
			   : pair->tail_tick_ns > TAIL_TICK_MOST_NS / 2 ? TAIL_TICK_MOST_NS : pair->tail_tick_ns * 2;
	loop_timer_arm(loop, &pair->tail_timer, loop_now_ns(loop) + pair->tail_tick_ns, check_tails);
}

void ends_stream(struct side *side)
{
	struct pair *pair = side_pair(side);
	struct side *target = side_other(side);
	uint64_t redirected = 0, counted;
	struct tcp_facts facts;

	side->ending = true;
	if (side->gate) {
		uint64_t word = __atomic_load_n(&side->gate->gate, __ATOMIC_ACQUIRE);

		if (word & GATE_BROKEN)
			return pair_end(pair, OUTCOME_GATE_BROKEN, "side %u at its end", side->number);
		if (side->mapped && side->read != GATE_HANDED_UP(word)) {
			/* Handed up, but it still stands behind redirected bytes on this socket's own queue. */
			if (pump_is_overdue(side, side->read))
				return pair_end(pair, OUTCOME_BOOKS_WRONG, "side %u: %llu bytes handed up, %llu read at the end",
						side->number, (unsigned long long)GATE_HANDED_UP(word), (unsigned long long)side->read);
			return pump_wait_tick(side, WAIT_TIMER);
		}
		redirected = __atomic_load_n(&side->gate->redirected, __ATOMIC_RELAXED);
		if (redirected)
			side->drained = false; /* the count is final only now */
		if (!pump_is_drained(side)) {
			if (pump_is_overdue(side, side->seen))
				return pair_end(pair, OUTCOME_NOT_DRAINED, "side %u at its end", side->number);
			return pump_wait_tick(side, WAIT_TIMER);
		}
	}
	tcp_facts_read(side->watch.fd, &facts);
	if (facts.state == TCP_STATE_CLOSE && !target->ended)
		return pair_end(pair, OUTCOME_RESET_BY_PARTY, "side %u closed without FIN", side->number);
	/* Where TLS stays on, TCP's count is not that of the payload. */
	counted = side->session ? facts.received : side->read_before + side->read + redirected + 1;
	pair->worker->past.books_checked += !side->session;
	if (facts.received != counted)
		return pair_end(pair, OUTCOME_BOOKS_WRONG, "side %u: TCP received %llu, %llu were moved", side->number,
				(unsigned long long)facts.received, (unsigned long long)counted);
	if (target->session) {
		int error = session_close(target);

		if (error == -EAGAIN || error == -EINTR)
			return pump_wait_reader_tick(side, WAIT_WRITABLE);
		if (error)
			return session_fail(target, -error, "close_notify");
	}
	if (shutdown(target->watch.fd, SHUT_WR) && !session_is_through(target))
		return pair_fail(target, errno, "shutdown");
	side->ended = true;
	if (side->gate) /* the pair may live on for hours with its other direction */
		gate_take_credit_back(side);
	side_wait_for(side, WAIT_NOTHING, 0);
	if (target->ended)
		ends_wait_for_tails(pair);
	else if (side->session)
		session_check_silence(side); /* what has come together with close_notify raises no event of its own */
}
