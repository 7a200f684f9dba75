// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Internal to relay/: which slots of the kernel's maps are free.
 *
 * A pair takes two neighbouring slots (an even index and the next). When it has
 * ended and both sockets have left the map, they are retired; they are free only
 * after a grace period, in which every run of the program that began before has
 * ended. Each taking has a new generation, which ring records carry.
 * May be called from any thread. */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct slots {
	pthread_mutex_t lock;
	pthread_cond_t retired_some;
	uint32_t pairs;       /* in all */
	uint32_t *free;       /* numbers of pairs of slots; the oldest is taken first */
	uint32_t first, count; /* ring */
	uint32_t *retired, *waiting; /* since the last grace period began; during it */
	uint32_t retired_count, waiting_count;
	uint32_t *generations;
	bool closed;
};

int slots_init(struct slots *slots, uint32_t pairs); /* 0 or -ENOMEM */
void slots_destroy(struct slots *slots);
/* The even index of two free slots and their generation; -ENOSPC. */
int slots_take(struct slots *slots, uint32_t *index, uint32_t *generation);
/* They were not used: no socket was ever entered under them. */
void slots_give_back(struct slots *slots, uint32_t index);
/* Both sockets have left the map. */
void slots_retire(struct slots *slots, uint32_t index);
/* The grace period that begins now covers all that was retired before. */
uint32_t slots_begin_grace(struct slots *slots);
void slots_end_grace(struct slots *slots);
/* Blocks until something was retired; false: closed. */
bool slots_wait_for_retired(struct slots *slots);
void slots_close(struct slots *slots);
uint32_t slots_free_count(struct slots *slots);
