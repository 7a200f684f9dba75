// SPDX-License-Identifier: Apache-2.0
/* What the kernel says about a TCP socket: the facts that the gate and the books
 * are built on. Each function is one system call or two on the socket; any
 * thread may call them. A file of its own because linux/tcp.h, which knows the
 * byte counters, does not go together with netinet/tcp.h. */
#include "relay/pair.h"

#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

void tcp_facts_read(int fd, struct tcp_facts *facts)
{
	struct tcp_info info;
	socklen_t size = sizeof info;

	memset(&info, 0, sizeof info);
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size))
		memset(&info, 0, sizeof info);
	facts->state = info.tcpi_state;
	facts->rtt_us = info.tcpi_rtt;
	facts->least_rtt_us = info.tcpi_min_rtt;
	facts->segment_bytes = info.tcpi_snd_mss;
	facts->met_segment_bytes = info.tcpi_rcv_mss;
	facts->most_segment_bytes = info.tcpi_advmss;
	facts->path_bytes = info.tcpi_delivery_rate * info.tcpi_min_rtt / 1000000;
	facts->acked = info.tcpi_bytes_acked;
	facts->received = info.tcpi_bytes_received;
}

uint64_t tcp_acked(int fd)
{
	struct tcp_facts facts;

	tcp_facts_read(fd, &facts);
	return facts.acked;
}

uint8_t tcp_state(int fd)
{
	struct tcp_facts facts;

	tcp_facts_read(fd, &facts);
	return facts.state;
}

unsigned tcp_unsent(int fd)
{
	int bytes = 0;

	return ioctl(fd, SIOCOUTQ, &bytes) || bytes < 0 ? 0 : (unsigned)bytes;
}

uint64_t tcp_stream_end(int fd)
{
	for (;;) {
		unsigned unsent = tcp_unsent(fd);
		uint64_t acked = tcp_acked(fd);

		/* An empty queue stays empty: only the caller writes. */
		if (!unsent || tcp_unsent(fd) == unsent)
			return acked + unsent;
	}
}

uint32_t tcp_charged(int fd)
{
	uint32_t memory[SK_MEMINFO_VARS];
	socklen_t size = sizeof memory;

	return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &size) ? 0 : memory[SK_MEMINFO_RMEM_ALLOC];
}

uint32_t tcp_memory(int fd)
{
	uint32_t memory[SK_MEMINFO_VARS];
	socklen_t size = sizeof memory;

	return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &size) ? 0 : memory[SK_MEMINFO_WMEM_QUEUED];
}

bool tcp_memory_is_low(int fd)
{
	return tcp_memory(fd) <= tcp_send_buffer(fd) / 16 * 3;
}

uint64_t tcp_send_buffer(int fd)
{
	int bytes = 0;
	socklen_t size = sizeof bytes;

	return getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &size) || bytes < 0 ? 0 : (uint64_t)bytes;
}
