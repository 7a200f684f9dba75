// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The two messages that a party and the relay exchange inside of TLS
 * (proto/relay.proto, docs/relay-tls.md). Pure functions on buffers. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RELAY_PROTOCOL_VERSION 1
#define RELAY_LENGTH_SIZE 4       /* in front of each message, network order */
#define RELAY_MESSAGE_MAX 4096    /* without its length */
#define RELAY_HELLO_TOKEN_SIZE 32
#define RELAY_FRAME_MAX 512       /* what we write is never longer, length included */

struct relay_hello {
	uint32_t version;
	uint8_t token[RELAY_HELLO_TOKEN_SIZE]; /* wipe it */
	bool payload_encrypted;
};

struct relay_answer {
	uint32_t version;
	bool joined, handed_off;
	char outcome[32]; /* "" when joined */
	char detail[192];
};

/* Size of the message that follows, or -EMSGSIZE (0 too: both messages have content). */
int relay_length_parse(const uint8_t length[RELAY_LENGTH_SIZE]);

/* Length and message; returns the size of both together. */
size_t relay_hello_pack(const struct relay_hello *hello, uint8_t frame[RELAY_FRAME_MAX]);
size_t relay_answer_pack(const struct relay_answer *answer, uint8_t frame[RELAY_FRAME_MAX]);

/* 0; -EBADMSG: no such message; -EPROTONOSUPPORT: of another version (`version`
 * is set); -EINVAL: the token has not its size; -ENOMEM. */
int relay_hello_parse(const uint8_t *message, size_t size, struct relay_hello *hello);
/* 0, -EBADMSG, -EPROTONOSUPPORT or -ENOMEM. Texts are cut to their size; what is
 * not printable ASCII in them becomes '?'. */
int relay_answer_parse(const uint8_t *message, size_t size, struct relay_answer *answer);
