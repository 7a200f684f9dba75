// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What is measured: something that joins two TCP connections, or nothing at all
 * (the direct connection, the floor). Each runs in a process of its own, all of them
 * at the same time, and idle when it is not their turn. This program always holds both
 * ends of a pair.
 *
 * Contenders that listen in front and dial behind (HAProxy, socat) and our relay, to
 * which both sides dial, look the same from here: contender_open_pair() gives two
 * connected sockets. One thread at a time uses a contender. */
#include "relay/relay.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum contender_kind { CONTENDER_DIRECT, CONTENDER_OURS, CONTENDER_HAPROXY, CONTENDER_SOCAT };

struct contender {
	const char *name;
	enum contender_kind kind;
	enum plane plane; /* of ours */

	pid_t pid; /* 0: not running */
	FILE *in, *out; /* control of relay_host */
	int listener; /* where the second side of a pair that was not dialled arrives; -1: none */
	uint16_t port; /* to dial */
	json_t *tokens; /* issued, not yet used */
	size_t tokens_used;
	uint64_t tokens_until_ns;
	char error[200]; /* "" fine */
};

/* What went through the pairs of one round, as the client counted it. */
struct contender_round {
	size_t pairs;
	uint64_t bytes[2]; /* written by ends[0] and by ends[1] of all pairs */
	double redirected_share; /* result: of all bytes, 0..1 */
};

/* relay_host stands beside this program. False: contender->error says why. */
bool contender_start(struct contender *contender, const char *haproxy_settings);
void contender_stop(struct contender *contender);

/* Has `count` tickets ready, so that fetching them is not measured. */
bool contender_stock_tokens(struct contender *contender, size_t count);
/* The next one of the stock; fetches if it is empty. */
bool contender_token(struct contender *contender, uint8_t token[32]);

/* Connects to it from an address of loopback of the caller's choice (0: any), so that a
 * storm of short connections does not run out of ports. -1: contender->error. */
int contender_dial(struct contender *contender, uint32_t from_address);

/* Two ends, blocking, TCP_NODELAY, and through: a byte has gone each way, and counts among
 * the round's bytes. ends[0] is the one that connected first. */
bool contender_open_pair(struct contender *contender, int ends[2]);

/* Waits until the gates of all live pairs are open, on the sockmap plane. */
bool contender_settle(struct contender *contender, size_t pairs);

/* After all pairs were closed: waits for their last reports and checks that the plane named
 * moved exactly the round's bytes. Always true for those that are not ours. */
bool contender_check(struct contender *contender, struct contender_round *round);

bool contender_fail(struct contender *contender, const char *format, ...) __attribute__((format(printf, 2, 3)));
