// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Inside of the endpoint: connections from accept to join, and the workers that
 * have them. Nobody outside of endpoint.c, guest.c, tls_guest.c and settling.c
 * includes this.
 *
 * A `guest` is one accepted connection. It belongs to the thread of one worker:
 * that which accepted it, or from the match on that of the first party. */
#include "base/address.h"
#include "proxy/crowd.h"
#include "proxy/endpoint.h"
#include "tls/outer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/queue.h>

enum guest_state {
	GUEST_READS,      /* plain: its token is not complete; a timer runs */
	GUEST_SHAKES,     /* TLS: handshake or hello is not complete; a timer runs */
	GUEST_IDENTIFIES, /* TLS: the directory is being asked; a timer runs */
	GUEST_WAITS,      /* first party of a ticket; watched for its end, its payload stays in the kernel */
	GUEST_TAKEN,      /* left when somebody had just taken it out of its ticket: awaits the message */
	GUEST_SETTLES,    /* matched: answer and close_notify are on their way; a timer runs */
	GUEST_LEAVES,     /* TLS: was told why not; goes when it has read that; a timer runs */
	GUEST_STATES
};

struct worker;

/* What a guest of the TLS endpoint has besides. */
struct tls_guest {
	struct outer session;
	struct operators_question *question; /* asked, not answered */
	unsigned seats;                      /* that its certificate names, and later that the directory confirms */
	bool payload_encrypted, is_handed_off;
	enum { SETTLE_ANSWERS, SETTLE_CLOSES, SETTLE_AWAITS_CLOSE } settle;
	unsigned drained_bytes; /* read and thrown away while it leaves */
};

struct guest {
	LIST_ENTRY(guest) link;
	struct crowd_member place; /* while it READS or SHAKES */
	struct worker *worker;
	struct loop_watch watch;
	struct loop_timer timer;
	struct loop_message message;
	enum guest_state state;
	int fd;
	unsigned token_bytes; /* that have come */
	struct token token;   /* wiped when complete */
	struct token_key key;
	union {
		struct sockaddr any;
		struct sockaddr_in6 ipv6;
	} peer;
	struct tls_guest *tls; /* NULL: of the plain endpoint */
	struct guest *second;  /* set by whoever sends the message */
	struct ticket ticket;  /* of a TLS guest that has shown its token, and of one that was matched */
	bool is_callee;        /* of one that was matched */
	enum outcome outcome;  /* of a guest to be let go */
	struct guest *partner; /* of one that settles */
	bool is_settled;
};

LIST_HEAD(guest_list, guest);

struct listener {
	struct worker *worker;
	struct loop_watch watch;
	struct loop_timer pause;
	bool is_tls;
};

struct worker {
	struct endpoint *endpoint;
	unsigned index;
	struct loop *loop;
	struct listener listeners[2]; /* plain, TLS */
	struct loop_message start, stop;
	struct guest_list guests;
	struct crowd crowds[2];       /* those that READ, those that SHAKE */
	struct loop_timer handshakes; /* whose turn it is */
	unsigned leaving_count;
	bool is_stopped;
};

struct endpoint {
	struct endpoint_options options;
	char address[ADDRESS_TEXT_SIZE], tls_address[ADDRESS_TEXT_SIZE];
	unsigned tokenless_max; /* of all: READS, SHAKES and IDENTIFIES */
	atomic_uint_fast64_t accepted, tls_accepted;
	atomic_uint in_state[GUEST_STATES];
	pthread_mutex_t lock; /* of what endpoint_stop() waits for */
	pthread_cond_t changed;
	unsigned guests, workers_listening;
	unsigned worker_count;
	struct worker workers[];
};

#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))
#define GUEST_OF(pointer, member) CONTAINER_OF(pointer, struct guest, member)

/* ---- guest.c ---- */

/* Takes an accepted socket over. */
void guest_admit(struct worker *worker, int fd, const struct sockaddr_in6 *peer, bool is_tls);
void guest_set_state(struct guest *guest, enum guest_state state);
/* Puts a detached guest on a worker again, or a new one for the first time. */
void guest_attach(struct guest *guest, struct worker *worker, enum guest_state state);
/* Takes the guest off its worker; only its descriptor and session stay. */
void guest_detach(struct guest *guest);
void guest_free(struct guest *guest); /* detached before */
void guest_arm(struct guest *guest, unsigned timeout_ms);
/* Notes why, tells a TLS guest, and lets it go. */
void guest_refuse(struct guest *guest, enum outcome outcome, const char *detail);
/* The guest has `key` and may have these seats. */
void guest_arrive(struct guest *guest, unsigned seats);
/* A waiting guest must go: out of its ticket, or TAKEN if somebody else has it already.
 * OUTCOME_IMPATIENT: it left, or its session failed as `detail` says (NULL: nothing to say); otherwise it broke
 * the rules and is refused. */
void guest_leave(struct guest *guest, enum outcome outcome, const char *detail);

/* ---- tls_guest.c ---- */

int tls_guest_start(struct guest *guest);
void tls_guest_ready(struct guest *guest, uint32_t events); /* SHAKES, WAITS, LEAVES */
void tls_guest_timeout(struct guest *guest);
uint32_t tls_guest_shaking_events(void); /* what its watch asks for in the beginning */
/* What the guest's epoll watch asks for while it waits. */
uint32_t tls_guest_waiting_events(const struct guest *guest);
/* Best effort, at once: why it is not joined, and close_notify. */
void tls_guest_tell(struct guest *guest, enum outcome outcome, const char *detail);
/* The same, and the guest stays until that was read. False: the caller frees it. */
bool tls_guest_say_goodbye(struct guest *guest, enum outcome outcome, const char *detail);
void tls_guest_detach(struct guest *guest); /* part of guest_detach() */
void tls_guest_free(struct guest *guest);   /* part of guest_free() */

/* ---- settling.c ---- */

/* Two detached guests that belong together, on the worker's thread; `guests[0]` was
 * the first. They are joined as soon as neither has TLS business left. */
void settling_begin(struct worker *worker, struct guest *guests[2]);
void settling_ready(struct guest *guest);
void settling_timeout(struct guest *guest);
