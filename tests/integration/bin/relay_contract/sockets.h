// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Memory, in bytes, of the receive and send queues of all established IPv4 connections whose own
 * port is `port`; 0 too where the kernel does not tell. */
uint64_t sockets_memory(uint16_t port);
