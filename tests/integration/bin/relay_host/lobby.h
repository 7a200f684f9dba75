// SPDX-License-Identifier: Apache-2.0
#pragma once
/* A second way in, for parties of every transport, without tickets: two parties that
 * name the same 32 bytes are joined. On the plain port a party sends the name and then
 * its stream. On the TLS port it sends one letter and the name inside TLS, gets the
 * letter back, and goes on as it says:
 *
 *   H  handed off: close_notify both ways, then bare TCP
 *   K  TLS stays on, with its keys for the kernel
 *   U  TLS stays on in userspace
 */
#include "relay/relay.h"

#include <stdint.h>

struct lobby;

/* Ports of loopback. 0 or a negative errno. */
int lobby_open(struct relay *relay, struct lobby **result, uint16_t *plain_port, uint16_t *tls_port);
/* Parties that wait for their partner. */
unsigned lobby_count_waiting(struct lobby *lobby);
/* No more parties; waits for those that are just being let in. */
void lobby_close(struct lobby *lobby);
