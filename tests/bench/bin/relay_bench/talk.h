// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Pairs that chat: one end asks with a message, the other answers with one of the same size,
 * and after a pause, if there is one, comes the next question. Askers and answerers have up to
 * two threads each, so that no thread of the client waits for another one. What is
 * counted is messages, two for each question that was answered. */
#include "crowd.h"
#include "sample.h"

struct talk;

/* Among `count` pairs of the crowd from `first` on. The caller gives up their ends until talk_stop(). */
struct talk *talk_start(struct crowd *crowd, size_t first, size_t count, size_t message_size, unsigned pause_us);

/* Between the two, round trip times are kept. */
void talk_measure(struct talk *talk);
struct talk_figures {
	uint64_t answered;
	struct sample_list times; /* the caller's */
};
/* Stops measuring, waits until all questions are answered, and counts the bytes in the crowd's
 * round. False: a pair broke, or answers did not come: contender->error. Frees `talk`. */
bool talk_stop(struct talk *talk, struct talk_figures *figures);
