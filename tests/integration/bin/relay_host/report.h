// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What the relay knows of pairs and totals, as JSON for the test's control channel. */
#include "relay/relay.h"

#include <jansson.h>

json_t *report_of_pair(const struct pair_report *report);

/* [port of party 0, port of party 1, id, plane, gate 0, gate 1]: short, for thousands of pairs. */
json_t *report_of_gates(const struct pair_report *report);

json_t *report_of_totals(const struct relay_totals *totals);
