// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Who the peer of a gRPC connection is: the directory names that its leaf
 * certificate may speak for (protocol page 6.4). Looked up by the owner of the
 * directory, through this interface, so that grpc/ needs no directory. */
#include "tls/identity.h"

#include <jansson.h>

struct peer_identity {
	char *name;
	json_t *entry; /* directory entry */
};

struct peer_identities {
	struct peer_identity *items;
	size_t count;
	char fingerprint[FINGERPRINT_TEXT_SIZE]; /* of the certificate; for the identifier's owner */
};

void peer_identities_clear(struct peer_identities *identities);

/* First with that name; an empty or NULL name selects the first. NULL: none. */
const struct peer_identity *peer_identities_find(const struct peer_identities *identities, const char *name);

/* Exactly one call per question, possibly before `identify` returns. With
 * `failure` NULL the receiver owns what `identities` holds (at least one). */
typedef void (*identified)(struct peer_identities *identities, const char *failure, void *context);

/* `certificate` stays valid until the answer. The connection may die meanwhile;
 * the answer is to be given all the same. */
struct identifier {
	void (*identify)(void *owner, const struct certificate_identity *certificate, identified done, void *context);
	void *owner;
};
