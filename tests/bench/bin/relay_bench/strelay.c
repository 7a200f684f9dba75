// SPDX-License-Identifier: Apache-2.0
/* syncthing-relaysrv, a relay with tokens. Its protocol (docs.syncthing.net/specs/relay-v1):
 * a device joins the relay over TLS, known by the SHA-256 of its certificate; another one
 * asks over a TLS connection of its own to be connected to that device; each of the two is
 * sent an invitation with a key; each then opens a bare TCP connection, shows its key, is
 * told success, and from there on bytes pass. One identity plays both devices here, which
 * the relay allows. An invitation is what a ticket is for ours. */
#include "daemon.h"
#include "identity.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0x9e79bc40u
#define HEADER_SIZE 12
#define KEY_SIZE 32
#define MESSAGE_MAX 256

enum message { JOIN_RELAY = 2, JOIN_SESSION = 3, RESPONSE = 4, CONNECT = 5, INVITATION = 6 };

/* A response: code 0, and a text of 7 bytes. */
static const uint8_t success[] = {
	0x9e, 0x79, 0xbc, 0x40, 0, 0, 0, RESPONSE, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 7, 's', 'u', 'c', 'c', 'e', 's', 's', 0,
};

static uint8_t *put(uint8_t *at, uint32_t number)
{
	number = htonl(number);
	memcpy(at, &number, sizeof number);
	return at + sizeof number;
}

static uint32_t get(const uint8_t *at)
{
	uint32_t number;

	memcpy(&number, at, sizeof number);
	return ntohl(number);
}

/* A message whose body is nothing, or 32 bytes behind their length. Returns its size. */
static size_t write_message(uint8_t *message, enum message type, const uint8_t *bytes)
{
	uint8_t *at = put(put(put(message, MAGIC), type), bytes ? 4 + KEY_SIZE : 0);

	if (bytes) {
		at = put(at, KEY_SIZE);
		memcpy(at, bytes, KEY_SIZE);
		at += KEY_SIZE;
	}
	return (size_t)(at - message);
}

static bool send_message(struct end *end, enum message type, const uint8_t *bytes)
{
	uint8_t message[HEADER_SIZE + 4 + KEY_SIZE];

	return end_send_all(end, message, write_message(message, type, bytes));
}

/* The body of the next message, which must be of that type. */
static bool receive_message(struct end *end, enum message type, uint8_t body[MESSAGE_MAX], size_t *size)
{
	uint8_t header[HEADER_SIZE];

	if (!end_receive_all(end, header, sizeof header))
		return false;
	*size = get(header + 8);
	errno = EPROTO;
	return get(header) == MAGIC && get(header + 4) == type && *size <= MESSAGE_MAX && end_receive_all(end, body, *size);
}

/* An invitation: from, key, address, each behind its length and padded to four; port; which side. */
static bool receive_key(struct end *end, uint8_t key[KEY_SIZE])
{
	uint8_t body[MESSAGE_MAX];
	size_t size;

	if (!receive_message(end, INVITATION, body, &size))
		return false;
	size_t key_at = size >= 4 ? 4 + ((get(body) + 3) & ~3u) : size;
	if (key_at + 4 + KEY_SIZE > size || get(body + key_at) != KEY_SIZE)
		return false;
	memcpy(key, body + key_at + 4, KEY_SIZE);
	return true;
}

static bool open_tls(const struct contender *contender, int side, struct end *end)
{
	*end = END_NONE;
	end->fd = contender_dial(contender, side, 0);
	if (end->fd >= 0 && (end->tls = identity_connect(end->fd, "bep-relay")))
		return true;
	if (end->fd >= 0)
		close(end->fd);
	return false;
}

static void close_tls(struct end *end)
{
	SSL_free(end->tls);
	if (end->fd >= 0)
		close(end->fd);
	*end = END_NONE;
}

static bool strelay_start(struct contender *contender)
{
	struct end *joined = calloc(1, sizeof *joined);
	uint8_t body[MESSAGE_MAX];
	size_t size;

	contender->state = joined;
	*joined = END_NONE;
	if (!daemon_start(contender, 0))
		return false;
	if (!open_tls(contender, 0, joined) || !send_message(joined, JOIN_RELAY, NULL) || !receive_message(joined, RESPONSE, body, &size) ||
	    size < 4 || get(body))
		return contender_fail(contender, "does not let us join: %s", strerror(errno));
	return true;
}

static void strelay_stop(struct contender *contender)
{
	if (contender->state)
		close_tls(contender->state);
	free(contender->state);
	contender->state = NULL;
	daemon_stop(contender);
}

static bool strelay_fetch(struct contender *contender, struct ticket *tickets, size_t count)
{
	struct end *joined = contender->state;

	for (size_t at = 0; at < count; at++) {
		uint8_t keys[2][KEY_SIZE];
		struct end asking;
		bool fine = open_tls(contender, 1, &asking) && send_message(&asking, CONNECT, identity_fingerprint()) &&
			    receive_key(&asking, keys[1]) && receive_key(joined, keys[0]);

		close_tls(&asking);
		if (!fine)
			return false;
		for (int side = 0; side < 2; side++)
			tickets[at].size = write_message(tickets[at].shown[side], JOIN_SESSION, keys[side]);
	}
	return true;
}

const struct contender_kind kind_strelay = {
	.start = strelay_start, .stop = strelay_stop, .fetch = strelay_fetch, .reply = success, .reply_size = sizeof success,
};
