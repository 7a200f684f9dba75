// SPDX-License-Identifier: Apache-2.0
#pragma once
/* google.protobuf.Struct as jansson values (protocol page 6.1). Pure functions. */
#include "google/protobuf/struct.pb-c.h"
#include "grpc/arena.h"

#include <jansson.h>

/* Builds a Struct for packing in `arena`; texts point into `object`, which must
 * outlive it. Integers become doubles. 0, -ENOMEM, -EILSEQ (a text with a NUL
 * byte) or -EMSGSIZE (deeper than WIRE_DEPTH_MAX). `*size_bound` grows by what
 * the fields take on the wire at most, so that packing needs no measuring pass. */
int struct_from_json(struct arena *arena, const json_t *object, Google__Protobuf__Struct **result, size_t *size_bound);

/* A new reference; every number is a real. The message must have passed
 * wire_is_sound(). 0, -ENOMEM, or -EBADMSG (NaN or infinity, a value without a kind). */
int struct_to_json(const Google__Protobuf__Struct *message, json_t **result);
