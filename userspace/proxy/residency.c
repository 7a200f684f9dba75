// SPDX-License-Identifier: Apache-2.0
/* What a proxy keeps resident while it is idle. Loading kernel programs,
 * probing, certificates and relocation touch several megabytes of library code
 * and heap once; so does the first work after a pause. Free heap goes back to the kernel, and so do mapped pages of
 * files that nobody has changed: they come back from the page cache, one by
 * one, when they are used again. Mappings with private changes (relocated data)
 * are never touched: their pages exist nowhere else. */
#include "proxy/residency.h"

#include "base/cleanup.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* One mapping of /proc/self/smaps: a line like
 * "7f00-7f10 r-xp 00001000 08:01 1234  /usr/lib/x.so", then its counts. */
struct mapping {
	unsigned long start, end;
	bool is_file_text; /* private, not writable, of a file */
};

static bool read_header(const char *line, struct mapping *mapping)
{
	char permissions[5], path[2];
	unsigned long start, end;

	int found = sscanf(line, "%lx-%lx %4s %*s %*s %*s %1s", &start, &end, permissions, path);
	if (found < 3)
		return false;
	mapping->start = start;
	mapping->end = end;
	mapping->is_file_text = found == 4 && path[0] == '/' && permissions[0] == 'r' && permissions[1] == '-' &&
				permissions[3] == 'p';
	return true;
}

void residency_trim(void)
{
	_fclose_ FILE *file = fopen("/proc/self/smaps", "re");
	struct mapping mapping = {0};
	unsigned long anonymous_kb;
	char line[512];

	while (file && fgets(line, sizeof line, file)) {
		if (read_header(line, &mapping) || !mapping.is_file_text)
			continue;
		if (sscanf(line, "Anonymous: %lu kB", &anonymous_kb) == 1 && anonymous_kb == 0)
			madvise((void *)mapping.start, mapping.end - mapping.start, MADV_DONTNEED);
	}
	malloc_trim(0);
}
