// SPDX-License-Identifier: Apache-2.0
/* Requests and responses between their C form and the protobuf bytes behind a
 * gRPC frame header. protobuf-c packs and unpacks; what it leaves unchecked is
 * checked by wire_check.c before. No I/O, no globals; any thread. */
#include "grpc/message.h"

#include "grpc/struct_json.h"
#include "grpc/wire_check.h"
#include "hyper.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void hyper_request_clear(struct hyper_request *request)
{
	free(request->method);
	free(request->id);
	free(request->client_name);
	json_decref(request->params);
	*request = (struct hyper_request){ 0 };
}

void hyper_response_clear(struct hyper_response *response)
{
	free(response->id);
	json_decref(response->result);
	free(response->message);
	json_decref(response->data);
	*response = (struct hyper_response){ 0 };
}

static bool copy_text(const char *from, char **to)
{
	*to = from ? strdup(from) : NULL;
	return *to || !from;
}

int hyper_request_copy(const struct hyper_request *from, struct hyper_request *to)
{
	*to = (struct hyper_request){ .params = json_incref(from->params) };
	if (copy_text(from->method, &to->method) && copy_text(from->id, &to->id) &&
	    copy_text(from->client_name, &to->client_name))
		return 0;
	hyper_request_clear(to);
	return -ENOMEM;
}

int hyper_response_copy(const struct hyper_response *from, struct hyper_response *to)
{
	*to = (struct hyper_response){
		.result = json_incref(from->result),
		.has_error = from->has_error,
		.code = from->code,
		.data = json_incref(from->data),
	};
	if (copy_text(from->id, &to->id) && copy_text(from->message, &to->message))
		return 0;
	hyper_response_clear(to);
	return -ENOMEM;
}

/* A tag of one byte, and a length or the longest varint. */
#define FIELD_OVERHEAD 11
/* Bytes that a field takes in memory as a JSON value, at most. */
#define FIELD_WEIGHT 160
/* Unused memory behind a frame that is worth giving back. */
#define SLACK_MAX 4096

/* Both add what the field takes on the wire. */
static int set_text(const char *text, char **field, struct wire_need *need)
{
	size_t length = text ? strlen(text) : 0;

	need->bytes += FIELD_OVERHEAD + length;
	need->fields += length > 0;
	if (!text)
		return 0;
	*field = (char *)text;
	return utf8_is_valid((const uint8_t *)text, length) ? 0 : -EILSEQ;
}

static int set_struct(struct arena *arena, const json_t *object, Google__Protobuf__Struct **field,
		      struct wire_need *need)
{
	if (!json_is_object(object))
		return 0;
	need->bytes += FIELD_OVERHEAD;
	need->fields++;
	return struct_from_json(arena, object, field, need);
}

static int pack_frame(const ProtobufCMessage *message, const struct wire_need *need, uint8_t **frame, size_t *size)
{
	uint8_t *bytes, *shrunk;

	if (need->fields > WIRE_FIELDS_MAX)
		return -E2BIG;
	bytes = malloc(GRPC_FRAME_HEADER_SIZE + need->bytes);
	if (!bytes)
		return -ENOMEM;
	size_t length = protobuf_c_message_pack(message, bytes + GRPC_FRAME_HEADER_SIZE);

	if (length > GRPC_MESSAGE_MAX) {
		free(bytes);
		return -EMSGSIZE;
	}
	bytes[0] = 0;
	bytes[1] = (uint8_t)(length >> 24);
	bytes[2] = (uint8_t)(length >> 16);
	bytes[3] = (uint8_t)(length >> 8);
	bytes[4] = (uint8_t)length;
	*size = GRPC_FRAME_HEADER_SIZE + length;
	if (need->bytes - length > SLACK_MAX && (shrunk = realloc(bytes, *size)))
		bytes = shrunk;
	*frame = bytes;
	return 0;
}

int grpc_request_frame(const struct hyper_request *request, uint8_t **frame, size_t *size)
{
	Request message = REQUEST__INIT;
	struct arena arena;
	struct wire_need need = { 0 };
	int error;

	arena_init(&arena);
	error = set_text(request->method, &message.method, &need);
	if (!error)
		error = set_text(request->id, &message.id, &need);
	if (!error)
		error = set_text(request->client_name, &message.clientname, &need);
	if (!error)
		error = set_struct(&arena, request->params, &message.params, &need);
	if (!error)
		error = pack_frame(&message.base, &need, frame, size);
	arena_release(&arena);
	return error;
}

int grpc_response_frame(const struct hyper_response *response, uint8_t **frame, size_t *size)
{
	Response message = RESPONSE__INIT;
	Error failure = ERROR__INIT;
	struct arena arena;
	struct wire_need need = { 0 };
	int error;

	arena_init(&arena);
	error = set_text(response->id, &message.id, &need);
	if (!error)
		error = set_struct(&arena, response->result, &message.result, &need);
	if (response->has_error) {
		message.error = &failure;
		failure.code = response->code;
		need.bytes += 2 * FIELD_OVERHEAD; /* the message itself, and the code */
		need.fields += 1 + (failure.code != 0);
		if (!error)
			error = set_text(response->message, &failure.message, &need);
		if (!error)
			error = set_struct(&arena, response->data, &failure.data, &need);
	}
	if (!error)
		error = pack_frame(&message.base, &need, frame, size);
	arena_release(&arena);
	return error;
}

#define FIELDS_ARE " (two for each value of a list, four for each member of a map)"
_Static_assert(WIRE_DEPTH_MAX == 64 && WIRE_FIELDS_MAX == 131072, "the sentences say other limits");

const char *grpc_frame_failure(int error)
{
	switch (error) {
	case -EILSEQ:
		return "grpc: error while marshaling: string field contains invalid UTF-8";
	case -EMSGSIZE:
		return "trying to send message larger than max";
	case -E2BIG:
		return "trying to send message with more than 131072 fields" FIELDS_ARE;
	case -ELOOP:
		return "trying to send message nested deeper than 64 levels";
	default:
		return strerror(-error);
	}
}

const char *grpc_decode_failure(int error)
{
	switch (error) {
	case -E2BIG:
		return "grpc: received message with more than 131072 fields" FIELDS_ARE;
	case -EBADMSG:
		return "grpc: received message that cannot be decoded";
	default:
		return strerror(-error);
	}
}

/* In the arena; 0 or a negative errno. */
static int unpack(struct arena *arena, const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t size,
		  ProtobufCMessage **message, unsigned *fields)
{
	ProtobufCAllocator allocator = arena_allocator(arena);

	if (size > GRPC_MESSAGE_MAX)
		return -EBADMSG;
	if (!wire_measure(descriptor, bytes, size, fields))
		return *fields > WIRE_FIELDS_MAX ? -E2BIG : -EBADMSG;
	*message = protobuf_c_message_unpack(descriptor, &allocator, size, bytes);
	return *message ? 0 : -EBADMSG;
}

int grpc_request_decode(const uint8_t *bytes, size_t size, struct hyper_request *request)
{
	size_t weight_bytes;

	return grpc_request_decode_weighed(bytes, size, request, &weight_bytes);
}

int grpc_request_decode_weighed(const uint8_t *bytes, size_t size, struct hyper_request *request, size_t *weight_bytes)
{
	ProtobufCMessage *base;
	struct arena arena;
	unsigned fields = 0;
	int error;

	*request = (struct hyper_request){ 0 };
	arena_init(&arena);
	error = unpack(&arena, &request__descriptor, bytes, size, &base, &fields);
	*weight_bytes = size + (size_t)fields * FIELD_WEIGHT;
	if (!error) {
		const Request *message = (const Request *)base;

		if (message->params) {
			error = struct_to_json(message->params, &request->params);
		} else {
			request->params = json_object();
			error = request->params ? 0 : -ENOMEM;
		}
		if (!error && !(copy_text(message->method, &request->method) && copy_text(message->id, &request->id) &&
				copy_text(message->clientname, &request->client_name)))
			error = -ENOMEM;
	}
	arena_release(&arena);
	if (error)
		hyper_request_clear(request);
	return error;
}

int grpc_response_decode(const uint8_t *bytes, size_t size, struct hyper_response *response)
{
	ProtobufCMessage *base;
	struct arena arena;
	unsigned fields;
	int error;

	*response = (struct hyper_response){ 0 };
	arena_init(&arena);
	error = unpack(&arena, &response__descriptor, bytes, size, &base, &fields);
	if (!error) {
		const Response *message = (const Response *)base;

		if (message->result)
			error = struct_to_json(message->result, &response->result);
		if (!error && message->error) {
			response->has_error = true;
			response->code = message->error->code;
			if (!copy_text(message->error->message, &response->message))
				error = -ENOMEM;
			if (!error && message->error->data)
				error = struct_to_json(message->error->data, &response->data);
		}
		if (!error && !copy_text(message->id, &response->id))
			error = -ENOMEM;
	}
	arena_release(&arena);
	if (error)
		hyper_response_clear(response);
	return error;
}
