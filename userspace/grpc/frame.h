// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Finds the messages in a gRPC byte stream (protocol page 6.1): frames may be
 * split over DATA frames anywhere, and one DATA frame may carry several. Pure. */
#include "grpc/message.h"

struct frame_splitter {
	uint8_t header[GRPC_FRAME_HEADER_SIZE];
	unsigned header_used;
	uint8_t *body;     /* of a frame that came in several pieces */
	size_t announced;  /* size of the message */
	size_t used, capacity;
};

void frame_splitter_clear(struct frame_splitter *splitter);

/* Takes bytes from `*bytes` (`*size` of them) and advances both. Returns
 *   1         a message is complete: `*message`, valid until the next call or
 *             until `*bytes` goes; call again, there may be more
 *   0         all bytes were taken, the message goes on
 *   -EOPNOTSUPP  the compressed flag is set
 *   -EBADMSG  the flag is neither 0 nor 1
 *   -EMSGSIZE more than GRPC_MESSAGE_MAX; `announced` has the size
 *   -ENOMEM
 * After an error the stream cannot be read on. */
int frame_splitter_next(struct frame_splitter *splitter, const uint8_t **bytes, size_t *size, const uint8_t **message,
			size_t *message_size);

/* What frame_splitter_next() has just handed out, as memory of the caller's (to be
 * freed). NULL: no memory. */
uint8_t *frame_splitter_take(struct frame_splitter *splitter, const uint8_t *message, size_t size);

/* Nothing of an unfinished frame is held. */
bool frame_splitter_is_between(const struct frame_splitter *splitter);
