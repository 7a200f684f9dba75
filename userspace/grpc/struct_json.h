// SPDX-License-Identifier: Apache-2.0
#pragma once
/* google.protobuf.Struct as jansson values (protocol page 6.1). Pure functions. */
#include "google/protobuf/struct.pb-c.h"
#include "grpc/arena.h"

#include <jansson.h>

/* What is to be packed takes on the wire: bytes at most, and fields, nested ones included. */
struct wire_need {
	size_t bytes, fields;
};

/* Builds a Struct for packing in `arena`; texts point into `object`, which must
 * outlive it. Integers become doubles. 0, -ENOMEM, -EILSEQ (a text with a NUL
 * byte) or -ELOOP (deeper than WIRE_DEPTH_MAX). `*need` grows by what
 * the Struct takes, so that packing needs no measuring pass. */
int struct_from_json(struct arena *arena, const json_t *object, Google__Protobuf__Struct **result,
		     struct wire_need *need);

/* A new reference; every number is a real. The message must have passed
 * wire_is_sound(). 0, -ENOMEM, or -EBADMSG (NaN or infinity, a value without a kind). */
int struct_to_json(const Google__Protobuf__Struct *message, json_t **result);
