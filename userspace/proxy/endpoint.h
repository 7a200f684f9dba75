// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The internal endpoint (protocol page 7.5): parties connect, show 32 raw token
 * bytes and are joined. It listens on every relay worker; the broker decides
 * who belongs together, the relay moves the bytes. */
#include "base/outcome.h"
#include "base/rate_limit.h"
#include "broker/broker.h"
#include "proxy/refusals.h"
#include "relay/relay.h"

struct endpoint;

struct endpoint_options {
	struct relay *relay;
	struct broker *broker;
	struct refusals *refusals;
	struct rate_limiter *limiter; /* NULL: none */
	const char *bind_address;
	unsigned token_timeout_ms; /* from accepting to the last token byte */
};

/* Binds and starts to accept. The objects of the options must outlive it.
 * Returns 0 or a negative errno, logged. */
int endpoint_start(const struct endpoint_options *options, struct endpoint **result);

/* The bound address as text; the port is a real one even for ":0". */
const char *endpoint_address(const struct endpoint *endpoint);

/* Lets a waiting party go whose ticket ended (`ending.party` of the broker).
 * From any thread. */
void endpoint_release(struct endpoint *endpoint, void *party, enum outcome outcome);

struct endpoint_totals {
	uint64_t accepted;
	unsigned reading; /* connections that have not shown a token yet */
	unsigned waiting; /* first parties */
};
void endpoint_totals(const struct endpoint *endpoint, struct endpoint_totals *totals);

/* Closes the listeners, then every connection that is not joined yet. Blocks
 * until the workers have done so; joined pairs go on. No endpoint_release() may
 * begin afterwards. */
void endpoint_stop(struct endpoint *endpoint);
void endpoint_free(struct endpoint *endpoint); /* stopped before */
