// SPDX-License-Identifier: Apache-2.0
/* Connecting to "host:port" without ever blocking the loop.
 *
 * Numeric addresses and "localhost" (127.0.0.1, then ::1) need no resolver;
 * other names go to libevent's, which also reads /etc/hosts. The addresses are
 * tried one after the other; each gets an equal share of the time that is
 * left, so that one that swallows packets does not use it up.
 *
 * A connector lives from connector_start() until its `done` or
 * connector_cancel(), on one event base and its thread. A resolution outlives
 * a cancelled connector: libevent answers later, and its resolver must not be
 * freed before that. */
#include "base/address.h"
#include "base/cleanup.h"
#include "base/instant.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/dns.h>
#include <event2/util.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MOST_ADDRESSES 16

struct target {
	struct sockaddr_storage address;
	socklen_t length;
};

struct connector {
	struct event_base *base;
	char *text, *host;
	uint16_t port;
	connector_done done;
	void *context;
	uint64_t deadline_ms;
	struct target targets[MOST_ADDRESSES];
	unsigned target_count, next_target;
	int fd;
	struct event *timer; /* begins the work, then the deadline */
	struct event *writable;
	struct resolution *resolution;
	bool begun;
	int last_error; /* of the address tried last */
	char tried[4 * (ADDRESS_TEXT_SIZE + 40)]; /* addresses, each but the last with its error */
};

struct resolution {
	struct connector *connector; /* NULL: nobody waits any more */
	struct evdns_base *dns;
	struct event *sweep;
};

static void connector_free(struct connector *connector)
{
	if (connector->resolution)
		connector->resolution->connector = NULL;
	if (connector->timer)
		event_free(connector->timer);
	if (connector->writable)
		event_free(connector->writable);
	if (connector->fd >= 0)
		close(connector->fd);
	free(connector->text);
	free(connector->host);
	free(connector);
}

void connector_cancel(struct connector *connector)
{
	if (connector)
		connector_free(connector);
}

/* Frees the connector and tells; nothing of it may be touched afterwards. */
static void finish(struct connector *connector, int fd_or_error, const char *why)
{
	connector_done done = connector->done;
	void *context = connector->context;
	const char *at = connector->tried;
	_free_ char *reason = NULL;

	if (!strcmp(at, connector->text))
		at = "";
	if (fd_or_error >= 0) {
		connector->fd = -1;
	} else if (asprintf(&reason, "connecting to %s%s%s: %s", connector->text, *at ? " at " : "", at, why) < 0) {
		reason = NULL;
	}
	connector_free(connector);
	done(fd_or_error, fd_or_error >= 0 ? "connected" : reason ? reason : why, context);
}

static void try_next(struct connector *connector);

static void on_writable(evutil_socket_t fd, short what, void *argument)
{
	struct connector *connector = argument;
	socklen_t length = sizeof(connector->last_error);

	connector->last_error = 0;
	if (what & EV_TIMEOUT)
		connector->last_error = ETIMEDOUT;
	else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &connector->last_error, &length))
		connector->last_error = errno;
	event_free(steal_pointer(connector->writable));
	if (!connector->last_error) {
		finish(connector, fd, NULL);
		return;
	}
	close(connector->fd);
	connector->fd = -1;
	try_next(connector);
}

/* 0 if an attempt is under way, else why it cannot be. */
static int begin_attempt(struct connector *connector, const struct target *target)
{
	uint64_t now = clock_now_ms();
	uint64_t left = connector->deadline_ms > now ? connector->deadline_ms - now : 1;
	struct timeval timeout;
	int on = 1;

	left = left / (connector->target_count - connector->next_target + 1) + 1;
	timeout.tv_sec = (time_t)(left / 1000);
	timeout.tv_usec = (suseconds_t)(left % 1000 * 1000);
	connector->fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connector->fd < 0)
		return errno;
	/* Requests and tokens are small and wait for nothing. */
	setsockopt(connector->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(connector->fd, (const struct sockaddr *)&target->address, target->length) && errno != EINPROGRESS)
		return errno;
	connector->writable = event_new(connector->base, connector->fd, EV_WRITE, on_writable, connector);
	if (!connector->writable || event_add(connector->writable, &timeout))
		return ENOMEM;
	return 0;
}

/* Of very many addresses only the first ones are told. */
static void note_tried(struct connector *connector, const struct target *target)
{
	char address[ADDRESS_TEXT_SIZE], before[128] = "";
	size_t length = strlen(connector->tried), room = sizeof(connector->tried) - length;

	address_format((const struct sockaddr *)&target->address, address);
	if (length)
		snprintf(before, sizeof(before), " (%s), ", strerror(connector->last_error));
	if (strlen(before) + strlen(address) < room)
		snprintf(connector->tried + length, room, "%s%s", before, address);
}

static void try_next(struct connector *connector)
{
	while (connector->next_target < connector->target_count) {
		const struct target *target = &connector->targets[connector->next_target++];

		note_tried(connector, target);
		connector->last_error = begin_attempt(connector, target);
		if (!connector->last_error)
			return;
		if (connector->writable)
			event_free(steal_pointer(connector->writable));
		if (connector->fd >= 0)
			close(connector->fd);
		connector->fd = -1;
	}
	finish(connector, -connector->last_error, strerror(connector->last_error));
}

static void add_target(struct connector *connector, const void *address, size_t length)
{
	struct target *target;

	if (connector->target_count == MOST_ADDRESSES || length > sizeof(target->address))
		return;
	target = &connector->targets[connector->target_count++];
	memcpy(&target->address, address, length);
	target->length = (socklen_t)length;
}

static void add_ipv4(struct connector *connector, struct in_addr host)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(connector->port), .sin_addr = host };

	add_target(connector, &address, sizeof(address));
}

static void add_ipv6(struct connector *connector, struct in6_addr host)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(connector->port), .sin6_addr = host };

	add_target(connector, &address, sizeof(address));
}

static void on_sweep(evutil_socket_t fd, short what, void *argument)
{
	struct resolution *resolution = argument;

	(void)fd;
	(void)what;
	evdns_base_free(resolution->dns, 0);
	event_free(resolution->sweep);
	free(resolution);
}

static void on_resolved(int error, struct evutil_addrinfo *found, void *argument)
{
	struct resolution *resolution = argument;
	struct connector *connector = resolution->connector;
	/* The resolver's own callbacks of the other family may still be queued
	 * behind this one and use it: let them pass first. */
	static const struct timeval later = { .tv_sec = 0, .tv_usec = 200000 };

	event_add(resolution->sweep, &later);
	if (!connector) {
		if (found)
			evutil_freeaddrinfo(found);
		return;
	}
	resolution->connector = NULL;
	connector->resolution = NULL;
	for (int pass = 0; pass < 2; pass++) {
		for (struct evutil_addrinfo *each = found; each; each = each->ai_next) {
			if (each->ai_family == (pass ? AF_INET6 : AF_INET))
				add_target(connector, each->ai_addr, each->ai_addrlen);
		}
	}
	if (found)
		evutil_freeaddrinfo(found);
	if (error || !connector->target_count)
		finish(connector, -EHOSTUNREACH, error ? evutil_gai_strerror(error) : "the name has no address");
	else
		try_next(connector);
}

static int begin_resolution(struct connector *connector)
{
	struct evutil_addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP,
					 .ai_flags = EVUTIL_AI_ADDRCONFIG };
	struct resolution *resolution = calloc(1, sizeof(*resolution));
	char service[8];

	if (!resolution)
		return -ENOMEM;
	resolution->dns = evdns_base_new(connector->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (resolution->dns)
		resolution->sweep = evtimer_new(connector->base, on_sweep, resolution);
	if (!resolution->sweep) {
		if (resolution->dns)
			evdns_base_free(resolution->dns, 0);
		free(resolution);
		return -ENOMEM;
	}
	/* A machine without the file has at least /etc/hosts: not an error here. */
	evdns_base_resolv_conf_parse(resolution->dns, DNS_OPTIONS_ALL, "/etc/resolv.conf");
	resolution->connector = connector;
	connector->resolution = resolution;
	snprintf(service, sizeof(service), "%u", connector->port);
	evdns_getaddrinfo(resolution->dns, connector->host, service, &hints, on_resolved, resolution);
	return 0;
}

static void begin(struct connector *connector)
{
	struct in6_addr ipv6 = in6addr_loopback;
	struct in_addr ipv4 = { .s_addr = htonl(INADDR_LOOPBACK) };

	if (!strcasecmp(connector->host, "localhost") || !*connector->host) {
		add_ipv4(connector, ipv4);
		add_ipv6(connector, ipv6);
	} else if (inet_pton(AF_INET, connector->host, &ipv4) == 1) {
		add_ipv4(connector, ipv4);
	} else if (inet_pton(AF_INET6, connector->host, &ipv6) == 1) {
		add_ipv6(connector, ipv6);
	} else {
		if (begin_resolution(connector))
			finish(connector, -ENOMEM, strerror(ENOMEM));
		return;
	}
	try_next(connector);
}

static void on_timer(evutil_socket_t fd, short what, void *argument)
{
	struct connector *connector = argument;
	uint64_t now = clock_now_ms();
	uint64_t left = connector->deadline_ms > now ? connector->deadline_ms - now : 0;
	struct timeval timeout = { .tv_sec = (time_t)(left / 1000), .tv_usec = (suseconds_t)(left % 1000 * 1000) };

	(void)fd;
	(void)what;
	/* The loop's clock may be a little ahead of ours. */
	if (connector->begun && !left) {
		finish(connector, -ETIMEDOUT, strerror(ETIMEDOUT));
		return;
	}
	event_add(connector->timer, &timeout);
	if (!connector->begun) {
		connector->begun = true;
		begin(connector);
	}
}

int connector_start(struct event_base *base, const char *text, unsigned timeout_ms, connector_done done,
		    void *context, struct connector **result)
{
	static const struct timeval at_once = { 0 };
	struct connector *connector = calloc(1, sizeof(*connector));
	int error;

	if (!connector)
		return -ENOMEM;
	connector->fd = -1;
	connector->base = base;
	connector->done = done;
	connector->context = context;
	connector->deadline_ms = clock_now_ms() + timeout_ms;
	error = address_split(text, &connector->host, &connector->port);
	if (error)
		goto fail;
	error = -ENOMEM;
	connector->text = strdup(text);
	connector->timer = evtimer_new(base, on_timer, connector);
	if (!connector->text || !connector->timer || event_add(connector->timer, &at_once))
		goto fail;
	*result = connector;
	return 0;
fail:
	connector_free(connector);
	return error;
}
