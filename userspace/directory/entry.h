// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Directory entries as JSON (protocol page 3.2): integration of records,
 * look-ups in an entry, permission check (5.4). Pure functions on jansson
 * values. */
#include <jansson.h>
#include <stdbool.h>

/* Adds one signed record to `entries` (object: name -> entry). Entries are
 * replaced by changed copies, never changed in place. 0 or -ENOMEM. */
int entries_integrate(json_t *entries, json_t *signed_record);

/* Settings of the first channel of that type, NULL if there is no such channel;
 * JSON null if it has none. Borrowed. */
json_t *entry_channel(const json_t *entry, const char *type);
bool entry_has_group(const json_t *entry, const char *group);

/* Is that fingerprint listed with key usage "encryption"? (protocol page 6.4) */
bool entry_lists_fingerprint(const json_t *entry, const char *fingerprint);

/* May `caller` call `method` of `callee`? */
bool entry_permits(const json_t *caller, const json_t *callee, const char *method);

/* Directory settings of a grpc_server channel. */
struct grpc_server_entry {
	const char *address; /* borrowed from the entry */
	const char *proxy;   /* "" if none */
	bool internal;
};
/* 0; -ENOENT: no such channel; -EINVAL: its settings are not valid. */
int entry_grpc_server(const json_t *entry, struct grpc_server_entry *result);
