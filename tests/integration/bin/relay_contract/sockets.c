// SPDX-License-Identifier: Apache-2.0
/* What the kernel holds in the queues of the host's sockets, by sock_diag. */
#include "sockets.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void add_queues(const struct nlmsghdr *header, uint16_t port, struct sockets_memory *sum)
{
	const struct inet_diag_msg *message = NLMSG_DATA(header);
	int left = (int)NLMSG_PAYLOAD(header, sizeof *message);

	if (message->id.idiag_sport != htons(port))
		return;
	for (const struct rtattr *at = (const void *)(message + 1); RTA_OK(at, left); at = RTA_NEXT(at, left))
		if (at->rta_type == INET_DIAG_SKMEMINFO) {
			uint32_t memory[SK_MEMINFO_VARS] = { 0 };

			memcpy(memory, RTA_DATA(at), RTA_PAYLOAD(at) < sizeof memory ? RTA_PAYLOAD(at) : sizeof memory);
			sum->received += memory[SK_MEMINFO_RMEM_ALLOC];
			sum->to_send += memory[SK_MEMINFO_WMEM_QUEUED];
		}
}

struct sockets_memory sockets_memory(uint16_t port)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 request;
	} question = {
		.header = { .nlmsg_len = sizeof question, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.request = { .sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP, .idiag_ext = 1 << (INET_DIAG_SKMEMINFO - 1),
			     .idiag_states = 1u << 1 /* TCP_ESTABLISHED */ },
	};
	_Alignas(struct nlmsghdr) char answer[32768];
	struct sockets_memory sum = { 0 };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	bool is_done = fd < 0 || send(fd, &question, sizeof question, 0) < 0;

	while (!is_done) {
		ssize_t size = recv(fd, answer, sizeof answer, 0);
		unsigned left = size > 0 ? (unsigned)size : 0;

		is_done = size <= 0;
		for (struct nlmsghdr *at = (void *)answer; NLMSG_OK(at, left); at = NLMSG_NEXT(at, left)) {
			if (at->nlmsg_type == SOCK_DIAG_BY_FAMILY)
				add_queues(at, port, &sum);
			else
				is_done = true;
		}
	}
	if (fd >= 0)
		close(fd);
	return sum;
}
