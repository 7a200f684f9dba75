// SPDX-License-Identifier: Apache-2.0
#include "workloads.h"

#define ALL_SIZES { 64, 1024, 16384 }
#define BOTH (SUITE_QUICK | SUITE_FULL)

const struct workload workloads[] = {
	/* 1. round trips */
	{ .name = "round-trip", .run = workload_trip, .suites = SUITE_QUICK, .pairs = 1, .sizes = { 64 }, .weight = 1 },
	{ .name = "trip", .run = workload_trip, .suites = SUITE_FULL, .pairs = 1, .sizes = ALL_SIZES, .weight = 1 },
	{ .name = "chat-1", .run = workload_chat, .suites = SUITE_FULL, .pairs = 1, .sizes = ALL_SIZES, .weight = 1 },
	{ .name = "chat-10", .run = workload_chat, .suites = SUITE_FULL, .pairs = 10, .sizes = ALL_SIZES, .weight = 1 },
	{ .name = "chat-100", .run = workload_chat, .suites = SUITE_FULL, .pairs = 100, .sizes = ALL_SIZES, .weight = 1 },
	{ .name = "chat-1000", .run = workload_chat, .suites = SUITE_FULL, .pairs = 1000, .sizes = ALL_SIZES, .weight = 1 },
	{ .name = "chat", .run = workload_chat, .suites = BOTH, .pairs = 200, .sizes = { 64 }, .weight = 1.5 },
	{ .name = "chat-pauses", .run = workload_chat, .suites = BOTH, .pairs = 200, .sizes = { 64 }, .pause_us = 20000, .weight = 1.5 },
	/* 2. bulk */
	{ .name = "bulk", .run = workload_bulk, .suites = SUITE_QUICK, .pairs = 1, .weight = 1 },
	{ .name = "bulk-1", .run = workload_bulk, .suites = SUITE_FULL, .pairs = 1, .weight = 1, .both_ways = true },
	{ .name = "bulk-10", .run = workload_bulk, .suites = SUITE_FULL, .pairs = 10, .weight = 1, .both_ways = true },
	{ .name = "bulk-100", .run = workload_bulk, .suites = SUITE_FULL, .pairs = 100, .weight = 1, .both_ways = true },
	/* 3. mixed */
	{ .name = "mixed", .run = workload_mixed, .suites = SUITE_FULL, .pairs = 100, .sizes = { 64 }, .weight = 1.5 },
	/* 4. memory under load */
	{ .name = "slow-readers", .run = workload_slow_readers, .suites = SUITE_FULL, .pairs = 100, .weight = 3 },
	{ .name = "segments", .run = workload_segments, .suites = SUITE_FULL, .pairs = 100, .weight = 2 },
	/* 5. setup */
	{ .name = "joins", .run = workload_joins, .suites = SUITE_QUICK, .pairs = 16, .weight = 1.5, .needs_tickets = true },
	{ .name = "joins-1", .run = workload_joins, .suites = SUITE_FULL, .pairs = 1, .weight = 1, .needs_tickets = true },
	{ .name = "joins-64", .run = workload_joins, .suites = SUITE_FULL, .pairs = 64, .weight = 1, .needs_tickets = true },
	{ .name = "storm", .run = workload_storm, .suites = SUITE_FULL, .joins = 5000, .weight = 1, .needs_tickets = true },
	{ .name = "idle", .run = workload_idle, .suites = SUITE_FULL, .pairs = 4000, .weight = 1 },
	/* 1. and 2. with TLS */
	{ .name = "tls-chat-1", .run = workload_chat, .suites = SUITE_FULL, .pairs = 1, .sizes = { 64, 16384 }, .weight = 1, .with_tls = true },
	{ .name = "tls-chat-100", .run = workload_chat, .suites = SUITE_FULL, .pairs = 100, .sizes = { 64, 16384 }, .weight = 1, .with_tls = true },
	{ .name = "tls-bulk-1", .run = workload_bulk, .suites = SUITE_FULL, .pairs = 1, .weight = 1, .with_tls = true },
	{ .name = "tls-bulk-10", .run = workload_bulk, .suites = SUITE_FULL, .pairs = 10, .weight = 1, .with_tls = true },
};
const size_t workload_count = sizeof workloads / sizeof *workloads;
