// SPDX-License-Identifier: Apache-2.0
/* Error texts of gRPC calls. Clients may match on them, so the words and the
 * quoting are fixed. Pure. */
#include "router/grpc_failure.h"

#include "grpc/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "transport: " and the text: backslash, quote and control characters escaped; UTF-8 stays. */
static char *quote(const char *text)
{
	static const char prefix[] = "\"transport: ";
	char *quoted = malloc(sizeof(prefix) + 4 * strlen(text) + 2), *to = quoted;
	if (!quoted)
		return NULL;
	to = stpcpy(to, prefix);
	for (; *text; text++) {
		unsigned char byte = (unsigned char)*text;
		const char *named = byte == '\n' ? "\\n" : byte == '\r' ? "\\r" : byte == '\t' ? "\\t" : NULL;
		if (named) {
			to = stpcpy(to, named);
		} else if (byte < 0x20 || byte == 0x7f) {
			to += sprintf(to, "\\x%02x", byte);
		} else {
			if (byte == '"' || byte == '\\')
				*to++ = '\\';
			*to++ = (char)byte;
		}
	}
	strcpy(to, "\"");
	return quoted;
}

char *grpc_failure_connection(const char *text)
{
	char *quoted = quote(text), *result = NULL;
	if (quoted && asprintf(&result, "connection error: desc = %s", quoted) < 0)
		result = NULL;
	free(quoted);
	return result;
}

char *grpc_failure_dial(const char *text)
{
	char *result;
	return asprintf(&result, "Error while dialing %s", text) < 0 ? NULL : result;
}

char *grpc_failure_call(int status, const char *message)
{
	char *result;
	return asprintf(&result, "error sending request: error performing gRPC call: rpc error: code = %s desc = %s",
			grpc_status_name(status), message ? message : "") < 0 ?
		       NULL :
		       result;
}
