// SPDX-License-Identifier: Apache-2.0
/* coturn with TCP allocations (RFC 6062). A client allocates an address at the relay over a
 * control connection; a peer dials that address; the client is told so with a number,
 * opens another connection to the relay, shows the number, and from there on bytes
 * pass between the two. All connections of one allocation are served by one thread of
 * coturn, so pairs take turns on several allocations. */
#include "daemon.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define COOKIE 0x2112a442u
#define HEADER_SIZE 20
#define MESSAGE_MAX 512
#define ALLOCATIONS 4
#define LIFETIME_S 3600

enum method { ALLOCATE = 0x003, CREATE_PERMISSION = 0x008, CONNECTION_BIND = 0x00b, CONNECTION_ATTEMPT = 0x01c };
enum attribute {
	LIFETIME = 0x000d, XOR_PEER_ADDRESS = 0x0012, XOR_RELAYED_ADDRESS = 0x0016, REQUESTED_TRANSPORT = 0x0019, CONNECTION_ID = 0x002a,
};
#define SUCCESS 0x0100

struct allocation {
	struct end control;
	uint16_t port; /* for peers to dial */
};

struct turn {
	struct allocation allocations[ALLOCATIONS];
	unsigned next;
};

struct message {
	uint8_t bytes[MESSAGE_MAX];
	size_t size;
};

static void put16(uint8_t *at, unsigned number)
{
	at[0] = (uint8_t)(number >> 8);
	at[1] = (uint8_t)number;
}

static unsigned get16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static void begin(struct message *message, enum method method)
{
	static uint32_t transaction;
	uint32_t cookie = htonl(COOKIE);

	memset(message, 0, sizeof *message);
	put16(message->bytes, method);
	memcpy(message->bytes + 4, &cookie, sizeof cookie);
	transaction++;
	memcpy(message->bytes + 8, &transaction, sizeof transaction);
	message->size = HEADER_SIZE;
}

/* All attributes sent here have sizes that need no padding. */
static void add(struct message *message, enum attribute attribute, const void *value, size_t size)
{
	put16(message->bytes + message->size, attribute);
	put16(message->bytes + message->size + 2, (unsigned)size);
	memcpy(message->bytes + message->size + 4, value, size);
	message->size += 4 + size;
	put16(message->bytes + 2, (unsigned)(message->size - HEADER_SIZE));
}

static void add_number(struct message *message, enum attribute attribute, uint32_t number)
{
	number = htonl(number);
	add(message, attribute, &number, sizeof number);
}

static bool receive(struct end *end, struct message *message, unsigned type)
{
	if (!end_receive_all(end, message->bytes, HEADER_SIZE))
		return false;
	message->size = HEADER_SIZE + get16(message->bytes + 2);
	errno = EPROTO;
	return message->size <= MESSAGE_MAX && end_receive_all(end, message->bytes + HEADER_SIZE, message->size - HEADER_SIZE) &&
	       get16(message->bytes) == type;
}

static const uint8_t *find(const struct message *message, enum attribute attribute, size_t size)
{
	for (size_t at = HEADER_SIZE; at + 4 + size <= message->size; at += 4 + ((get16(message->bytes + at + 2) + 3) & ~3u))
		if (get16(message->bytes + at) == attribute && get16(message->bytes + at + 2) >= size)
			return message->bytes + at + 4;
	return NULL;
}

static bool ask(struct end *end, struct message *message)
{
	unsigned method = get16(message->bytes);

	return end_send_all(end, message->bytes, message->size) && receive(end, message, SUCCESS | method);
}

static bool allocate(const struct contender *contender, struct allocation *allocation)
{
	struct message message;
	uint32_t peer, cookie = htonl(COOKIE);
	uint8_t address[8] = { 0, 1 };

	allocation->control.fd = contender_dial(contender, 0, 0);
	if (allocation->control.fd < 0)
		return false;
	begin(&message, ALLOCATE);
	add_number(&message, REQUESTED_TRANSPORT, (uint32_t)IPPROTO_TCP << 24);
	add_number(&message, LIFETIME, LIFETIME_S);
	if (!ask(&allocation->control, &message))
		return false;
	const uint8_t *relayed = find(&message, XOR_RELAYED_ADDRESS, 8);
	if (!relayed)
		return false;
	allocation->port = (uint16_t)(get16(relayed + 2) ^ COOKIE >> 16);
	/* Who may dial that: the address is what counts, the port is not looked at. */
	inet_pton(AF_INET, place_address(PLACE_SECOND), &peer);
	peer ^= cookie;
	memcpy(address + 4, &peer, sizeof peer);
	begin(&message, CREATE_PERMISSION);
	add(&message, XOR_PEER_ADDRESS, address, sizeof address);
	return ask(&allocation->control, &message);
}

static bool turn_start(struct contender *contender)
{
	struct turn *turn = calloc(1, sizeof *turn);

	contender->state = turn;
	for (int at = 0; at < ALLOCATIONS; at++)
		turn->allocations[at].control = END_NONE;
	if (!daemon_start(contender, 0))
		return false;
	for (int at = 0; at < ALLOCATIONS; at++)
		if (!allocate(contender, &turn->allocations[at]))
			return contender_fail(contender, "no allocation: %s", strerror(errno));
	return true;
}

static void turn_stop(struct contender *contender)
{
	struct turn *turn = contender->state;

	for (int at = 0; turn && at < ALLOCATIONS; at++)
		if (turn->allocations[at].control.fd >= 0)
			close(turn->allocations[at].control.fd);
	free(turn);
	contender->state = NULL;
	daemon_stop(contender);
}

static bool turn_open_pair(struct contender *contender, struct end ends[2])
{
	struct turn *turn = contender->state;
	struct allocation *allocation = &turn->allocations[turn->next++ % ALLOCATIONS];
	struct message message;
	uint32_t number;

	ends[1].fd = place_dial(PLACE_SECOND, PLACE_RELAY, allocation->port, 0);
	if (ends[1].fd < 0 || !receive(&allocation->control, &message, CONNECTION_ATTEMPT))
		return false;
	const uint8_t *id = find(&message, CONNECTION_ID, sizeof number);
	if (!id)
		return false;
	memcpy(&number, id, sizeof number);
	ends[0].fd = contender_dial(contender, 0, 0);
	if (ends[0].fd < 0)
		return false;
	begin(&message, CONNECTION_BIND);
	add(&message, CONNECTION_ID, &number, sizeof number);
	return ask(&ends[0], &message);
}

const struct contender_kind kind_turn = { .start = turn_start, .stop = turn_stop, .open_pair = turn_open_pair };
