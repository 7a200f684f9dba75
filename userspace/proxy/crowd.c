// SPDX-License-Identifier: Apache-2.0
/* A hash table of sources, each with its members oldest first, and a binary heap of the
 * same sources whose root has the victim. A source exists while it has members, so there
 * are never more of them than members. */
#include "proxy/crowd.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define EMPTY_ROUND_NS 15000 /* a round of the loop in which there was nothing to do takes less */

TAILQ_HEAD(crowd_members, crowd_member);

struct crowd_source {
	struct crowd_source *next; /* in its bucket */
	struct source source;
	struct crowd_members members, waiting;
	TAILQ_ENTRY(crowd_source) turn; /* while somebody waits */
	unsigned count, position;       /* members; in the heap */
};

int crowd_open(struct crowd *crowd, unsigned most)
{
	unsigned buckets = 1;

	while (buckets < most)
		buckets *= 2;
	*crowd = (struct crowd){.most = most, .bucket_mask = buckets - 1};
	TAILQ_INIT(&crowd->turns);
	if (getrandom(&crowd->seed, sizeof(crowd->seed), 0) != sizeof(crowd->seed))
		return -EIO;
	crowd->heap = calloc(most, sizeof(struct crowd_source *));
	crowd->buckets = calloc(buckets, sizeof(struct crowd_source *));
	if (crowd->heap && crowd->buckets)
		return 0;
	crowd_close(crowd);
	return -ENOMEM;
}

void crowd_close(struct crowd *crowd)
{
	free(crowd->heap);
	free(crowd->buckets);
	crowd->heap = crowd->buckets = NULL;
}

/* ---- the heap ---- */

static bool goes_before(const struct crowd_source *one, const struct crowd_source *other)
{
	if (one->count != other->count)
		return one->count > other->count;
	return TAILQ_FIRST(&one->members)->number < TAILQ_FIRST(&other->members)->number;
}

static void place(struct crowd *crowd, struct crowd_source *source, unsigned position)
{
	crowd->heap[position] = source;
	source->position = position;
}

/* Puts a source whose order may have changed where it belongs. */
static void sift(struct crowd *crowd, struct crowd_source *source)
{
	unsigned position = source->position;

	for (; position > 0 && goes_before(source, crowd->heap[(position - 1) / 2]); position = (position - 1) / 2)
		place(crowd, crowd->heap[(position - 1) / 2], position);
	for (;;) {
		unsigned child = 2 * position + 1;

		if (child + 1 < crowd->source_count && goes_before(crowd->heap[child + 1], crowd->heap[child]))
			child++;
		if (child >= crowd->source_count || !goes_before(crowd->heap[child], source))
			break;
		place(crowd, crowd->heap[child], position);
		position = child;
	}
	place(crowd, source, position);
}

/* ---- sources ---- */

/* The link that points to the source, or to the end of its bucket. */
static struct crowd_source **find(const struct crowd *crowd, const struct source *source)
{
	struct crowd_source **link = &crowd->buckets[source_hash(source, crowd->seed) & crowd->bucket_mask];

	while (*link && !source_equals(&(*link)->source, source))
		link = &(*link)->next;
	return link;
}

/* Still without members, and last in the heap. */
static struct crowd_source *make_source(struct crowd *crowd, const struct source *source)
{
	struct crowd_source *made = calloc(1, sizeof(*made));

	if (!made)
		return NULL;
	made->source = *source;
	TAILQ_INIT(&made->members);
	TAILQ_INIT(&made->waiting);
	place(crowd, made, crowd->source_count++);
	return made;
}

static void drop_source(struct crowd *crowd, struct crowd_source *source)
{
	struct crowd_source *last = crowd->heap[--crowd->source_count];

	*find(crowd, &source->source) = source->next;
	if (last != source) {
		place(crowd, last, source->position);
		sift(crowd, last);
	}
	free(source);
}

/* ---- members ---- */

bool crowd_is_full(const struct crowd *crowd)
{
	return crowd->member_count >= crowd->most;
}

int crowd_enter(struct crowd *crowd, struct crowd_member *member, const struct source *source)
{
	if (crowd_is_full(crowd))
		return -ENOSPC;
	struct crowd_source **link = find(crowd, source);
	if (!*link)
		*link = make_source(crowd, source);
	if (!*link)
		return -ENOMEM;
	*member = (struct crowd_member){.source = *link, .number = crowd->next_number++};
	TAILQ_INSERT_TAIL(&(*link)->members, member, of_source);
	(*link)->count++;
	crowd->member_count++;
	sift(crowd, *link);
	return 0;
}

static void stop_waiting(struct crowd *crowd, struct crowd_member *member)
{
	struct crowd_source *source = member->source;

	if (!member->waits)
		return;
	member->waits = false;
	TAILQ_REMOVE(&source->waiting, member, waiting);
	if (TAILQ_EMPTY(&source->waiting))
		TAILQ_REMOVE(&crowd->turns, source, turn);
}

void crowd_leave(struct crowd *crowd, struct crowd_member *member)
{
	struct crowd_source *source = member->source;

	if (!source)
		return;
	stop_waiting(crowd, member);
	TAILQ_REMOVE(&source->members, member, of_source);
	member->source = NULL;
	crowd->member_count--;
	if (--source->count == 0)
		drop_source(crowd, source);
	else
		sift(crowd, source);
}

struct crowd_member *crowd_victim(const struct crowd *crowd)
{
	return crowd->source_count > 0 ? TAILQ_FIRST(&crowd->heap[0]->members) : NULL;
}

/* ---- turns ---- */

void crowd_wait(struct crowd *crowd, struct crowd_member *member)
{
	struct crowd_source *source = member->source;

	if (member->waits)
		return;
	member->waits = true;
	if (TAILQ_EMPTY(&source->waiting))
		TAILQ_INSERT_TAIL(&crowd->turns, source, turn);
	TAILQ_INSERT_TAIL(&source->waiting, member, waiting);
}

struct crowd_member *crowd_next(struct crowd *crowd)
{
	struct crowd_source *source = TAILQ_FIRST(&crowd->turns);

	if (!source)
		return NULL;
	struct crowd_member *member = TAILQ_FIRST(&source->waiting);
	stop_waiting(crowd, member);
	if (!TAILQ_EMPTY(&source->waiting)) {
		TAILQ_REMOVE(&crowd->turns, source, turn);
		TAILQ_INSERT_TAIL(&crowd->turns, source, turn);
	}
	return member;
}

bool crowd_has_waiting(const struct crowd *crowd)
{
	return !TAILQ_EMPTY(&crowd->turns);
}

bool crowd_is_due(struct crowd *crowd, uint64_t now_ns)
{
	uint64_t of_others_ns = now_ns - crowd->looked_ns;

	crowd->looked_ns = now_ns;
	if (of_others_ns < EMPTY_ROUND_NS || of_others_ns >= crowd->owed_ns)
		return true;
	crowd->owed_ns -= of_others_ns;
	return false;
}

void crowd_served(struct crowd *crowd, uint64_t started_ns, uint64_t ended_ns)
{
	crowd->owed_ns = ended_ns - started_ns;
	crowd->looked_ns = ended_ns;
}
