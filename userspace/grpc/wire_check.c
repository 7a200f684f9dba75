// SPDX-License-Identifier: Apache-2.0
/* Walks the wire form of a protobuf message along the descriptors that protoc-c
 * generated, without allocating. Pure functions; recursion is bounded by
 * WIRE_DEPTH_MAX containers of three messages each (Struct, entry, Value). */
#include "grpc/wire_check.h"

#include "google/protobuf/struct.pb-c.h"

#include <string.h>

bool utf8_is_valid(const uint8_t *text, size_t size)
{
	const uint8_t *end = text + size;

	while (text < end) {
		/* Texts are mostly ASCII: eight bytes at a time while none has the high bit or is NUL. */
		while (end - text >= 8) {
			uint64_t word;

			memcpy(&word, text, sizeof(word));
			if ((word | (word - 0x0101010101010101u)) & 0x8080808080808080u)
				break;
			text += 8;
		}
		if (text == end)
			break;

		uint8_t lead = *text++;
		unsigned more;
		uint8_t low = 0x80, high = 0xbf; /* bounds of the second byte */

		if (lead < 0x80) {
			if (!lead)
				return false;
			continue;
		}
		if (lead >= 0xc2 && lead <= 0xdf) {
			more = 1;
		} else if (lead >= 0xe0 && lead <= 0xef) {
			more = 2;
			if (lead == 0xe0)
				low = 0xa0; /* overlong */
			else if (lead == 0xed)
				high = 0x9f; /* surrogates */
		} else if (lead >= 0xf0 && lead <= 0xf4) {
			more = 3;
			if (lead == 0xf0)
				low = 0x90;
			else if (lead == 0xf4)
				high = 0x8f; /* above U+10FFFF */
		} else {
			return false;
		}
		if ((size_t)(end - text) < more || text[0] < low || text[0] > high)
			return false;
		for (unsigned i = 1; i < more; i++)
			if ((text[i] & 0xc0) != 0x80)
				return false;
		text += more;
	}
	return true;
}

struct walk {
	unsigned depth;
	unsigned fields;
};

static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
	uint64_t result = 0;

	for (unsigned shift = 0; shift < 70; shift += 7) {
		if (*at == end)
			return false;
		uint8_t byte = *(*at)++;

		result |= (uint64_t)(byte & 0x7f) << (shift < 64 ? shift : 63);
		if (!(byte & 0x80)) {
			*value = result;
			return true;
		}
	}
	return false;
}

static bool is_container(const ProtobufCMessageDescriptor *descriptor)
{
	return descriptor == &google__protobuf__struct__descriptor ||
	       descriptor == &google__protobuf__list_value__descriptor;
}

static bool message_is_sound(struct walk *walk, const ProtobufCMessageDescriptor *descriptor, const uint8_t *at,
			     const uint8_t *end)
{
	uint32_t seen = 0; /* singular messages by field number, all oneofs as bit 0 */

	while (at < end) {
		uint64_t key, length;

		if (++walk->fields > WIRE_FIELDS_MAX || !read_varint(&at, end, &key) || key > UINT32_MAX || !(key >> 3))
			return false;

		const ProtobufCFieldDescriptor *field =
			protobuf_c_message_descriptor_get_field(descriptor, (unsigned)(key >> 3));

		if (field && field->label != PROTOBUF_C_LABEL_REPEATED &&
		    (field->type == PROTOBUF_C_TYPE_MESSAGE || (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))) {
			uint32_t bit = 1u << (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF ? 0 : field->id & 31);

			if (seen & bit)
				return false;
			seen |= bit;
		}
		switch (key & 7) {
		case PROTOBUF_C_WIRE_TYPE_VARINT:
			if (!read_varint(&at, end, &length))
				return false;
			continue;
		case PROTOBUF_C_WIRE_TYPE_64BIT:
			if (end - at < 8)
				return false;
			at += 8;
			continue;
		case PROTOBUF_C_WIRE_TYPE_32BIT:
			if (end - at < 4)
				return false;
			at += 4;
			continue;
		case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
			break;
		default:
			return false;
		}
		if (!read_varint(&at, end, &length) || length > (uint64_t)(end - at))
			return false;
		if (field && field->type == PROTOBUF_C_TYPE_STRING && !utf8_is_valid(at, length))
			return false;
		if (field && field->type == PROTOBUF_C_TYPE_MESSAGE) {
			bool deeper = is_container(field->descriptor);

			if (deeper && ++walk->depth > WIRE_DEPTH_MAX)
				return false;
			if (!message_is_sound(walk, field->descriptor, at, at + length))
				return false;
			if (deeper)
				walk->depth--;
		}
		at += length;
	}
	return true;
}

bool wire_measure(const ProtobufCMessageDescriptor *descriptor, const uint8_t *message, size_t size, unsigned *fields)
{
	struct walk walk = { 0, 0 };
	bool is_sound = message_is_sound(&walk, descriptor, message, message + size);

	*fields = walk.fields;
	return is_sound;
}

bool wire_is_sound(const ProtobufCMessageDescriptor *descriptor, const uint8_t *message, size_t size)
{
	unsigned fields;

	return wire_measure(descriptor, message, size, &fields);
}
