// SPDX-License-Identifier: Apache-2.0
/* When and how a gated pair gets into the map (architecture.md 4.4).
 *
 * Entering and leaving the map costs more than a short request is worth. So a pair
 * is young first, and merely copied: until it has lived for YOUNG_NS, or has sent so
 * much or so often that it is no short request. Pairs come of age in the order of the
 * worker's list, a few in a turn, with one timer for all of them.
 *
 * While many pairs come and go, the next one to be entered is probably about to go too, and
 * the worker has better things to do: in such a crowd age alone is no reason.
 *
 * Before the insertion both gates are closed with a count of 0 and both own
 * buffers are empty, so everything that was read has been written. `base` is
 * sampled and must be what was written before the pairing and since. Then
 * each socket is entered: its count of read bytes is split into before and since,
 * its cookie into the index, the socket into the map. Nothing is redirected
 * before both are in, because only the pump opens gates and only for pairs that
 * are in_map. The first recv afterwards makes the kernel give the program what
 * came before.
 *
 * A socket leaves the map only by being closed. So when the second insertion
 * fails, the first socket stays in with its gate closed for good, and recv and
 * send serve the pair. Worker's thread only. */
#include "relay/worker.h"

#include "relay/pump.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <sys/socket.h>

#define YOUNG_NS 20000000ull
#define MANY_COMERS 16u /* and goers, in YOUNG_NS */
#define YOUNG_READS 4u /* of both directions: more than one request and its answer */
#define YOUNG_BYTES (64ull << 10)
#define ENTRIES_PER_TURN 32u
/* Of those that are ready for the map but for bytes that a reader has not taken. */
#define JOIN_COPIED_MOST (4ull << 20)
#define JOIN_TIME_MOST_NS 50000000ull

static int insert(struct side *side)
{
	struct gate_object *object = side_pair(side)->worker->relay->object;
	uint64_t cookie, fd = (uint64_t)side->watch.fd;
	socklen_t size = sizeof cookie;
	int error;

	if (side->session) /* kTLS and sockmap exclude each other; choose_plane() keeps such pairs out */
		return -EINVAL;
	if (getsockopt(side->watch.fd, SOL_SOCKET, SO_COOKIE, &cookie, &size))
		return -errno;
	error = gate_object_enter(object, side->index, cookie);
	if (error)
		return error;
	side->read_before += side->read;
	side->read = 0;
	error = bpf_map_update_elem(object->sockets_fd, &side->index, &fd, BPF_ANY);
	if (error) {
		gate_object_leave(object, side->index);
		return error;
	}
	side->mapped = true;
	return 0;
}

static void stay_out(struct pair *pair, enum plane_reason reason, int error)
{
	pair->stays_out = true;
	pair->plane_reason = (uint8_t)reason;
	pair->refused_errno = (uint16_t)-error;
}

/* False: not now. */
static bool is_base_right(struct pair *pair)
{
	for (unsigned i = 0; i < 2; i++) {
		struct side *side = &pair->sides[i], *target = side_other(side);
		uint64_t end;

		end = tcp_stream_end(target->watch.fd);
		if (end == side->base)
			continue;
		if (tcp_state(target->watch.fd) == TCP_STATE_CLOSE) /* was reset; the event is on its way */
			stay_out(pair, REASON_REFUSED, -ECONNRESET);
		else
			pair_end(pair, OUTCOME_BOOKS_WRONG, "side %u: stream of %llu bytes, %llu counted before the join",
				 target->number, (unsigned long long)end, (unsigned long long)side->base);
		return false;
	}
	return true;
}

static void enter_map(struct pair *pair)
{
	int error;

	if (!is_base_right(pair))
		return;
	pair->slots_seen = true;
	error = insert(&pair->sides[0]);
	if (error)
		return stay_out(pair, REASON_REFUSED, error);
	error = insert(&pair->sides[1]);
	if (error) {
		stay_out(pair, REASON_HALF_REFUSED, error);
	} else {
		pair->in_map = true;
		pair->plane = PLANE_SOCKMAP;
		pair->plane_reason = REASON_BEST;
		for (unsigned i = 0; i < 2; i++)
			pair->sides[i].copied_before = pair->sides[i].copied;
	}
	for (unsigned i = 0; i < 2 && !pair->over; i++)
		gate_pump(&pair->sides[i]);
}

/* The listener asks for a send buffer; what it got limits the credit. */
static void find_credit_limits(struct pair *pair)
{
	for (unsigned i = 0; i < 2; i++) {
		struct side *side = &pair->sides[i];

		side->lent_far_most = (uint32_t)(tcp_send_buffer(side_other(side)->watch.fd) / 4);
		side->lent_most = (uint32_t)credit_most_near(side->lent_far_most, pair->worker->relay->send_buffer_bytes);
		side->gate->memory = side->lent_most;
	}
}

static uint64_t age(const struct pair *pair)
{
	return loop_now_ns(pair->worker->loop) - pair->joined_ns;
}

static bool is_young(const struct pair *pair)
{
	const struct side *sides = pair->sides;

	return (pair->worker->is_crowded || age(pair) < YOUNG_NS) && sides[0].reads + sides[1].reads < YOUNG_READS &&
	       sides[0].copied + sides[1].copied < YOUNG_BYTES;
}

/* After a silence the first look may be wrong; the next one is YOUNG_NS later. */
static void look_for_crowd(struct worker *worker)
{
	uint64_t now = loop_now_ns(worker->loop), came_and_went = 2 * worker->past.pairs_joined - worker->pair_count;

	if (now - worker->crowd_seen_ns < YOUNG_NS)
		return;
	worker->is_crowded = came_and_went - worker->crowd_seen >= MANY_COMERS;
	worker->crowd_seen = came_and_went;
	worker->crowd_seen_ns = now;
}

static void on_age(struct loop_timer *timer)
{
	struct worker *worker = (struct worker *)((char *)timer - offsetof(struct worker, young_timer));

	look_for_crowd(worker);
	for (unsigned turn = 0; turn < ENTRIES_PER_TURN && worker->young && !worker->is_crowded; turn++) {
		struct pair *pair = worker->young;

		if (age(pair) < YOUNG_NS)
			break;
		worker->young = pair->next; /* the pair's end takes only itself off the list */
		if (pair->plane_reason == REASON_YOUNG)
			join_try(pair);
	}
	if (worker->young) {
		uint64_t from = worker->is_crowded ? loop_now_ns(worker->loop) : worker->young->joined_ns;

		loop_timer_arm(worker->loop, timer, from + YOUNG_NS, on_age);
	}
}

void join_await(struct pair *pair)
{
	struct worker *worker = pair->worker;

	if (worker->young || !pair->gated)
		return;
	worker->young = pair;
	loop_timer_arm(worker->loop, &worker->young_timer, pair->joined_ns + YOUNG_NS, on_age);
}

void join_forget(struct pair *pair)
{
	if (pair->worker->young == pair)
		pair->worker->young = pair->next;
}

void join_try(struct pair *pair)
{
	struct side *sides = pair->sides;

	if (pair->over || pair->in_map || pair->stays_out)
		return;
	if (pair->plane_reason == REASON_YOUNG) {
		if (is_young(pair))
			return;
		pair->plane_reason = REASON_JOINING;
		pair->young_ms = (uint32_t)(age(pair) / 1000000);
		find_credit_limits(pair);
	}
	if (sides[0].ended || sides[1].ended)
		return stay_out(pair, REASON_REFUSED, -EOPNOTSUPP);
	if (!sides[0].hold_length && !sides[1].hold_length)
		return enter_map(pair);
	if (age(pair) > pair->young_ms * 1000000ull + JOIN_TIME_MOST_NS ||
	    sides[0].copied + sides[1].copied > JOIN_COPIED_MOST)
		pair->plane_reason = REASON_SLOW_READER; /* the sweep tries again when it is quiet */
}
