// SPDX-License-Identifier: Apache-2.0
/* Responses from strangers; what decodes must encode again and stay the same. */
#include "grpc/message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hyper_response response, again;
	uint8_t *frame;
	size_t frame_size;

	if (grpc_response_decode(data, size, &response))
		return 0;
	if (grpc_response_frame(&response, &frame, &frame_size))
		abort();
	if (grpc_response_decode(frame + GRPC_FRAME_HEADER_SIZE, frame_size - GRPC_FRAME_HEADER_SIZE, &again))
		abort();
	if (response.has_error != again.has_error || response.code != again.code || strcmp(response.id, again.id) ||
	    !response.result != !again.result || (response.result && !json_equal(response.result, again.result)))
		abort();
	free(frame);
	hyper_response_clear(&response);
	hyper_response_clear(&again);
	return 0;
}
