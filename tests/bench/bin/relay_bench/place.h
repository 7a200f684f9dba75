// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Where sockets are: the relay and the two ends of a pair may each be in a network
 * namespace of their own. By default all three are where this program is, on 127.0.0.1. */
#include <stdbool.h>
#include <stdint.h>

enum place { PLACE_RELAY, PLACE_FIRST, PLACE_SECOND, PLACE_COUNT };

/* "NAMESPACE,ADDRESS": a name of `ip netns` or a path (empty: the program's own), and the IPv4
 * address that the others use. False: it cannot be opened or read. */
bool place_define(enum place place, const char *text);
bool place_is_loopback(enum place place);
const char *place_address(enum place place);

/* The calling thread, and what it starts, is there now. */
bool place_enter(enum place place);

/* A connected socket with TCP_NODELAY and time limits, from an address of the caller's
 * choice (0: any). -1 with errno. */
int place_dial(enum place from, enum place to, uint16_t port, uint32_t own_address);
/* A listener on a port of the kernel's choice, or -1. */
int place_listen(enum place place, uint16_t *port);
/* Accepts, and prepares the socket as place_dial() does. */
int place_accept(int listener);
