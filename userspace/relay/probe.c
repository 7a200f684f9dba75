// SPDX-License-Identifier: Apache-2.0
/* What the running kernel and our privileges allow, found out by trying it on
 * loopback connections and never from a version number.
 *
 * Each capability has one sentence. The sockmap plane needs all of "bpf", "trim",
 * "sockmap" and "gate", which are tried one after another in fresh maps on the
 * same two connections. Nothing is pinned, so nothing is left behind. kTLS is
 * never tried on a socket of a map: some kernels panic. Any thread; no relay is
 * needed. */
#include "relay/object.h"
#include "relay/pair.h"
#include "relay/probe.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIPE_BYTES_LEAST (64 << 10)

void probe_add(struct probe_report *report, const char *name, enum probe_state state, const char *sentence, ...)
{
	struct probe_item *item = &report->items[report->count];
	va_list arguments;

	if (report->count == PROBE_ITEMS_MAX)
		return;
	report->count++;
	item->name = name;
	item->state = state;
	va_start(arguments, sentence);
	vsnprintf(item->sentence, sizeof item->sentence, sentence, arguments);
	va_end(arguments);
}

/* ---- loopback connections ---- */

static int connect_pair(int family, int *client, int *relay)
{
	struct sockaddr_in6 address = { .sin6_family = (sa_family_t)family };
	socklen_t size = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof address;
	int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (family == AF_INET)
		((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		address.sin6_addr = in6addr_loopback;
	*client = *relay = -1;
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&address, &size))
		goto out;
	*client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*client < 0 || connect(*client, (struct sockaddr *)&address, size))
		goto out;
	*relay = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
out:
	if (listener >= 0)
		close(listener);
	return *relay >= 0 ? 0 : -1;
}

void probe_close_sockets(struct probe_sockets *sockets)
{
	for (unsigned i = 0; i < 2; i++) {
		if (sockets->relay[i] >= 0)
			close(sockets->relay[i]);
		if (sockets->client[i] >= 0)
			close(sockets->client[i]);
		sockets->relay[i] = sockets->client[i] = -1;
	}
}

int probe_open_sockets(struct probe_sockets *sockets)
{
	static const int families[] = { AF_INET, AF_INET6 };

	*sockets = (struct probe_sockets){ { -1, -1 }, { -1, -1 } };
	for (unsigned i = 0; i < 2; i++) {
		if (!connect_pair(families[i], &sockets->client[0], &sockets->relay[0]) &&
		    !connect_pair(families[i], &sockets->client[1], &sockets->relay[1]))
			return 0;
		probe_close_sockets(sockets);
	}
	return -1;
}

/* Exactly `text` arrives at `fd` in time. */
static bool arrives(int fd, const char *text)
{
	size_t size = strlen(text), got = 0;
	char bytes[32];

	while (got < size) {
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		ssize_t part;

		if (poll(&poll_fd, 1, PROBE_WAIT_MS) <= 0)
			return false;
		part = recv(fd, bytes + got, size - got, MSG_DONTWAIT);
		if (part == 0 || (part < 0 && errno != EAGAIN))
			return false;
		got += part > 0 ? (size_t)part : 0;
	}
	return memcmp(bytes, text, size) == 0;
}

static bool says(int fd, const char *text)
{
	return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

/* ---- sockmap ---- */

static int insert_socket(struct gate_object *object, uint32_t index, int fd)
{
	uint64_t cookie, value = (uint64_t)fd;
	socklen_t size = sizeof cookie;

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size))
		return -errno;
	return gate_object_enter(object, index, cookie) ?: bpf_map_update_elem(object->sockets_fd, &index, &value, BPF_ANY);
}

static bool open_gate(struct gate_direction *direction)
{
	unsigned long long word = __atomic_load_n(&direction->gate, __ATOMIC_ACQUIRE);

	return (word & GATE_CLOSED) && __atomic_compare_exchange_n(&direction->gate, &word, word & ~GATE_CLOSED, false,
								   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static bool try_trim(struct gate_object *object, struct probe_sockets *sockets, struct probe_report *report)
{
	char head[4];
	int error = 0;

	/* A packet of which userspace has read a part must come to the program without that part. */
	if (!says(sockets->client[0], "headtail") || !arrives(sockets->relay[0], "head")) {
		probe_add(report, "trim", PROBE_NO, "a loopback connection did not deliver");
		return false;
	}
	for (uint32_t i = 0; i < 2; i++) {
		struct gate_direction *direction = &object->directions[i];

		direction->base = tcp_stream_end(sockets->relay[!i]);
		direction->credit = 64 << 10;
		direction->memory = 64 << 10;
		direction->max_packets = 64;
		__atomic_store_n(&direction->gate, GATE_CLOSED, __ATOMIC_RELEASE);
	}
	for (uint32_t i = 0; i < 2 && !error; i++)
		error = insert_socket(object, i, sockets->relay[i]);
	if (error) {
		probe_add(report, "trim", PROBE_NO, "a socket map refused a connection: %s", strerror(-error));
		return false;
	}
	/* The first recv makes the kernel hand over what came before, an event does not. */
	if (recv(sockets->relay[0], head, sizeof head, MSG_DONTWAIT) == sizeof head ? memcmp(head, "tail", sizeof head) != 0
										    : !arrives(sockets->relay[0], "tail")) {
		probe_add(report, "trim", PROBE_NO, "a packet that was read in part did not come without that part");
		return false;
	}
	if (GATE_HANDED_UP(__atomic_load_n(&object->directions[0].gate, __ATOMIC_ACQUIRE)) != 4) {
		probe_add(report, "trim", PROBE_NO, "the program did not count what it handed up");
		return false;
	}
	probe_add(report, "trim", PROBE_YES, "bytes that were taken before are cut off a packet by its sequence number");
	return true;
}

static bool try_redirect(struct gate_object *object, struct probe_sockets *sockets, struct probe_report *report)
{
	bool works = open_gate(&object->directions[0]) && open_gate(&object->directions[1]) &&
		     says(sockets->client[0], "ping") && arrives(sockets->client[1], "ping") &&
		     says(sockets->client[1], "pong!") && arrives(sockets->client[0], "pong!") &&
		     __atomic_load_n(&object->directions[0].redirected, __ATOMIC_RELAXED) == 4 &&
		     __atomic_load_n(&object->directions[1].redirected, __ATOMIC_RELAXED) == 5;

	probe_add(report, "sockmap", works ? PROBE_YES : PROBE_NO, works
		? "a verdict program moved bytes both ways between two loopback connections"
		: "bytes that a verdict program redirected did not arrive");
	return works;
}

static bool try_gate(struct gate_object *object, struct probe_sockets *sockets, struct probe_report *report)
{
	struct gate_direction *direction = &object->directions[0];
	struct pollfd ring = { .fd = object->ring_fds[0], .events = POLLIN };
	bool works;

	/* No flight is small enough for this credit: the next packet closes the gate. */
	__atomic_store_n(&direction->credit, -1ull, __ATOMIC_RELAXED);
	works = says(sockets->client[0], "more") && arrives(sockets->relay[0], "more") && poll(&ring, 1, PROBE_WAIT_MS) == 1 &&
		__atomic_load_n(&direction->closings[GATE_CREDIT], __ATOMIC_RELAXED) == 1 &&
		__atomic_load_n(&direction->redirected, __ATOMIC_RELAXED) == 4;
	probe_add(report, "gate", works ? PROBE_YES : PROBE_NO, works
		? "the program closed its gate when the credit was used up, and announced it"
		: "the program did not close its gate when the credit was used up");
	return works;
}

static bool try_sockmap(struct probe_report *report)
{
	struct probe_sockets sockets;
	struct gate_object *object = NULL;
	char reason[96];
	bool works = false;
	int error = gate_object_open(&gate_image_product, 2, 1, &object, reason, sizeof reason);

	if (error) {
		const char *needs = error == -EPERM || error == -EACCES ? "; needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON" : "";

		probe_add(report, "bpf", PROBE_NO, "the kernel program was refused at %s%s", reason, needs);
		probe_add(report, "sockmap", PROBE_NO, "needs the kernel program (%s%s)", reason, needs);
		return false;
	}
	probe_add(report, "bpf", PROBE_YES, "the kernel program was loaded and attached to a socket map");
	if (probe_open_sockets(&sockets)) {
		probe_add(report, "sockmap", PROBE_NO, "no loopback connection could be made to try it on");
	} else {
		works = try_trim(object, &sockets, report) && try_redirect(object, &sockets, report) &&
			try_gate(object, &sockets, report);
	}
	probe_close_sockets(&sockets);
	gate_object_close(object);
	if (!works && strcmp(report->items[report->count - 1].name, "sockmap") != 0)
		probe_add(report, "sockmap", PROBE_NO, "needs \"%s\", which failed", report->items[report->count - 1].name);
	return works;
}

/* ---- the others ---- */

static bool try_splice(struct probe_report *report)
{
	struct probe_sockets sockets;
	int ends[2] = { -1, -1 };
	bool works = false;

	if (probe_open_sockets(&sockets)) {
		probe_add(report, "splice", PROBE_NO, "no loopback connection could be made to try it on");
	} else if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) || fcntl(ends[1], F_GETPIPE_SZ) < PIPE_BYTES_LEAST) {
		probe_add(report, "splice", PROBE_NO, "no pipe of 64 KB is to be had");
	} else {
		struct pollfd poll_fd = { .fd = sockets.relay[0], .events = POLLIN };

		works = says(sockets.client[0], "ping") && poll(&poll_fd, 1, PROBE_WAIT_MS) == 1 &&
			splice(sockets.relay[0], NULL, ends[1], NULL, 64, SPLICE_F_NONBLOCK) == 4 &&
			splice(ends[0], NULL, sockets.relay[1], NULL, 4, SPLICE_F_NONBLOCK) == 4 &&
			arrives(sockets.client[1], "ping");
		probe_add(report, "splice", works ? PROBE_YES : PROBE_NO, works
			? "bytes went from socket to pipe to socket"
			: "splice between sockets and a pipe failed: %s", strerror(errno));
	}
	for (unsigned i = 0; i < 2; i++)
		if (ends[i] >= 0)
			close(ends[i]);
	probe_close_sockets(&sockets);
	return works;
}

static void try_send_buffer(struct probe_report *report)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), bytes = 8 << 20;
	bool works = fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);

	probe_add(report, "send-buffer", works ? PROBE_YES : PROBE_NO, works
		? "send buffers may be larger than net.core.wmem_max"
		: "send buffers are limited by net.core.wmem_max, and so is credit");
	if (fd >= 0)
		close(fd);
}

static const char *const forbidden = "forbidden by the setting relay.planes";

void relay_probe(unsigned planes_allowed, struct probe_report *report)
{
	memset(report, 0, sizeof *report);
	if (planes_allowed & PLANE_MASK_SOCKMAP) {
		report->planes[PLANE_SOCKMAP] = try_sockmap(report);
		try_send_buffer(report);
	} else {
		probe_add(report, "sockmap", PROBE_FORBIDDEN, "%s", forbidden);
	}
	if (planes_allowed & PLANE_MASK_SPLICE)
		report->planes[PLANE_SPLICE] = try_splice(report);
	else
		probe_add(report, "splice", PROBE_FORBIDDEN, "%s", forbidden);
	if (planes_allowed & PLANE_MASK_KTLS_SPLICE)
		probe_ktls(report);
	else
		probe_add(report, "ktls-splice", PROBE_FORBIDDEN, "%s", forbidden);
	report->planes[PLANE_COPY] = (planes_allowed & PLANE_MASK_COPY) != 0;
	if (report->planes[PLANE_COPY])
		probe_add(report, "copy", PROBE_YES, "recv and send, which always work");
	else
		probe_add(report, "copy", PROBE_FORBIDDEN, "%s; used all the same where nothing else can move the bytes", forbidden);
}
