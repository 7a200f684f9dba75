// SPDX-License-Identifier: Apache-2.0
#pragma once
/* A limit on log lines that strangers can cause: a bucket of lines that refills
 * with time, and a count of those that it held back. From any thread.
 *
 *	uint64_t held_back;
 *	if (log_limiter_take(&limiter, &held_back)) {
 *		log_limiter_tell(held_back, "endpoint: bad requests");
 *		log_warning("endpoint: bad request from %s", peer);
 *	}
 *
 * Lives in its owner, set by log_limiter_init(). */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct log_limiter {
	pthread_mutex_t lock; /* of the rest */
	unsigned lines_at_once, lines_per_second;
	unsigned lines_left;
	uint64_t refilled_ms;
	uint64_t held_back;
};

/* The usual limit: LOG_LIMITER_LINES at once, and then as many a second. */
#define LOG_LIMITER_LINES 10u

/* Both at least 1. */
void log_limiter_init(struct log_limiter *limiter, unsigned lines_at_once, unsigned lines_per_second);
void log_limiter_clear(struct log_limiter *limiter);

/* Whether one line may be written now; if so, `held_back` gets how many were not
 * written since the last one that was. */
bool log_limiter_take(struct log_limiter *limiter, uint64_t *held_back);

/* How many lines were held back since the last one that was written; forgets
 * them. For the end of the owner. */
uint64_t log_limiter_flush(struct log_limiter *limiter);

/* Logs, if there were any, that `held_back` lines about `what` were not written:
 * "endpoint: bad requests: 12 more, not logged one by one". */
void log_limiter_tell(uint64_t held_back, const char *what);
