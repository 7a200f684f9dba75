// SPDX-License-Identifier: Apache-2.0
/* Hello and answer of the relay's TLS endpoint. What is read comes from anybody:
 * sizes are checked before anything is allocated (a message is 4096 bytes at
 * most), texts of the answer are made fit for logs, and no copy of a token is
 * left behind. */
#include "tls/relay_message.h"

#include "relay.pb-c.h"

#include <errno.h>
#include <string.h>

int relay_length_parse(const uint8_t length[RELAY_LENGTH_SIZE])
{
	uint32_t size = (uint32_t)length[0] << 24 | (uint32_t)length[1] << 16 | (uint32_t)length[2] << 8 | length[3];

	return size == 0 || size > RELAY_MESSAGE_MAX ? -EMSGSIZE : (int)size;
}

static void put_length(uint8_t frame[RELAY_LENGTH_SIZE], size_t size)
{
	frame[0] = frame[1] = 0;
	frame[2] = (uint8_t)(size >> 8);
	frame[3] = (uint8_t)size;
}

size_t relay_hello_pack(const struct relay_hello *hello, uint8_t frame[RELAY_FRAME_MAX])
{
	RelayHello message = RELAY_HELLO__INIT;

	message.version = hello->version;
	message.token.data = (uint8_t *)hello->token;
	message.token.len = sizeof(hello->token);
	message.payload_encrypted = hello->payload_encrypted;
	size_t size = relay_hello__pack(&message, frame + RELAY_LENGTH_SIZE);
	put_length(frame, size);
	return size + RELAY_LENGTH_SIZE;
}

size_t relay_answer_pack(const struct relay_answer *answer, uint8_t frame[RELAY_FRAME_MAX])
{
	RelayAnswer message = RELAY_ANSWER__INIT;

	message.version = answer->version;
	message.joined = answer->joined;
	message.outcome = (char *)answer->outcome;
	message.detail = (char *)answer->detail;
	message.handed_off = answer->handed_off;
	size_t size = relay_answer__pack(&message, frame + RELAY_LENGTH_SIZE);
	put_length(frame, size);
	return size + RELAY_LENGTH_SIZE;
}

int relay_hello_parse(const uint8_t *message, size_t size, struct relay_hello *hello)
{
	int error = 0;

	memset(hello, 0, sizeof(*hello));
	if (size > RELAY_MESSAGE_MAX)
		return -EBADMSG;
	RelayHello *read = relay_hello__unpack(NULL, size, message);
	if (!read)
		return -EBADMSG;
	hello->version = read->version;
	hello->payload_encrypted = read->payload_encrypted;
	if (read->version != RELAY_PROTOCOL_VERSION)
		error = -EPROTONOSUPPORT;
	else if (read->token.len != sizeof(hello->token))
		error = -EINVAL;
	else
		memcpy(hello->token, read->token.data, sizeof(hello->token));
	if (read->token.len > 0)
		explicit_bzero(read->token.data, read->token.len);
	relay_hello__free_unpacked(read, NULL);
	return error;
}

static void copy_text(char *target, size_t size, const char *text)
{
	size_t length = 0;

	for (; text[length] && length < size - 1; length++)
		target[length] = text[length] >= ' ' && text[length] <= '~' ? text[length] : '?';
	target[length] = 0;
}

int relay_answer_parse(const uint8_t *message, size_t size, struct relay_answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	if (size > RELAY_MESSAGE_MAX)
		return -EBADMSG;
	RelayAnswer *read = relay_answer__unpack(NULL, size, message);
	if (!read)
		return -EBADMSG;
	answer->version = read->version;
	answer->joined = read->joined;
	answer->handed_off = read->handed_off;
	copy_text(answer->outcome, sizeof(answer->outcome), read->outcome);
	copy_text(answer->detail, sizeof(answer->detail), read->detail);
	relay_answer__free_unpacked(read, NULL);
	return answer->version == RELAY_PROTOCOL_VERSION ? 0 : -EPROTONOSUPPORT;
}
