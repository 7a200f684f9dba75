/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* What the credit gate's program and the daemon share: one struct per direction
 * in an array that both map, and the record that announces a closed gate.
 *
 * A direction has the index of the socket it begins at; its target is the socket
 * of index ^ 1. Each cache line has one writer. Only the word `gate` is written
 * by both: the program changes it by atomic operations, the daemon by a
 * compare-and-swap. `gate` is read before anything else of the struct; what the
 * daemon writes to its own line before it opens the gate is seen by the program
 * behind the open gate. */

#define GATE_CLOSED 1ULL
#define GATE_BROKEN (1ULL << 63) /* in the gate word itself, so that no compare-and-swap can open a broken gate */
#define GATE_HANDED_UP(word) (((word) & ~GATE_BROKEN) >> 1)

#define GATE_NO_CREDIT (~0ULL) /* as `credit`: less than nothing, so the next packet closes the gate */
#define GATE_TAIL_BYTES 64

enum gate_closing { GATE_CREDIT, GATE_MEMORY, GATE_PILE, GATE_FAILED, GATE_SMALL, GATE_CLOSINGS };
#define GATE_CLOSINGS_ROOM 8 /* a power of two: the program masks the index */

/* So many packets in a row make a stream of small ones (GATE_SMALL), if on average they are no larger, came
 * quickly enough, and nothing came the other way. */
#define GATE_SMALL_PACKETS 256
#define GATE_SMALL_BYTES 1200
/* The program's clock for that: 32 bits of about a microsecond. */
#define GATE_TICKS(ns) ((unsigned int)((ns) >> 10))

struct gate_direction {
	/* kernel, for every packet */
	unsigned long long gate;       /* bit 0: closed; 1..62: bytes handed up since the insertion; 63: broken */
	unsigned long long redirected; /* bytes that the redirect helper took */
	unsigned long long packets;    /* segments that it took */
	unsigned long long mark;       /* `redirected` at the younger checkpoint of the pile rule */
	unsigned int old_packets;      /* `packets` at the older checkpoint */
	unsigned int mark_packets;     /* `packets` at the younger one */
	unsigned int next_seq;         /* sequence number expected next */
	unsigned int calls;            /* packets of whatever size, redirected or handed up */
	unsigned long long seen_acked; /* the target's acknowledged bytes at the last look at it */
	unsigned short seq_known;
	unsigned short spare;          /* small packets that may follow before the next look */
	unsigned int small_at;         /* GATE_TICKS at the last look for a stream of small packets */
	/* of the packet handed up last, for the hold: */
	unsigned char tail[GATE_TAIL_BYTES]; /* its last bytes */
	unsigned long long tail_at; /* bytes handed up with it; written behind `tail`, before `gate` */
	unsigned int window_left;   /* that its sender had behind it */
	unsigned int unacked;       /* bytes not acknowledged to its sender */
	/* kernel, rarely */
	unsigned int closings[GATE_CLOSINGS_ROOM]; /* by enum gate_closing */
	unsigned int trims;       /* packets of which a part was old */
	unsigned int olds;        /* packets that were wholly old */
	unsigned int small_seq;   /* `next_seq` at the last look for a stream of small packets */
	unsigned int small_other; /* that of the other direction */
	/* user; `base`, `cookie`, `worker` and `generation` only while the gate is closed, the others at any time */
	unsigned long long base;   /* where the target's stream stands without the redirected bytes */
	unsigned long long cookie; /* of the source */
	unsigned long long credit; /* bytes that may be in flight to the target */
	unsigned int memory;       /* that its send queue may occupy: at most a quarter of its send buffer */
	unsigned int max_packets;  /* that may wait on the target's psock queue */
	unsigned int worker;       /* number of the ring that takes the announcements */
	unsigned int generation;   /* of this slot */
	unsigned int rests;        /* nobody watches the source: endings are announced */
	unsigned int small_most;   /* GATE_TICKS that GATE_SMALL_PACKETS may last; 0: small ones are not looked for */
	/* kernel, seldom, although this line is the user's */
	unsigned int breaks;      /* packets that could not be placed */
	unsigned int unannounced; /* records that the ring did not take */
	unsigned int endings;     /* changes of the source's TCP state by its peer: FIN, reset, time-out */
	unsigned int small_found; /* looks that found a stream of small packets, gate open or closed */
};
_Static_assert(sizeof(struct gate_direction) == 256, "four cache lines");

/* From a socket's cookie to its index: the bucket `cookie & bucket_mask` has it. The daemon writes whole words
 * through its mapping; the program reads one cache line and calls nothing. */
#define GATE_BUCKET_ENTRIES 8
struct gate_bucket {
	unsigned long long entries[GATE_BUCKET_ENTRIES]; /* low half of a cookie, below it the index + 1; 0: free */
};
_Static_assert(sizeof(struct gate_bucket) == 64, "one cache line");

struct gate_record { /* in a worker's ring: a gate closed or broke, or the source of one that rests ended */
	unsigned int index, generation;
};

/* Faults of the test build, read-only once loaded; all zero: none. */
struct gate_faults {
	unsigned int lose_record_every; /* this many-th announcement is not made */
	unsigned int lose_packet_every; /* this many-th packet is dropped and not counted */
	unsigned int break_packet_every; /* this many-th packet cannot be placed */
	unsigned int no_trim;           /* only the first packet of a direction is trimmed */
	unsigned int bare_bytes;        /* packets of at most so many bytes pass an open gate by no rule: no fault, a floor
					 * for measurements */
};

struct gate_constants { /* set by the loader */
	unsigned int bucket_mask;
	struct gate_faults faults; /* read by the test build only */
};
