// SPDX-License-Identifier: Apache-2.0
/* A request that is accepted has a method, params and an id, and its id can be
 * written into an answer that is JSON again. */
#include "base/json.h"
#include "jsonrpc/message.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct jsonrpc_request request;
	json_error_t error;
	size_t length = 0;
	char *detail;
	int code = jsonrpc_request_read((const char *)data, size, &request, &detail);

	if (code == 0) {
		char *text = jsonrpc_result_text(request.params, request.id, &length);
		json_t *again = text ? json_read(text, length, &error) : NULL;

		if (!request.method || !json_is_object(request.params) || (text && !json_is_object(again)))
			abort();
		json_decref(again);
		free(text);
	} else if (!detail) {
		abort();
	}
	free(detail);
	jsonrpc_request_clear(&request);
	return 0;
}
