// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Internal to relay/: the throttle, which fits the window of a sender that is far away
 * to its reader's pace (throttle.c). */
#include "relay/pair.h"

struct throttle_sample { /* of a direction, at one moment */
	uint64_t now_ns, reader_rtt_ns;
	uint64_t acked;  /* by the reader */
	uint64_t came;   /* from the sender */
	int64_t waiting; /* what has come and is not acknowledged by the reader */
	uint64_t credit;
	bool is_open;    /* the gate */
};
/* Notes the sample. Returns the window that the sender shall have. */
uint32_t throttle_step(struct throttle *throttle, const struct throttle_sample *sample);
/* How many bytes shall be waiting: enough that the reader never lacks any, who takes `path_bytes` in a round trip. */
uint64_t throttle_goal(uint64_t credit, uint64_t path_bytes);

/* The direction has run out of credit: its sender is throttled from now on. `facts`: of the source. */
void throttle_begin(struct side *side, const struct tcp_facts *facts);
bool throttle_is_on(const struct side *side);
/* Back to the window that the receive buffer allows for; no-op if it is not throttled. */
void throttle_leave(struct side *side);
/* Looks at how it goes on, if it is time to, or `at_once`; no-op if it is not throttled. */
void throttle_look(struct side *side, bool at_once);
/* Gate open: when the next look is due. 0: none, because nothing moves, or it is not throttled. */
uint64_t throttle_due_ns(const struct side *side);
/* Bytes move again, and nobody looks. */
bool throttle_is_asleep(const struct side *side);
