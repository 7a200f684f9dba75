// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Internal to relay/: waiting for the kernel's own progress (gate.c), which
 * raises no events. */
#include "relay/pair.h"

/* Everything that was redirected stands in the target's TCP queue. */
bool pump_is_drained(struct side *side);
/* Starts or goes on with a wait whose progress is `mark`: true if it has not
 * changed for too long. */
bool pump_is_overdue(struct side *side, uint64_t mark);
/* Waits for `waits` with a timer that begins at 50 us and doubles to 1 ms. */
void pump_wait_tick(struct side *side, unsigned waits);
/* Same, doubling to 250 ms: as slow as the reader. */
void pump_wait_reader_tick(struct side *side, unsigned waits);

/* ---- gate.c ---- */

void gate_pump(struct side *side);
int64_t gate_in_flight(const struct side *side, int target_fd);
/* Opens a closed gate whose word is `closed`, all that was handed up being written.
 * False: something was handed up meanwhile. */
bool gate_open(struct side *side, unsigned long long closed);
/* The target's send queue has room: a gate that opens now does not close at once. */
bool gate_memory_is_low(struct side *side);
/* Back to the first loan; for an idle direction. */
void gate_take_credit_back(struct side *side);

/* ---- announce.c ---- */

/* Handles one record of a worker's ring (a ring_buffer_sample_fn). */
int announce_handle(void *worker, void *record, size_t size);
/* Records that a test holds back, once their second is over. */
void announce_handle_late(struct worker *worker);

/* ---- join.c ---- */

/* A pair with slots begins: it is asked again when it is old enough. */
void join_await(struct pair *pair);
/* It leaves its worker's list. */
void join_forget(struct pair *pair);
/* Puts both sockets into the map if the pair is worth it and ready for it, and lets
 * both directions go on. */
void join_try(struct pair *pair);

/* ---- sweep.c ---- */

void sweep_pair(struct pair *pair);
