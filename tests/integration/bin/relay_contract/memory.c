// SPDX-License-Identifier: Apache-2.0
/* What the machine has left. Bytes that wait in the kernel for a slow reader appear
 * in no socket statistics: MemAvailable is the only place where they are missing. The
 * sampler has a thread of its own, because the engine may be busy for longer than the
 * 100 ms between two samples. */
#include "contract.h"

#include "base/instant.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define SAMPLE_MS 100
#define WINDOWS 3

struct memory_watch {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t stop;
	bool is_stopping;
	uint64_t start, lowest;
};

uint64_t memory_available(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128];
	unsigned long long kib = 0;

	while (file && fgets(line, sizeof line, file))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib * 1024;
}

static void *memory_watch_run(void *context)
{
	struct memory_watch *watch = context;
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	pthread_mutex_lock(&watch->lock);
	while (!watch->is_stopping) {
		uint64_t now = memory_available();
		if (now < watch->lowest)
			watch->lowest = now;
		next.tv_nsec += SAMPLE_MS * 1000000;
		next.tv_sec += next.tv_nsec / 1000000000;
		next.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&watch->stop, &watch->lock, &next);
	}
	pthread_mutex_unlock(&watch->lock);
	return NULL;
}

struct memory_watch *memory_watch_start(void)
{
	struct memory_watch *watch = calloc(1, sizeof *watch);
	pthread_condattr_t attributes;

	if (!watch)
		abort();
	watch->start = watch->lowest = memory_available();
	pthread_mutex_init(&watch->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&watch->stop, &attributes);
	if (pthread_create(&watch->thread, NULL, memory_watch_run, watch))
		abort();
	return watch;
}

uint64_t memory_watch_growth(struct memory_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	uint64_t growth = watch->start > watch->lowest ? watch->start - watch->lowest : 0;
	watch->lowest = watch->start;
	pthread_mutex_unlock(&watch->lock);
	return growth;
}

void memory_watch_stop(struct memory_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	watch->is_stopping = true;
	pthread_cond_signal(&watch->stop);
	pthread_mutex_unlock(&watch->lock);
	pthread_join(watch->thread, NULL);
	pthread_cond_destroy(&watch->stop);
	pthread_mutex_destroy(&watch->lock);
	free(watch);
}

bool test_check_memory(struct test *test, struct memory_watch *watch, uint64_t bound, unsigned window_ms, uint64_t *growth)
{
	for (int attempt = 0; attempt < WINDOWS; attempt++) {
		memory_watch_growth(watch);
		engine_run_for(&test->engine, window_ms);
		*growth = memory_watch_growth(watch);
		if (*growth <= bound)
			return true;
	}
	return test_fail(test, "memory grew by %.1f MB, %.1f MB are allowed", (double)*growth / MB, (double)bound / MB);
}
