// SPDX-License-Identifier: Apache-2.0
#include "jsonrpc/message.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct jsonrpc_answer answer;
	char *detail;

	if (jsonrpc_answer_read((const char *)data, size, &answer, &detail) == 0) {
		if (detail || (answer.is_error && !answer.message))
			abort();
	} else if (!detail) {
		abort();
	}
	free(detail);
	jsonrpc_answer_clear(&answer);
	return 0;
}
