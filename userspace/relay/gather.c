// SPDX-License-Identifier: Apache-2.0
/* Gathering: how a stream of small packets is moved (architecture.md, "Gathering
 * small segments").
 *
 * The kernel's worker sends each packet by itself, which for small ones at full
 * speed costs several times what the copy plane does: one recv and one send here
 * move all that have come. So the program closes the gate of such a direction
 * (GATE_SMALL), and what is handed up is moved as on the copy plane, as long as there
 * is credit. Only that nobody is woken for each packet: after a read the direction
 * waits a moment, in which about as many packets come as are worth a call. When
 * nothing came in it, the next packet wakes it at once.
 *
 * How it goes on is looked at every LOOK_NS: with few packets, large ones, some the
 * other way, or reads that bring hardly more than one packet it ends, and the gate
 * opens as ever. A timer runs only while bytes come, the last one for one look.
 *
 * Worker's thread only. */
#include "relay/gather.h"

#include "base/instant.h"
#include "relay/hold.h"
#include "relay/worker.h"

#define LOOK_NS 10000000u
#define PACKETS_LEAST 64 /* of a look */
/* Larger ones are cheaper in the kernel. What the sender could not send at once TCP joins. */
#define PACKET_BYTES_MOST 4096
#define LARGE_LOOKS_MOST 8 /* in a row: a sender that waits for window sends large ones too */
#define READ_PACKETS_LEAST 3
#define PACKETS_TOGETHER 32
#define BYTES_TOGETHER (32u << 10)
#define DELAY_FIRST_NS 50000u
#define DELAY_MOST_NS 400000u
/* A direction whose reads bring too little is tried again only at twice the speed. */
#define TICKS_LEAST GATE_TICKS(800000u)

static void begin_look(struct side *side)
{
	side->bulk->gather_calls = __atomic_load_n(&side->gate->calls, __ATOMIC_RELAXED);
	side->bulk->gather_seq = __atomic_load_n(&side->gate->next_seq, __ATOMIC_RELAXED);
	side->bulk->gather_other_seq = __atomic_load_n(&side_other(side)->gate->next_seq, __ATOMIC_RELAXED);
	side->bulk->gather_reads = side->reads;
	side->bulk->gather_until_ns = loop_now_ns(side_pair(side)->worker->loop) + LOOK_NS;
}

/* So much came within LOOK_NS. */
static void set_delay(struct side *side, uint32_t packets, uint32_t bytes)
{
	uint32_t by_packets = LOOK_NS / packets * PACKETS_TOGETHER, by_bytes = LOOK_NS / (bytes / BYTES_TOGETHER + 1);
	uint32_t delay_ns = by_packets < by_bytes ? by_packets : by_bytes;

	side->bulk->gather_delay_ns = delay_ns < DELAY_MOST_NS ? delay_ns : DELAY_MOST_NS;
}

static bool goes_on(struct side *side)
{
	uint32_t packets = __atomic_load_n(&side->gate->calls, __ATOMIC_RELAXED) - side->bulk->gather_calls;
	uint32_t bytes = __atomic_load_n(&side->gate->next_seq, __ATOMIC_RELAXED) - side->bulk->gather_seq;
	uint64_t reads = side->reads - side->bulk->gather_reads;

	side->bulk->gather_large = packets && bytes / packets > PACKET_BYTES_MOST ? side->bulk->gather_large + 1 : 0;
	if (side->bulk->gather_large == LARGE_LOOKS_MOST || (packets < PACKETS_LEAST && !side->bulk->gather_large) ||
	    __atomic_load_n(&side_other(side)->gate->next_seq, __ATOMIC_RELAXED) != side->bulk->gather_other_seq)
		return false;
	if (!side->bulk->gather_large && packets < reads * READ_PACKETS_LEAST) {
		uint32_t ticks = side->gate->small_most / 2;

		__atomic_store_n(&side->gate->small_most, ticks < TICKS_LEAST ? TICKS_LEAST : ticks, __ATOMIC_RELAXED);
		return false;
	}
	__atomic_store_n(&side->gate->small_most, GATHER_TICKS_MOST, __ATOMIC_RELAXED);
	set_delay(side, packets, bytes);
	return true;
}

void gather_look(struct side *side)
{
	uint32_t found;

	if (!side->mapped)
		return;
	found = __atomic_load_n(&side->gate->small_found, __ATOMIC_RELAXED);
	if (!side->gathers) {
		if (found == side->small_seen || side->is_shut ||
		    !(__atomic_load_n(&side->gate->gate, __ATOMIC_ACQUIRE) & GATE_CLOSED) || !side_has_bulk(side))
			return;
		side->small_seen = found;
		side->gathers = true;
		side->bulk->gatherings++;
		hold_leave(side);
		side->bulk->gather_large = 0;
		side->bulk->gather_delay_ns = DELAY_FIRST_NS;
		begin_look(side);
	} else if (loop_now_ns(side_pair(side)->worker->loop) >= side->bulk->gather_until_ns) {
		side->small_seen = found; /* while it was gathered */
		side->gathers = goes_on(side);
		begin_look(side);
	}
}

void gather_wait_for_more(struct side *side)
{
	side_wait_for(side, WAIT_TIMER, clock_now_ns() + side->bulk->gather_delay_ns);
}

void gather_wait_for_any(struct side *side)
{
	side_wait_for(side, WAIT_READABLE | WAIT_TIMER, side->bulk->gather_until_ns);
}
