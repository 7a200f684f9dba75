// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Answers "who may this certificate speak for?" from the directory (protocol
 * page 6.4, grpc/identity.h). */
#include "directory/directory.h"
#include "grpc/identity.h"

/* The directory must outlive every question. */
struct identifier identifier_for_directory(struct directory *directory);
