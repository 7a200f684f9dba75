// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The directory of an sd, asked over JSON-RPC (protocol page 3.8). Belongs to the
 * thread of the event loop.
 *
 * Until the first update has succeeded it is tried for as long as it takes; a
 * connection that fails or is closed without a byte (rate limits) is tried again
 * with backoff. Questions meanwhile wait a few seconds for it, then fail. While
 * somebody asks now and then, the copy is refreshed in the background. */
#include "directory/directory.h"
#include "directory/replica.h"

struct api_directory;

int api_directory_create(struct event_base *base, const struct directory_settings *settings,
			 struct api_directory **result);
void api_directory_free(struct api_directory *directory);

/* As directory_refresh(), directory_await() and directory_watch(). */
void api_directory_refresh(struct api_directory *directory, directory_ready ready, void *context);
void api_directory_await(struct api_directory *directory, directory_ready ready, void *context);
void api_directory_watch(struct api_directory *directory, directory_loaded loaded, void *context);

const struct replica *api_directory_replica(const struct api_directory *directory);
