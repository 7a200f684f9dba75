// SPDX-License-Identifier: Apache-2.0
/* Sums that the scheduler keeps in nanoseconds for each thread. The whole machine is
 * what was not idle, which the kernel measures too and shows in hundredths of a second. */
#include "account.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_value(clockid_t id)
{
	struct timespec value;

	return clock_gettime(id, &value) ? 0 : (uint64_t)value.tv_sec * 1000000000u + (uint64_t)value.tv_nsec;
}

static uint64_t process_ns(pid_t process)
{
	clockid_t id;

	return !process || clock_getcpuclockid(process, &id) ? 0 : clock_value(id);
}

static bool is_kernel_thread(const char *pid)
{
	char path[300], name[64];
	int parent = -1;

	snprintf(path, sizeof path, "/proc/%s/stat", pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	if (fscanf(file, "%*d (%63[^)]) %*c %d", name, &parent) != 2)
		parent = -1;
	fclose(file);
	return parent == 2; /* kthreadd */
}

static uint64_t kernel_threads_ns(void)
{
	DIR *folder = opendir("/proc");
	const struct dirent *entry;
	unsigned long long sum = 0, one;

	while (folder && (entry = readdir(folder))) {
		char path[300];

		if (!isdigit((unsigned char)*entry->d_name) || !is_kernel_thread(entry->d_name))
			continue;
		snprintf(path, sizeof path, "/proc/%s/schedstat", entry->d_name);
		FILE *file = fopen(path, "re");
		if (file && fscanf(file, "%llu", &one) == 1)
			sum += one;
		if (file)
			fclose(file);
	}
	if (folder)
		closedir(folder);
	return sum;
}

void account_take(struct account *account, pid_t relay)
{
	unsigned long long idle = 0, iowait = 0;
	const uint64_t tick_ns = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
	FILE *file = fopen("/proc/stat", "re");

	if (!file || fscanf(file, "cpu %*u %*u %*u %llu %llu", &idle, &iowait) != 2)
		abort();
	fclose(file);
	account->now_ns = clock_value(CLOCK_MONOTONIC);
	account->busy_ns = account->now_ns * (uint64_t)sysconf(_SC_NPROCESSORS_ONLN) - (idle + iowait) * tick_ns;
	account->kernel_ns = kernel_threads_ns();
	account->relay_ns = process_ns(relay);
	account->client_ns = clock_value(CLOCK_PROCESS_CPUTIME_ID);
}

void account_subtract(struct account *to, const struct account *from)
{
	to->now_ns -= from->now_ns;
	to->busy_ns -= from->busy_ns;
	to->relay_ns -= from->relay_ns;
	to->client_ns -= from->client_ns;
	to->kernel_ns -= from->kernel_ns;
}
