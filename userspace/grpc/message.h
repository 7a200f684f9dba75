// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Messages between operators (protocol page 5.2, 6.1), their protobuf form,
 * gRPC frames, and google.protobuf.Struct as JSON. Pure functions. */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hyper_request {
	char *method;
	char *id; /* "operator.method(id)" */
	char *client_name;
	json_t *params; /* object, or NULL: no params */
};

struct hyper_response {
	char *id;
	json_t *result; /* object, or NULL: no result */
	bool has_error;
	int32_t code;
	char *message;
	json_t *data; /* object, or NULL */
};

void hyper_request_clear(struct hyper_request *request);
void hyper_response_clear(struct hyper_response *response);
/* Deep for texts, by reference for JSON. 0 or -ENOMEM. */
int hyper_request_copy(const struct hyper_request *from, struct hyper_request *to);
int hyper_response_copy(const struct hyper_response *from, struct hyper_response *to);

#define GRPC_FRAME_HEADER_SIZE 5
#define GRPC_MESSAGE_MAX (4u << 20)

/* One whole frame (flag 0, big-endian length, message), malloc'd.
 * 0, -ENOMEM, -EILSEQ (text that is not UTF-8), -ELOOP (nested
 * deeper than WIRE_DEPTH_MAX), -E2BIG (more than WIRE_FIELDS_MAX fields) or -EMSGSIZE. */
int grpc_request_frame(const struct hyper_request *request, uint8_t **frame, size_t *size);
int grpc_response_frame(const struct hyper_response *response, uint8_t **frame, size_t *size);
/* A sentence about a negative errno of these, or of sending the frame. */
const char *grpc_frame_failure(int error);

/* The message behind a frame header. A missing Struct of `params` decodes as an
 * empty object; a missing result stays NULL. 0, -EBADMSG, -E2BIG
 * (more than WIRE_FIELDS_MAX fields) or -ENOMEM. */
int grpc_request_decode(const uint8_t *message, size_t size, struct hyper_request *request);
/* The same; `weight_bytes` gets about what the request takes in memory at most. */
int grpc_request_decode_weighed(const uint8_t *bytes, size_t size, struct hyper_request *request, size_t *weight_bytes);
int grpc_response_decode(const uint8_t *message, size_t size, struct hyper_response *response);
/* A sentence about a negative errno of these. */
const char *grpc_decode_failure(int error);
