// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Connections per remote IP, of IPv6 per /64 network, in fixed windows of the UTC
 * clock (protocol page 2.5, `tcp_rate_limits`). One limiter belongs to one listener; it may be asked
 * from several threads. */
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rate_window { RATE_WINDOW_SECOND, RATE_WINDOW_MINUTE, RATE_WINDOW_HOUR };

struct rate_rule {
	enum rate_window window;
	uint32_t limit; /* connections per window and address, at least 1 */
};

struct rate_limiter;

/* Copies the rules. `exempt_loopback`: connections from 127.0.0.0/8 and ::1
 * are not counted. Returns 0 or -ENOMEM. No rules: everything is admitted. */
int rate_limiter_create(const struct rate_rule *rules, size_t count, bool exempt_loopback,
			struct rate_limiter **result);
void rate_limiter_free(struct rate_limiter *limiter);

/* Counts a connection at `unix_seconds` and says whether it may go on. Rules
 * are tried in order; the first exhausted one refuses, and the counts of the
 * rules before it stay incremented. A NULL limiter admits. */
bool rate_limiter_admit(struct rate_limiter *limiter, const struct sockaddr *peer, int64_t unix_seconds);
