// SPDX-License-Identifier: Apache-2.0
/* Announcements: the records by which the program says that a gate has closed, or
 * that a socket which nobody polls has ended.
 *
 * A record names a slot and the generation that held it. One that comes after
 * its pair has ended finds no side, or another generation, and is only counted.
 * Worker's thread only. */
#include "relay/worker.h"

#include "relay/pump.h"

#include <stdlib.h>
#include <string.h>

#define LATE_NS 1000000000ull
#define LATE_MOST 1024u

static void handle(struct worker *worker, const struct gate_record *record)
{
	struct pair *pair = record->index < worker->relay->object->slots ? worker->pairs[record->index / 2] : NULL;
	struct side *side = pair ? &pair->sides[record->index % 2] : NULL;

	if (side && side->generation == record->generation) {
		side_stir(side);
		pair_pump(side);
	} else {
		worker->past.late_records++;
	}
}

/* For tests: keeps the record for a second. */
static bool hold_back(struct worker *worker, const struct gate_record *record)
{
	if (!gate_image.late_record_every || worker->record_count++ % gate_image.late_record_every)
		return false;
	if (!worker->late)
		worker->late = calloc(LATE_MOST, sizeof *worker->late);
	if (!worker->late || worker->late_count == LATE_MOST)
		return false;
	worker->late[worker->late_count++] = (struct late_record){ *record, loop_now_ns(worker->loop) + LATE_NS };
	return true;
}

int announce_handle(void *context, void *data, size_t size)
{
	struct worker *worker = context;
	const struct gate_record *record = data;

	if (size >= sizeof *record && !hold_back(worker, record))
		handle(worker, record);
	return 0;
}

void announce_handle_late(struct worker *worker)
{
	unsigned due = 0;

	while (due < worker->late_count && worker->late[due].due_ns <= loop_now_ns(worker->loop))
		handle(worker, &worker->late[due++].record);
	worker->late_count -= due;
	if (due)
		memmove(worker->late, worker->late + due, worker->late_count * sizeof *worker->late);
}
