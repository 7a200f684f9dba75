// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What protobuf-c does not check before it unpacks a message from a stranger. */
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_DEPTH_MAX 64           /* containers (Struct, ListValue) in each other */
#define WIRE_FIELDS_MAX (1u << 17)  /* per message, nested ones included */

/* UTF-8 of RFC 3629 without NUL bytes. */
bool utf8_is_valid(const uint8_t *text, size_t size);

/* True when `message` may be given to protobuf_c_message_unpack(): well formed,
 * texts are UTF-8 without NUL (protobuf-c would cut them), not nested deeper
 * than WIRE_DEPTH_MAX (its recursion is unlimited), no singular message and no
 * oneof given twice (it merges them in quadratic time), and no more than
 * WIRE_FIELDS_MAX fields (each costs far more memory than wire bytes). */
bool wire_is_sound(const ProtobufCMessageDescriptor *descriptor, const uint8_t *message, size_t size);
/* The same; `fields` gets their number. */
bool wire_measure(const ProtobufCMessageDescriptor *descriptor, const uint8_t *message, size_t size, unsigned *fields);
