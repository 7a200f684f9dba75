// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Whom a connection counts for: its IPv4 address, or the /64 network of its IPv6
 * address, because whoever has one of these has as many addresses as they like. An
 * IPv4-mapped address counts as IPv4. */
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct source {
	uint8_t bytes[16];
};

/* False, and all zero, for peers without an IP address. */
bool source_of(const struct sockaddr *peer, struct source *source);

bool source_is_loopback(const struct sockaddr *peer); /* 127.0.0.0/8 and ::1 */

bool source_equals(const struct source *one, const struct source *other);
/* For tables; `seed` keeps addresses that are chosen to collide from doing so. */
uint64_t source_hash(const struct source *source, uint64_t seed);
