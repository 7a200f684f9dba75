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
#define SETTLE_MS 300 /* until what the pairs had is free again */

struct memory_sample {
	uint64_t available, of_processes;
	uint64_t of_kernel; /* available to the kernel, if processes had nothing */
};

struct memory_watch {
	struct test *test;
	uint64_t bound;
	bool is_observed;
	struct memory_sample best; /* lowest of the window in which that was highest */
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

struct memory_watch *memory_watch_start(struct test *test, uint64_t bound)
{
	struct memory_watch *watch = calloc(1, sizeof *watch);
	pthread_condattr_t attributes;

	if (!watch)
		abort();
	watch->test = test;
	watch->bound = bound;
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

/* By the sum that fell less. */
static uint64_t growth(const struct memory_sample *from, const struct memory_sample *to)
{
	uint64_t available = fall(from->available, to->available), of_kernel = fall(from->of_kernel, to->of_kernel);

	return available < of_kernel ? available : of_kernel;
}

void memory_watch_restart(struct memory_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	watch->lowest = memory_sample();
	pthread_mutex_unlock(&watch->lock);
}

bool memory_watch_observe(struct memory_watch *watch, unsigned window_ms)
{
	for (int window = 0; window < WINDOWS; window++) {
		if (window_ms) {
			memory_watch_restart(watch);
			engine_run_for(&watch->test->engine, window_ms);
		}
		pthread_mutex_lock(&watch->lock);
		struct memory_sample lowest = watch->lowest;
		pthread_mutex_unlock(&watch->lock);
		if (!watch->is_observed || growth(&watch->start, &lowest) < growth(&watch->start, &watch->best))
			watch->best = lowest;
		watch->is_observed = true;
		if (growth(&watch->start, &watch->best) <= watch->bound)
			return true;
		if (!window_ms)
			return false;
	}
	return false;
}

static void memory_watch_judge(struct memory_watch *watch)
{
	engine_run_for(&watch->test->engine, SETTLE_MS);
	struct memory_sample now = memory_sample();
	uint64_t before = growth(&watch->start, &watch->best), after = growth(&now, &watch->best);
	uint64_t least = before < after ? before : after;

	test_note(watch->test, "memory +%.1f MB", (double)least / MB);
	if (least > watch->bound)
		test_fail(watch->test, "%.1f MB of memory were in use, %.1f MB are allowed", (double)least / MB, (double)watch->bound / MB);
}

void memory_watch_finish(struct memory_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	watch->is_stopping = true;
	pthread_cond_signal(&watch->stop);
	pthread_mutex_unlock(&watch->lock);
	pthread_join(watch->thread, NULL);
	if (watch->is_observed && !test_failed(watch->test))
		memory_watch_judge(watch);
	pthread_cond_destroy(&watch->stop);
	pthread_mutex_destroy(&watch->lock);
	free(watch);
}
