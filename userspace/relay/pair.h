// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Internal to relay/: a joined pair and its two sides.
 *
 * A side is one socket together with the direction that begins at it: bytes are
 * read from this side and written to the other one. Everything here belongs to
 * the thread of the pair's worker; other threads see only copies (report.c).
 *
 * A pair ends in pair_end() and nowhere else. It is freed a round of the loop
 * later, so whoever called something that may end the pair asks pair->over
 * before going on with it. */
#include "gate.h"
#include "relay/relay.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <stddef.h>

/* Bytes of one read, and size of a side's own buffer. */
#define CHUNK_BYTES (128u << 10)

enum side_wait {
	WAIT_NOTHING = 0,
	WAIT_TIMER = 1,
	WAIT_READABLE = 2, /* this side's socket */
	WAIT_WRITABLE = 4, /* the other side's */
};

enum plane_reason { /* why a pair runs on the plane it runs on; sentences in report.c */
	REASON_BEST,          /* the best plane that the probe accepts */
	REASON_NO_INDEX,      /* all slots of the kernel map are taken */
	REASON_YOUNG,         /* plain copying until it is worth entering the map */
	REASON_JOINING,       /* plain copying before the sockets enter the map */
	REASON_SLOW_READER,   /* not joined in time; tried again when quiet */
	REASON_REFUSED,       /* the map refused the first socket */
	REASON_HALF_REFUSED,  /* the map took one socket and refused the other */
	REASON_NO_PIPE,       /* no pipe was left when it was needed */
	REASON_TLS,           /* TLS stays on, in userspace for now or for good; session.c knows why */
	REASON_URGENT,        /* urgent data came, which splice cannot pass */
};

/* First bytes that a handed-off party must begin with (handoff.c). */
#define HEAD_BYTES 2

struct session;

struct pipe_pair {
	struct pipe_pair *next;
	int in, out; /* splice into `in`, out of `out` */
	unsigned capacity;
};

/* throttle.c: how the window of a sender that is far away follows its reader's pace. */
struct throttle {
	uint64_t rtt_ns;   /* least round trip to the source; 0: it is not throttled */
	double pace;       /* bytes that the reader takes in a nanosecond; 0: not known */
	uint32_t window;   /* as it is, and its limits */
	uint32_t least, most;
	uint32_t small_most; /* the gate's, which looks for no small packets meanwhile */
	uint64_t at_ns, acked; /* when the pace was last looked at, and what the reader had acknowledged */
	uint64_t due_ns;       /* next look */
	uint64_t came[2];      /* from the source by the last look, and by the one before */
	int64_t waiting;       /* at the last look */
	unsigned idle, free; /* looks in a row without a byte, and with all of the window */
};

/* What only a direction needs that was held or gathered once; NULL until then. */
struct bulk {
	/* hold.c */
	uint32_t segment_bytes; /* of its peer, at most */
	uint32_t owed_charged;  /* memory of the packet that the owed bytes end */
	uint32_t hold_window;   /* what the source may have as window */
	uint64_t hold_low;      /* in flight must come down to this before the gate is opened */
	double reader_pace;     /* bytes that a reader far away takes in a nanosecond; 0: not known */
	uint64_t paced_at_ns, paced_acked; /* at the last look at it */
	double hold_pace;       /* nanoseconds that the reader took for a byte, in the last round of a hold; 0: not known */
	uint64_t held_at_ns, held_mark; /* end of that round, and bytes moved by then */
	uint64_t hold_mark;     /* what was redirected or handed up when hold.c last looked */
	uint64_t own_mark, other_mark; /* moved by both directions, at the beginning of the look for what comes the other way */
	struct throttle throttle;
	/* gather.c: the present look's end, and what was counted at its beginning */
	uint64_t gather_until_ns, gather_reads;
	uint32_t gather_calls, gather_seq, gather_other_seq;
	uint32_t gather_delay_ns; /* between two reads */
	uint32_t gatherings;      /* times that the direction began to gather */
	unsigned gather_large;    /* looks in a row that found large packets */
};

struct side {
	struct gate_direction *gate; /* shared with the program; NULL on plain planes */
	struct loop_watch watch;
	struct loop_timer timer;
	uint32_t index, generation;  /* of the slot in the maps */
	uint8_t number;              /* 0 or 1: which side of its pair */
	uint8_t waits;               /* enum side_wait */
	uint8_t head_bytes;          /* of those that a handed-off party must begin with: seen; HEAD_BYTES for all others */
	bool mapped;                 /* the socket is in the map */
	bool ending;                 /* its peer's FIN was seen or can be read */
	bool rests;                  /* both gates stay open: not polled until something is announced */
	bool ended;                  /* FIN was passed on to the other side */
	bool urgent;                 /* urgent data came: a read may stop at its mark, and splice cannot pass it */
	bool drained;                /* gate closed: all redirected bytes stand in the target's TCP queue */
	bool moving;                 /* gate closed: in flight fell to half the credit */
	uint8_t locks;               /* of this side's socket: buffers that the kernel does not tune */
	bool never_holds;            /* hold.c is not for this direction */
	bool is_shut;                /* gate closed: the receive buffer is too small for any window */
	uint8_t owed;                /* bytes that were written before they were read */
	uint8_t quiet_looks;         /* of those: without a change */
	uint8_t looks;               /* that hold.c has taken in the present state */
	bool is_far;                 /* the target, when its credit was used up last */
	bool pressed;                /* its credit or its pile ran full since it was last raised */
	bool asked;                  /* for the pair, as relay_party says */
	bool gathers;                /* gate closed: many small packets come, which are moved together (gather.c) */
	uint32_t hold_bytes;         /* receive buffer as hold.c set it; 0: it is not hold.c's */
	uint32_t rtt_us;             /* least round trip to the target, when its credit was used up last */
	uint32_t hold_offset, hold_length;
	uint32_t lent, lent_most, lent_far_most; /* credit, its limit, and that for a target far away */
	uint32_t idle_mark;       /* `redirected` at the last look for idle credit; the low half tells a change */
	int32_t flown;            /* bytes in flight at the last look of the present wait */
	struct bulk *bulk;
	char *hold; /* bytes read and not yet written; CHUNK_BYTES, from the worker's pool */
	struct session *session; /* TLS stays on; NULL: bare TCP */
	struct pipe_pair *pipe;
	uint32_t pipe_bytes;
	uint32_t tick_ns;       /* last timer */
	uint32_t closings_seen; /* by credit and pile */
	uint32_t small_seen;    /* looks of the program that found a stream of small packets */
	uint32_t receive_bytes; /* buffer that this side's window may use; 0: the kernel tunes it */
	uint32_t receive_booked, send_booked; /* of this side's socket, in the budget for buffers */
	uint32_t buffers_idle_mark; /* bytes moved at the last look for idle buffers; the low half tells a change */
	uint64_t receive_drained; /* once so many bytes have moved, nothing is announced beyond the present window */
	uint32_t receive_mark;  /* bytes moved at the last sweep; low half */
	uint32_t send_mark;     /* bytes written at the last look at the target's send buffer; low half */
	/* Counters: TCP bytes. */
	uint64_t read_before; /* before the insertion, by whomever */
	uint64_t read;        /* since the insertion */
	uint64_t reads;       /* calls that brought bytes */
	uint64_t copied;      /* written by userspace, from the join on */
	uint64_t copied_before; /* of these: before both sockets were in the map */
	uint64_t base;        /* the target's stream without redirected bytes */
	uint64_t openings;
	uint64_t holds; /* openings by hold.c */
	/* Progress of the present wait. */
	uint64_t since_ns, seen;
	uint64_t flown_at_ns, pressed_at_ns;
	uint64_t acked_seen; /* of the target, when the bytes in flight were last looked at */
};

struct pair {
	struct pair *next, *previous; /* of the worker's live pairs, oldest first; or of its dead ones */
	struct worker *worker;
	uint64_t id, joined_ns;
	uint64_t moved_at_ns; /* when a byte last moved, as sweeps saw it */
	uint32_t moved_mark;  /* at the last sweep; the low half tells a change */
	uint32_t copied_mark; /* at the last sweep; the low half tells a change */
	uint32_t tail_tick_ns;
	struct loop_timer tail_timer;
	uint16_t refused_errno;
	uint8_t plane;        /* enum plane */
	uint8_t plane_reason; /* enum plane_reason */
	uint32_t young_ms;    /* its age when it was to enter the map (join.c) */
	struct side sides[2];
	struct sockaddr_in6 addresses[2]; /* of the peers; or sockaddr_in */
	bool gated;     /* has slots in the maps; the pump of gate.c serves it */
	bool in_map;    /* both sockets are in the map */
	bool stays_out; /* will never be (again) */
	bool slots_seen; /* a socket was being entered: the program may have seen the slots */
	bool closing;   /* both directions ended; waits for the unsent tails */
	bool over;      /* pair_end() has run */
	uint8_t transports[2];   /* enum transport */
	char operator_names[]; /* two strings, one behind the other */
};

static inline struct pair *side_pair(struct side *side)
{
	return (struct pair *)((char *)(side - side->number) - offsetof(struct pair, sides));
}
static inline struct side *side_other(struct side *side)
{
	return side->number ? side - 1 : side + 1;
}
static inline struct side *watch_side(struct loop_watch *watch)
{
	return (struct side *)((char *)watch - offsetof(struct side, watch));
}
static inline struct side *timer_side(struct loop_timer *timer)
{
	return (struct side *)((char *)timer - offsetof(struct side, timer));
}

/* ---- pair.c: life and end ---- */

/* As relay_join. */
int pair_start(struct worker *worker, const struct relay_party parties[2], uint64_t *id);

/* The one end of a pair: resets both sides unless the outcome is HAPPY, closes
 * the sockets, gives everything back, reports. No-op on a pair that is over. */
void pair_end(struct pair *pair, enum outcome outcome, const char *detail, ...) __attribute__((format(printf, 3, 4)));

/* A pair that is over, or that did not start; or NULL. */
void pair_free(struct pair *pair);

/* Makes `side->bulk`, which lives as long as the pair. False: no memory. */
bool side_has_bulk(struct side *side);

/* Ends the pair after a failed call on `side`'s socket. */
void pair_fail(struct side *side, int error, const char *what);

/* Moves the direction of `side` on until it has to wait for something. */
void pair_pump(struct side *side);

/* What the direction of `side` waits for from now on: a set of enum side_wait,
 * the timer at `due_ns` (ignored without WAIT_TIMER). */
void side_wait_for(struct side *side, unsigned waits, uint64_t due_ns);

/* Takes the side's socket out of the poll, if only its end is waited for and the kernel program announces that. */
void side_rest(struct side *side);
/* Puts it back; no-op if it does not rest. */
void side_stir(struct side *side);

/* ---- copy.c, splice.c: plain planes ---- */

void copy_pump(struct side *side);
void splice_pump(struct side *side);
/* Writes what the side's own buffer holds. Returns false if it still holds
 * bytes (the caller waits for WAIT_WRITABLE) or the pair is over. */
bool copy_flush_hold(struct side *side);
/* Writes `size` bytes of the scratch buffer to the other side; keeps the rest.
 * Returns the number written, or -1 with the pair over. */
ssize_t copy_give(struct side *side, const char *bytes, size_t size);
/* Makes sure that a short write can be kept. False: none left, wait. */
bool copy_reserve(struct side *side);
void copy_release(struct side *side); /* if it holds nothing */
void copy_keep(struct side *side, const char *bytes, size_t size); /* after copy_reserve */

/* ---- handoff.c ---- */

/* Looks at payload as it was read from `side`. False: the pair is over. */
bool handoff_check_head(struct side *side, const char *bytes, size_t size);

/* ---- buffers.c ---- */

/* Of SO_BUF_LOCK: a locked buffer is not tuned by the kernel. */
#define LOCK_SEND 1
#define LOCK_RECEIVE 2

struct tcp_facts;
/* The small send buffer holds a party up that is far away, and has taken so many bytes as a stopped reader would not. */
bool buffers_are_short(const struct tcp_facts *facts, uint64_t taken);
void buffers_begin(struct side *side);
void buffers_end(struct side *side);        /* the socket is closed */
void buffers_guard(struct side *side);      /* before reading: where the budget is used up, the kernel tunes no more */
void buffers_note_moved(struct side *side); /* now and then while bytes move */
void buffers_look(struct side *side);       /* while a sender fills the receive buffer */
void buffers_sweep(struct side *side);
void buffers_sweep_idle(struct side *side); /* every ten seconds or so */
uint64_t buffers_moved(const struct side *side); /* TCP bytes that this side has sent, by whatever way they went */
/* The receive buffer is somebody else's from now on. Returns its size, at least `bytes`; 0: not to be had. */
uint32_t buffers_fix_receive(struct side *side, uint32_t bytes);
/* Gives it back to the tuning. */
void buffers_leave_receive(struct side *side);

/* ---- ends.c ---- */

/* Reading `side` came to its end: checks the books and passes FIN on. */
void ends_stream(struct side *side);
/* Both directions have ended: ends the pair when nothing is unsent. */
void ends_wait_for_tails(struct pair *pair);

/* ---- tcp.c: facts of a socket ---- */

struct tcp_facts {
	uint8_t state; /* TCP_* of the kernel */
	uint32_t rtt_us;
	uint32_t least_rtt_us;
	uint32_t segment_bytes;      /* as we send them; a party's are not smaller */
	uint32_t met_segment_bytes;  /* the largest that the party has sent */
	uint32_t most_segment_bytes; /* that it may send */
	uint64_t path_bytes;         /* that arrive within a round trip, as fast as the kernel saw them arrive of late */
	uint64_t acked, received;
};
/* A least round trip of more is a long way: no hold, more credit. */
#define FAR_RTT_US 1000u
void tcp_facts_read(int fd, struct tcp_facts *facts);
uint64_t tcp_acked(int fd);
uint8_t tcp_state(int fd);
unsigned tcp_unsent(int fd);           /* SIOCOUTQ */
uint64_t tcp_stream_end(int fd);       /* acknowledged and queued, sampled so that both belong together */
uint64_t tcp_send_buffer(int fd);      /* as the kernel counts: real memory */
uint32_t tcp_charged(int fd);          /* memory of the receive queue, packets handed up included */
uint32_t tcp_memory(int fd);           /* of the send queue */
bool tcp_memory_is_low(int fd);        /* at most three sixteenths of the send buffer are in use */
#define TCP_STATE_CLOSE 7 /* linux/tcp.h and netinet/tcp.h do not go together */
