// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdint.h>

struct sockets_memory {
	uint64_t received, to_send; /* bytes, as the kernel counts */
};

/* Of the queues of all established IPv4 connections whose own port is `port`; 0 too where the kernel does not tell. */
struct sockets_memory sockets_memory(uint16_t port);
