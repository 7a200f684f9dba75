// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The last seconds of a TLS connection that is over for its owner: what is
 * still to be said, close_notify, FIN, and then waiting for the peer's end. */
#include <event2/event.h>
#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>

/* Takes `fd`, `ssl` and `out` (malloc'd or NULL; its bytes from `start` to `end`
 * are written first) over and sees them off; both are gone in a few seconds. */
void linger_start(struct event_base *base, int fd, SSL *ssl, uint8_t *out, size_t start, size_t end);
/* How many there are on this loop. */
size_t linger_count(const struct event_base *base);
/* Closes all of this loop at once: for the time before it is freed. */
void linger_end_all(const struct event_base *base);
