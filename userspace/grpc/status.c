// SPDX-License-Identifier: Apache-2.0
/* Status codes: names as grpc-go prints them, their mapping from HTTP/2, and
 * the percent-encoding of messages (gRPC over HTTP/2, "Responses"). Pure. */
#include "grpc/status.h"

#include "grpc/wire_check.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>

/* gRPC C core takes 8 KiB of headers. */
#define ENCODED_MAX 6000

const char *grpc_status_name(int status)
{
	static const char *const names[] = {
		"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
		"PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange",
		"Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
	};

	if (status < 0 || (size_t)status >= sizeof(names) / sizeof(*names))
		return "Unknown";
	return names[status];
}

char *grpc_message_encode(const char *text)
{
	static const char digits[] = "0123456789ABCDEF";
	char *result = malloc(ENCODED_MAX + 1), *at = result, *boundary = result;

	if (!result)
		return NULL;
	for (const unsigned char *from = (const unsigned char *)text; *from; from++) {
		bool is_plain = *from >= 0x20 && *from <= 0x7e && *from != '%';

		if ((*from & 0xc0) != 0x80)
			boundary = at;
		if (at - result + (is_plain ? 1 : 3) > ENCODED_MAX) {
			at = boundary;
			break;
		}
		if (is_plain) {
			*at++ = (char)*from;
		} else {
			*at++ = '%';
			*at++ = digits[*from >> 4];
			*at++ = digits[*from & 15];
		}
	}
	*at = 0;
	return result;
}

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	digit |= 0x20;
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

char *grpc_message_decode(const char *text, size_t size)
{
	char *result = malloc(size + 1), *at = result;

	if (!result)
		return NULL;
	for (size_t i = 0; i < size; i++) {
		int high = text[i] == '%' && i + 2 < size ? hex_digit(text[i + 1]) : -1;
		int low = high >= 0 ? hex_digit(text[i + 2]) : -1;

		if (low >= 0) {
			*at++ = (char)(high << 4 | low);
			i += 2;
		} else {
			*at++ = text[i];
		}
	}
	*at = 0;
	if (!utf8_is_valid((const uint8_t *)result, (size_t)(at - result))) {
		for (char *byte = result; byte < at; byte++)
			if ((unsigned char)*byte >= 0x80 || !*byte)
				*byte = '?';
	}
	return result;
}

int grpc_status_of_http(int http_status)
{
	switch (http_status) {
	case 400:
		return GRPC_STATUS_INTERNAL;
	case 401:
		return GRPC_STATUS_UNAUTHENTICATED;
	case 403:
		return GRPC_STATUS_PERMISSION_DENIED;
	case 404:
		return GRPC_STATUS_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_STATUS_UNAVAILABLE;
	default:
		return GRPC_STATUS_UNKNOWN;
	}
}

int grpc_status_of_reset(uint32_t error_code)
{
	switch (error_code) {
	case NGHTTP2_REFUSED_STREAM:
		return GRPC_STATUS_UNAVAILABLE;
	case NGHTTP2_CANCEL:
		return GRPC_STATUS_CANCELED;
	case NGHTTP2_ENHANCE_YOUR_CALM:
		return GRPC_STATUS_RESOURCE_EXHAUSTED;
	case NGHTTP2_INADEQUATE_SECURITY:
		return GRPC_STATUS_PERMISSION_DENIED;
	default:
		return GRPC_STATUS_INTERNAL;
	}
}

int grpc_status_of_errno(int error)
{
	switch (error) {
	case -EOPNOTSUPP:
		return GRPC_STATUS_UNIMPLEMENTED;
	case -EMSGSIZE:
	case -E2BIG:
	case -ELOOP:
	case -ENOMEM:
	case -ENOBUFS:
		return GRPC_STATUS_RESOURCE_EXHAUSTED;
	default:
		return GRPC_STATUS_INTERNAL;
	}
}
