// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The internal endpoint (protocol page 7.5): parties connect, show 32 raw token
 * bytes and are joined. It listens on every relay worker; the broker decides
 * who belongs together, the relay moves the bytes. Next to it, if the settings
 * want it, the TLS endpoint (docs/relay-tls.md), whose parties are identified;
 * either kind can be matched with the other. */
#include "base/outcome.h"
#include "base/rate_limit.h"
#include "broker/broker.h"
#include "proxy/refusals.h"
#include "relay/relay.h"

#include <openssl/ssl.h>

struct endpoint;
struct operators;

struct endpoint_options {
	struct relay *relay;
	struct broker *broker;
	struct refusals *refusals;
	struct rate_limiter *limiter; /* NULL: none */
	const char *bind_address; /* of the plain endpoint */
	unsigned token_timeout_ms; /* from accepting to the last token byte; for handshake and hello; for a look-up; for
				    * the hand-off */
	const char *tls_bind_address; /* NULL: no TLS endpoint */
	SSL_CTX *tls;                 /* of a server that wants a certificate, prepared by relay_tls_context_prepare() */
	struct operators *operators;
};

/* Binds and starts to accept. The objects of the options must outlive it.
 * Returns 0 or a negative errno, logged. */
int endpoint_start(const struct endpoint_options *options, struct endpoint **result);

/* The bound address as text; the port is a real one even for ":0". */
const char *endpoint_address(const struct endpoint *endpoint);

const char *endpoint_tls_address(const struct endpoint *endpoint); /* "" if there is none */

/* Lets a waiting party go whose ticket ended (`ending.party` of the broker).
 * From any thread. */
void endpoint_release(struct endpoint *endpoint, void *party, enum outcome outcome);

struct endpoint_totals {
	uint64_t accepted, tls_accepted;
	unsigned reading;  /* connections that have not shown a token yet, or are not identified yet */
	unsigned waiting;  /* first parties */
	unsigned settling; /* matched, not joined yet */
};
void endpoint_totals(const struct endpoint *endpoint, struct endpoint_totals *totals);

/* Closes the listeners, then every connection that is not joined yet. Blocks
 * until the workers have done so; joined pairs go on. No endpoint_release() may
 * begin afterwards. */
void endpoint_stop(struct endpoint *endpoint);
void endpoint_free(struct endpoint *endpoint); /* stopped before */
