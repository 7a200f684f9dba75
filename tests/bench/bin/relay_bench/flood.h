// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Pairs that carry bytes as fast as it goes, with up to two threads that write and two that
 * read. What counts is where bytes arrive. */
#include "crowd.h"

struct flood_plan {
	size_t first, count; /* pairs of the crowd */
	bool both_ways;
	bool single_bytes;   /* one byte for each send */
	uint64_t rate;       /* at which each reader takes bytes, a second; 0: at once */
	bool readers_wait;   /* read nothing until the writers have stopped */
};

struct flood;

/* The caller gives up the ends until flood_stop(). */
struct flood *flood_start(struct crowd *crowd, const struct flood_plan *plan);
uint64_t flood_received(const struct flood *flood);
/* Stops writing, waits until every byte has arrived, and counts the bytes in the crowd's round. `lost` is the share of bytes that
 * did not arrive, where the contender may lose some. False: a pair broke, or bytes are missing: contender->error. Frees `flood`. */
bool flood_stop(struct flood *flood, double *lost);
