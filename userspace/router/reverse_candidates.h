// SPDX-License-Identifier: Apache-2.0
#pragma once
/* To which operators a reverse stream is kept open (protocol page 6.8). Pure. */
#include <jansson.h>

/* From the own entry and a list of all entries: a new list of those entries
 * (shared) that may call us, cannot dial us themselves, and can be dialled
 * directly. An entry that is malformed skips only itself; a malformed own
 * grpc_server channel gives an empty list. NULL without memory. */
json_t *reverse_candidates(const json_t *own_entry, const json_t *entries);
