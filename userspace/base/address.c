// SPDX-License-Identifier: Apache-2.0
/* "host:port" texts and listening sockets.
 *
 * "localhost" never asks a resolver: it is 127.0.0.1, then ::1. A name that
 * stands for several addresses binds one of them, IPv4 first, as the programs
 * of the existing installations do. address_listen() may block in the
 * resolver and belongs to start-up; everything else is pure. */
#include "base/address.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

static int parse_port(const char *text, uint16_t *port)
{
	unsigned value = 0;
	const char *p;

	for (p = text; *p >= '0' && *p <= '9' && p - text < 6; p++)
		value = value * 10 + (unsigned)(*p - '0');
	if (p == text || *p || value > 65535)
		return -EINVAL;
	*port = (uint16_t)value;
	return 0;
}

int address_split(const char *text, char **host, uint16_t *port)
{
	const char *start = text, *end, *colon;
	uint16_t number;
	char *copy;

	if (*text == '[') {
		start = text + 1;
		end = strchr(start, ']');
		if (!end || end[1] != ':')
			return -EINVAL;
		colon = end + 1;
	} else {
		end = colon = strchr(text, ':');
		/* An IPv6 address without brackets cannot be told from its port. */
		if (!colon || strchr(colon + 1, ':'))
			return -EINVAL;
	}
	for (const char *p = start; p < end; p++) {
		if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '[' || *p == ']')
			return -EINVAL;
	}
	if (parse_port(colon + 1, &number))
		return -EINVAL;
	copy = strndup(start, (size_t)(end - start));
	if (!copy)
		return -ENOMEM;
	*host = copy;
	*port = number;
	return 0;
}

char *address_format(const struct sockaddr *address, char text[ADDRESS_TEXT_SIZE])
{
	char host[INET6_ADDRSTRLEN], zone[IF_NAMESIZE + 12] = "";

	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)address;

		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(text, ADDRESS_TEXT_SIZE, "%s:%u", host, ntohs(in->sin_port));
	} else if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)address;

		/* A dual-stack listener shows IPv4 peers mapped; people know the short form. */
		if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
			inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof(host));
			snprintf(text, ADDRESS_TEXT_SIZE, "%s:%u", host, ntohs(in6->sin6_port));
			return text;
		}
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		if (in6->sin6_scope_id)
			snprintf(zone, sizeof(zone), "%%%u", (unsigned)in6->sin6_scope_id);
		snprintf(text, ADDRESS_TEXT_SIZE, "[%.39s%.11s]:%u", host, zone, ntohs(in6->sin6_port));
	} else if (address->sa_family == AF_UNIX) {
		snprintf(text, ADDRESS_TEXT_SIZE, "unix");
	} else {
		snprintf(text, ADDRESS_TEXT_SIZE, "?");
	}
	return text;
}

char *address_of_peer(int fd, char text[ADDRESS_TEXT_SIZE])
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);

	if (getpeername(fd, (struct sockaddr *)&peer, &length) || length < sizeof(sa_family_t))
		snprintf(text, ADDRESS_TEXT_SIZE, "?");
	else
		address_format((struct sockaddr *)&peer, text);
	return text;
}

static int listen_on(const struct sockaddr *address, socklen_t length, bool both_families, bool reuse_port,
		     int backlog)
{
	_close_ int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1, only_ipv6 = !both_families;
	int result;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
		return -errno;
	if (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)))
		return -errno;
	if (address->sa_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_ipv6, sizeof(only_ipv6)))
		return -errno;
	if (bind(fd, address, length) || listen(fd, backlog))
		return -errno;
	result = fd;
	fd = -1;
	return result;
}

static int listen_ipv4(in_addr_t host, uint16_t port, bool reuse_port, int backlog)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(host),
	};

	return listen_on((struct sockaddr *)&address, sizeof(address), false, reuse_port, backlog);
}

static int listen_ipv6(struct in6_addr host, uint16_t port, bool both_families, bool reuse_port, int backlog)
{
	struct sockaddr_in6 address = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(port),
		.sin6_addr = host,
	};

	return listen_on((struct sockaddr *)&address, sizeof(address), both_families, reuse_port, backlog);
}

/* The host does not have this family at all (ipv6.disable=1, or no ::1). */
static bool family_is_missing(int error)
{
	return error == -EAFNOSUPPORT || error == -EADDRNOTAVAIL;
}

static int listen_by_name(const char *host, uint16_t port, bool reuse_port, int backlog)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	struct addrinfo *found;
	char service[8];
	int result = -EADDRNOTAVAIL, error;

	snprintf(service, sizeof(service), "%u", port);
	error = getaddrinfo(host, service, &hints, &found);
	if (error) {
		/* No errno says this. */
		log_error("cannot resolve %s: %s", host, gai_strerror(error));
		return error == EAI_MEMORY ? -ENOMEM : -EADDRNOTAVAIL;
	}
	for (int pass = 0; pass < 2 && result < 0; pass++) {
		for (struct addrinfo *each = found; each && result < 0; each = each->ai_next) {
			if (each->ai_family == (pass ? AF_INET6 : AF_INET))
				result = listen_on(each->ai_addr, each->ai_addrlen, false, reuse_port, backlog);
		}
	}
	freeaddrinfo(found);
	return result;
}

int address_listen(const char *text, bool reuse_port, int backlog)
{
	_free_ char *host = NULL;
	struct in6_addr ipv6;
	uint16_t port;
	int result = address_split(text, &host, &port);

	if (result)
		return result;
	if (!*host || !strcmp(host, "::")) {
		result = listen_ipv6(in6addr_any, port, true, reuse_port, backlog);
		if (family_is_missing(result) && !*host)
			result = listen_ipv4(INADDR_ANY, port, reuse_port, backlog);
		return result;
	}
	if (!strcasecmp(host, "localhost")) {
		result = listen_ipv4(INADDR_LOOPBACK, port, reuse_port, backlog);
		if (family_is_missing(result))
			result = listen_ipv6(in6addr_loopback, port, false, reuse_port, backlog);
		return result;
	}
	if (inet_pton(AF_INET6, host, &ipv6) == 1)
		return listen_ipv6(ipv6, port, false, reuse_port, backlog);
	return listen_by_name(host, port, reuse_port, backlog);
}
