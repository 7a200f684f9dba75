// SPDX-License-Identifier: Apache-2.0
/* Socket buffers of a pair, lent as credit is: a party that never reads and one
 * that never stops sending must not fill what a pair may have at most.
 *
 * Receive buffers: where the kernel's own tuning stays within the pair's share,
 * it is left alone. Where net.ipv4.tcp_rmem allows more, the size is ours: it
 * begins small and is doubled while a quarter of it and more moves between two
 * sweeps, up to the share. A gated pair begins so. A plain pair is left to the
 * kernel until it has a quarter of the share: before, a fixed size would let a
 * sender of tiny segments trickle on for minutes. A receive buffer never shrinks:
 * the kernel would drop what it has announced.
 *
 * Send buffers: gated pairs keep the large one of the listener, because their
 * credit limits what is in it. Plain pairs begin with a small one and are given
 * to the kernel's tuning once a megabyte was taken. Worker's thread only. */
#include "relay/worker.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#define RECEIVE_FIRST_BYTES (512u << 10)
#define RECEIVE_LOOK_BYTES (128u << 10)
#define PLAIN_SEND_FIRST_BYTES (256u << 10)
#define PLAIN_UNLOCK_AFTER_BYTES (1ull << 20)
/* Of SO_BUF_LOCK: a locked buffer is not tuned by the kernel. */
#define LOCK_SEND 1
#define LOCK_RECEIVE 2

static int receive_buffer(int fd)
{
	int bytes = 0;
	socklen_t size = sizeof bytes;

	return getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &size) ? 0 : bytes;
}

static void set_locks(struct side *side, int locks)
{
	if (side_pair(side)->worker->relay->has_buffer_locks)
		setsockopt(side->watch.fd, SOL_SOCKET, SO_BUF_LOCK, &locks, sizeof locks);
	side->locks = (uint8_t)locks;
}

/* The kernel counts twice what it is told; half of a buffer is window. */
static void set_receive_buffer(struct side *side, uint32_t bytes)
{
	int half = (int)(bytes / 2);

	setsockopt(side->watch.fd, SOL_SOCKET, SO_RCVBUF, &half, sizeof half);
	setsockopt(side->watch.fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &half, sizeof half);
	side->locks |= LOCK_RECEIVE;
	side->receive_bytes = bytes;
	side->receive_fixed = receive_buffer(side->watch.fd) < (int)bytes; /* net.core.rmem_max */
}

void buffers_begin(struct side *side)
{
	struct relay *relay = side_pair(side)->worker->relay;
	bool gated = side_pair(side)->gated;

	if (!relay->tunes_receive_buffers && gated) {
		uint64_t share = relay->receive_buffer_bytes;
		uint32_t first = share < RECEIVE_FIRST_BYTES ? (uint32_t)share : RECEIVE_FIRST_BYTES;
		int now = receive_buffer(side->watch.fd);

		set_receive_buffer(side, now < (int)first ? first : (uint32_t)now);
	}
	if (!gated && relay->tunes_send_buffers) {
		int half = PLAIN_SEND_FIRST_BYTES / 2;

		setsockopt(side->watch.fd, SOL_SOCKET, SO_SNDBUF, &half, sizeof half);
		side->locks |= LOCK_SEND;
	}
}

static uint64_t moved(const struct side *side)
{
	return side->read_before + side->read + (side->gate ? __atomic_load_n(&side->gate->redirected, __ATOMIC_RELAXED) : 0);
}

static void lend_receive_buffer(struct side *side)
{
	uint64_t share = side_pair(side)->worker->relay->receive_buffer_bytes, bytes = moved(side) - side->receive_mark;

	if (side->receive_fixed)
		return;
	if (!side->receive_bytes) { /* the kernel's, so far */
		if (bytes < RECEIVE_LOOK_BYTES)
			return;
		side->receive_mark += bytes;
		uint64_t now = (uint64_t)receive_buffer(side->watch.fd);
		if (now < share / 4)
			return;
		set_locks(side, side->locks | LOCK_RECEIVE);
		side->receive_bytes = (uint32_t)now;
		side->receive_fixed = now >= share;
	} else if (bytes > side->receive_bytes / 4) {
		set_receive_buffer(side, (uint32_t)(2ull * side->receive_bytes < share ? 2ull * side->receive_bytes : share));
		side->receive_fixed |= side->receive_bytes >= share;
		side->receive_mark += bytes;
	}
}

void buffers_note_moved(struct side *side)
{
	struct pair *pair = side_pair(side);
	struct relay *relay = pair->worker->relay;
	struct side *target = side_other(side);

	if (!relay->tunes_receive_buffers)
		lend_receive_buffer(side);
	if (!pair->gated && (target->locks & LOCK_SEND) && side->copied > PLAIN_UNLOCK_AFTER_BYTES)
		set_locks(target, target->locks & ~LOCK_SEND);
}

void buffers_sweep(struct side *side)
{
	buffers_note_moved(side);
	side->receive_mark = moved(side);
}
