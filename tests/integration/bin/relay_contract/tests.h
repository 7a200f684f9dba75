// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Sizes that several tests share, and tests that run again under faults. */
#include "contract.h"

#define TEST_BUFFER (64u << 10)   /* SO_SNDBUF and SO_RCVBUF of the test's sockets, where they matter */
#define PAIR_MEMORY (32ull << 20) /* the relay's default for a pair */
#define MEMORY_SLACK (16 * MB)

void bursts_run(struct test *test, struct host_settings *settings);
/* Waits until the writers of stream 0 have come to a stop, but those of the first `skip` pairs. */
bool stopped_wait_quiet(struct test *test, size_t skip, unsigned deadline_ms);

/* Waits until this many first parties wait at the host's endpoint. */
bool tokens_wait_waiting(struct test *test, unsigned waiting);
