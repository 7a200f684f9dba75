// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What is measured: something that joins two TCP connections, or nothing at all (the direct
 * connection, the floor). Each runs in processes of its own, all of them at the same time,
 * and idle when it is not their turn. This program always holds both ends of a pair.
 *
 * Three kinds look the same from here: relays that listen in front and dial behind
 * (HAProxy, nginx, socat, stunnel), relays to which both sides dial with a ticket (ours,
 * syncthing's), and TURN. One thread at a time uses a contender, but for
 * contender_dial(). */
#include "end.h"
#include "place.h"

#include "relay/relay.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct contender;
struct contender_round;

/* What a party shows to be joined; both parties of a pair have one ticket. */
struct ticket {
	uint8_t shown[2][48]; /* by the first party and by the second */
	size_t size;
};

#define REPLY_MAX 32
struct contender_kind {
	bool (*start)(struct contender *contender);
	void (*stop)(struct contender *contender);
	/* Both ends joined; a byte need not have gone through. */
	bool (*open_pair)(struct contender *contender, struct end ends[2]);
	/* Kinds with tickets: `count` new ones, and the answer to a party that shows one (size 0: none). */
	bool (*fetch)(struct contender *contender, struct ticket *tickets, size_t count);
	const uint8_t *reply;
	size_t reply_size; /* at most REPLY_MAX */
	/* NULL: has no state to wait for, keeps no counters. */
	bool (*settle)(struct contender *contender, size_t pairs);
	bool (*check)(struct contender *contender, struct contender_round *round);
};

extern const struct contender_kind kind_direct, kind_ours, kind_ours_tls, kind_front, kind_strelay, kind_turn;

enum tls_use {
	TLS_NONE,
	TLS_BETWEEN, /* the two ends with each other, through what the contender joins (handed off or direct) */
	TLS_HOPS,    /* each end with the contender, which decrypts and encrypts again */
};

struct contender {
	const char *name;
	const struct contender_kind *kind;
	enum plane plane; /* of ours */
	enum tls_use tls;
	const char *command[16]; /* of the others; @NAMES@ as in daemon.h */
	const char *settings;    /* name of a template in the folder of settings, or NULL */
	bool is_bare;            /* ours with a kernel program that has no rules: what a redirect itself costs. Not a relay: nothing
				  * holds a sender back */
	const char *only;        /* the one workload that it takes part in, or NULL */
	bool in_quick;           /* takes part in `make bench-quick` */
	size_t most_pairs;       /* 0: any number */
	bool loses_bytes;        /* when it is overloaded: reported, not an error */
	size_t most_tickets;     /* for one round of joins; 0: any number */

	pid_t pid;      /* of a running process, which may have others in its process group; 0: none */
	uint16_t port;  /* to dial */
	int listener;   /* where the second side of a pair that was not dialled arrives; -1: none */
	void *state;    /* the kind's own */
	struct ticket *tickets; /* fetched, from `tickets_used` on not yet used */
	size_t tickets_count, tickets_used;
	uint64_t tickets_from_ns; /* when the oldest were fetched */
	char error[240]; /* "" fine */
};

/* What went through the pairs of one round, as the client counted it. */
struct contender_round {
	size_t pairs;
	uint64_t bytes[2]; /* written by ends[0] and by ends[1] of all pairs */
	double redirected_share; /* result, for ours: of all bytes, 0..1 */
};

/* False: contender->error says why. */
bool contender_start(struct contender *contender);
void contender_stop(struct contender *contender);

/* Has `count` tickets ready, so that fetching them is not measured. */
bool contender_stock(struct contender *contender, size_t count);
/* The next one of the stock; fetches if it is empty. */
bool contender_ticket(struct contender *contender, struct ticket *ticket);

size_t contender_tickets_left(const struct contender *contender);

/* Connects to it for one of the sides, from an address of loopback of the caller's choice (0: any),
 * so that a storm of short connections does not run out of ports. -1 with errno. */
int contender_dial(const struct contender *contender, int side, uint32_t own_address);

/* Two ends, blocking, and through: a byte has gone each way, and counts among the
 * round's bytes. ends[0] is the one that connected first. */
bool contender_open_pair(struct contender *contender, struct end ends[2]);

/* Waits until the gates of all live pairs are open, on the sockmap plane. */
bool contender_settle(struct contender *contender, size_t pairs);

/* After all pairs were closed: waits for their last reports and checks that the plane named
 * moved exactly the round's bytes (at least those with TLS, whose records it counts). Always true for those that
 * are not ours. */
bool contender_check(struct contender *contender, struct contender_round *round);

bool contender_fail(struct contender *contender, const char *format, ...) __attribute__((format(printf, 2, 3)));
