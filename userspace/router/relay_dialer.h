// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Dialling a peer that only a proxy can reach (protocol page 7.2, 7.3, side A):
 * `requestConnection` at the proxy operator through the own router, then a
 * connection to an endpoint that it names: its TLS endpoint, or the plain one with
 * the token in one write. */
#include "router/relay_tls.h"
#include "router/router.h"

#include <stdint.h>

#define RELAY_TOKEN_SIZE 32

struct relay_dial;

/* A connected non-blocking socket that the callee then owns (the peer's TLS
 * follows), or a negative errno and a reason in the protocol's words. Called
 * exactly once, from the loop, never from inside relay_dial_start. */
typedef void (*relay_dial_done)(int fd_or_error, const char *reason, void *context);

/* `timeout_ms` counts for everything together. `dialling` must outlive it. 0 or -ENOMEM. */
int relay_dial_start(struct router *router, const struct relay_dialling *dialling, const char *proxy, const char *to,
		     unsigned timeout_ms, relay_dial_done done, void *context, struct relay_dial **result);
/* `done` is not called any more. */
void relay_dial_cancel(struct relay_dial *dial);

/* Writes the token with one write; -EPIPE if the socket did not take it whole. */
int relay_token_write(int fd, const uint8_t token[RELAY_TOKEN_SIZE]);
