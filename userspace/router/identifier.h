// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Answers "who may this certificate speak for?" from the directory (protocol
 * page 6.4, grpc/identity.h). */
#include "directory/directory.h"
#include "grpc/identity.h"

/* The directory must outlive every question. */
struct identifier identifier_for_directory(struct directory *directory);

/* Does the directory, as it is in memory now, still list the certificate for the
 * name? And for any of the names? Costs a look-up while the entry has not changed. */
bool identifier_confirms(const struct directory *directory, const struct peer_identities *identities,
			 const struct peer_identity *identity);
bool identifier_confirms_any(const struct directory *directory, const struct peer_identities *identities);
