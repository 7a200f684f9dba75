// SPDX-License-Identifier: Apache-2.0
/* Lines about refused connections: a bucket of LINES_AT_ONCE that refills with
 * LINES_PER_SECOND. What it does not let through is counted and told by the next
 * line that it does. */
#include "proxy/refusals.h"

#include "base/address.h"
#include "base/log.h"
#include "base/log_limiter.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#define LINES_AT_ONCE 20u
#define LINES_PER_SECOND 5u

struct refusals {
	atomic_uint_fast64_t counts[OUTCOME_COUNT];
	struct log_limiter lines;
};

int refusals_create(struct refusals **result)
{
	struct refusals *refusals = calloc(1, sizeof *refusals);
	if (!refusals)
		return -ENOMEM;
	log_limiter_init(&refusals->lines, LINES_AT_ONCE, LINES_PER_SECOND);
	*result = refusals;
	return 0;
}

void refusals_free(struct refusals *refusals)
{
	if (!refusals)
		return;
	log_limiter_clear(&refusals->lines);
	free(refusals);
}

static void tell_held_back(uint64_t held_back)
{
	if (held_back > 0)
		log_warning("%" PRIu64 " more connections were refused and not logged one by one", held_back);
}

void refusals_note(struct refusals *refusals, bool is_tls, const struct sockaddr *peer, enum outcome outcome,
		   const char *detail)
{
	char text[ADDRESS_TEXT_SIZE] = "(nobody)";
	uint64_t held_back;

	atomic_fetch_add_explicit(&refusals->counts[outcome], 1, memory_order_relaxed);
	if (!log_limiter_take(&refusals->lines, &held_back))
		return;
	tell_held_back(held_back);
	if (peer)
		address_format(peer, text);
	log_warning("%s endpoint: connection from %s refused, %s: %s%s%s", is_tls ? "TLS" : "internal", text,
		    outcome_word(outcome), outcome_sentence(outcome), detail ? ": " : "", detail ? detail : "");
}

uint64_t refusals_count(const struct refusals *refusals, enum outcome outcome)
{
	return atomic_load_explicit(&refusals->counts[outcome], memory_order_relaxed);
}

void refusals_flush(struct refusals *refusals)
{
	tell_held_back(log_limiter_flush(&refusals->lines));
}
