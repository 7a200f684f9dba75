// SPDX-License-Identifier: Apache-2.0
/* Hello and answer of the relay's TLS endpoint, from anybody. What was read is
 * written and read again. */
#include "tls/relay_message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_hello(const uint8_t *data, size_t size)
{
	struct relay_hello hello, again;
	uint8_t frame[RELAY_FRAME_MAX];

	if (relay_hello_parse(data, size, &hello))
		return;
	size_t length = relay_hello_pack(&hello, frame);
	if (relay_length_parse(frame) != (int)(length - RELAY_LENGTH_SIZE))
		abort();
	if (relay_hello_parse(frame + RELAY_LENGTH_SIZE, length - RELAY_LENGTH_SIZE, &again))
		abort();
	if (memcmp(hello.token, again.token, sizeof hello.token) || hello.payload_encrypted != again.payload_encrypted)
		abort();
}

static void check_answer(const uint8_t *data, size_t size)
{
	struct relay_answer answer, again;
	uint8_t frame[RELAY_FRAME_MAX];

	if (relay_answer_parse(data, size, &answer))
		return;
	size_t length = relay_answer_pack(&answer, frame);
	if (length > sizeof frame)
		abort();
	if (relay_answer_parse(frame + RELAY_LENGTH_SIZE, length - RELAY_LENGTH_SIZE, &again))
		abort();
	if (strcmp(answer.outcome, again.outcome) || strcmp(answer.detail, again.detail) ||
	    answer.joined != again.joined || answer.handed_off != again.handed_off)
		abort();
	for (const char *at = answer.detail; *at; at++)
		if (*at < ' ' || *at > '~')
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size >= RELAY_LENGTH_SIZE) {
		int length = relay_length_parse(data);
		if (length == 0 || length > RELAY_MESSAGE_MAX)
			abort();
	}
	check_hello(data, size);
	check_answer(data, size);
	return 0;
}
