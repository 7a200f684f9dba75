// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The connections of which nobody knows yet whose they are, by where they come from:
 * so that what one source sends too much of, it takes from itself.
 *
 * Who has to go when there are too many is the oldest one of the source that has most.
 * Who is served next, where serving costs time, is decided in turns: each source that
 * has somebody waiting gets one before any gets two; and all of them together get half
 * of the thread's time at most, as long as others have something to do. Entering and
 * leaving take O(log n) of the sources, the rest O(1). Pure; of one thread. */
#include "base/source.h"

#include <stddef.h>
#include <sys/queue.h>

struct crowd_source;

/* Part of a connection. Zero: outside of any crowd. */
struct crowd_member {
	TAILQ_ENTRY(crowd_member) of_source; /* oldest first */
	TAILQ_ENTRY(crowd_member) waiting;   /* for a turn, first come first */
	struct crowd_source *source;         /* NULL: in no crowd */
	uint64_t number;                     /* in order of entering */
	bool waits;
};

struct crowd {
	struct crowd_source **heap; /* of all sources, from 0: who has most comes first, then who has the oldest member */
	struct crowd_source **buckets;
	unsigned source_count, member_count, most, bucket_mask;
	uint64_t seed, next_number;
	uint64_t looked_ns, owed_ns; /* when was it asked who is next; how long do others go first */
	TAILQ_HEAD(crowd_turns, crowd_source) turns; /* sources that have somebody waiting */
};

/* For at most `most` members, at least 1. 0, -ENOMEM or -EIO (no random seed). */
int crowd_open(struct crowd *crowd, unsigned most);
void crowd_close(struct crowd *crowd); /* empty by then; no-op if never opened */

bool crowd_is_full(const struct crowd *crowd);

/* 0, -ENOMEM, or -ENOSPC: it is full. */
int crowd_enter(struct crowd *crowd, struct crowd_member *member, const struct source *source);
void crowd_leave(struct crowd *crowd, struct crowd_member *member); /* no-op for one that is in none */

/* The one that has to go, still a member; NULL if there is none. */
struct crowd_member *crowd_victim(const struct crowd *crowd);

/* Lets a member wait for a turn; no-op if it does. */
void crowd_wait(struct crowd *crowd, struct crowd_member *member);
/* Whose turn it is, and it waits no longer; NULL if nobody does. */
struct crowd_member *crowd_next(struct crowd *crowd);
bool crowd_has_waiting(const struct crowd *crowd);

/* May somebody be served? Asked in each round of the thread's loop while somebody waits: yes if
 * others have had as much time as the last turn took, or had nothing to do in the last round. */
bool crowd_is_due(struct crowd *crowd, uint64_t now_ns);
/* Somebody was served between these times. */
void crowd_served(struct crowd *crowd, uint64_t started_ns, uint64_t ended_ns);
