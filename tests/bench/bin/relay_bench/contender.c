// SPDX-License-Identifier: Apache-2.0
/* What all contenders have in common; and the direct connection, which has nothing else. */
#include "contender.h"
#include "identity.h"
#include "sample.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Tickets older than this are not kept for another measurement, and those twice as old are not shown
 * any more: one that has begun ends with the tickets that it began with. */
#define TICKET_SECONDS 20
#define TICKET_TRIES 10

bool contender_fail(struct contender *contender, const char *format, ...)
{
	va_list arguments;

	if (*contender->error)
		return false;
	va_start(arguments, format);
	vsnprintf(contender->error, sizeof contender->error, format, arguments);
	va_end(arguments);
	return false;
}

bool contender_start(struct contender *contender)
{
	contender->listener = -1;
	contender->pid = 0;
	*contender->error = 0;
	return contender->kind->start(contender);
}

void contender_stop(struct contender *contender)
{
	contender->kind->stop(contender);
	contender->pid = 0;
	if (contender->listener >= 0)
		close(contender->listener);
	contender->listener = -1;
	free(contender->tickets);
	contender->tickets = NULL;
	contender->tickets_count = contender->tickets_used = 0;
}

/* ---- tickets ---- */

static bool are_stale(const struct contender *contender, unsigned seconds)
{
	return sample_now_ns() > contender->tickets_from_ns + seconds * 1000000000ull;
}

bool contender_stock(struct contender *contender, size_t count)
{
	if (!contender->kind->fetch)
		return true;
	size_t left = contender->tickets_count - contender->tickets_used;
	if (are_stale(contender, TICKET_SECONDS))
		left = 0; /* left to expire */
	if (left >= count)
		return true;
	struct ticket *tickets = calloc(count, sizeof *tickets);
	if (!tickets)
		return contender_fail(contender, "out of memory");
	if (left)
		memcpy(tickets, contender->tickets + contender->tickets_used, left * sizeof *tickets);
	else
		contender->tickets_from_ns = sample_now_ns();
	free(contender->tickets);
	contender->tickets = tickets;
	contender->tickets_used = 0;
	contender->tickets_count = 0;
	if (!contender->kind->fetch(contender, tickets + left, count - left))
		return contender_fail(contender, "no tickets: %s", strerror(errno));
	contender->tickets_count = count;
	return true;
}

bool contender_ticket(struct contender *contender, struct ticket *ticket)
{
	bool has_none = !contender_tickets_left(contender) || are_stale(contender, 2 * TICKET_SECONDS);

	if (has_none && !contender_stock(contender, 1))
		return false;
	*ticket = contender->tickets[contender->tickets_used++];
	return true;
}

size_t contender_tickets_left(const struct contender *contender)
{
	return contender->tickets_count - contender->tickets_used;
}

/* ---- pairs ---- */

/* Thousands of pairs leave two sockets each in TIME_WAIT for a minute. Without room for more of them
 * (net.ipv4.tcp_max_tw_buckets) the kernel forgets a socket that was closed and waits for FIN, if it is to wait for
 * a minute at most, and answers that FIN with a reset. */
static void outlive_the_relay(int fd)
{
	int seconds = 120;

	setsockopt(fd, IPPROTO_TCP, TCP_LINGER2, &seconds, sizeof seconds);
}

int contender_dial(const struct contender *contender, int side, uint32_t own_address)
{
	int fd = place_dial(side ? PLACE_SECOND : PLACE_FIRST, PLACE_RELAY, contender->port, own_address);

	if (fd >= 0)
		outlive_the_relay(fd);
	return fd;
}

/* False with errno EAGAIN: refused. syncthing-relaysrv does so when the second party comes before
 * it has put the first one away; its ticket is lost, and a client tries again, less hasty. */
static bool try_ticket(struct contender *contender, const struct ticket *ticket, int pause_ms, struct end ends[2])
{
	for (int side = 0; side < 2; side++) {
		uint8_t reply[REPLY_MAX];
		size_t size = contender->kind->reply_size;

		if (side && pause_ms)
			poll(NULL, 0, pause_ms);
		ends[side].fd = contender_dial(contender, side, 0);
		if (ends[side].fd < 0 || !end_send_all(&ends[side], ticket->shown[side], ticket->size) || !end_receive_all(&ends[side], reply, size))
			return false;
		errno = EAGAIN;
		if (size && memcmp(reply, contender->kind->reply, size) != 0)
			return false;
	}
	return true;
}

static bool open_with_ticket(struct contender *contender, struct end ends[2])
{
	struct ticket ticket;

	for (int tries = 0; tries < TICKET_TRIES; tries++) {
		if (!contender_ticket(contender, &ticket))
			return false;
		if (try_ticket(contender, &ticket, tries, ends))
			return true;
		if (errno != EAGAIN)
			return false;
		ends_close(ends);
	}
	return false;
}

static bool byte_passes(struct end *from, struct end *to)
{
	char byte = 'x';

	return end_send_all(from, &byte, 1) && end_receive_all(to, &byte, 1);
}

bool contender_open_pair(struct contender *contender, struct end ends[2])
{
	ends[0] = ends[1] = END_NONE;
	errno = 0;
	if ((contender->kind->open_pair ? contender->kind->open_pair(contender, ends) : open_with_ticket(contender, ends)) &&
	    (contender->tls != TLS_BETWEEN || identity_between(ends)) && byte_passes(&ends[0], &ends[1]) && byte_passes(&ends[1], &ends[0]))
		return true;
	contender_fail(contender, "no pair: %s", strerror(errno));
	ends_close(ends);
	return false;
}

bool contender_settle(struct contender *contender, size_t pairs)
{
	return !contender->kind->settle || contender->kind->settle(contender, pairs);
}

bool contender_check(struct contender *contender, struct contender_round *round)
{
	return !contender->kind->check || contender->kind->check(contender, round);
}

/* ---- no relay at all ---- */

static bool direct_start(struct contender *contender)
{
	contender->listener = place_listen(PLACE_SECOND, &contender->port);
	return contender->listener >= 0 || contender_fail(contender, "cannot listen");
}

static void direct_stop(struct contender *contender)
{
	(void)contender;
}

static bool direct_open_pair(struct contender *contender, struct end ends[2])
{
	ends[0].fd = place_dial(PLACE_FIRST, PLACE_SECOND, contender->port, 0);
	ends[1].fd = ends[0].fd < 0 ? -1 : place_accept(contender->listener);
	return ends[1].fd >= 0;
}

const struct contender_kind kind_direct = { .start = direct_start, .stop = direct_stop, .open_pair = direct_open_pair };
