// SPDX-License-Identifier: Apache-2.0
/* A socket in repair mode can be closed without a packet, and a new one can be made in
 * the state of the old: addresses, sequence numbers, options, windows, time stamps. The
 * only thing changed is the send queue's sequence number. Between the two calls the
 * connection has no socket here and a packet of the relay would be answered by RST, so
 * it must be silent; acknowledgements that come later are for bytes "not sent yet" and
 * are ignored by TCP until the old bytes have been sent again. */
#include "forge.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEGMENT_MAX 65483u /* of loopback: old and new bytes must travel in one segment */
#define WINDOW_LEAST (1u << 20)

#define OPTION_MSS 2
#define OPTION_WINDOW 3
#define OPTION_SACK_PERMITTED 4
#define OPTION_TIMESTAMP 8

struct connection {
	struct sockaddr_in here, there;
	uint32_t sequence[2]; /* TCP_RECV_QUEUE, TCP_SEND_QUEUE */
	uint32_t timestamp;
	struct tcp_repair_window window;
	struct tcp_info info;
	int send_buffer, receive_buffer;
};

static int set(int fd, int option, int value)
{
	return setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value);
}

static int get(int fd, int option, void *value, socklen_t size)
{
	return getsockopt(fd, IPPROTO_TCP, option, value, &size);
}

static int connection_read(int fd, struct connection *connection)
{
	socklen_t here = sizeof connection->here, there = sizeof connection->there, size = sizeof(int);

	memset(connection, 0, sizeof *connection);
	if (get(fd, TCP_INFO, &connection->info, sizeof connection->info) ||
	    getsockname(fd, (struct sockaddr *)&connection->here, &here) ||
	    getpeername(fd, (struct sockaddr *)&connection->there, &there) || set(fd, TCP_REPAIR, TCP_REPAIR_ON))
		return -errno;
	getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &connection->send_buffer, &size);
	getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &connection->receive_buffer, &size);
	for (int queue = 0; queue < 2; queue++)
		if (set(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE + queue) ||
		    get(fd, TCP_QUEUE_SEQ, &connection->sequence[queue], sizeof(uint32_t)))
			return -errno;
	if (get(fd, TCP_TIMESTAMP, &connection->timestamp, sizeof connection->timestamp) ||
	    get(fd, TCP_REPAIR_WINDOW, &connection->window, sizeof connection->window))
		return -errno;
	return 0;
}

static int connection_write_options(int fd, const struct connection *connection)
{
	const struct tcp_info *info = &connection->info;
	struct tcp_repair_opt options[4];
	unsigned count = 0;

	options[count++] = (struct tcp_repair_opt){ OPTION_MSS, SEGMENT_MAX };
	if (info->tcpi_options & TCPI_OPT_WSCALE)
		options[count++] = (struct tcp_repair_opt){ OPTION_WINDOW, info->tcpi_snd_wscale | (uint32_t)info->tcpi_rcv_wscale << 16 };
	if (info->tcpi_options & TCPI_OPT_SACK)
		options[count++] = (struct tcp_repair_opt){ OPTION_SACK_PERMITTED, 0 };
	if (info->tcpi_options & TCPI_OPT_TIMESTAMPS)
		options[count++] = (struct tcp_repair_opt){ OPTION_TIMESTAMP, 0 };
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, (socklen_t)(count * sizeof *options)))
		return -errno;
	return 0;
}

static int connection_restore(int fd, const struct connection *connection, uint32_t back, int old_fd)
{
	struct tcp_repair_window window = connection->window;
	/* Real sizes are twice what is asked for. */
	int one = 1, send_buffer = connection->send_buffer / 2, receive_buffer = connection->receive_buffer / 2;

	/* Anchored at the new position; the right edge of the relay's window stays where it is. */
	window.snd_wnd += back;
	/* Segments are at most half of the largest window ever seen. */
	window.max_window = window.snd_wnd > WINDOW_LEAST ? window.snd_wnd : WINDOW_LEAST;
	if (set(fd, TCP_REPAIR, TCP_REPAIR_ON) || set(fd, TCP_NODELAY, one) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer) ||
	    bind(fd, (const struct sockaddr *)&connection->here, sizeof connection->here) ||
	    set(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE) || set(fd, TCP_QUEUE_SEQ, (int)connection->sequence[0]) ||
	    set(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE) || set(fd, TCP_QUEUE_SEQ, (int)(connection->sequence[1] - back)))
		return -errno;
	close(old_fd);
	if (connect(fd, (const struct sockaddr *)&connection->there, sizeof connection->there))
		return -errno;
	int error = connection_write_options(fd, connection);
	if (error)
		return error;
	/* Setting (no) IP options is what makes TCP compute its segment size anew. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof window) ||
	    setsockopt(fd, IPPROTO_IP, IP_OPTIONS, NULL, 0) || set(fd, TCP_TIMESTAMP, (int)connection->timestamp) || set(fd, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP))
		return -errno;
	return 0;
}

bool forge_is_permitted(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is_permitted = fd >= 0 && !set(fd, TCP_REPAIR, TCP_REPAIR_ON);

	if (fd >= 0)
		close(fd);
	return is_permitted;
}

int forge_step_back(struct end *end, uint32_t back)
{
	struct connection connection;
	int error = connection_read(end->fd, &connection);

	if (error)
		return error;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	end_take_out(end);
	error = connection_restore(fd, &connection, back, end->fd);
	end->fd = -1;
	if (error) {
		close(fd);
		return error;
	}
	end->sent -= back;
	end->limit = end->sent;
	end_put_back(end, fd);
	return 0;
}

int forge_send_with_fin(struct end *end)
{
	size_t size = end->total - end->sent;

	if (send(end->fd, pattern_at(end->out_stream, end->sent), size, MSG_MORE | MSG_NOSIGNAL) != (ssize_t)size)
		return -EIO;
	end->sent += size;
	end->limit = end->total;
	end->fin_sent = true;
	if (shutdown(end->fd, SHUT_WR))
		return -errno;
	end_update(end);
	return 0;
}

int forge_unacknowledged(const struct end *end)
{
	int bytes = 0;

	ioctl(end->fd, SIOCOUTQ, &bytes);
	return bytes;
}
