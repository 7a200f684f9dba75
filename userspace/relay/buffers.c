// SPDX-License-Identifier: Apache-2.0
/* Socket buffers of a pair, lent as credit is: a party that never reads and one
 * that never stops sending must not fill what a pair may have at most.
 *
 * Receive buffers: where the kernel's own tuning stays within the pair's share,
 * it is left alone. Where net.ipv4.tcp_rmem allows more, the buffer begins small
 * and is doubled while a quarter of it and more moves between two sweeps, up to
 * the share. It never shrinks: the kernel would drop what it has announced.
 *
 * Send buffers: gated pairs keep the large one of the listener, because their
 * credit limits what is in it. Plain pairs begin with a small one and are given
 * to the kernel's tuning once a megabyte was taken. Worker's thread only. */
#include "relay/worker.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#define RECEIVE_FIRST_BYTES (512u << 10)
#define RECEIVE_BUFFER_LOCK 2 /* of SO_BUF_LOCK: linux/net.h of the kernel, SOCK_RCVBUF_LOCK */
#define PLAIN_SEND_FIRST_BYTES (256u << 10)
#define PLAIN_UNLOCK_AFTER_BYTES (1ull << 20)

/* The kernel counts twice what it is told; half of a buffer is window. */
static void set_receive_buffer(struct side *side, uint32_t bytes)
{
	int half = (int)(bytes / 2), real = 0;
	socklen_t size = sizeof real;

	setsockopt(side->watch.fd, SOL_SOCKET, SO_RCVBUF, &half, sizeof half);
	setsockopt(side->watch.fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &half, sizeof half);
	getsockopt(side->watch.fd, SOL_SOCKET, SO_RCVBUF, &real, &size);
	side->receive_bytes = bytes;
	side->receive_fixed = real < (int)bytes; /* net.core.rmem_max */
}

void buffers_begin(struct side *side)
{
	struct relay *relay = side_pair(side)->worker->relay;
	int bytes = 0;
	socklen_t size = sizeof bytes;

	if (!relay->tunes_receive_buffers) {
		uint32_t first = relay->receive_buffer_bytes < RECEIVE_FIRST_BYTES ? (uint32_t)relay->receive_buffer_bytes
										   : RECEIVE_FIRST_BYTES;

		getsockopt(side->watch.fd, SOL_SOCKET, SO_RCVBUF, &bytes, &size);
		if (bytes < (int)first)
			set_receive_buffer(side, first);
		else
			side->receive_bytes = (uint32_t)bytes;
	}
	if (!side_pair(side)->gated && relay->unlocks_buffers) {
		bytes = PLAIN_SEND_FIRST_BYTES / 2;
		setsockopt(side->watch.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
	}
}

static uint64_t moved(const struct side *side)
{
	return side->read_before + side->read + (side->gate ? __atomic_load_n(&side->gate->redirected, __ATOMIC_RELAXED) : 0);
}

void buffers_note_moved(struct side *side)
{
	struct relay *relay = side_pair(side)->worker->relay;

	if (side->receive_bytes && !side->receive_fixed && side->receive_bytes < relay->receive_buffer_bytes &&
	    moved(side) - side->receive_mark > side->receive_bytes / 4) {
		uint64_t twice = 2ull * side->receive_bytes;

		set_receive_buffer(side, (uint32_t)(twice < relay->receive_buffer_bytes ? twice : relay->receive_buffer_bytes));
		side->receive_mark = moved(side);
	}
	if (!side_pair(side)->gated && !side->unlocked && side->copied > PLAIN_UNLOCK_AFTER_BYTES) {
		struct side *target = side_other(side);
		int locks = target->receive_bytes ? RECEIVE_BUFFER_LOCK : 0; /* stays where we set it */

		side->unlocked = true;
		if (relay->unlocks_buffers)
			setsockopt(target->watch.fd, SOL_SOCKET, SO_BUF_LOCK, &locks, sizeof locks);
	}
}

void buffers_sweep(struct side *side)
{
	buffers_note_moved(side);
	side->receive_mark = moved(side);
}
