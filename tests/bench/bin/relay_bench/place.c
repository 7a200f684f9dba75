// SPDX-License-Identifier: Apache-2.0
/* setns() moves one thread only, so each thread remembers where it is. */
#include "place.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define IO_TIMEOUT_S 20
#define BACKLOG 8192

static struct {
	int namespace; /* 0: that of the program */
	char address[INET_ADDRSTRLEN];
} places[PLACE_COUNT] = { { 0, "127.0.0.1" }, { 0, "127.0.0.1" }, { 0, "127.0.0.1" } };
static int home; /* the program's own namespace; 0: nobody leaves it */
static __thread int current;

bool place_define(enum place place, const char *text)
{
	char path[PATH_MAX];
	const char *comma = strchr(text, ',');
	struct in_addr parsed;

	if (!comma || inet_pton(AF_INET, comma + 1, &parsed) != 1)
		return false;
	snprintf(places[place].address, sizeof places[place].address, "%s", comma + 1);
	if (comma == text)
		return true;
	snprintf(path, sizeof path, "%s%.*s", *text == '/' ? "" : "/run/netns/", (int)(comma - text), text);
	if (!home)
		home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	places[place].namespace = open(path, O_RDONLY | O_CLOEXEC);
	return home > 0 && places[place].namespace > 0;
}

bool place_is_loopback(enum place place)
{
	return !strncmp(places[place].address, "127.", 4);
}

const char *place_address(enum place place)
{
	return places[place].address;
}

bool place_enter(enum place place)
{
	int wanted = places[place].namespace;

	if (wanted == current)
		return true;
	if (setns(wanted ? wanted : home, CLONE_NEWNET))
		return false;
	current = wanted;
	return true;
}

static struct sockaddr_in socket_address(enum place place, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };

	inet_pton(AF_INET, places[place].address, &address.sin_addr);
	return address;
}

static void prepare(int fd)
{
	struct timeval limit = { .tv_sec = IO_TIMEOUT_S };
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

int place_dial(enum place from, enum place to, uint16_t port, uint32_t own_address)
{
	struct sockaddr_in address = socket_address(to, port), own = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(own_address) };
	int fd = place_enter(from) ? socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;

	if (fd < 0)
		return -1;
	prepare(fd);
	int one = 1; /* or bind() takes a port that no other address can use */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	if ((!own_address || !bind(fd, (struct sockaddr *)&own, sizeof own)) && !connect(fd, (struct sockaddr *)&address, sizeof address))
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

int place_listen(enum place place, uint16_t *port)
{
	struct sockaddr_in address = socket_address(place, 0);
	socklen_t size = sizeof address;
	int fd = place_enter(place) ? socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) || listen(fd, BACKLOG) ||
	    getsockname(fd, (struct sockaddr *)&address, &size)) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	*port = ntohs(address.sin_port);
	return fd;
}

int place_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0)
		prepare(fd);
	return fd;
}
