// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Reports of relay and broker as the JSON that p2pctl reads. Pure; each returns
 * a new reference, NULL without memory. */
#include "broker/broker.h"
#include "relay/relay.h"

#include <jansson.h>

json_t *view_pair(const struct pair_report *report);
json_t *view_ticket(const struct ticket *ticket, uint64_t now_ms);
json_t *view_broker_totals(const struct broker_totals *totals);
json_t *view_relay_totals(const struct relay_totals *totals);
json_t *view_probe(const struct probe_report *report);
