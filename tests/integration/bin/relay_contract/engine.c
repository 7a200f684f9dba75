// SPDX-License-Identifier: Apache-2.0
/* The loop: level-triggered epoll, masks that follow what each end wants at the
 * moment, and a list of the ends that pace themselves by time. An end that meets an
 * error keeps its first errno, leaves the loop and holds its descriptor until it is
 * closed, so that ports stay known. */
#include "engine.h"

#include "base/instant.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <zlib.h>

#define ROUND_EVENTS 256
#define ROUND_BYTES (1u << 20) /* of one end, before the others have their turn */
#define SEGMENT_BATCH 256      /* in a row */
#define WAIT_MAX_NS 2000000

static uint8_t scratch[PATTERN_RUN];

int engine_create(struct engine *engine, uint64_t seed)
{
	*engine = (struct engine){ .random_state = seed, .now_ns = clock_now_ns() };
	engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return engine->epoll_fd < 0 ? -errno : 0;
}

void engine_destroy(struct engine *engine)
{
	close(engine->epoll_fd);
	free(engine->timed);
	*engine = (struct engine){ .epoll_fd = -1 };
}

uint64_t engine_random(struct engine *engine)
{
	return pattern_mix(engine->random_state += 0x632be59bd9b4e019u);
}

uint64_t engine_random_between(struct engine *engine, uint64_t low, uint64_t high)
{
	return low + engine_random(engine) % (high - low + 1);
}

/* ---- pace ---- */

static bool pace_is_timed(const struct pace *pace)
{
	return pace->rate || pace->pause_after_max;
}

/* Bytes that the next call may take. */
static size_t pace_chunk(struct engine *engine, struct pace *pace, size_t most)
{
	if (pace->chunk_max && pace->chunk_max < most)
		most = engine_random_between(engine, 1, pace->chunk_max);
	if (pace->rate && pace->rate / 100 + 1 < most)
		most = pace->rate / 100 + 1;
	if (pace->pause_after_max) {
		if (!pace->until_pause)
			pace->until_pause = engine_random_between(engine, 1, pace->pause_after_max);
		if (pace->until_pause < most)
			most = pace->until_pause;
	}
	return most;
}

static void pace_count(struct engine *engine, struct pace *pace, size_t moved)
{
	if (pace->rate) {
		/* What was not used in the last 20 ms is lost. */
		uint64_t floor_ns = engine->now_ns - 20000000;
		if (pace->next_ns < floor_ns)
			pace->next_ns = floor_ns;
		pace->next_ns += moved * 1000000000u / pace->rate;
	}
	if (pace->pause_after_max) {
		pace->until_pause -= moved;
		if (!pace->until_pause)
			pace->next_ns = engine->now_ns + engine_random_between(engine, 0, pace->pause_max_us) * 1000;
	}
}

/* ---- watching ---- */

static bool is_opening(const struct end *end)
{
	return end->fd >= 0 && !end->error && end->secure && !secure_is_open(end->secure);
}

/* Who closes while the other's prefix is under way would answer it with a reset. */
static bool is_kept_open(const struct end *end)
{
	return end->finish == FINISH_CLOSE && end->prefix_received < end->prefix_in;
}

static bool wants_send(const struct end *end)
{
	return end->fd >= 0 && !end->error && !end->fin_sent && (!end->secure || secure_may_send(end->secure)) &&
	       (end->prefix_sent < end->prefix_out || (end->token_mode != TOKEN_NONE && end->token_sent < TOKEN_SIZE) || end->sent < end->limit ||
		(end->sent == end->total && end->finish != FINISH_STAY && !is_kept_open(end)));
}

static bool wants_receive(const struct end *end)
{
	return end->fd >= 0 && !end->error && !end->eof_seen && !end->stopped && (!end->secure || secure_may_receive(end->secure));
}

/* There is something to receive that no event tells of. */
static bool is_staged(const struct end *end)
{
	return end->secure && secure_has_bytes(end->secure) && wants_receive(end);
}

static void timed_set(struct end *end, bool on)
{
	struct engine *engine = end->engine;

	if (on == (end->timed != 0))
		return;
	if (!on) {
		struct end *last = engine->timed[--engine->timed_count];
		engine->timed[end->timed - 1] = last;
		last->timed = end->timed;
		end->timed = 0;
		return;
	}
	if (engine->timed_count == engine->timed_capacity) {
		engine->timed_capacity = engine->timed_capacity * 2 + 64;
		engine->timed = realloc(engine->timed, engine->timed_capacity * sizeof(struct end *));
		if (!engine->timed)
			abort();
	}
	engine->timed[engine->timed_count++] = end;
	end->timed = engine->timed_count;
}

/* A record that TLS has begun goes out whole, whatever the test has changed since. */
static void keep_begun(struct end *end)
{
	uint64_t least = end->sent + (end->secure ? secure_begun(end->secure) : 0);

	if (end->limit < least)
		end->limit = least;
	if (end->total < least)
		end->total = least;
}

void end_update(struct end *end)
{
	struct engine *engine = end->engine;

	keep_begun(end);
	bool is_late_out = end->out_pace.next_ns <= engine->now_ns, is_late_in = end->in_pace.next_ns <= engine->now_ns;
	bool send_waits = wants_send(end) && !is_late_out, receive_waits = wants_receive(end) && !is_late_in;
	uint32_t wanted = (wants_send(end) && is_late_out ? EPOLLOUT : 0) | (wants_receive(end) && is_late_in ? EPOLLIN : 0);
	if (is_opening(end))
		wanted |= (secure_wants_read(end->secure) ? EPOLLIN : 0) | (secure_wants_write(end->secure) ? EPOLLOUT : 0);
	/* A reset must be seen by those too who do nothing at the moment, but an end that
	 * has sent its FIN could report a hang-up again and again. */
	bool in_epoll = end->fd >= 0 && !end->error && (wanted || !end->fin_sent);

	timed_set(end, send_waits || receive_waits || is_staged(end));
	if (end->fd < 0)
		return;
	struct epoll_event event = { .events = wanted, .data.ptr = end };
	if (in_epoll != end->is_in_epoll) {
		epoll_ctl(engine->epoll_fd, in_epoll ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, end->fd, &event);
		end->is_in_epoll = in_epoll;
		end->watched = wanted;
	} else if (in_epoll && wanted != end->watched) {
		epoll_ctl(engine->epoll_fd, EPOLL_CTL_MOD, end->fd, &event);
		end->watched = wanted;
	}
}

void end_take_out(struct end *end)
{
	if (end->is_in_epoll)
		epoll_ctl(end->engine->epoll_fd, EPOLL_CTL_DEL, end->fd, NULL);
	end->is_in_epoll = false;
	timed_set(end, false);
}

int end_put_back(struct end *end, int fd)
{
	end->fd = fd;
	end_update(end);
	return 0;
}

void end_close(struct end *end)
{
	if (end->fd < 0)
		return;
	end_take_out(end);
	secure_free(end->secure);
	end->secure = NULL;
	close(end->fd);
	end->fd = -1;
}

void end_leave(struct end *end)
{
	if (end->fd >= 0 && end->secure && !end->fin_sent)
		secure_close(end->secure);
	end_close(end);
}

void end_reset(struct end *end)
{
	struct linger linger = { .l_onoff = 1 };

	if (end->fd >= 0)
		setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
	end_close(end);
}

bool end_is_through(const struct end *end)
{
	if (end->error || end->wrong)
		return false;
	if (end->finish == FINISH_CLOSE || end->finish == FINISH_RESET)
		return end->fd < 0;
	return (end->fin_sent || end->finish == FINISH_STAY) && end->sent == end->total && end->eof_seen;
}

int end_connect(struct engine *engine, struct end *end, uint16_t port, unsigned send_buffer, unsigned receive_buffer)
{
	union {
		struct sockaddr any;
		struct sockaddr_in ipv4;
		struct sockaddr_in6 ipv6;
	} address = { .ipv4 = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } } };
	socklen_t size = sizeof address.ipv4;
	int one = 1;

	if (end->uses_ipv6) {
		address.ipv6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback };
		size = sizeof address.ipv6;
	}

	end->engine = engine;
	end->fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (end->fd < 0)
		return -errno;
	setsockopt(end->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (send_buffer)
		setsockopt(end->fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
	if (receive_buffer)
		setsockopt(end->fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
	if (connect(end->fd, &address.any, size) && errno != EINPROGRESS) {
		int error = errno;
		close(end->fd);
		end->fd = -1;
		return -error;
	}
	getsockname(end->fd, &address.any, &size);
	end->port = ntohs(end->uses_ipv6 ? address.ipv6.sin6_port : address.ipv4.sin_port);
	end_update(end);
	return 0;
}

/* ---- moving bytes ---- */

static void end_fail(struct end *end, int error)
{
	end->error = error;
	end_update(end);
}

/* True: go on with the stream. */
static bool send_token(struct end *end)
{
	if (end->token_mode == TOKEN_NONE || end->token_sent == TOKEN_SIZE)
		return true;
	while (end->token_sent < TOKEN_SIZE) {
		size_t size = end->token_mode == TOKEN_BY_BYTES ? 1 : TOKEN_SIZE - end->token_sent;
		bool has_more = end->token_mode == TOKEN_WITH_DATA || end->token_mode == TOKEN_WITH_END;
		size_t with = has_more ? end->limit - end->sent : 0;
		if (with > 65536)
			with = 65536;
		struct iovec parts[2] = {
			{ end->token + end->token_sent, size },
			{ (void *)(uintptr_t)pattern_at(end->out_stream, end->sent), with },
		};
		struct msghdr message = { .msg_iov = parts, .msg_iovlen = with ? 2 : 1 };
		int flags = size == 1 ? MSG_EOR : end->token_mode == TOKEN_WITH_END ? MSG_MORE : 0;
		ssize_t done = sendmsg(end->fd, &message, MSG_NOSIGNAL | flags);
		if (done < 0) {
			if (errno != EAGAIN && errno != ENOTCONN)
				end_fail(end, errno);
			return false;
		}
		size_t data = (size_t)done > size ? (size_t)done - size : 0;
		end->token_sent += (unsigned)((size_t)done - data);
		if (end->engine->keeps_checksums)
			end->checksum_out = (uint32_t)adler32(end->checksum_out, pattern_at(end->out_stream, end->sent), (uInt)data);
		end->sent += data;
		end->engine->sent_bytes += data;
	}
	return true;
}

static ssize_t end_write(struct end *end, const uint8_t *data, size_t size)
{
	return end->secure ? secure_send(end->secure, data, size) : send(end->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static const uint8_t prefix[PREFIX_SIZE] = { 0x16, 0x03 };

/* True: go on with the stream. */
static bool send_prefix(struct end *end)
{
	while (end->prefix_sent < end->prefix_out) {
		ssize_t done = end_write(end, prefix + end->prefix_sent, end->prefix_out - end->prefix_sent);
		if (done < 0) {
			if (errno != EAGAIN)
				end_fail(end, errno);
			return false;
		}
		end->prefix_sent += (unsigned)done;
	}
	return true;
}

/* Takes the prefix off what was received. Returns the number of bytes that are left at the front. */
static size_t strip_prefix(struct end *end, uint8_t *data, size_t size)
{
	size_t at = 0;

	while (at < size && end->prefix_received < end->prefix_in) {
		if (data[at] != prefix[end->prefix_received] && !end->wrong) {
			end->wrong = true;
			strcpy(end->wrong_text, "in the prefix of a handed-off party");
		}
		end->prefix_received++;
		at++;
	}
	memmove(data, data + at, size - at);
	return size - at;
}

/* Some segments; MSG_EOR keeps the kernel from joining them. */
static ssize_t send_segments(struct end *end, const uint8_t *data, size_t size)
{
	size_t part = end->segment_bytes < size ? end->segment_bytes : size, sum = 0;

	if (end->secure && !end->prefix_out) /* a record each */
		return end_write(end, data, part);
	for (size_t count = 0; count < SEGMENT_BATCH && sum + part <= size; count++) {
		ssize_t done = send(end->fd, data + sum, part, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_EOR);
		if (done < 0)
			return sum ? (ssize_t)sum : done;
		sum += (size_t)done;
		if ((size_t)done < part)
			break;
	}
	return (ssize_t)sum;
}

static void finish_sending(struct end *end)
{
	if (end->sent != end->total || end->finish == FINISH_STAY || is_kept_open(end))
		return;
	if (end->secure && end->finish != FINISH_RESET && secure_close(end->secure)) {
		if (errno != EAGAIN)
			end_fail(end, errno);
		return;
	}
	end->fin_sent = true;
	if (end->finish == FINISH_SHUTDOWN) {
		if (shutdown(end->fd, SHUT_WR))
			end_fail(end, errno);
	} else if (end->finish == FINISH_CLOSE) {
		end_close(end);
	} else {
		end_reset(end);
	}
}

static void end_send(struct end *end)
{
	struct engine *engine = end->engine;
	size_t budget = ROUND_BYTES;

	if (!send_token(end) || !send_prefix(end))
		return;
	end->blocked = false;
	while (end->sent < end->limit && budget && end->out_pace.next_ns <= engine->now_ns) {
		uint64_t left = end->limit - end->sent;
		size_t size = pace_chunk(engine, &end->out_pace, left < PATTERN_RUN ? left : PATTERN_RUN);
		const uint8_t *data = pattern_at(end->out_stream, end->sent);
		ssize_t done = end->segment_bytes ? send_segments(end, data, size)
						  : end_write(end, data, size);
		if (done < 0) {
			end->blocked = errno == EAGAIN;
			if (!end->blocked)
				end_fail(end, errno);
			return;
		}
		if (engine->keeps_checksums)
			end->checksum_out = (uint32_t)adler32(end->checksum_out, data, (uInt)done);
		end->sent += (uint64_t)done;
		engine->sent_bytes += (uint64_t)done;
		pace_count(engine, &end->out_pace, (size_t)done);
		budget -= (size_t)done < budget ? (size_t)done : budget;
	}
	finish_sending(end);
}

static void end_receive(struct end *end)
{
	struct engine *engine = end->engine;
	size_t budget = ROUND_BYTES;

	while (budget && wants_receive(end) && end->in_pace.next_ns <= engine->now_ns) {
		size_t most = pace_chunk(engine, &end->in_pace, sizeof scratch);
		ssize_t done = end->secure ? secure_receive(end->secure, scratch, most) : recv(end->fd, scratch, most, MSG_DONTWAIT);
		if (done < 0) {
			if (errno != EAGAIN)
				end_fail(end, errno);
			return;
		}
		if (done == 0) {
			end->eof_seen = true;
			return;
		}
		if (end->prefix_received < end->prefix_in) {
			done = (ssize_t)strip_prefix(end, scratch, (size_t)done);
			if (!done)
				continue;
		}
		size_t right = pattern_compare(end->in_stream, end->received, scratch, (size_t)done);
		if (right != (size_t)done && !end->wrong) {
			end->wrong = true;
			end->wrong_at = end->received + right;
			pattern_explain(end->in_stream, end->wrong_at, scratch + right, (size_t)done - right,
					end->wrong_text, sizeof end->wrong_text);
		}
		if (engine->keeps_checksums)
			end->checksum_in = (uint32_t)adler32(end->checksum_in, scratch, (uInt)done);
		end->received += (uint64_t)done;
		engine->received_bytes += (uint64_t)done;
		pace_count(engine, &end->in_pace, (size_t)done);
		budget -= (size_t)done < budget ? (size_t)done : budget;
	}
}

static void end_serve(struct end *end, uint32_t events)
{
	if (is_opening(end)) {
		int error = secure_step(end->secure);
		if (error)
			end_fail(end, error);
	}
	/* Bytes that arrived before a reset are read first, unless the end does not read. */
	if (wants_receive(end) && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		end_receive(end);
	if (wants_send(end) && (events & EPOLLOUT) && !(events & EPOLLERR))
		end_send(end);
	if (end->fd >= 0 && (events & EPOLLERR) && !wants_receive(end) && !end->error) {
		int error = 0;
		socklen_t size = sizeof error;
		getsockopt(end->fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error)
			end->error = error;
	}
	if (end->fd >= 0 && end->fin_sent && end->eof_seen)
		end_close(end);
	end_update(end);
}

/* ---- the loop ---- */

static bool end_is_due(const struct end *end, uint64_t now_ns)
{
	return (wants_send(end) && end->out_pace.next_ns <= now_ns) || (wants_receive(end) && end->in_pace.next_ns <= now_ns);
}

static void engine_round(struct engine *engine, uint64_t wait_ns)
{
	struct epoll_event events[ROUND_EVENTS];

	engine->now_ns = clock_now_ns();
	for (size_t at = 0; at < engine->timed_count; at++) {
		const struct end *end = engine->timed[at];
		if (is_staged(end) && end->in_pace.next_ns <= engine->now_ns)
			wait_ns = 0;
		const struct pace *paces[] = { wants_send(end) ? &end->out_pace : NULL, wants_receive(end) ? &end->in_pace : NULL };
		for (int side = 0; side < 2; side++) {
			if (!paces[side] || !pace_is_timed(paces[side]) || paces[side]->next_ns <= engine->now_ns)
				continue;
			if (paces[side]->next_ns - engine->now_ns < wait_ns)
				wait_ns = paces[side]->next_ns - engine->now_ns;
		}
	}
	struct timespec wait = { .tv_nsec = (long)wait_ns };
	int count = epoll_pwait2(engine->epoll_fd, events, ROUND_EVENTS, &wait, NULL);
	engine->now_ns = clock_now_ns();
	/* Due ends are watched again; what they can do is served in the next round. Backwards, because
	 * an update may take the end out of the list. */
	for (size_t at = engine->timed_count; at-- > 0;)
		if (is_staged(engine->timed[at]))
			end_serve(engine->timed[at], EPOLLIN);
		else if (end_is_due(engine->timed[at], engine->now_ns))
			end_update(engine->timed[at]);
	for (int at = 0; at < count; at++)
		end_serve(events[at].data.ptr, events[at].events);
}

bool engine_run(struct engine *engine, bool (*condition)(void *context), void *context, unsigned deadline_ms)
{
	uint64_t deadline_ns = clock_now_ns() + (uint64_t)deadline_ms * 1000000;

	for (;;) {
		if (condition(context))
			return true;
		uint64_t now_ns = clock_now_ns(), left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
		engine_round(engine, left_ns < WAIT_MAX_NS ? left_ns : WAIT_MAX_NS);
		if (clock_now_ns() >= deadline_ns)
			return condition(context);
	}
}

static bool never(void *context)
{
	(void)context;
	return false;
}

void engine_run_for(struct engine *engine, unsigned duration_ms)
{
	engine_run(engine, never, NULL, duration_ms);
}
