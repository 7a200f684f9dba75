// SPDX-License-Identifier: Apache-2.0
/* What the machine has left. Bytes that wait in the kernel for a slow reader appear
 * in no socket statistics: MemAvailable is the only place where they are missing. What
 * processes take for themselves is missing there too, whoever they are; a second sum
 * leaves it out, so that a compiler run beside the tests is not taken for a leak of the
 * relay (whose own memory is measured by its resident set). The sampler has a thread of
 * its own, because the engine may be busy for longer than the 100 ms between samples. */
#include "contract.h"

#include "base/instant.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE_MS 100
#define WINDOWS 4

struct memory_sample {
	uint64_t available, of_processes;
	uint64_t of_kernel; /* available to the kernel, if processes had nothing */
};

struct memory_watch {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t stop;
	bool is_stopping;
	struct memory_sample start, lowest;
};

static struct memory_sample memory_sample(void)
{
	static const char *const of_processes[] = { "AnonPages:", "Shmem:", "PageTables:", "KernelStack:" };
	struct memory_sample sample = { 0 };
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128], name[64];
	unsigned long long kib = 0;

	while (file && fgets(line, sizeof line, file)) {
		if (sscanf(line, "%63s %llu kB", name, &kib) != 2)
			continue;
		if (!strcmp(name, "MemAvailable:"))
			sample.available += kib * 1024;
		for (size_t at = 0; at < sizeof of_processes / sizeof *of_processes; at++)
			if (!strcmp(name, of_processes[at]))
				sample.of_processes += kib * 1024;
	}
	if (file)
		fclose(file);
	sample.of_kernel = sample.available + sample.of_processes;
	return sample;
}

uint64_t memory_available(void)
{
	return memory_sample().of_kernel;
}

static void *memory_watch_run(void *context)
{
	struct memory_watch *watch = context;
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	pthread_mutex_lock(&watch->lock);
	while (!watch->is_stopping) {
		struct memory_sample now = memory_sample();
		if (now.available < watch->lowest.available)
			watch->lowest.available = now.available;
		if (now.of_kernel < watch->lowest.of_kernel)
			watch->lowest.of_kernel = now.of_kernel;
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
	watch->start = watch->lowest = memory_sample();
	pthread_mutex_init(&watch->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&watch->stop, &attributes);
	if (pthread_create(&watch->thread, NULL, memory_watch_run, watch))
		abort();
	return watch;
}

static uint64_t fall(uint64_t from, uint64_t to)
{
	return from > to ? from - to : 0;
}

uint64_t memory_watch_growth(struct memory_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	uint64_t growth = fall(watch->start.available, watch->lowest.available);
	uint64_t of_kernel = fall(watch->start.of_kernel, watch->lowest.of_kernel);
	watch->lowest = watch->start;
	pthread_mutex_unlock(&watch->lock);
	return growth < of_kernel ? growth : of_kernel;
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
