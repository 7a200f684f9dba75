// SPDX-License-Identifier: Apache-2.0
#pragma once
/* gRPC status codes beyond those of server.h, and the text form of a status
 * message in trailers. Pure. */
#include "grpc/server.h"

#define GRPC_STATUS_CANCELED 1
#define GRPC_STATUS_PERMISSION_DENIED 7
#define GRPC_STATUS_RESOURCE_EXHAUSTED 8
#define GRPC_STATUS_UNAUTHENTICATED 16

/* Percent-encodes what is not printable ASCII, and '%'. Cut (between
 * characters) where the result would get too long for the header limits of
 * other implementations. malloc'd, or NULL. */
char *grpc_message_encode(const char *text);

/* Undoes it; wrong escapes stay as they are, bytes that are no UTF-8 become
 * '?'. malloc'd, or NULL. */
char *grpc_message_decode(const char *text, size_t size);

/* Status for an answer that is not 200, and for a stream that was reset. */
int grpc_status_of_http(int http_status);
int grpc_status_of_reset(uint32_t error_code);

/* Status for a negative errno of the frame splitter or the decoder. */
int grpc_status_of_errno(int error);
