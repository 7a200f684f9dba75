// SPDX-License-Identifier: Apache-2.0
/* Holding back log lines that strangers cause.
 *
 * A flood of refused connections must not become a flood of lines, which costs
 * more than the connections do. What the bucket does not let through is counted,
 * and told by whoever writes the next line. */
#include "base/log_limiter.h"

#include "base/instant.h"
#include "base/log.h"

#include <inttypes.h>

void log_limiter_init(struct log_limiter *limiter, unsigned lines_at_once, unsigned lines_per_second)
{
	*limiter = (struct log_limiter){
		.lines_at_once = lines_at_once,
		.lines_per_second = lines_per_second,
		.lines_left = lines_at_once,
		.refilled_ms = clock_now_ms(),
	};
	pthread_mutex_init(&limiter->lock, NULL);
}

void log_limiter_clear(struct log_limiter *limiter)
{
	pthread_mutex_destroy(&limiter->lock);
}

bool log_limiter_take(struct log_limiter *limiter, uint64_t *held_back)
{
	pthread_mutex_lock(&limiter->lock);
	uint64_t refill = (clock_now_ms() - limiter->refilled_ms) * limiter->lines_per_second / 1000;
	if (refill > 0) {
		uint64_t lines = limiter->lines_left + refill;
		limiter->lines_left = lines < limiter->lines_at_once ? (unsigned)lines : limiter->lines_at_once;
		limiter->refilled_ms += refill * 1000 / limiter->lines_per_second;
	}
	bool may = limiter->lines_left > 0;
	if (may) {
		limiter->lines_left--;
		*held_back = limiter->held_back;
		limiter->held_back = 0;
	} else {
		limiter->held_back++;
	}
	pthread_mutex_unlock(&limiter->lock);
	return may;
}

uint64_t log_limiter_flush(struct log_limiter *limiter)
{
	pthread_mutex_lock(&limiter->lock);
	uint64_t held_back = limiter->held_back;
	limiter->held_back = 0;
	pthread_mutex_unlock(&limiter->lock);
	return held_back;
}

void log_limiter_tell(uint64_t held_back, const char *what)
{
	if (held_back > 0)
		log_warning("%s: %" PRIu64 " more, not logged one by one", what, held_back);
}
