// SPDX-License-Identifier: Apache-2.0
/* How a pair ended, in one line: who, how long, how much each way, on what
 * plane, how much of it by userspace, and why it is over. */
#include "proxy/ending.h"

#include <inttypes.h>
#include <stdio.h>

/* "hd-1 (192.0.2.1:4000, identified, handed off)" */
static int put_party(const struct relay_party_report *party, char *text, size_t size)
{
	return snprintf(text, size, "%.127s (%.63s, %s%s)", *party->operator_name ? party->operator_name : "unknown",
			party->address, party->transport == TRANSPORT_PLAIN ? "" : "identified, ",
			transport_name(party->transport));
}

char *ending_format(const struct pair_report *report, char line[ENDING_LINE_SIZE])
{
	char a[RELAY_NAME_SIZE + 128], b[RELAY_NAME_SIZE + 128];
	const struct direction_report *there = &report->directions[0], *back = &report->directions[1];

	put_party(&report->parties[0], a, sizeof a);
	put_party(&report->parties[1], b, sizeof b);
	snprintf(line, ENDING_LINE_SIZE,
		 "pair %" PRIu64 " ended %s: %s and %s, %" PRIu64 ".%03u s, bytes %" PRIu64 " and %" PRIu64
		 ", plane %s, spills %" PRIu64 " and %" PRIu64 "%s%s",
		 report->id, outcome_word(report->outcome), a, b, report->age_ms / 1000, (unsigned)(report->age_ms % 1000), there->bytes, back->bytes,
		 plane_name(report->plane), there->spilled_bytes, back->spilled_bytes, *report->detail ? ", " : "",
		 report->detail);
	return line;
}
