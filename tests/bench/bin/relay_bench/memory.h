// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Memory of a contender: what its processes have resident, and what the kernel holds
 * for sockets, which it accounts for all of the machine. */
#include "contender.h"

#include <pthread.h>
#include <stdatomic.h>

struct memory {
	double resident_kb; /* of all processes of the contender */
	double sockets_kb;  /* buffers of TCP, /proc/net/sockstat */
	double slab_kb;      /* the kernel's objects, sockets among them */
	double available_kb; /* of the machine, MemAvailable */
};

void memory_take(const struct contender *contender, struct memory *memory);

/* Looks every 50 ms, in a thread of its own, and keeps the highest (of what is available, the lowest). */
struct memory_watch {
	const struct contender *contender;
	struct memory start, worst;
	atomic_bool stop;
	pthread_t thread;
};
void memory_watch_start(struct memory_watch *watch, const struct contender *contender);
void memory_watch_stop(struct memory_watch *watch);
