// SPDX-License-Identifier: Apache-2.0
/* Requests from strangers; what decodes must encode again and stay the same. */
#include "grpc/message.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hyper_request request, again;
	uint8_t *frame;
	size_t frame_size;

	if (grpc_request_decode(data, size, &request))
		return 0;
	if (grpc_request_frame(&request, &frame, &frame_size))
		abort();
	if (grpc_request_decode(frame + GRPC_FRAME_HEADER_SIZE, frame_size - GRPC_FRAME_HEADER_SIZE, &again))
		abort();
	if (!json_equal(request.params, again.params))
		abort();
	free(frame);
	hyper_request_clear(&request);
	hyper_request_clear(&again);
	return 0;
}
