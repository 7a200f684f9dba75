// SPDX-License-Identifier: Apache-2.0
#pragma once
/* One relay_host process: started with its settings, asked over its control socket,
 * measured from outside, stopped. Calls wait for the answer; a host that dies or
 * does not answer within ten seconds ends as an error of every later call. */
#include "relay/relay.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct host_settings {
	unsigned planes; /* enum plane_mask; required */
	unsigned workers; /* 0: one */
	uint64_t pair_memory_bytes, credit_budget_bytes, buffer_budget_bytes, max_pairs; /* 0: the relay's own */
	unsigned accept_timeout_ms, token_timeout_ms, stall_limit_ms;
	bool both_families; /* listens on IPv6 too */
	/* faults of the test build */
	unsigned lose_record_every, lose_packet_every, break_packet_every, late_record_every;
	bool no_trim;
	unsigned bare_bytes; /* no fault: a kernel program with no rules, to measure */
	bool lobby; /* the way in for parties of every transport */
	bool no_gathering; /* of small segments */
	bool no_pipes; /* what splices must copy */
};

struct host {
	pid_t pid; /* 0: not running */
	FILE *in, *out;
	uint16_t port;
	uint16_t lobby_ports[2]; /* plain, TLS */
	bool planes[PLANE_COUNT]; /* as probed */
	char plane_reasons[PLANE_COUNT][PROBE_TEXT_SIZE];
	json_t *tokens; /* issued, not yet used */
	size_t tokens_used;
	uint64_t tokens_until_ns; /* older ones may have expired */
	unsigned tokens_keep_ms;
	char error[160]; /* "" fine */
};

/* Looks for relay_host next to this program. False: host->error says why. */
bool host_start(struct host *host, const struct host_settings *settings);

/* relay_stop() and the end of the process. False: it did not end with status 0. */
bool host_stop(struct host *host);

/* One command, one answer (new reference), or NULL. */
json_t *host_ask(struct host *host, const char *command);

/* A ticket of the host's, fetched `count` at a time. */
bool host_token(struct host *host, size_t count, uint8_t token[32]);

/* What came of connections that were not joined. */
struct host_door {
	uint64_t refused[OUTCOME_COUNT];
	unsigned reading, waiting; /* at the moment: without a token yet; first parties */
};

/* `door` may be NULL. */
bool host_totals(struct host *host, struct relay_totals *totals, struct host_door *door);

/* Fills a report from the host's JSON; ports of the two parties too. */
void host_read_report(const json_t *json, struct pair_report *report, uint16_t ports[2]);

/* CPU time of all its threads, and its resident set. */
uint64_t host_cpu_ns(const struct host *host);
uint64_t host_resident_bytes(const struct host *host);
