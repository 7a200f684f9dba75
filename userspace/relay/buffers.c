// SPDX-License-Identifier: Apache-2.0
/* Socket buffers of a pair, lent as credit is: a party that never reads and one
 * that never stops sending must not fill what a pair may have at most, and many of
 * them together must not fill what the machine has for TCP.
 *
 * Every buffer may have BUFFER_FIRST_BYTES. What is beyond is booked in the relay's
 * budget for buffers, `receive_booked` and `send_booked` of a side. As long as half of what the
 * budget has left is more than a buffer has, the kernel tunes it, and what it came to is booked
 * afterwards. Larger ones are fixed at their size; once the budget is used up, all are, before the
 * pump reads and makes the kernel tune. So the sum passes the budget by little.
 *
 * A window that was announced cannot be taken back, and a receive buffer that shrinks makes
 * the kernel drop what comes. So a fixed buffer keeps its size, and only the window is
 * limited: to half where a buffer is more than twice what it may be, and its booking falls
 * when everything announced before has come; to the first size where nothing
 * moves and nothing waits. The latter gives its booking back at once: what such a party may still
 * send is lent twice, until it moves again.
 *
 * Receive buffers are tuned by the kernel. Where net.ipv4.tcp_rmem would let it
 * pass the pair's share, the size becomes ours at a quarter of the share: from
 * then on it is doubled while a quarter of it and more moves between two sweeps,
 * up to the share. Not earlier: the kernel makes room for what it has announced,
 * a fixed size makes it drop small segments.
 * The hold (hold.c) takes it over where a sender is too quick, with care.
 *
 * Send buffers: gated pairs keep the large one of the listener, because their
 * credit limits what is in it. Plain pairs begin with a small one and are given
 * to the kernel's tuning once a megabyte was taken, or earlier where the way is long
 * and the party has acknowledged more than it would without reading.
 * Worker's thread only. */
#include "relay/worker.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

/* The kernel's tuning has its first look at ten segments: what it makes of them is to be booked before the next pair reads. */
#define RECEIVE_LOOK_BYTES (14u << 10)
#define SEND_LOOK_BYTES (128u << 10)
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

/* `locks`: of LOCK_RECEIVE and LOCK_SEND. A send buffer that is not a plain pair's own stays as the listener had it. */
static void set_locks(struct side *side, int locks)
{
	struct pair *pair = side_pair(side);

	if (pair->gated || !pair->worker->relay->tunes_send_buffers)
		locks |= LOCK_SEND;
	setsockopt(side->watch.fd, SOL_SOCKET, SO_BUF_LOCK, &locks, sizeof locks);
	side->locks = (uint8_t)locks;
}

static struct credit_budget *budget_of(struct side *side)
{
	return &side_pair(side)->worker->relay->buffers;
}

static void book_receive(struct side *side, uint64_t bytes)
{
	side->receive_booked = credit_book_buffer(budget_of(side), side->receive_booked, bytes);
}

static void book_send(struct side *side, uint64_t bytes)
{
	side->send_booked = credit_book_buffer(budget_of(side), side->send_booked, bytes);
}

/* The kernel counts twice what it is told; half of a buffer is window. */
static void set_window(struct side *side, uint32_t bytes)
{
	int half = (int)(bytes / 2);

	setsockopt(side->watch.fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &half, sizeof half);
	side->receive_bytes = bytes;
}

static void set_receive_buffer(struct side *side, uint32_t bytes)
{
	int half = (int)(bytes / 2);

	setsockopt(side->watch.fd, SOL_SOCKET, SO_RCVBUF, &half, sizeof half);
	set_window(side, bytes);
	side->locks |= LOCK_RECEIVE;
}

static void fix_receive_buffer(struct side *side, uint32_t bytes)
{
	set_locks(side, side->locks | LOCK_RECEIVE);
	side->receive_bytes = bytes;
}

static void set_send_buffer(struct side *side, uint64_t bytes)
{
	int half = (int)(bytes / 2);

	setsockopt(side->watch.fd, SOL_SOCKET, SO_SNDBUF, &half, sizeof half);
	side->locks |= LOCK_SEND;
}

/* The kernel must not tune the buffer any more when it is used up: it would at the next read. */
static bool is_exhausted(struct side *side)
{
	return credit_buffer_most(budget_of(side)) < 2 * BUFFER_FIRST_BYTES;
}

void buffers_begin(struct side *side)
{
	struct pair *pair = side_pair(side);

	buffers_guard(side);
	if (!pair->gated && pair->worker->relay->tunes_send_buffers)
		set_send_buffer(side, PLAIN_SEND_FIRST_BYTES);
}

void buffers_end(struct side *side)
{
	book_receive(side, 0);
	book_send(side, 0);
}

/* The kernel may have made it larger; what is in it is ours to decide. */
static void guard_send_buffer(struct side *target)
{
	if (side_pair(target)->gated || !side_pair(target)->worker->relay->tunes_send_buffers || (target->locks & LOCK_SEND))
		return;
	set_send_buffer(target, BUFFER_FIRST_BYTES + target->send_booked);
}

void buffers_guard(struct side *side)
{
	uint32_t now;

	if (!side_pair(side)->worker->relay->has_buffer_locks || !is_exhausted(side))
		return;
	guard_send_buffer(side_other(side));
	if (side->receive_bytes)
		return;
	now = (uint32_t)receive_buffer(side->watch.fd);
	book_receive(side, now);
	fix_receive_buffer(side, now);
}

uint64_t buffers_moved(const struct side *side)
{
	return side->read_before + side->read + (side->gate ? __atomic_load_n(&side->gate->redirected, __ATOMIC_RELAXED) : 0);
}

void buffers_look(struct side *side)
{
	struct relay *relay = side_pair(side)->worker->relay;
	uint64_t now;

	if (side->receive_bytes || !relay->has_buffer_locks)
		return;
	now = (uint64_t)receive_buffer(side->watch.fd);
	book_receive(side, now);
	if (now > credit_buffer_most(budget_of(side)) ||
	    (!relay->tunes_receive_buffers && now >= relay->receive_buffer_bytes / 4))
		fix_receive_buffer(side, (uint32_t)now);
}

/* Twice of what it was, by the window alone where the memory is there. */
static void raise_receive_buffer(struct side *side)
{
	struct relay *relay = side_pair(side)->worker->relay;
	uint64_t share = relay->receive_buffer_bytes, now = (uint64_t)receive_buffer(side->watch.fd);
	uint64_t wanted = 2ull * side->receive_bytes < share ? 2ull * side->receive_bytes : share;

	if (wanted <= now) {
		set_window(side, (uint32_t)wanted);
		book_receive(side, wanted);
	} else if (relay->tunes_receive_buffers) {
		set_window(side, (uint32_t)now * 2); /* the limit is the buffer */
		set_locks(side, side->locks & ~LOCK_RECEIVE);
		side->receive_bytes = 0;
		book_receive(side, now);
	} else if (wanted <= relay->receive_most_bytes) {
		set_receive_buffer(side, (uint32_t)wanted);
		book_receive(side, wanted);
	}
}

/* When the kernel meets larger segments than before, it fits the limit to the whole buffer. */
static void keep_window(struct side *side)
{
	int limit = 0;
	socklen_t size = sizeof limit;

	if (!side->receive_bytes || side->hold_bytes || side->receive_bytes >= (uint32_t)receive_buffer(side->watch.fd) ||
	    getsockopt(side->watch.fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &limit, &size) || (uint32_t)limit <= side->receive_bytes / 2)
		return;
	book_receive(side, (uint64_t)receive_buffer(side->watch.fd));
	side->receive_drained = buffers_moved(side) + (uint64_t)limit;
	set_window(side, side->receive_bytes);
}

/* A fixed buffer, of which the party has used a quarter since the last look. */
static void adjust_receive_buffer(struct side *side)
{
	uint64_t most = credit_buffer_most(budget_of(side)), moved = buffers_moved(side);

	if (side->receive_booked > side->receive_bytes && moved >= side->receive_drained)
		book_receive(side, side->receive_bytes);
	if (side->receive_bytes < side_pair(side)->worker->relay->receive_buffer_bytes && 2ull * side->receive_bytes <= most) {
		raise_receive_buffer(side);
	} else if (side->receive_bytes > 2 * most && moved >= side->receive_drained) {
		side->receive_drained = moved + side->receive_bytes;
		set_window(side, side->receive_bytes / 2);
	}
}

static void lend_receive_buffer(struct side *side)
{
	uint32_t bytes = (uint32_t)buffers_moved(side) - side->receive_mark;

	if (side->hold_bytes || bytes < (side->receive_bytes ? side->receive_bytes / 4 : RECEIVE_LOOK_BYTES))
		return;
	side->receive_mark += bytes;
	if (side->receive_bytes)
		adjust_receive_buffer(side);
	else
		buffers_look(side);
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

	if (side->copied < PLAIN_FAR_TAKEN_BYTES || (uint32_t)side->copied - side->send_mark < PLAIN_LOOK_BYTES)
		return false;
	side->send_mark = (uint32_t)side->copied;
	unsent = tcp_unsent(fd);
	tcp_facts_read(fd, &facts);
	return buffers_are_short(&facts, side->copied > unsent ? side->copied - unsent : 0);
}

/* The send buffer of a plain pair's target. Made smaller than what is in it, it takes no more until it has room. */
static void lend_send_buffer(struct side *side)
{
	struct side *target = side_other(side);
	uint64_t most = credit_buffer_most(budget_of(side)), now = BUFFER_FIRST_BYTES + target->send_booked;
	bool is_fixed = target->locks & LOCK_SEND;

	if (is_fixed && 2 * now <= most && (side->copied > PLAIN_UNLOCK_AFTER_BYTES || is_held_up(side)))
		return set_locks(target, target->locks & ~LOCK_SEND);
	if ((uint32_t)side->copied - side->send_mark < SEND_LOOK_BYTES || (is_fixed && now <= 2 * most))
		return;
	side->send_mark = (uint32_t)side->copied;
	if (!is_fixed)
		now = tcp_send_buffer(target->watch.fd);
	if (now > most)
		set_send_buffer(target, now <= 2 * most ? now : is_fixed ? now / 2 : most);
	book_send(target, tcp_send_buffer(target->watch.fd));
}

void buffers_note_moved(struct side *side)
{
	struct relay *relay = side_pair(side)->worker->relay;

	if (!relay->has_buffer_locks)
		return;
	lend_receive_buffer(side);
	if (!side_pair(side)->gated && relay->tunes_send_buffers)
		lend_send_buffer(side);
}

void buffers_sweep(struct side *side)
{
	uint32_t mark = side->receive_mark;

	buffers_guard(side);
	buffers_note_moved(side);
	if (side->receive_bytes) /* it grows by what moves between two sweeps */
		side->receive_mark = (uint32_t)buffers_moved(side);
	if (side->receive_mark != mark)
		keep_window(side);
}

void buffers_sweep_idle(struct side *side)
{
	uint32_t moved = (uint32_t)buffers_moved(side), charged;
	bool is_idle = moved == side->buffers_idle_mark;
	struct side *target = side_other(side);

	side->buffers_idle_mark = moved;
	if (!is_idle || !side_pair(side)->worker->relay->has_buffer_locks)
		return;
	if (!side->hold_bytes && (side->receive_booked || side->receive_bytes > BUFFER_FIRST_BYTES)) {
		charged = tcp_charged(side->watch.fd);
		if (charged > BUFFER_FIRST_BYTES) { /* stopped */
			if (charged > BUFFER_FIRST_BYTES + side->receive_booked)
				book_receive(side, charged);
		} else {
			fix_receive_buffer(side, BUFFER_FIRST_BYTES);
			set_window(side, BUFFER_FIRST_BYTES);
			book_receive(side, 0);
		}
	}
	if (target->send_booked && tcp_memory(target->watch.fd) <= PLAIN_SEND_FIRST_BYTES) {
		set_send_buffer(target, PLAIN_SEND_FIRST_BYTES);
		book_send(target, 0);
	}
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
	set_locks(side, side->locks | LOCK_RECEIVE);
	side->receive_bytes = now;
	book_receive(side, 0); /* the hold keeps it small */
	return now;
}

void buffers_leave_receive(struct side *side)
{
	uint64_t now = (uint64_t)receive_buffer(side->watch.fd), most = credit_buffer_most(budget_of(side));

	set_locks(side, side->locks & ~LOCK_RECEIVE);
	side->receive_bytes = 0;
	if (now > most) { /* little has been announced */
		fix_receive_buffer(side, (uint32_t)now);
		set_window(side, (uint32_t)most);
		now = most;
	}
	book_receive(side, now);
}
