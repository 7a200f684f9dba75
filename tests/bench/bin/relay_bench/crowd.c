// SPDX-License-Identifier: Apache-2.0
#include "crowd.h"

#include <stdlib.h>

static void close_all(struct crowd *crowd)
{
	for (size_t at = 0; at < crowd->count; at++)
		ends_close(crowd->pairs[at]);
	free(crowd->pairs);
	crowd->pairs = NULL;
}

bool crowd_open(struct crowd *crowd, struct contender *contender, size_t count)
{
	*crowd = (struct crowd){ .contender = contender, .pairs = calloc(count, sizeof *crowd->pairs) };
	if (!crowd->pairs)
		return contender_fail(contender, "out of memory");
	bool fine = contender_stock(contender, count);
	while (fine && crowd->count < count && (fine = contender_open_pair(contender, crowd->pairs[crowd->count])))
		crowd->count++;
	crowd->round = (struct contender_round){ .pairs = count, .bytes = { count, count } };
	if (fine && contender_settle(contender, count))
		return true;
	close_all(crowd);
	return false;
}

void crowd_count(struct crowd *crowd, uint64_t by_first, uint64_t by_second)
{
	crowd->round.bytes[0] += by_first;
	crowd->round.bytes[1] += by_second;
}

bool crowd_close(struct crowd *crowd, bool fine)
{
	close_all(crowd);
	return fine && contender_check(crowd->contender, &crowd->round);
}
