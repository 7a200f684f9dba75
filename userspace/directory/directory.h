// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The service directory as a program sees it (protocol page 2.4, 3.2, 3.8):
 * `json` files, or the `api` of an sd with verified records kept in memory.
 *
 * First ask for freshness, then read synchronously. Entries are JSON objects of
 * protocol page 3.2, shared and never changed; an entry stays valid for as long
 * as the reader holds a reference. */
#include "settings/settings.h"

#include <event2/event.h>
#include <jansson.h>

struct directory;

/* Starts the first update in the background. 0 or a negative errno, logged. */
int directory_create(struct event_base *base, const struct directory_settings *settings, struct directory **result);
void directory_free(struct directory *directory);

/* Loads what the settings name without asking anybody. False after the reason was logged. */
bool directory_check(const struct directory_settings *settings);

/* Calls `ready` once: at once (from inside) when memory is fresh enough, else
 * after the update that the age of the data asks for (3.8). `failure` NULL:
 * fine; otherwise why the directory cannot be asked (that fails the query). */
typedef void (*directory_ready)(const char *failure, void *context);
void directory_refresh(struct directory *directory, directory_ready ready, void *context);

/* Calls `ready` once when the first update has succeeded (at once if it has), or
 * with a failure that waiting does not cure (records that are refused, an error
 * answer). While the directory cannot be reached it waits, for as long as it takes:
 * for commands with a deadline of their own, and for daemons at their start. */
void directory_await(struct directory *directory, directory_ready ready, void *context);

/* Calls `loaded` from then on after every successful update or reading of files, before
 * those who wait for it: entries may have changed. One at a time; NULL ends it. */
typedef void (*directory_loaded)(void *context);
void directory_watch(struct directory *directory, directory_loaded loaded, void *context);

/* Borrowed; NULL: no such entry. */
json_t *directory_entry(const struct directory *directory, const char *name);

/* New list of entries (shared elements): each filter may be NULL. */
json_t *directory_query(const struct directory *directory, const char *operator_name, const char *group,
			const json_t *channels);

/* For the record commands: verified records in order (borrowed list of signed
 * records), only of an `api` directory. */
const json_t *directory_records(const struct directory *directory);
