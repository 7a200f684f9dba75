// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Clocks, the CPU time of the whole machine, and lists of measured times. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

uint64_t sample_now_ns(void);
/* For the length of a measurement, never to wait for something. */
void sample_sleep(double seconds);

/* CPU time of the whole machine that was not idle, kernel workers and interrupts
 * included, from what /proc/stat counts as idle: the kernel measures idle time, but guesses
 * the rest from where its tick happens to fall. Time that the host took away does not count. */
struct machine_time {
	uint64_t now_ns;
	uint64_t idle_ns; /* of all processors: idle, iowait, steal */
	uint64_t own_ns;  /* of this process */
};
void machine_time_take(struct machine_time *time);
/* CPU time of a process so far, all its threads; 0 if there is none. */
uint64_t process_time_ns(pid_t pid);
double machine_busy_seconds(const struct machine_time *from, const struct machine_time *to);

/* A growing list of nanoseconds. */
struct sample_list {
	uint64_t *values;
	size_t count, capacity;
};
void sample_add(struct sample_list *list, uint64_t value_ns);
/* Sorts. `share` 0.5 is the median; 0 if the list is empty. */
uint64_t sample_percentile(struct sample_list *list, double share);
void sample_free(struct sample_list *list);
