// SPDX-License-Identifier: Apache-2.0
/* The daemon's own broker/ and proxy/endpoint.c, put together as its brokering does
 * it. All functions belong to the main thread. */
#include "doorway.h"

#include "base/instant.h"
#include "broker/broker.h"
#include "proxy/endpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TICKETS_MOST (1u << 20) /* a benchmark leaves many unused until they expire */

struct doorway {
	struct broker *broker;
	struct refusals *refusals;
	struct endpoint *endpoint;
};

int doorway_open(const struct doorway_options *options, struct doorway **result, uint16_t *port)
{
	struct broker_limits limits = {
		.accept_timeout_ms = options->accept_timeout_ms, .ask_timeout_ms = options->accept_timeout_ms,
		.max_tickets = TICKETS_MOST, .max_tickets_per_requester = TICKETS_MOST,
	};
	struct doorway *doorway = calloc(1, sizeof *doorway);

	if (!doorway)
		return -ENOMEM;
	int error = broker_create(&limits, &doorway->broker);
	if (!error)
		error = refusals_create(&doorway->refusals);
	struct endpoint_options endpoint = {
		.relay = options->relay, .broker = doorway->broker, .refusals = doorway->refusals,
		.bind_address = options->both_families ? ":0" : "127.0.0.1:0", .token_timeout_ms = options->token_timeout_ms,
	};
	if (!error)
		error = endpoint_start(&endpoint, &doorway->endpoint);
	if (error) {
		doorway_free(doorway);
		return error;
	}
	*port = (uint16_t)atoi(strrchr(endpoint_address(doorway->endpoint), ':') + 1);
	*result = doorway;
	return 0;
}

int doorway_issue(struct doorway *doorway, uint8_t bytes[32])
{
	const struct ticket_request request = { .requester = "requester", .callee = "callee" };
	struct token token;
	struct token_key key;
	uint64_t id;
	int error = broker_issue(doorway->broker, &request, clock_now_ms(), &token, &key, &id);

	if (!error)
		error = broker_agree(doorway->broker, &key, clock_now_ms());
	if (error)
		return error;
	memcpy(bytes, token.bytes, sizeof token.bytes);
	token_wipe(&token);
	return 0;
}

static void ticket_ended(const struct ticket_ending *ending, void *context)
{
	struct doorway *doorway = context;

	if (ending->party)
		endpoint_release(doorway->endpoint, ending->party, ending->outcome);
}

void doorway_expire(struct doorway *doorway)
{
	broker_expire(doorway->broker, clock_now_ms(), ticket_ended, doorway);
}

void doorway_count_endings(struct doorway *doorway, uint64_t endings[OUTCOME_COUNT])
{
	struct broker_totals totals;

	broker_totals(doorway->broker, &totals);
	for (int outcome = 0; outcome < OUTCOME_COUNT; outcome++) {
		endings[outcome] = refusals_count(doorway->refusals, (enum outcome)outcome);
		/* A first party that was let go is counted as a refusal and as its ticket's end. */
		if (totals.ended[outcome] > endings[outcome])
			endings[outcome] = totals.ended[outcome];
	}
}

void doorway_count_guests(struct doorway *doorway, unsigned *reading, unsigned *waiting)
{
	struct endpoint_totals totals;

	endpoint_totals(doorway->endpoint, &totals);
	*reading = totals.reading;
	*waiting = totals.waiting;
}

void doorway_close(struct doorway *doorway)
{
	endpoint_stop(doorway->endpoint);
}

void doorway_free(struct doorway *doorway)
{
	endpoint_free(doorway->endpoint);
	refusals_free(doorway->refusals);
	broker_free(doorway->broker);
	free(doorway);
}
