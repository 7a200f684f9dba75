// SPDX-License-Identifier: Apache-2.0
/* Socket buffers of a pair, lent as credit is: a party that never reads and one
 * that never stops sending must not fill what a pair may have at most.
 *
 * Receive buffers are tuned by the kernel. Where net.ipv4.tcp_rmem would let it
 * pass the pair's share, the size becomes ours at a quarter of the share: from
 * then on it is doubled while a quarter of it and more moves between two sweeps,
 * up to the share. Not earlier: the kernel makes room for what it has announced,
 * a fixed size makes it drop small segments. A receive buffer never shrinks for
 * the same reason. The hold (hold.c) takes it over where a sender is too quick, with care.
 *
 * Send buffers: gated pairs keep the large one of the listener, because their
 * credit limits what is in it. Plain pairs begin with a small one and are given
 * to the kernel's tuning once a megabyte was taken, or earlier where the way is long
 * and the party has acknowledged more than it would without reading.
 * Worker's thread only. */
#include "relay/worker.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#define RECEIVE_LOOK_BYTES (128u << 10)
#define PLAIN_SEND_FIRST_BYTES (64u << 10)
#define PLAIN_UNLOCK_AFTER_BYTES (1ull << 20)
#define PLAIN_LOOK_BYTES (32u << 10)
/* More than a party takes that never reads: its first window is at most 64 KB. */
#define PLAIN_FAR_TAKEN_BYTES (96u << 10)

static int receive_buffer(int fd)
{
	int bytes = 0;
	socklen_t size = sizeof bytes;

	return getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &size) ? 0 : bytes;
}

static void set_locks(struct side *side, int locks)
{
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
	struct pair *pair = side_pair(side);
	int half = PLAIN_SEND_FIRST_BYTES / 2;

	if (pair->gated || !pair->worker->relay->tunes_send_buffers)
		return;
	setsockopt(side->watch.fd, SOL_SOCKET, SO_SNDBUF, &half, sizeof half);
	side->locks |= LOCK_SEND;
}

uint64_t buffers_moved(const struct side *side)
{
	return side->read_before + side->read + (side->gate ? __atomic_load_n(&side->gate->redirected, __ATOMIC_RELAXED) : 0);
}

static bool may_lend(const struct relay *relay)
{
	return !relay->tunes_receive_buffers && relay->has_buffer_locks;
}

void buffers_look(struct side *side)
{
	struct pair *pair = side_pair(side);
	struct relay *relay = pair->worker->relay;
	uint64_t now, share = relay->receive_buffer_bytes;

	if (side->receive_bytes || !may_lend(relay))
		return;
	now = (uint64_t)receive_buffer(side->watch.fd);
	if (now < share / 4)
		return;
	set_locks(side, side->locks | LOCK_RECEIVE | (pair->gated ? LOCK_SEND : 0));
	side->receive_bytes = (uint32_t)now;
	side->receive_fixed = now >= share;
}

static void lend_receive_buffer(struct side *side)
{
	uint64_t share = side_pair(side)->worker->relay->receive_buffer_bytes, bytes = buffers_moved(side) - side->receive_mark;

	if (side->receive_fixed || bytes < (side->receive_bytes ? side->receive_bytes / 4 : RECEIVE_LOOK_BYTES))
		return;
	side->receive_mark += bytes;
	if (!side->receive_bytes)
		return buffers_look(side);
	set_receive_buffer(side, (uint32_t)(2ull * side->receive_bytes < share ? 2ull * side->receive_bytes : share));
	side->receive_fixed |= side->receive_bytes >= share;
}

bool buffers_are_short(const struct tcp_facts *facts, uint64_t taken)
{
	return facts->least_rtt_us > FAR_RTT_US && taken >= PLAIN_FAR_TAKEN_BYTES &&
	       facts->path_bytes >= PLAIN_SEND_FIRST_BYTES / 2;
}

/* The first buffer is all that is under way, and the way is long. */
static bool is_held_up(struct side *side)
{
	int fd = side_other(side)->watch.fd;
	struct tcp_facts facts;
	unsigned unsent;

	if (side->copied < PLAIN_FAR_TAKEN_BYTES || side->copied - side->send_mark < PLAIN_LOOK_BYTES)
		return false;
	side->send_mark = side->copied;
	unsent = tcp_unsent(fd);
	tcp_facts_read(fd, &facts);
	return buffers_are_short(&facts, side->copied > unsent ? side->copied - unsent : 0);
}

void buffers_note_moved(struct side *side)
{
	struct pair *pair = side_pair(side);
	struct side *target = side_other(side);

	if (may_lend(pair->worker->relay))
		lend_receive_buffer(side);
	if (!pair->gated && (target->locks & LOCK_SEND) && (side->copied > PLAIN_UNLOCK_AFTER_BYTES || is_held_up(side)))
		set_locks(target, target->locks & ~LOCK_SEND);
}

void buffers_sweep(struct side *side)
{
	buffers_note_moved(side);
	side->receive_mark = buffers_moved(side);
}

uint32_t buffers_fix_receive(struct side *side, uint32_t bytes)
{
	uint32_t now = (uint32_t)receive_buffer(side->watch.fd);
	int half = (int)(bytes / 2);

	if (!side_pair(side)->worker->relay->has_buffer_locks)
		return 0;
	if (now < bytes && setsockopt(side->watch.fd, SOL_SOCKET, SO_RCVBUF, &half, sizeof half) == 0)
		now = (uint32_t)receive_buffer(side->watch.fd);
	if (now < bytes)
		return 0; /* net.core.rmem_max */
	set_locks(side, side->locks | LOCK_RECEIVE | LOCK_SEND); /* a gated side's send buffer is fixed too */
	side->receive_bytes = now;
	side->receive_fixed = true;
	return now;
}

void buffers_leave_receive(struct side *side)
{
	set_locks(side, side->locks & ~LOCK_RECEIVE);
	side->receive_bytes = 0;
	side->receive_fixed = false;
}
