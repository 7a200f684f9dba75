// SPDX-License-Identifier: Apache-2.0
/* The splice plane: bytes go from socket to pipe to socket without being copied
 * into this process.
 *
 * A direction borrows a pipe of the worker's stock when there is something to
 * read and gives it back when it is empty; while the pipe holds bytes, nothing
 * more is read. When the stock is used up, the direction copies for that turn
 * and the pair says so; after urgent data it copies for good. Own buffer and pipe are never filled both, so bytes keep
 * their order. Worker's thread only. */
#include "relay/worker.h"

#include <errno.h>
#include <fcntl.h>

#define ROUNDS_PER_TURN 16

static void release(struct side *side)
{
	if (side->pipe && !side->pipe_bytes) {
		worker_give_pipe(side_pair(side)->worker, side->pipe);
		side->pipe = NULL;
	}
}

/* Returns false if the pipe still holds bytes or the pair is over. */
static bool empty_pipe(struct side *side)
{
	struct side *target = side_other(side);

	while (side->pipe_bytes) {
		ssize_t written = splice(side->pipe->out, NULL, target->watch.fd, NULL, side->pipe_bytes,
					 SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

		if (written < 0) {
			if (errno != EAGAIN && errno != EINTR && errno != ENOMEM)
				pair_fail(target, errno, "splice to it");
			return false;
		}
		side->pipe_bytes -= (uint32_t)written;
		side->copied += (uint64_t)written;
	}
	return true;
}

void splice_pump(struct side *side)
{
	struct pair *pair = side_pair(side);
	struct worker *worker = pair->worker;

	if (!copy_flush_hold(side) || !empty_pipe(side)) {
		if (!pair->over)
			side_wait_for(side, WAIT_WRITABLE, 0);
		return;
	}
	if (side->ended) {
		release(side);
		return side_wait_for(side, WAIT_NOTHING, 0);
	}
	for (unsigned round = 0; round < ROUNDS_PER_TURN; round++) {
		ssize_t size;

		if (side->urgent) {
			release(side);
			pair->plane_reason = REASON_URGENT;
			return copy_pump(side);
		}
		if (!side->pipe)
			side->pipe = worker_take_pipe(worker);
		if (!side->pipe) {
			pair->plane_reason = REASON_NO_PIPE;
			return copy_pump(side);
		}
		size = splice(side->watch.fd, NULL, side->pipe->in, NULL, side->pipe->capacity,
			      SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
		if (size <= 0) {
			int error = errno;

			release(side);
			if (size == 0) /* the end, or an urgent mark with FIN behind it: recv knows */
				return copy_pump(side);
			if (error != EAGAIN && error != EINTR)
				return pair_fail(side, error, "splice from it");
			return side_wait_for(side, WAIT_READABLE, 0);
		}
		side->read += (uint64_t)size;
		side->reads++;
		side->pipe_bytes = (uint32_t)size;
		if (!empty_pipe(side)) {
			if (!pair->over)
				side_wait_for(side, WAIT_WRITABLE, 0);
			return;
		}
	}
	side_wait_for(side, WAIT_TIMER, loop_now_ns(worker->loop));
}
