// SPDX-License-Identifier: Apache-2.0
/* Starting contenders, opening pairs through them. */
#include "contender.h"
#include "host.h"
#include "sample.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_TIMEOUT_MS 10000
#define IO_TIMEOUT_S 20

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

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static void prepare(int fd)
{
	struct timeval limit = { .tv_sec = IO_TIMEOUT_S };
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/* A listener on a port of the kernel's choice; the port in `port`. */
static int listen_anywhere(uint16_t *port)
{
	struct sockaddr_in address = loopback(0);
	socklen_t size = sizeof address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096) ||
	    getsockname(fd, (struct sockaddr *)&address, &size)) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	*port = ntohs(address.sin_port);
	return fd;
}

static int dial(uint16_t port, uint32_t from_address)
{
	struct sockaddr_in address = loopback(port), own = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(from_address) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	prepare(fd);
	int one = 1; /* or bind() takes a port that no other address can use */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	if ((!from_address || !bind(fd, (struct sockaddr *)&own, sizeof own)) && !connect(fd, (struct sockaddr *)&address, sizeof address))
		return fd;
	close(fd);
	return -1;
}

/* HAProxy and socat: started with the port to listen on and the one to dial. The port
 * in front is found by binding it and letting it go. */
static bool start_peer(struct contender *contender, const char *haproxy_settings)
{
	char front[16], back[16], from[96], to[64];
	uint16_t port_behind, port_in_front;

	contender->listener = listen_anywhere(&port_behind);
	int found = listen_anywhere(&port_in_front);
	if (contender->listener < 0 || found < 0)
		return contender_fail(contender, "cannot listen: %s", strerror(errno));
	close(found);
	contender->port = port_in_front;
	snprintf(front, sizeof front, "%u", port_in_front);
	snprintf(back, sizeof back, "%u", port_behind);
	snprintf(from, sizeof from, "TCP-LISTEN:%s,bind=127.0.0.1,reuseaddr,fork,nodelay,backlog=4096", front);
	snprintf(to, sizeof to, "TCP:127.0.0.1:%s,nodelay", back);
	fflush(stdout);
	contender->pid = fork();
	if (contender->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		setenv("BENCH_FRONT", front, 1);
		setenv("BENCH_BACK", back, 1);
		if (contender->kind == CONTENDER_HAPROXY)
			execlp("haproxy", "haproxy", "-db", "-q", "-f", haproxy_settings, (char *)NULL);
		else
			execlp("socat", "socat", "-b", "131072", from, to, (char *)NULL);
		perror(contender->name);
		_exit(127);
	}
	if (contender->pid < 0)
		return contender_fail(contender, "fork: %s", strerror(errno));
	for (uint64_t deadline = sample_now_ns() + START_TIMEOUT_MS * 1000000ull; sample_now_ns() < deadline; poll(NULL, 0, 20)) {
		int fd = dial(contender->port, 0);
		if (fd < 0)
			continue;
		close(fd);
		/* The dialled connection arrives behind, maybe only to be seen closed. */
		struct pollfd arrived = { .fd = contender->listener, .events = POLLIN };
		if (poll(&arrived, 1, START_TIMEOUT_MS) == 1)
			close(accept(contender->listener, NULL, NULL));
		return true;
	}
	return contender_fail(contender, "%s does not listen", contender->name);
}

bool contender_start(struct contender *contender, const char *haproxy_settings)
{
	contender->listener = -1;
	switch (contender->kind) {
	case CONTENDER_DIRECT:
		contender->listener = listen_anywhere(&contender->port);
		return contender->listener >= 0 || contender_fail(contender, "cannot listen");
	case CONTENDER_OURS:
		return host_start(contender);
	case CONTENDER_HAPROXY:
	case CONTENDER_SOCAT:
		return start_peer(contender, haproxy_settings);
	}
	return false;
}

void contender_stop(struct contender *contender)
{
	if (contender->kind == CONTENDER_OURS)
		host_stop(contender);
	else if (contender->pid > 0) {
		kill(contender->pid, SIGTERM);
		waitpid(contender->pid, NULL, 0);
	}
	contender->pid = 0;
	if (contender->listener >= 0)
		close(contender->listener);
	contender->listener = -1;
}

int contender_dial(struct contender *contender, uint32_t from_address)
{
	int fd = dial(contender->port, from_address);

	if (fd < 0)
		contender_fail(contender, "cannot connect: %s", strerror(errno));
	return fd;
}

static int dial_with_token(struct contender *contender, const uint8_t token[32])
{
	int fd = dial(contender->port, 0);

	if (fd >= 0 && send(fd, token, 32, MSG_NOSIGNAL) == 32)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static bool byte_passes(int from, int to)
{
	char byte = 'x';

	return send(from, &byte, 1, MSG_NOSIGNAL) == 1 && recv(to, &byte, 1, 0) == 1;
}

bool contender_open_pair(struct contender *contender, int ends[2])
{
	uint8_t token[32];

	ends[0] = ends[1] = -1;
	if (contender->kind == CONTENDER_OURS) {
		if (!contender_token(contender, token))
			return false;
		ends[0] = dial_with_token(contender, token);
		ends[1] = dial_with_token(contender, token);
	} else {
		ends[0] = dial(contender->port, 0);
		if (ends[0] >= 0)
			ends[1] = accept4(contender->listener, NULL, NULL, SOCK_CLOEXEC);
		if (ends[1] >= 0)
			prepare(ends[1]);
	}
	if (ends[0] >= 0 && ends[1] >= 0 && byte_passes(ends[0], ends[1]) && byte_passes(ends[1], ends[0]))
		return true;
	contender_fail(contender, "no pair: %s", strerror(errno));
	for (int side = 0; side < 2; side++)
		if (ends[side] >= 0)
			close(ends[side]);
	return false;
}
