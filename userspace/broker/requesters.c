// SPDX-License-Identifier: Apache-2.0
/* Open tickets and pairs per requester: a small hash table under one lock. A name
 * is in it only while it has some, so its size is bounded by theirs. Names come from
 * authenticated operators through the own hyper; each is hashed with
 * a start value that is random per process all the same. */
#include "broker/requesters.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUCKETS 256u

struct requester {
	struct requester *next;
	unsigned open, paired;
	char name[];
};

struct requesters {
	pthread_mutex_t lock;
	unsigned ticket_limit, pair_limit;
	uint64_t seed;
	struct requester *buckets[BUCKETS];
};

int requesters_create(unsigned ticket_limit, unsigned pair_limit, struct requesters **result)
{
	struct requesters *requesters = calloc(1, sizeof *requesters);
	if (!requesters)
		return -ENOMEM;
	requesters->ticket_limit = ticket_limit;
	requesters->pair_limit = pair_limit;
	if (getrandom(&requesters->seed, sizeof requesters->seed, 0) != sizeof requesters->seed) {
		free(requesters);
		return -EIO;
	}
	pthread_mutex_init(&requesters->lock, NULL);
	*result = requesters;
	return 0;
}

void requesters_free(struct requesters *requesters)
{
	if (!requesters)
		return;
	for (unsigned i = 0; i < BUCKETS; i++) {
		while (requesters->buckets[i]) {
			struct requester *first = requesters->buckets[i];
			requesters->buckets[i] = first->next;
			free(first);
		}
	}
	pthread_mutex_destroy(&requesters->lock);
	free(requesters);
}

/* The link that points to `name`, or to the end of its bucket. */
static struct requester **find(struct requesters *requesters, const char *name)
{
	uint64_t hash = requesters->seed;
	for (const char *c = name; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 0x100000001b3u;

	struct requester **link = &requesters->buckets[(hash ^ hash >> 32) % BUCKETS];
	while (*link && strcmp((*link)->name, name) != 0)
		link = &(*link)->next;
	return link;
}

int requesters_take(struct requesters *requesters, const char *name)
{
	int error = 0;

	pthread_mutex_lock(&requesters->lock);
	struct requester **link = find(requesters, name);
	if (!*link) {
		size_t size = strlen(name) + 1;
		*link = requesters->ticket_limit > 0 ? calloc(1, sizeof **link + size) : NULL;
		if (*link)
			memcpy((*link)->name, name, size);
		else
			error = requesters->ticket_limit > 0 ? -ENOMEM : -EDQUOT;
	} else if ((*link)->open >= requesters->ticket_limit) {
		error = -EDQUOT;
	} else if (requesters->pair_limit > 0 && (*link)->open + (*link)->paired >= requesters->pair_limit) {
		error = -EUSERS;
	}
	if (!error)
		(*link)->open++;
	pthread_mutex_unlock(&requesters->lock);
	return error;
}

static void change(struct requesters *requesters, const char *name, int tickets, int pairs)
{
	pthread_mutex_lock(&requesters->lock);
	struct requester **link = find(requesters, name);
	struct requester *found = *link;
	if (found) {
		found->open += (unsigned)tickets;
		found->paired += (unsigned)pairs;
		if (found->open == 0 && found->paired == 0) {
			*link = found->next;
			free(found);
		}
	}
	pthread_mutex_unlock(&requesters->lock);
}

void requesters_give_back(struct requesters *requesters, const char *name)
{
	change(requesters, name, -1, 0);
}

void requesters_pair(struct requesters *requesters, const char *name)
{
	change(requesters, name, -1, 1);
}

void requesters_unpair(struct requesters *requesters, const char *name)
{
	change(requesters, name, 0, -1);
}

unsigned requesters_open(struct requesters *requesters, const char *name)
{
	pthread_mutex_lock(&requesters->lock);
	struct requester *found = *find(requesters, name);
	unsigned open = found ? found->open : 0;
	pthread_mutex_unlock(&requesters->lock);
	return open;
}
