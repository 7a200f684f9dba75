// SPDX-License-Identifier: Apache-2.0
/* The copy plane: recv into the worker's scratch buffer, send to the other side.
 *
 * A side has a buffer of its own only while it holds bytes that the target did
 * not take, and nothing is read while it does, so a slow receiver stops the
 * sender. The sockets are watched edge-triggered for everything at once: no
 * epoll_ctl while bytes move, and a short read needs no second one to learn
 * that the queue is empty (what arrives later is a new edge), unless urgent data
 * came, at whose mark a read stops.
 *
 * The sockmap plane uses the write half of this file for the bytes that were
 * handed up. Worker's thread only. */
#include "relay/session.h"
#include "relay/worker.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Reads of one turn before other pairs have theirs. */
#define ROUNDS_PER_TURN 16
#define NO_HOLD_WAIT_NS 1000000u

/* Returns the number of bytes written, 0 if the target takes none now, -1 with
 * the pair over. */
static ssize_t write_bytes(struct side *side, const char *bytes, size_t size)
{
	struct side *target = side_other(side);
	ssize_t written = target->session ? session_send(target, bytes, size)
					  : send(target->watch.fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (written < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM)
			return 0;
		session_fail(target, errno, "send");
		return -1;
	}
	side->copied += (uint64_t)written;
	side->base += (uint64_t)written;
	if (side->gate)
		__atomic_store_n(&side->gate->base, side->base, __ATOMIC_RELAXED);
	if (written)
		side->since_ns = side->tick_ns = 0;
	return written;
}

bool copy_reserve(struct side *side)
{
	if (!side->hold) {
		side->hold = worker_take_hold(side_pair(side)->worker);
		side->hold_offset = side->hold_length = 0;
	}
	return side->hold != NULL;
}

void copy_release(struct side *side)
{
	if (side->hold && !side->hold_length) {
		worker_give_hold(side_pair(side)->worker, side->hold);
		side->hold = NULL;
	}
}

bool copy_flush_hold(struct side *side)
{
	ssize_t written;

	if (!side->hold_length)
		return true;
	written = write_bytes(side, side->hold + side->hold_offset, side->hold_length);
	if (written < 0)
		return false;
	side->hold_offset += (uint32_t)written;
	side->hold_length -= (uint32_t)written;
	copy_release(side);
	return !side->hold_length;
}

void copy_keep(struct side *side, const char *bytes, size_t size)
{
	memcpy(side->hold, bytes, size);
	side->hold_offset = 0;
	side->hold_length = (uint32_t)size;
}

ssize_t copy_give(struct side *side, const char *bytes, size_t size)
{
	ssize_t written = write_bytes(side, bytes, size);

	if (written < 0)
		return -1;
	if ((size_t)written < size)
		copy_keep(side, bytes + written, size - (size_t)written);
	return written;
}

void copy_pump(struct side *side)
{
	struct pair *pair = side_pair(side);
	struct worker *worker = pair->worker;

	if (!copy_flush_hold(side)) {
		if (!pair->over)
			side_wait_for(side, WAIT_WRITABLE, 0);
		return;
	}
	if (side->ended) {
		if (side->session && !session_check_silence(side))
			return;
		return side_wait_for(side, WAIT_NOTHING, 0);
	}
	for (unsigned round = 0; round < ROUNDS_PER_TURN; round++) {
		ssize_t size;

		if (!copy_reserve(side))
			return side_wait_for(side, WAIT_TIMER, loop_now_ns(worker->loop) + NO_HOLD_WAIT_NS);
		size = side->session ? session_receive(side, worker->scratch, CHUNK_BYTES)
				     : recv(side->watch.fd, worker->scratch, CHUNK_BYTES, MSG_DONTWAIT);
		if (size <= 0) {
			int error = errno;

			copy_release(side);
			if (size == 0)
				return ends_stream(side);
			if (error != EAGAIN && error != EINTR)
				return session_fail(side, error, "recv");
			return side_wait_for(side, WAIT_READABLE, 0);
		}
		side->read += (uint64_t)size;
		side->reads++;
		if (!handoff_check_head(side, worker->scratch, (size_t)size) ||
		    copy_give(side, worker->scratch, (size_t)size) < 0)
			return;
		if (side->hold_length)
			return side_wait_for(side, WAIT_WRITABLE, 0);
		copy_release(side);
		if (side->session ? side->session->is_empty
				  : (size_t)size < CHUNK_BYTES && !side->ending && !side->urgent) {
			if (!side->session || !session_gathers(side))
				side_wait_for(side, WAIT_READABLE, 0);
			return;
		}
	}
	side_wait_for(side, WAIT_TIMER, loop_now_ns(worker->loop));
}
