// SPDX-License-Identifier: Apache-2.0
/* Pure arithmetic, but for the two clocks. */
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t sample_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

void sample_sleep(double seconds)
{
	struct timespec wait = { .tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) };

	nanosleep(&wait, NULL);
}

void machine_time_take(struct machine_time *time)
{
	unsigned long long idle = 0, iowait = 0, steal = 0;
	FILE *stat = fopen("/proc/stat", "re");

	if (!stat || fscanf(stat, "cpu %*u %*u %*u %llu %llu %*u %*u %llu", &idle, &iowait, &steal) != 3)
		perror("/proc/stat");
	if (stat)
		fclose(stat);
	time->now_ns = sample_now_ns();
	time->idle_ns = (idle + iowait + steal) * (1000000000u / (unsigned long long)sysconf(_SC_CLK_TCK));
	time->own_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t process_time_ns(pid_t pid)
{
	clockid_t id;

	return pid > 0 && !clock_getcpuclockid(pid, &id) ? clock_ns(id) : 0;
}

double machine_busy_seconds(const struct machine_time *from, const struct machine_time *to)
{
	double all = (double)(to->now_ns - from->now_ns) * (double)sysconf(_SC_NPROCESSORS_ONLN);

	return (all - (double)(to->idle_ns - from->idle_ns)) / 1e9;
}

void sample_add(struct sample_list *list, uint64_t value_ns)
{
	if (list->count == list->capacity) {
		list->capacity = list->capacity ? 2 * list->capacity : 4096;
		list->values = realloc(list->values, list->capacity * sizeof *list->values);
		if (!list->values)
			abort();
	}
	list->values[list->count++] = value_ns;
}

static int compare(const void *one, const void *other)
{
	uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

	return (a > b) - (a < b);
}

uint64_t sample_percentile(struct sample_list *list, double share)
{
	if (!list->count)
		return 0;
	qsort(list->values, list->count, sizeof *list->values, compare);
	size_t at = (size_t)(share * (double)list->count);
	return list->values[at < list->count ? at : list->count - 1];
}

void sample_free(struct sample_list *list)
{
	free(list->values);
	*list = (struct sample_list){ 0 };
}
