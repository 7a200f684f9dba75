// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Methods that every operator's router answers itself (protocol page 5.5):
 * `_ping`, `_directory`, `_connectionRequest`. */
#include "router/router.h"

/* `failure` NULL: `response` (borrowed) is the answer. Otherwise the text that
 * stands behind "error handling internal request: ". Called exactly once. */
typedef void (*internal_done)(const char *failure, const struct hyper_response *response, void *context);

/* Handles `method` if it is an internal one; `done` may be called from inside.
 * False: it is none, `done` is not called. `own_entry` and `params` (NULL: none)
 * are borrowed for the time of the call; what the answer needs is referenced. */
bool internal_handle(struct router *router, const char *method, json_t *own_entry, json_t *params,
		     internal_done done, void *context);

/* Reads the params of `_connectionRequest`. 0, or -EINVAL and what is wrong
 * (static text). The texts are borrowed from `params`. Pure. */
int connection_request_parse(const json_t *params, struct connection_request *request, const char **detail);
