// SPDX-License-Identifier: Apache-2.0
/* The hold: how a pair whose sender is faster than its reader stays in the kernel
 * (architecture.md, "The hold").
 *
 * Its gate closes whenever the credit is used up, and what the sender may still
 * send is handed up. Moved as usual, each read would announce new window, the
 * sender would fill it before the write is done, and the gate would never open.
 * So the window is kept small where that costs nothing, shut while the handed up
 * bytes are moved, and announced only when the gate is open again:
 *
 * - the source's receive buffer has room for little more than two of loopback's
 *   packets, so little is handed up at a closing;
 * - when the sender has used up its window (the program notes what is left of it
 *   with every packet that it hands up), the buffer shrinks with what is read, so
 *   that reading does not make the kernel announce window;
 * - all but the last TAIL bytes are read and written. Those last ones the program
 *   has noted too: they are written as well, but stay unread, and the gate is
 *   opened;
 * - the buffer gets its size back, and one of the unread bytes is read. That makes
 *   the kernel announce the window, which nothing else would do on an empty queue.
 *
 * On loopback the announcement runs the sender inside our recv: its packets wait in
 * the socket's backlog, which counts as used memory, so the window that is
 * announced last can be too small for a packet although the queue is empty. Hence
 * one byte after the other is read as long as each sets bytes in motion, and once
 * more a moment later if nothing came. Before the last ones are read the credit is
 * taken away: what they set in motion closes the gate, and begins the next round.
 *
 * To a reader that is far away the gate is opened while what the way holds is in flight; a
 * sender that is far away is throttled instead (throttle.c).
 *
 * A smaller buffer is safe only with an open gate, where nothing is charged to it,
 * or when nothing can come: the kernel drops what does not fit, and the sender
 * waits for its timer. A sender of small segments, which need more memory than the
 * window allows for, is left to the kernel's tuning. The hold is an optimisation:
 * whatever it finds otherwise than expected is left to gate.c. Worker's thread only. */
#include "relay/hold.h"

#include "base/instant.h"
#include "relay/pump.h"
#include "relay/throttle.h"
#include "relay/worker.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#define TAIL GATE_TAIL_BYTES
#define TAIL_SPARE 8 /* bytes kept for the later look */
/* Two segments are the least that makes the kernel announce a window of which nearly one
 * is left; a packet that the network stack has joined has up to 64 KB. */
#define WINDOW_LEAST_BYTES (64u << 10)
#define WINDOW_MOST_BYTES (136u << 10)
#define WINDOW_SLACK_BYTES (8u << 10)
#define WIDE_BYTES (184u << 10)
#define LEAST_BYTES 2304u /* the kernel has no smaller one */
#define FIRST_BYTES (256u << 10)
#define LEFT_BYTES (1u << 20)
/* Less is not bulk: short streams come and go irregularly, and a small buffer may make the
 * kernel drop what they send in small packets. */
#define MOVED_LEAST_BYTES (16ull << 20)
/* Less credit is not worth it. */
#define CREDIT_LEAST_BYTES (256ull << 10)
/* With this part of the bytes coming the other way the kernel's worker, which writes to the
 * source then, makes its packets wait in the socket's backlog, and they need the room that
 * the hold takes away. */
#define OTHER_WAY_PART 8
#define OTHER_WAY_BYTES (64u << 10)
/* TCP asks for window after 200 ms. A shorter round than of so many bytes is not worth it. */
#define ROUND_MOST_NS 150e6
#define ROUND_LEAST_BYTES (1280u << 10)
/* Of a look at the reader's pace. */
#define PACE_LEAST_NS 20000000u
#define PACE_MOST_NS 1000000000u
#define LOOK_NS 200000u
#define LOOKS_MOST 20 /* for a sender that uses up its window */
#define LOOKS_QUIET 3 /* at one that sends nothing */
#define LOOKS_AFTER 4 /* for one that has been told of it */

uint32_t hold_window_for(uint32_t segment_bytes)
{
	uint32_t bytes = 2 * segment_bytes + WINDOW_SLACK_BYTES;

	return bytes < WINDOW_LEAST_BYTES ? WINDOW_LEAST_BYTES : bytes > WINDOW_MOST_BYTES ? WINDOW_MOST_BYTES : bytes;
}

struct hold_sizes hold_sizes_for(uint32_t window, int64_t room, uint32_t charged)
{
	uint32_t whole = window + charged + (uint32_t)(room > 0 ? room : 0), wide = window + WIDE_BYTES + charged;

	/* Memory is more than bytes. */
	return (struct hold_sizes){
		.calm = window + window / 8 * 3 + charged,
		.closed = window + window / 2 + charged,
		.wide = wide < whole ? wide : whole,
		.whole = whole,
	};
}

uint32_t hold_shut_size(uint32_t left, uint32_t charged)
{
	uint32_t size = charged + left + left / 2;

	return size < LEAST_BYTES ? LEAST_BYTES : size;
}

uint64_t hold_low_mark(uint32_t credit, double pace, uint64_t rtt_ns)
{
	double path = pace * (double)rtt_ns, round = pace * ROUND_MOST_NS;
	uint64_t low = (uint64_t)(path + path / 4);

	if (low < credit / 4)
		low = credit / 4;
	/* On a long way there is credit for a longer round than a sender waits before it asks for window. */
	round = round > ROUND_LEAST_BYTES ? round : ROUND_LEAST_BYTES;
	return rtt_ns && low < credit && (double)(credit - low) > round ? credit - (uint64_t)round : low;
}

bool hold_has_small_segments(uint64_t unread, uint32_t charged)
{
	/* One packet may have been read in part and still be charged. */
	return charged > unread + unread / 4 + CHUNK_BYTES;
}

bool hold_window_may_grow(uint32_t window, uint32_t size, uint32_t charged)
{
	uint32_t whole = size < window ? size : window;

	return charged < size && size - charged >= whole / 2;
}

static void set_buffer(struct side *side, uint32_t bytes)
{
	int half = (int)(bytes / 2); /* the kernel doubles it */

	if (side->hold_bytes == bytes)
		return;
	setsockopt(side->watch.fd, SOL_SOCKET, SO_RCVBUF, &half, sizeof half);
	side->hold_bytes = bytes;
}

/* When the kernel meets larger segments than before, it fits the limit to the buffer as it
 * is then. Returns the larger one of what was and of what is to be announced. */
static uint32_t limit_window(struct side *side)
{
	int limit = (int)side->bulk->hold_window, was = limit;
	socklen_t size = sizeof was;

	if (!getsockopt(side->watch.fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &was, &size) && was == limit)
		return (uint32_t)limit;
	setsockopt(side->watch.fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &limit, sizeof limit);
	return (uint32_t)(was > limit ? was : limit);
}

static bool is_open(const struct side *side)
{
	return !(__atomic_load_n(&side->gate->gate, __ATOMIC_ACQUIRE) & GATE_CLOSED);
}

static uint64_t handed_up(const struct side *side)
{
	return GATE_HANDED_UP(__atomic_load_n(&side->gate->gate, __ATOMIC_ACQUIRE));
}

static uint64_t redirected(const struct side *side)
{
	return __atomic_load_n(&side->gate->redirected, __ATOMIC_RELAXED);
}

static bool is_two_way(struct side *side)
{
	struct bulk *bulk = side->bulk;
	uint64_t own = buffers_moved(side), other = buffers_moved(side_other(side));

	if (!bulk)
		return other > own / OTHER_WAY_PART;
	if (other - bulk->other_mark > (own - bulk->own_mark) / OTHER_WAY_PART + OTHER_WAY_BYTES)
		return true;
	if (own - bulk->own_mark > MOVED_LEAST_BYTES) {
		bulk->own_mark = own;
		bulk->other_mark = other;
	}
	return false;
}

/* No room but for what the sender may still send, when `bytes` will have been read: a
 * packet that finds none makes the kernel take the announced window back. */
static void shut_for(struct side *side, size_t bytes)
{
	uint32_t left = __atomic_load_n(&side->gate->window_left, __ATOMIC_RELAXED);
	uint32_t charged = tcp_charged(side->watch.fd);

	if (left > side->bulk->hold_window)
		left = side->bulk->segment_bytes;
	charged = charged > bytes ? charged - (uint32_t)bytes : 0;
	set_buffer(side, hold_shut_size(left, charged));
}

/* Back to the usual size. */
static void calm(struct side *side)
{
	struct hold_sizes sizes = hold_sizes_for(limit_window(side), 0, tcp_charged(side->watch.fd));

	/* With a closed gate there must be room for what was announced, but no more. */
	if (is_open(side))
		set_buffer(side, sizes.calm);
	else if (side->is_shut || sizes.closed < side->hold_bytes)
		set_buffer(side, sizes.closed);
	side->is_shut = false;
}

/* A way that is not far holds next to nothing. */
static uint64_t low_mark(const struct side *side, uint32_t credit)
{
	return hold_low_mark(credit, side->bulk->reader_pace, side->is_far ? 1000ull * side->rtt_us : 0);
}

/* Before there are rounds that tell: what the reader has acknowledged since the last look. */
static void look_at_pace(struct side *side)
{
	struct bulk *bulk = side->bulk;
	uint64_t now = clock_now_ns(), passed = now - bulk->paced_at_ns, acked;

	if (passed < PACE_LEAST_NS || passed < 2000ull * side->rtt_us)
		return;
	acked = tcp_acked(side_other(side)->watch.fd);
	if (passed < PACE_MOST_NS)
		bulk->reader_pace = (double)(acked - bulk->paced_acked) / (double)passed;
	bulk->paced_at_ns = now;
	bulk->paced_acked = acked;
}

/* There is enough credit for a round, besides what the way to the reader holds. */
static bool is_covered(struct side *side)
{
	uint32_t credit = side->lent_far_most;

	if (!side->is_far)
		return true;
	look_at_pace(side);
	return side->bulk->reader_pace > 0 && low_mark(side, credit) <= credit / 4 * 3;
}

void hold_begin(struct side *side)
{
	uint64_t unread = handed_up(side) - side->read;
	struct tcp_facts facts;

	if (side->hold_bytes || side->never_holds || side->gathers || !side->mapped || throttle_is_on(side) ||
	    buffers_moved(side) < MOVED_LEAST_BYTES)
		return;
	if (side->lent_most < 4 * CREDIT_LEAST_BYTES || !side_has_bulk(side)) {
		side->never_holds = true;
		return;
	}
	tcp_facts_read(side->watch.fd, &facts);
	/* A longer way needs more window than is handed up cheaply. */
	if (facts.least_rtt_us > FAR_RTT_US)
		return throttle_begin(side, &facts);
	if (!is_covered(side) || is_two_way(side) || hold_has_small_segments(unread, tcp_charged(side->watch.fd)))
		return;
	side->bulk->segment_bytes = facts.segment_bytes;
	side->bulk->hold_window = hold_window_for(facts.most_segment_bytes);
	/* Not smaller now that bytes may be under way; after the first round it is. */
	side->hold_bytes = buffers_fix_receive(side, FIRST_BYTES);
	if (side->hold_bytes)
		limit_window(side);
	else
		side->never_holds = true;
}

/* The sender has less window left than one of its segments needs, and is not being told of more. */
static bool is_out_of_window(const struct side *side, bool was_quiet)
{
	uint32_t left = __atomic_load_n(&side->gate->window_left, __ATOMIC_RELAXED);
	uint32_t unacked = __atomic_load_n(&side->gate->unacked, __ATOMIC_RELAXED);
	struct tcp_facts facts;

	if (left >= side->bulk->segment_bytes)
		return false;
	tcp_facts_read(side->watch.fd, &facts);
	if (left > facts.met_segment_bytes) /* see limit_window(): not with the least of buffers */
		return false;
	/* Behind the last packet the kernel may have announced more; one segment it acknowledges later. */
	return was_quiet || unacked <= side->bulk->segment_bytes ||
	       !hold_window_may_grow(side->bulk->hold_window, side->hold_bytes, tcp_charged(side->watch.fd));
}

void hold_leave(struct side *side)
{
	int half = (int)(side_pair(side)->worker->relay->receive_buffer_bytes / 2);

	throttle_leave(side);
	if (!side->hold_bytes)
		return;
	/* With room again, from which the kernel goes on: its own tuning takes several round trips. */
	set_buffer(side, LEFT_BYTES);
	setsockopt(side->watch.fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &half, sizeof half);
	side->hold_bytes = 0;
	buffers_leave_receive(side);
}

bool hold_shut(struct side *side)
{
	uint64_t up = handed_up(side), unread = up - side->read;

	if (side->is_shut || !side->hold_bytes || side->lent < CREDIT_LEAST_BYTES || side->ending || side->hold_length)
		return false;
	if (up == side->bulk->hold_mark && side->quiet_looks == LOOKS_QUIET)
		return false; /* looked at already: stopped pairs must cost nothing */
	if (!side->owed && (is_two_way(side) || hold_has_small_segments(unread, tcp_charged(side->watch.fd)))) {
		side->never_holds = true; /* only the kernel's own tuning makes room for them in time */
		hold_leave(side);
		return false;
	}
	if (up != side->bulk->hold_mark) {
		side->bulk->hold_mark = up;
		side->looks = side->looks >= LOOKS_MOST ? side->looks : side->looks + 1;
		side->quiet_looks = 0;
	} else if (side->quiet_looks < LOOKS_QUIET) {
		side->quiet_looks++;
	}
	if (unread >= (uint64_t)side->owed + TAIL && is_out_of_window(side, side->quiet_looks >= LOOKS_QUIET)) {
		side->is_shut = true;
		side->bulk->hold_low = low_mark(side, side->lent);
		if (side->bulk->hold_low > side->lent / 4 * 3) /* more is lent later */
			side->bulk->hold_low = side->lent / 4 * 3;
		shut_for(side, 0);
		side->looks = 0;
	} else if (side->looks < LOOKS_MOST && side->quiet_looks < LOOKS_QUIET) {
		side_wait_for(side, WAIT_TIMER, clock_now_ns() + LOOK_NS / 4);
		return true;
	}
	return false; /* shut; or it pauses, or does not come to an end: as usual */
}

size_t hold_limit(struct side *side, size_t most)
{
	uint64_t unread;

	if (!side->is_shut)
		return most;
	unread = handed_up(side) - side->read;
	if (unread > TAIL && most > unread - TAIL)
		most = (size_t)(unread - TAIL);
	shut_for(side, most);
	return most;
}

void hold_note_read(struct side *side)
{
	if (side->is_shut)
		shut_for(side, 0);
}

bool hold_drop_owed(struct side *side)
{
	char bytes[TAIL];

	if (side->owed && side->is_shut)
		shut_for(side, side->bulk->owed_charged);
	while (side->owed) {
		ssize_t size = recv(side->watch.fd, bytes, side->owed, MSG_DONTWAIT);

		if (size < 0 && errno == EINTR)
			continue;
		if (size <= 0) {
			pair_fail(side, size ? errno : ECONNRESET, "recv");
			return false;
		}
		side->read += (uint64_t)size;
		side->owed -= (uint8_t)size;
	}
	return true;
}

/* Reads owed bytes one by one as long as each sets others in motion. */
static void announce_window(struct side *side)
{
	uint32_t charged = tcp_charged(side->watch.fd);
	uint64_t before;
	char byte;

	side->bulk->owed_charged = charged;
	limit_window(side);
	do {
		int64_t room = (int64_t)side->lent - gate_in_flight(side, side_other(side)->watch.fd);

		before = redirected(side);
		set_buffer(side, hold_sizes_for(side->bulk->hold_window, room, charged).wide);
		if (recv(side->watch.fd, &byte, 1, MSG_DONTWAIT) != 1)
			break;
		side->read++;
		side->owed--;
	} while (is_open(side) && side->owed > TAIL_SPARE && redirected(side) != before);
	calm(side);
	side->bulk->hold_mark = redirected(side);
}

/* The last means. There is no unread byte left then to announce more window with, so the
 * next packet is to be handed up; with reading it the kernel will. (It may be one of many
 * that come within our recv.) False: the pair is over. */
static bool announce_all(struct side *side)
{
	int64_t room = (int64_t)side->lent - gate_in_flight(side, side_other(side)->watch.fd);
	int one = 1;

	__atomic_store_n(&side->gate->credit, GATE_NO_CREDIT, __ATOMIC_RELAXED);
	set_buffer(side, hold_sizes_for(side->bulk->hold_window, room, tcp_charged(side->watch.fd)).whole);
	if (!hold_drop_owed(side))
		return false;
	/* A packet that is not wholly read also delays acknowledgements. */
	setsockopt(side->watch.fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
	calm(side);
	side->bulk->hold_mark = redirected(side);
	return true;
}

bool hold_look_again(struct side *side)
{
	if (!side->owed || side->bulk->hold_mark != redirected(side)) {
		side->looks = 0;
		return false;
	}
	side->looks++;
	if (side->looks < LOOKS_AFTER)
		announce_window(side);
	else if (!announce_all(side))
		return true;
	side_wait_for(side, WAIT_TIMER, clock_now_ns() + LOOK_NS);
	return true;
}

/* How long the reader took for a byte since the last round. */
static void note_pace(struct side *side)
{
	uint64_t now = clock_now_ns(), moved = redirected(side) + side->read;
	struct bulk *bulk = side->bulk;
	bool is_known = bulk->held_at_ns && moved > bulk->held_mark;

	bulk->hold_pace = is_known ? (double)(now - bulk->held_at_ns) / (double)(moved - bulk->held_mark) : 0;
	/* A round in which the way ran dry, or the reader paused, says too little. */
	if (is_known)
		bulk->reader_pace = 1 / bulk->hold_pace > 0.9 * bulk->reader_pace ? 1 / bulk->hold_pace : 0.9 * bulk->reader_pace;
	bulk->held_at_ns = now;
	bulk->held_mark = moved;
}

bool hold_release(struct side *side)
{
	uint64_t word = __atomic_load_n(&side->gate->gate, __ATOMIC_ACQUIRE);
	unsigned long long closed = word;
	char tail[TAIL];

	if (!side->is_shut || side->owed || GATE_HANDED_UP(word) - side->read > TAIL)
		return false;
	memcpy(tail, side->gate->tail, TAIL);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (side->ending || GATE_HANDED_UP(word) - side->read != TAIL ||
	    __atomic_load_n(&side->gate->tail_at, __ATOMIC_RELAXED) != GATE_HANDED_UP(word)) {
		calm(side); /* a packet came after all, or a small one was the last */
		return false;
	}
	if (!gate_memory_is_low(side) || !copy_reserve(side)) {
		pump_wait_reader_tick(side, WAIT_TIMER);
		return true;
	}
	if (copy_give(side, tail, TAIL) < 0)
		return true;
	copy_release(side);
	side->owed = TAIL;
	if (side->hold_length || !gate_open(side, closed)) {
		calm(side);
		return false;
	}
	side->holds++;
	note_pace(side);
	announce_window(side);
	side_wait_for(side, WAIT_TIMER, clock_now_ns() + LOOK_NS);
	return true;
}
