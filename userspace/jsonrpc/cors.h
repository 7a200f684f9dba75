// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Cross-origin rules of a JSON-RPC server (protocol page 4.3). */
#include "http/server.h"
#include "settings/settings.h"

struct cors;

/* Returns 0, -EINVAL after the bad expression was logged, or -ENOMEM. */
int cors_create(const struct cors_settings *settings, struct cors **result);
void cors_free(struct cors *cors);

/* Adds the headers of an allowed origin. Returns whether it was one. */
bool cors_apply(const struct cors *cors, struct http_request *request);
