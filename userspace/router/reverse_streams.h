// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Keeps a reverse stream open to every operator that may call us and cannot
 * dial us (protocol page 6.7 client side, 6.8), and answers what comes over
 * them. */
#include "router/peer_pool.h"

struct reverse_streams;

int reverse_streams_create(struct router *router, struct peer_pool *pool, struct reverse_streams **result);
/* The first pass, and from then on by timers. */
void reverse_streams_start(struct reverse_streams *streams);
/* Closes all of them; call it before the pool is cancelled. */
void reverse_streams_stop(struct reverse_streams *streams);
/* Memory is kept until the directory has answered what it was asked. */
void reverse_streams_free(struct reverse_streams *streams);
