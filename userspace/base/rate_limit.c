// SPDX-License-Identifier: Apache-2.0
/* Counting connections per address in fixed windows of the UTC clock.
 *
 * Each rule has one open-addressing table of the addresses seen in the present
 * window; with the next window it starts empty, so memory is bounded by what
 * one window brings, and by MOST_ADDRESSES whatever it brings. Beyond that
 * newcomers are admitted uncounted: refusing them would let one sender with
 * many addresses shut everybody out.
 *
 * One mutex guards a limiter. An IPv4-mapped IPv6 address counts as IPv4; of other
 * IPv6 addresses only the network counts, the first 64 bits, because whoever has
 * one has as many addresses as they like. */
#include "base/rate_limit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define FEWEST_SLOTS 64
#define MOST_ADDRESSES 262144

struct slot {
	uint8_t address[16];
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

/* False for peers without an IP address. */
static bool peer_key(const struct sockaddr *peer, uint8_t key[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (peer->sa_family == AF_INET) {
		memcpy(key, mapped, 12);
		memcpy(key + 12, &((const struct sockaddr_in *)(const void *)peer)->sin_addr, 4);
		return true;
	}
	if (peer->sa_family == AF_INET6) {
		memcpy(key, &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr, 16);
		return true;
	}
	return false;
}

static bool key_is_loopback(const uint8_t key[16])
{
	struct in6_addr address;

	memcpy(&address, key, 16);
	return IN6_IS_ADDR_LOOPBACK(&address) || (IN6_IS_ADDR_V4MAPPED(&address) && key[12] == 127);
}

static void keep_network(uint8_t key[16])
{
	struct in6_addr address;

	memcpy(&address, key, 16);
	if (!IN6_IS_ADDR_V4MAPPED(&address))
		memset(key + 8, 0, 8);
}

static size_t slot_index(const struct rate_limiter *limiter, const uint8_t key[16], size_t size)
{
	uint64_t low, high, hash;

	memcpy(&low, key, 8);
	memcpy(&high, key + 8, 8);
	hash = (low ^ limiter->seed) * 0xff51afd7ed558ccdULL;
	hash = (hash ^ hash >> 32 ^ high) * 0xc4ceb9fe1a85ec53ULL;
	return (size_t)(hash ^ hash >> 29) & (size - 1);
}

static struct slot *find_slot(const struct rate_limiter *limiter, struct slot *slots, size_t size,
			      const uint8_t key[16])
{
	size_t index = slot_index(limiter, key, size);

	while (slots[index].count && memcmp(slots[index].address, key, 16))
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
			*find_slot(limiter, slots, size, window->slots[i].address) = window->slots[i];
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
	uint8_t key[16];

	if (!limiter || !limiter->count || !peer_key(peer, key))
		return true;
	if (limiter->exempt_loopback && key_is_loopback(key))
		return true;
	keep_network(key);
	pthread_mutex_lock(&limiter->lock);
	for (size_t i = 0; i < limiter->count && admitted; i++) {
		struct window *window = &limiter->windows[i];
		struct slot *slot;

		enter_window(window, unix_seconds);
		if (!make_room(limiter, window)) {
			slot = window->size ? find_slot(limiter, window->slots, window->size, key) : NULL;
			if (!slot || !slot->count)
				continue;
		} else {
			slot = find_slot(limiter, window->slots, window->size, key);
		}
		if (slot->count >= window->limit) {
			admitted = false;
			continue;
		}
		if (!slot->count) {
			memcpy(slot->address, key, 16);
			window->used++;
		}
		slot->count++;
	}
	pthread_mutex_unlock(&limiter->lock);
	return admitted;
}
