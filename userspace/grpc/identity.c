// SPDX-License-Identifier: Apache-2.0
/* Lists of the names that a peer may speak for. No I/O. */
#include "grpc/identity.h"

#include <stdlib.h>
#include <string.h>

void peer_identities_clear(struct peer_identities *identities)
{
	for (size_t i = 0; i < identities->count; i++) {
		free(identities->items[i].name);
		json_decref(identities->items[i].entry);
	}
	free(identities->items);
	*identities = (struct peer_identities){ 0 };
}

const struct peer_identity *peer_identities_find(const struct peer_identities *identities, const char *name)
{
	if (!name || !*name)
		return identities->count ? &identities->items[0] : NULL;
	for (size_t i = 0; i < identities->count; i++)
		if (!strcmp(identities->items[i].name, name))
			return &identities->items[i];
	return NULL;
}
