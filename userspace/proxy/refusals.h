// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Refused connections: counted by reason, and logged with a limit, so that a
 * flood of them does not become a flood of lines. From any thread. */
#include "base/outcome.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct refusals;

int refusals_create(struct refusals **result);
void refusals_free(struct refusals *refusals);

/* `is_tls`: at the TLS endpoint, else at the internal one. `peer` may be NULL (nobody was accepted), `detail` too. */
void refusals_note(struct refusals *refusals, bool is_tls, const struct sockaddr *peer, enum outcome outcome,
		   const char *detail);

uint64_t refusals_count(const struct refusals *refusals, enum outcome outcome);

/* Logs what was held back since the last line. */
void refusals_flush(struct refusals *refusals);
