// SPDX-License-Identifier: Apache-2.0
/* Memory of pairs that carried a byte each way and then nothing. The contender is started
 * anew, since memory that a process had once is rarely given back; growth is taken from the
 * first pairs on, which bring in pages of libraries. All four sockets of a pair are on
 * this machine; a direct connection shows what two of them need. */
#include "crowd.h"
#include "memory.h"
#include "sample.h"
#include "workload.h"

#include <math.h>

#define FIRST_PAIRS 50
#define LOOKS 20
#define LOOK_EVERY_S 0.1
#define AT_REST_KB 256

/* When what is available has come to rest. */
static void take_at_rest(const struct contender *contender, struct memory *memory)
{
	double last = 0;

	for (int look = 0; look < LOOKS; look++) {
		memory_take(contender, memory);
		if (fabs(memory->available_kb - last) < AT_REST_KB)
			return;
		last = memory->available_kb;
		sample_sleep(LOOK_EVERY_S);
	}
}

bool workload_idle(struct contender *contender, const struct workload *workload, double seconds)
{
	struct memory empty, first, full;
	struct crowd few, many;
	double pairs = (double)workload->pairs;

	(void)seconds;
	contender_stop(contender);
	if (!contender_start(contender))
		return false;
	take_at_rest(contender, &empty);
	if (!crowd_open(&few, contender, FIRST_PAIRS))
		return false;
	take_at_rest(contender, &first);
	if (!crowd_open(&many, contender, workload->pairs)) {
		crowd_close(&few, false);
		return false;
	}
	take_at_rest(contender, &full);
	figure(workload->name, contender, "resident_empty_mb", empty.resident_kb / 1024);
	figure(workload->name, contender, "resident_mb", full.resident_kb / 1024);
	figure(workload->name, contender, "resident_kb_per_pair", (full.resident_kb - first.resident_kb) / pairs);
	figure(workload->name, contender, "slab_kb_per_pair", (full.slab_kb - first.slab_kb) / pairs);
	figure(workload->name, contender, "all_kb_per_pair", (first.available_kb - full.available_kb) / pairs);
	/* Both crowds end in one list of the contender's reports. */
	many.round.pairs += few.round.pairs;
	crowd_count(&many, few.round.bytes[0], few.round.bytes[1]);
	crowd_close(&few, false);
	return crowd_close(&many, true);
}
