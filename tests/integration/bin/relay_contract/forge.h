// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Retransmissions that overlap what was taken already, forged with TCP_REPAIR. They are
 * rare in nature, and the reason for the trim in the kernel program. Needs CAP_NET_ADMIN. */
#include "engine.h"

bool forge_is_permitted(void);

/* Replaces the end's socket by one of the same connection whose sending position lies
 * `back` bytes before: what it sends next begins with bytes that the relay has taken. All it
 * has sent must have been acknowledged, and nothing may be on the way to it. end->sent is
 * set back too, so the engine sends the same bytes again. 0 or a negative errno (the end
 * is closed then). */
int forge_step_back(struct end *end, uint32_t back);

/* Sends what lies before `end->total` and FIN in one segment. */
int forge_send_with_fin(struct end *end);

/* Bytes that the peer has not acknowledged. */
int forge_unacknowledged(const struct end *end);
