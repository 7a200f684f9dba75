// SPDX-License-Identifier: Apache-2.0
/* The frame splitter of one direction of one stream. A message that arrives in
 * one piece is handed out where it lies; only split ones are gathered, in a
 * buffer that grows with what arrived, not with what was announced. */
#include "grpc/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 16384u

void frame_splitter_clear(struct frame_splitter *splitter)
{
	free(splitter->body);
	*splitter = (struct frame_splitter){ 0 };
}

bool frame_splitter_is_between(const struct frame_splitter *splitter)
{
	return splitter->header_used == 0 || (splitter->capacity && splitter->used == splitter->announced);
}

static void begin_frame(struct frame_splitter *splitter)
{
	free(splitter->body);
	splitter->body = NULL;
	splitter->header_used = 0;
	splitter->used = splitter->capacity = 0;
}

static int read_header(struct frame_splitter *splitter)
{
	const uint8_t *header = splitter->header;

	splitter->announced = (size_t)header[1] << 24 | (size_t)header[2] << 16 | (size_t)header[3] << 8 | header[4];
	if (header[0] > 1)
		return -EBADMSG;
	if (splitter->announced > GRPC_MESSAGE_MAX)
		return -EMSGSIZE;
	return header[0] ? -EOPNOTSUPP : 0;
}

static int gather(struct frame_splitter *splitter, const uint8_t *bytes, size_t size)
{
	size_t needed = splitter->used + size;

	if (needed > splitter->capacity) {
		size_t capacity = splitter->capacity ? splitter->capacity * 2 : FIRST_CAPACITY;

		if (capacity < needed)
			capacity = needed;
		if (capacity > splitter->announced)
			capacity = splitter->announced;
		uint8_t *body = realloc(splitter->body, capacity);

		if (!body)
			return -ENOMEM;
		splitter->body = body;
		splitter->capacity = capacity;
	}
	memcpy(splitter->body + splitter->used, bytes, size);
	splitter->used = needed;
	return 0;
}

int frame_splitter_next(struct frame_splitter *splitter, const uint8_t **bytes, size_t *size, const uint8_t **message,
			size_t *message_size)
{
	/* The message handed out last time was in the buffer. */
	if (splitter->capacity && splitter->used == splitter->announced)
		begin_frame(splitter);
	while (splitter->header_used < GRPC_FRAME_HEADER_SIZE) {
		if (!*size)
			return 0;
		splitter->header[splitter->header_used++] = *(*bytes)++;
		--*size;
		if (splitter->header_used == GRPC_FRAME_HEADER_SIZE) {
			int error = read_header(splitter);

			if (error) {
				splitter->header_used = 0;
				return error;
			}
		}
	}

	size_t missing = splitter->announced - splitter->used;
	size_t taken = missing < *size ? missing : *size;

	*message_size = splitter->announced;
	if (!splitter->used && taken == splitter->announced) {
		*message = *bytes;
		*bytes += taken;
		*size -= taken;
		begin_frame(splitter);
		return 1;
	}
	if (!taken)
		return 0;
	int error = gather(splitter, *bytes, taken);

	if (error)
		return error;
	*bytes += taken;
	*size -= taken;
	if (splitter->used < splitter->announced)
		return 0;
	*message = splitter->body;
	return 1;
}

uint8_t *frame_splitter_take(struct frame_splitter *splitter, const uint8_t *message, size_t size)
{
	uint8_t *taken;

	if (splitter->body && message == splitter->body) {
		taken = splitter->body;
		splitter->body = NULL;
		begin_frame(splitter);
		return taken;
	}
	taken = malloc(size ? size : 1);
	if (taken && size)
		memcpy(taken, message, size);
	return taken;
}
