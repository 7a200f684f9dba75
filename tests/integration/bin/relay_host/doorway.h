// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Where parties come in: the proxy's ticket desk and its internal endpoint on a port
 * of loopback, without the brokering that leads to a ticket in the daemon. */
#include "relay/relay.h"

#include <stdbool.h>
#include <stdint.h>

struct doorway;

struct doorway_options {
	struct relay *relay;
	unsigned accept_timeout_ms, token_timeout_ms;
	bool both_families; /* on every address; else on 127.0.0.1 */
};

/* 0 and the port, or a negative errno. */
int doorway_open(const struct doorway_options *options, struct doorway **result, uint16_t *port);

/* A ticket whose callee has agreed: two connections may use it now. */
int doorway_issue(struct doorway *doorway, uint8_t token[32]);

/* Ends tickets whose time is over. Call it every few milliseconds. */
void doorway_expire(struct doorway *doorway);

/* Tickets and connections that ended without a pair, by outcome. */
void doorway_count_endings(struct doorway *doorway, uint64_t endings[OUTCOME_COUNT]);

/* Connections that have not shown a token, and first parties, at the moment. */
void doorway_count_guests(struct doorway *doorway, unsigned *reading, unsigned *waiting);

/* Before relay_stop(). */
void doorway_close(struct doorway *doorway);
void doorway_free(struct doorway *doorway);
