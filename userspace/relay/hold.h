// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Internal to relay/: the hold, which keeps a fast sender's bytes in the kernel
 * although its gate closes again and again (hold.c). */
#include "relay/pair.h"

/* Sizes of a source's receive buffer, real (doubled); see hold.c. */
struct hold_sizes {
	uint32_t calm; /* gate open */
	uint32_t closed; /* gate closed, the sender not yet out of window */
	uint32_t wide; /* while a window is announced */
	uint32_t whole; /* while all that may be sent is announced */
};
/* The window that a sender of such segments is given. */
uint32_t hold_window_for(uint32_t segment_bytes);
/* `room`: bytes that may be redirected before the gate closes; `charged`: what
 * already is in the buffer. */
struct hold_sizes hold_sizes_for(uint32_t window, int64_t room, uint32_t charged);
/* With a shut window, of which `left` is left. */
uint32_t hold_shut_size(uint32_t left, uint32_t charged);
/* How far the bytes in flight may come down, when a reader that is `rtt_ns` away (0: not far) takes `pace`
 * bytes in a nanosecond. More than three quarters of the credit: there is too little of it for a hold. */
uint64_t hold_low_mark(uint32_t credit, double pace, uint64_t rtt_ns);
/* They take more memory than the window, which is of bytes, allows for. */
bool hold_has_small_segments(uint64_t unread, uint32_t charged);
/* May the kernel still announce more window? `size`: of the receive buffer. */
bool hold_window_may_grow(uint32_t window, uint32_t size, uint32_t charged);

/* The direction has run out of credit, or its gate was opened: from now on its
 * receive buffer is the hold's, if the way to the sender is short. */
void hold_begin(struct side *side);

/* Its receive buffer is left to the kernel's tuning until hold_begin(); not while the window is shut. */
void hold_leave(struct side *side);

/* Gate closed: shuts the window once the sender has used it up. True: the sender is
 * about to, the direction waits for a timer. */
bool hold_shut(struct side *side);

/* How much of `most` bytes is to be read now; hold_note_read() follows the recv. */
size_t hold_limit(struct side *side, size_t most);
void hold_note_read(struct side *side);

/* Gate closed and all but the last bytes moved: writes those, opens the gate,
 * announces the window. False: not (yet) to be done, or no longer; go on as
 * usual. True: the direction waits, or the pair is over. */
bool hold_release(struct side *side);

/* Gate open: has the sender understood? True: the direction waits for a timer. */
bool hold_look_again(struct side *side);

/* Reads what was written before it was read. False: the pair is over. */
bool hold_drop_owed(struct side *side);
