// SPDX-License-Identifier: Apache-2.0
#pragma once
/* One-shot calls for the `hyper sd` commands: each runs the event loop until it
 * is answered or the deadline has passed. Calls that could not reach the service
 * directory are tried again with backoff until then, and it says so. */
#include "directory/directory.h"
#include "jsonrpc/client.h"

struct sd_client;

/* `wait_ms` counts from now and is for everything together. 0 or a negative
 * errno, logged. */
int sd_client_create(const struct directory_settings *settings, unsigned wait_ms, struct sd_client **result);
void sd_client_free(struct sd_client *client);

/* The directory once it has been loaded, or NULL after the reason was logged. */
struct directory *sd_client_directory(struct sd_client *client);

/* One call. 0 and a new reference; or, after the reason was logged: -EPROTO an
 * error answer; -EAGAIN nobody answered (with `once`: after a single try, so that
 * the caller can find out what became of the call); -ETIMEDOUT. */
int sd_client_call(struct sd_client *client, const char *method, const json_t *params, bool once, json_t **answer);
