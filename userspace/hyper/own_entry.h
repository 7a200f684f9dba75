// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Does the service directory list the certificates that an operator shows to its
 * peers? If it does not, they refuse every connection, and only their logs say so. */
#include "settings/settings.h"

#include <jansson.h>

struct own_entry;

/* Reads the certificates of the gRPC channels. 0, -ENOMEM, or -EINVAL after the file
 * was logged. Keeps the settings' name, which must live longer. */
int own_entry_create(const struct hyper_settings *settings, struct own_entry **result);
void own_entry_free(struct own_entry *own); /* NULL is fine */

/* Looks at what the directory has now (`entry` NULL: nothing). Warns of a certificate
 * that it does not list, and says when it lists it: once each time that changes.
 * No entry at all is nothing to say before the first one was seen. */
void own_entry_look(struct own_entry *own, const json_t *entry);
