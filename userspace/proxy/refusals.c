// SPDX-License-Identifier: Apache-2.0
/* Lines about refused connections: a bucket of LINES_AT_ONCE that refills with
 * LINES_PER_SECOND. What it does not let through is counted and told by the next
 * line that it does. */
#include "proxy/refusals.h"

#include "base/address.h"
#include "base/instant.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define LINES_AT_ONCE 20u
#define LINES_PER_SECOND 5u

struct refusals {
	atomic_uint_fast64_t counts[OUTCOME_COUNT];
	pthread_mutex_t lock; /* of the rest */
	uint64_t refilled_ms;
	unsigned lines_left;
	uint64_t held_back;
};

int refusals_create(struct refusals **result)
{
	struct refusals *refusals = calloc(1, sizeof *refusals);
	if (!refusals)
		return -ENOMEM;
	pthread_mutex_init(&refusals->lock, NULL);
	refusals->lines_left = LINES_AT_ONCE;
	refusals->refilled_ms = clock_now_ms();
	*result = refusals;
	return 0;
}

void refusals_free(struct refusals *refusals)
{
	if (!refusals)
		return;
	pthread_mutex_destroy(&refusals->lock);
	free(refusals);
}

/* Whether one line may be written, and how many were held back before it. */
static bool take_line(struct refusals *refusals, uint64_t *held_back)
{
	pthread_mutex_lock(&refusals->lock);
	uint64_t refill = (clock_now_ms() - refusals->refilled_ms) * LINES_PER_SECOND / 1000;
	if (refill > 0) {
		uint64_t lines = refusals->lines_left + refill;
		refusals->lines_left = lines < LINES_AT_ONCE ? (unsigned)lines : LINES_AT_ONCE;
		refusals->refilled_ms += refill * 1000 / LINES_PER_SECOND;
	}
	bool may = refusals->lines_left > 0;
	if (may) {
		refusals->lines_left--;
		*held_back = refusals->held_back;
		refusals->held_back = 0;
	} else {
		refusals->held_back++;
	}
	pthread_mutex_unlock(&refusals->lock);
	return may;
}

static void tell_held_back(uint64_t held_back)
{
	if (held_back > 0)
		log_warning("internal endpoint: %" PRIu64 " more connections were refused and not logged one by one",
			    held_back);
}

void refusals_note(struct refusals *refusals, const struct sockaddr *peer, enum outcome outcome, const char *detail)
{
	char text[ADDRESS_TEXT_SIZE] = "(nobody)";
	uint64_t held_back;

	atomic_fetch_add_explicit(&refusals->counts[outcome], 1, memory_order_relaxed);
	if (!take_line(refusals, &held_back))
		return;
	tell_held_back(held_back);
	if (peer)
		address_format(peer, text);
	log_warning("internal endpoint: connection from %s refused, %s: %s%s%s", text, outcome_word(outcome),
		    outcome_sentence(outcome), detail ? ": " : "", detail ? detail : "");
}

uint64_t refusals_count(const struct refusals *refusals, enum outcome outcome)
{
	return atomic_load_explicit(&refusals->counts[outcome], memory_order_relaxed);
}

void refusals_flush(struct refusals *refusals)
{
	pthread_mutex_lock(&refusals->lock);
	uint64_t held_back = refusals->held_back;
	refusals->held_back = 0;
	pthread_mutex_unlock(&refusals->lock);
	tell_held_back(held_back);
}
