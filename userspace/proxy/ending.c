// SPDX-License-Identifier: Apache-2.0
/* How a pair ended, in one line: who, how long, how much each way, on what
 * plane, how much of it by userspace, and why it is over. */
#include "proxy/ending.h"

#include <inttypes.h>
#include <stdio.h>

static const char *known(const char *operator_name)
{
	return *operator_name ? operator_name : "unknown";
}

char *ending_format(const struct pair_report *report, char line[ENDING_LINE_SIZE])
{
	const struct relay_party_report *a = &report->parties[0], *b = &report->parties[1];
	const struct direction_report *there = &report->directions[0], *back = &report->directions[1];

	snprintf(line, ENDING_LINE_SIZE,
		 "pair %" PRIu64 " ended %s: %s (%s) and %s (%s), %" PRIu64 ".%03u s, bytes %" PRIu64 " and %" PRIu64
		 ", plane %s, spills %" PRIu64 " and %" PRIu64 "%s%s",
		 report->id, outcome_word(report->outcome), known(a->operator_name), a->address, known(b->operator_name),
		 b->address, report->age_ms / 1000, (unsigned)(report->age_ms % 1000), there->bytes, back->bytes,
		 plane_name(report->plane), there->spilled_bytes, back->spilled_bytes, *report->detail ? ", " : "",
		 report->detail);
	return line;
}
