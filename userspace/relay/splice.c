// SPDX-License-Identifier: Apache-2.0
/* The splice plane: bytes go from socket to pipe to socket without being copied
 * into this process.
 *
 * A direction borrows a pipe of the worker's stock when there is something to
 * read and gives it back when it is empty; while the pipe holds bytes, nothing
 * more is read. When the stock is used up, the direction copies for that turn
 * and the pair says so; after urgent data it copies for good. Own buffer and pipe are never filled both, so bytes keep
 * their order. Worker's thread only. */
#include "relay/session.h"
#include "relay/worker.h"

#include <errno.h>
#include <fcntl.h>

#define ROUNDS_PER_TURN 16
#define PAGE_BYTES 4096u

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
		if (target->session && !session_update(target))
			return false;
		ssize_t written = splice(side->pipe->out, NULL, target->watch.fd, NULL, side->pipe_bytes,
					 SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

		if (written <= 0) {
			if (written < 0 && errno != EAGAIN && errno != EINTR && errno != ENOMEM)
				session_fail(target, errno, "splice to it");
			return false;
		}
		side->pipe_bytes -= (uint32_t)written;
		side->copied += (uint64_t)written;
	}
	return true;
}

/* From kTLS one call brings one record at most. Kernels that lose bytes when a record
 * does not fit into the pipe get an empty pipe for each; others as much as surely fits. */
static ssize_t fill_pipe(struct side *side)
{
	unsigned capacity = side->pipe->capacity, filled = 0, records = 0;
	bool several = side->session && side_pair(side)->worker->relay->probe.ktls_several;

	for (;;) {
		ssize_t size = splice(side->watch.fd, NULL, side->pipe->in, NULL, capacity - filled, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

		if (size < 0 && filled && session_is_lost(errno)) {
			side->pipe_bytes = filled; /* not an empty pipe to be given back */
			return size;
		}
		if (size <= 0)
			return filled ? (ssize_t)filled : size;
		filled += (unsigned)size;
		/* Each record takes a page at least, whatever its size. */
		if (!several || ++records * PAGE_BYTES > capacity / 2 || filled > capacity / 2)
			return (ssize_t)filled;
	}
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
	if (side->ended || side->head_bytes < HEAD_BYTES) {
		release(side);
		return copy_pump(side);
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
		size = fill_pipe(side);
		if (size <= 0) {
			int error = errno;

			release(side);
			/* A control record, an empty one, or the end: recvmsg tells which. Without TLS: the
			 * end, or an urgent mark with FIN behind it; recv knows. */
			if (size == 0 || (side->session && (error == EINVAL || error == EIO)))
				return copy_pump(side);
			if (error != EAGAIN && error != EINTR)
				return session_fail(side, error, "splice from it");
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
