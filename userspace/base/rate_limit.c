// SPDX-License-Identifier: Apache-2.0
/* Counting connections per address in fixed windows of the UTC clock.
 *
 * Each rule has one open-addressing table of the addresses seen in the present
 * window; with the next window it starts empty, so memory is bounded by what
 * one window brings, and by MOST_ADDRESSES whatever it brings. Beyond that
 * newcomers are admitted uncounted: refusing them would let one sender with
 * many addresses shut everybody out.
 *
 * One mutex guards a limiter. */
#include "base/rate_limit.h"

#include "base/source.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define FEWEST_SLOTS 64
#define MOST_ADDRESSES 262144

struct slot {
	struct source source;
	uint32_t count; /* 0: free */
};

struct window {
	uint32_t limit;
	unsigned seconds;
	int64_t number; /* windows since 1970 */
	struct slot *slots;
	size_t size, used; /* size is a power of two */
};

struct rate_limiter {
	pthread_mutex_t lock;
	bool exempt_loopback;
	uint64_t seed;
	size_t count;
	struct window windows[];
};

int rate_limiter_create(const struct rate_rule *rules, size_t count, bool exempt_loopback,
			struct rate_limiter **result)
{
	static const unsigned seconds[] = {
		[RATE_WINDOW_SECOND] = 1,
		[RATE_WINDOW_MINUTE] = 60,
		[RATE_WINDOW_HOUR] = 3600,
	};
	struct rate_limiter *limiter = calloc(1, sizeof(*limiter) + count * sizeof(limiter->windows[0]));

	if (!limiter)
		return -ENOMEM;
	pthread_mutex_init(&limiter->lock, NULL);
	limiter->exempt_loopback = exempt_loopback;
	/* Where the heap lies is no secret, but enough against chosen collisions by
	 * addresses, which cannot be chosen freely either. */
	limiter->seed = (uint64_t)(uintptr_t)limiter * 0x9e3779b97f4a7c15ULL;
	limiter->count = count;
	for (size_t i = 0; i < count; i++) {
		limiter->windows[i].limit = rules[i].limit;
		limiter->windows[i].seconds = seconds[rules[i].window];
		limiter->windows[i].number = INT64_MIN;
	}
	*result = limiter;
	return 0;
}

void rate_limiter_free(struct rate_limiter *limiter)
{
	if (!limiter)
		return;
	for (size_t i = 0; i < limiter->count; i++)
		free(limiter->windows[i].slots);
	pthread_mutex_destroy(&limiter->lock);
	free(limiter);
}

static struct slot *find_slot(const struct rate_limiter *limiter, struct slot *slots, size_t size,
			      const struct source *source)
{
	size_t index = (size_t)source_hash(source, limiter->seed) & (size - 1);

	while (slots[index].count && !source_equals(&slots[index].source, source))
		index = (index + 1) & (size - 1);
	return &slots[index];
}

/* Keeps the table at most half full. */
static bool make_room(const struct rate_limiter *limiter, struct window *window)
{
	size_t size = window->size ? window->size * 2 : FEWEST_SLOTS;
	struct slot *slots;

	if (window->used * 2 < window->size)
		return true;
	if (window->used >= MOST_ADDRESSES)
		return false;
	slots = calloc(size, sizeof(*slots));
	if (!slots)
		return false;
	for (size_t i = 0; i < window->size; i++) {
		if (window->slots[i].count)
			*find_slot(limiter, slots, size, &window->slots[i].source) = window->slots[i];
	}
	free(window->slots);
	window->slots = slots;
	window->size = size;
	return true;
}

static void enter_window(struct window *window, int64_t unix_seconds)
{
	int64_t number = unix_seconds / window->seconds;

	/* A thread that read the clock just before another one may come late by one
	 * window: it counts in the present one. Further back, the clock was set. */
	if (number == window->number || (number < window->number && number == window->number - 1))
		return;
	free(window->slots);
	window->slots = NULL;
	window->size = window->used = 0;
	window->number = number;
}

bool rate_limiter_admit(struct rate_limiter *limiter, const struct sockaddr *peer, int64_t unix_seconds)
{
	bool admitted = true;
	struct source source;

	if (!limiter || !limiter->count || !source_of(peer, &source))
		return true;
	if (limiter->exempt_loopback && source_is_loopback(peer))
		return true;
	pthread_mutex_lock(&limiter->lock);
	for (size_t i = 0; i < limiter->count && admitted; i++) {
		struct window *window = &limiter->windows[i];
		struct slot *slot;

		enter_window(window, unix_seconds);
		if (!make_room(limiter, window)) {
			slot = window->size ? find_slot(limiter, window->slots, window->size, &source) : NULL;
			if (!slot || !slot->count)
				continue;
		} else {
			slot = find_slot(limiter, window->slots, window->size, &source);
		}
		if (slot->count >= window->limit) {
			admitted = false;
			continue;
		}
		if (!slot->count) {
			slot->source = source;
			window->used++;
		}
		slot->count++;
	}
	pthread_mutex_unlock(&limiter->lock);
	return admitted;
}
