// SPDX-License-Identifier: Apache-2.0
/* A stream of gRPC frames, cut where the input's first byte says, must give the
 * same messages as the stream in one piece. */
#include "grpc/frame.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	unsigned count;
	size_t bytes;
	uint32_t sum;
	int error;
};

static struct seen split(const uint8_t *data, size_t size, size_t piece)
{
	struct frame_splitter splitter = { 0 };
	struct seen seen = { 0 };

	while (size && !seen.error) {
		size_t part = size < piece ? size : piece, left = part, message_size;
		uint8_t *copy = malloc(part);
		const uint8_t *at = copy, *message;
		int result;

		memcpy(copy, data, part);
		while ((result = frame_splitter_next(&splitter, &at, &left, &message, &message_size)) == 1) {
			seen.count++;
			seen.bytes += message_size;
			for (size_t i = 0; i < message_size; i++)
				seen.sum = seen.sum * 31 + message[i];
		}
		seen.error = result;
		if (!result && left)
			abort();
		free(copy);
		data += part;
		size -= part;
	}
	frame_splitter_clear(&splitter);
	return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	struct seen whole = split(data + 1, size - 1, size), cut = split(data + 1, size - 1, data[0] % 17 + 1u);

	if (whole.count != cut.count || whole.bytes != cut.bytes || whole.sum != cut.sum || whole.error != cut.error)
		abort();
	return 0;
}
