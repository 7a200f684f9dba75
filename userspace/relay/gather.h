// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Internal to relay/: gathering small segments (gather.c). */
#include "relay/pair.h"

/* How long GATE_SMALL_PACKETS may last at first: 10,000 packets a second. */
#define GATHER_TICKS_MOST GATE_TICKS(25600000u)

/* Begins to gather if the gate was closed for it, and ends it with the stream of small packets. */
void gather_look(struct side *side);
/* All that has come was read: waits until about as many packets as pay have come. */
void gather_wait_for_more(struct side *side);
/* Nothing had come: waits for the first, or for the next look. */
void gather_wait_for_any(struct side *side);
