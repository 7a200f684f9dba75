// SPDX-License-Identifier: Apache-2.0
/* Free, used and retired slots of the kernel's maps; see slots.h. */
#include "relay/slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int slots_init(struct slots *slots, uint32_t pairs)
{
	memset(slots, 0, sizeof *slots);
	pthread_mutex_init(&slots->lock, NULL);
	pthread_cond_init(&slots->retired_some, NULL);
	slots->free = calloc(pairs, sizeof *slots->free);
	slots->retired = calloc(pairs, sizeof *slots->retired);
	slots->waiting = calloc(pairs, sizeof *slots->waiting);
	slots->generations = calloc(pairs, sizeof *slots->generations);
	if (!slots->free || !slots->retired || !slots->waiting || !slots->generations) {
		slots_destroy(slots);
		return -ENOMEM;
	}
	slots->pairs = slots->count = pairs;
	for (uint32_t i = 0; i < pairs; i++)
		slots->free[i] = i;
	return 0;
}

void slots_destroy(struct slots *slots)
{
	free(slots->free);
	free(slots->retired);
	free(slots->waiting);
	free(slots->generations);
	pthread_cond_destroy(&slots->retired_some);
	pthread_mutex_destroy(&slots->lock);
	memset(slots, 0, sizeof *slots);
}

int slots_take(struct slots *slots, uint32_t *index, uint32_t *generation)
{
	int error = -ENOSPC;

	pthread_mutex_lock(&slots->lock);
	if (slots->count) {
		uint32_t pair = slots->free[slots->first];

		slots->first = (slots->first + 1) % slots->pairs;
		slots->count--;
		*index = pair * 2;
		*generation = ++slots->generations[pair];
		error = 0;
	}
	pthread_mutex_unlock(&slots->lock);
	return error;
}

void slots_give_back(struct slots *slots, uint32_t index)
{
	pthread_mutex_lock(&slots->lock);
	slots->free[(slots->first + slots->count++) % slots->pairs] = index / 2;
	pthread_mutex_unlock(&slots->lock);
}

void slots_retire(struct slots *slots, uint32_t index)
{
	pthread_mutex_lock(&slots->lock);
	slots->retired[slots->retired_count++] = index / 2;
	if (slots->retired_count == 1)
		pthread_cond_signal(&slots->retired_some);
	pthread_mutex_unlock(&slots->lock);
}

uint32_t slots_begin_grace(struct slots *slots)
{
	uint32_t *taken, count;

	pthread_mutex_lock(&slots->lock);
	taken = slots->retired;
	slots->retired = slots->waiting;
	slots->waiting = taken;
	count = slots->waiting_count = slots->retired_count;
	slots->retired_count = 0;
	pthread_mutex_unlock(&slots->lock);
	return count;
}

void slots_end_grace(struct slots *slots)
{
	pthread_mutex_lock(&slots->lock);
	for (uint32_t i = 0; i < slots->waiting_count; i++)
		slots->free[(slots->first + slots->count++) % slots->pairs] = slots->waiting[i];
	slots->waiting_count = 0;
	pthread_mutex_unlock(&slots->lock);
}

bool slots_wait_for_retired(struct slots *slots)
{
	bool open;

	pthread_mutex_lock(&slots->lock);
	while (!slots->retired_count && !slots->closed)
		pthread_cond_wait(&slots->retired_some, &slots->lock);
	open = !slots->closed;
	pthread_mutex_unlock(&slots->lock);
	return open;
}

void slots_close(struct slots *slots)
{
	pthread_mutex_lock(&slots->lock);
	slots->closed = true;
	pthread_cond_broadcast(&slots->retired_some);
	pthread_mutex_unlock(&slots->lock);
}

uint32_t slots_free_count(struct slots *slots)
{
	uint32_t count;

	pthread_mutex_lock(&slots->lock);
	count = slots->count;
	pthread_mutex_unlock(&slots->lock);
	return count;
}
