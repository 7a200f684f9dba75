// SPDX-License-Identifier: Apache-2.0
#include "memory.h"
#include "sample.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_EVERY_S 0.05

/* Resident pages of a process, if it is `pid` or in its process group. */
static long resident_pages(const char *number, pid_t pid)
{
	char path[300], line[600], *behind_name;
	long pages = 0;
	int group = 0;

	snprintf(path, sizeof path, "/proc/%s/stat", number);
	FILE *file = fopen(path, "re");
	if (!file)
		return 0;
	if (fgets(line, sizeof line, file) && (behind_name = strrchr(line, ')')) &&
	    sscanf(behind_name + 1, " %*c %*d %d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %*u %*u %ld", &group,
		   &pages) == 2 && group != (int)pid && atoi(number) != (int)pid)
		pages = 0;
	fclose(file);
	return pages;
}

static double value_in(const char *path, const char *key)
{
	char line[300];
	double value = 0;
	FILE *file = fopen(path, "re");
	const char *found;

	while (file && fgets(line, sizeof line, file))
		if ((found = strstr(line, key))) {
			value = atof(found + strlen(key));
			break;
		}
	if (file)
		fclose(file);
	return value;
}

void memory_take(const struct contender *contender, struct memory *memory)
{
	double page_kb = (double)sysconf(_SC_PAGESIZE) / 1024;
	DIR *processes = contender->pid > 0 ? opendir("/proc") : NULL;
	struct dirent *entry;

	*memory = (struct memory){
		.sockets_kb = value_in("/proc/net/sockstat", " mem ") * page_kb,
		.slab_kb = value_in("/proc/meminfo", "Slab:"),
		.available_kb = value_in("/proc/meminfo", "MemAvailable:"),
	};
	while (processes && (entry = readdir(processes)))
		if (isdigit((unsigned char)*entry->d_name))
			memory->resident_kb += (double)resident_pages(entry->d_name, contender->pid) * page_kb;
	if (processes)
		closedir(processes);
}

static void *watch_memory(void *context)
{
	struct memory_watch *watch = context;

	while (!atomic_load(&watch->stop)) {
		struct memory now;

		sample_sleep(LOOK_EVERY_S);
		memory_take(watch->contender, &now);
		if (now.resident_kb > watch->worst.resident_kb)
			watch->worst.resident_kb = now.resident_kb;
		if (now.sockets_kb > watch->worst.sockets_kb)
			watch->worst.sockets_kb = now.sockets_kb;
		if (now.available_kb < watch->worst.available_kb)
			watch->worst.available_kb = now.available_kb;
	}
	return NULL;
}

void memory_watch_start(struct memory_watch *watch, const struct contender *contender)
{
	*watch = (struct memory_watch){ .contender = contender };
	memory_take(contender, &watch->start);
	watch->worst = watch->start;
	pthread_create(&watch->thread, NULL, watch_memory, watch);
}

void memory_watch_stop(struct memory_watch *watch)
{
	atomic_store(&watch->stop, true);
	pthread_join(watch->thread, NULL);
}
