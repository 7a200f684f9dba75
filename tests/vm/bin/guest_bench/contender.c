// SPDX-License-Identifier: Apache-2.0
/* Starting contenders, opening and closing pairs through them. */
#include "contender.h"

#include "base/instant.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_S 60 /* of an emulated machine's time */
#define HAPROXY_PORT 4443
#define HAPROXY_BACK_PORT 4444

struct contender contenders[] = {
	{ .name = "direct-tls", .kind = CONTENDER_DIRECT, .speaks_tls = true },
	{ .name = "direct-plain", .kind = CONTENDER_DIRECT },
	{ .name = "copy-tls", .kind = CONTENDER_RELAY, .speaks_tls = true, .parties = "UU", .plane = PLANE_COPY },
	{ .name = "ktls-splice", .kind = CONTENDER_RELAY, .speaks_tls = true, .parties = "KK", .plane = PLANE_KTLS_SPLICE },
	{ .name = "ktls-copy", .kind = CONTENDER_RELAY, .speaks_tls = true, .parties = "KK", .plane = PLANE_KTLS_SPLICE, .no_pipes = true },
	{ .name = "haproxy-tls", .kind = CONTENDER_HAPROXY, .speaks_tls = true },
	{ .name = "handed-off-copy", .kind = CONTENDER_RELAY, .parties = "HH", .plane = PLANE_COPY },
	{ .name = "handed-off-splice", .kind = CONTENDER_RELAY, .parties = "HH", .plane = PLANE_SPLICE },
	{ .name = "handed-off-sockmap", .kind = CONTENDER_RELAY, .parties = "HH", .plane = PLANE_SOCKMAP },
	{ .name = NULL },
};

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

static uint32_t loopback(void)
{
	return htonl(INADDR_LOOPBACK);
}

/* ---- processes ---- */

static bool start_relay(struct contender *contender)
{
	static const unsigned masks[PLANE_COUNT] = {
		[PLANE_COPY] = PLANE_MASK_COPY, [PLANE_SPLICE] = PLANE_MASK_SPLICE | PLANE_MASK_COPY,
		[PLANE_SOCKMAP] = PLANE_MASK_SOCKMAP | PLANE_MASK_COPY, [PLANE_KTLS_SPLICE] = PLANE_MASK_ALL,
	};
	struct host_settings settings = { .planes = masks[contender->plane], .lobby = true, .no_pipes = contender->no_pipes };

	if (!host_start(&contender->host, &settings))
		return contender_fail(contender, "%s", contender->host.error);
	contender->pid = contender->host.pid;
	return contender->host.planes[contender->plane] || contender_fail(contender, "this kernel does not have the plane");
}

static bool start_haproxy(struct contender *contender)
{
	contender->port = HAPROXY_BACK_PORT;
	contender->listener = end_listen(loopback(), &contender->port);
	if (contender->listener < 0)
		return contender_fail(contender, "cannot listen: %s", strerror(errno));
	contender->port = HAPROXY_PORT;
	fflush(stdout);
	contender->pid = fork();
	if (contender->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execlp("haproxy", "haproxy", "-db", "-q", "-f", "guest/haproxy.cfg", (char *)NULL);
		perror("haproxy");
		_exit(127);
	}
	for (uint64_t deadline = clock_now_ms() + WAIT_S * 1000; clock_now_ms() < deadline; poll(NULL, 0, 20)) {
		int fd = end_dial(loopback(), HAPROXY_PORT);

		if (waitpid(contender->pid, NULL, WNOHANG) == contender->pid) {
			contender->pid = 0;
			return contender_fail(contender, "haproxy ended");
		}
		if (fd >= 0) {
			close(fd); /* without a handshake nothing is dialled behind */
			return true;
		}
	}
	return contender_fail(contender, "haproxy does not listen");
}

bool contender_start(struct contender *contender)
{
	contender->listener = -1;
	switch (contender->kind) {
	case CONTENDER_DIRECT:
		contender->port = 0;
		contender->listener = end_listen(loopback(), &contender->port);
		return contender->listener >= 0 || contender_fail(contender, "cannot listen: %s", strerror(errno));
	case CONTENDER_RELAY:
		return start_relay(contender);
	case CONTENDER_HAPROXY:
		return start_haproxy(contender);
	}
	return false;
}

void contender_stop(struct contender *contender)
{
	if (contender->kind == CONTENDER_RELAY) {
		if (!host_stop(&contender->host))
			contender_fail(contender, "%s", contender->host.error);
	} else if (contender->pid > 0) {
		kill(contender->pid, SIGTERM);
		waitpid(contender->pid, NULL, 0);
	}
	contender->pid = 0;
	if (contender->listener >= 0)
		close(contender->listener);
	contender->listener = -1;
}

/* ---- pairs ---- */

static bool open_through_relay(struct contender *contender, struct end ends[2])
{
	uint8_t name[32];

	if (getrandom(name, sizeof name, 0) != sizeof name)
		return false;
	for (int side = 0; side < 2; side++) {
		char kind = contender->parties[side];

		ends[side].fd = end_dial(loopback(), contender->host.lobby_ports[kind != 'P']);
		if (ends[side].fd < 0 || !end_introduce(&ends[side], kind, name))
			return contender_fail(contender, "party %c: %s", kind, end_error());
	}
	return true;
}

struct arrival {
	struct end *end;
	int listener;
	bool speaks_tls, is_fine;
};

static void *await(void *context)
{
	struct arrival *arrival = context;

	arrival->end->fd = end_accept(arrival->listener);
	arrival->is_fine = arrival->end->fd >= 0 && (!arrival->speaks_tls || end_accept_tls(arrival->end));
	return NULL;
}

static bool open_across(struct contender *contender, struct end ends[2])
{
	struct arrival arrival = { &ends[1], contender->listener, contender->speaks_tls, false };
	pthread_t thread;

	ends[0].fd = end_dial(loopback(), contender->port);
	if (ends[0].fd < 0)
		return contender_fail(contender, "cannot connect: %s", strerror(errno));
	if (pthread_create(&thread, NULL, await, &arrival))
		return contender_fail(contender, "no thread");
	bool is_fine = !contender->speaks_tls || end_connect_tls(&ends[0]);
	pthread_join(thread, NULL);
	return (is_fine && arrival.is_fine) || contender_fail(contender, "handshake: %s", end_error());
}

/* What a handed-off party must begin with; harmless for the others. */
static bool exchange_heads(struct end ends[2])
{
	for (int from = 0; from < 2; from++) {
		char head[2] = { 0x16, 0x03 }, got[2];

		if (!end_send(&ends[from], head, sizeof head) || !end_receive_all(&ends[!from], got, sizeof got) || memcmp(head, got, sizeof got))
			return false;
	}
	return true;
}

static bool settle(struct contender *contender)
{
	for (uint64_t deadline = clock_now_ms() + WAIT_S * 1000; clock_now_ms() < deadline; poll(NULL, 0, 5)) {
		json_t *answer = host_ask(&contender->host, "gates");
		const json_t *pair = json_array_get(json_object_get(answer, "gates"), 0);
		bool is_open = contender->plane != PLANE_SOCKMAP ||
			       (json_integer_value(json_array_get(pair, 4)) == GATE_STATE_OPEN &&
				json_integer_value(json_array_get(pair, 5)) == GATE_STATE_OPEN);
		bool is_settled = pair && is_open && json_integer_value(json_array_get(pair, 3)) == (json_int_t)contender->plane;

		json_decref(answer);
		if (is_settled)
			return true;
		if (!answer)
			return contender_fail(contender, "%s", contender->host.error);
	}
	return contender_fail(contender, "the pair did not get to its plane");
}

bool contender_open_pair(struct contender *contender, struct end ends[2])
{
	ends[0] = ends[1] = (struct end){ .fd = -1 };
	bool is_relay = contender->kind == CONTENDER_RELAY;
	bool is_fine = is_relay ? open_through_relay(contender, ends) : open_across(contender, ends);

	is_fine = is_fine && (exchange_heads(ends) || contender_fail(contender, "no pair: %s", end_error()));
	if (is_fine && (!is_relay || settle(contender)))
		return true;
	end_close(&ends[0]);
	end_close(&ends[1]);
	return false;
}

static bool check_report(struct contender *contender, const struct pair_report *report, uint64_t bytes, double *redirected)
{
	uint64_t moved = report->directions[0].bytes + report->directions[1].bytes;

	*redirected = (double)(report->directions[0].redirected_bytes + report->directions[1].redirected_bytes) / (double)moved;
	if (report->outcome != OUTCOME_HAPPY || report->plane != contender->plane)
		return contender_fail(contender, "the pair ended as %s on plane %s: %s", outcome_word(report->outcome), plane_name(report->plane),
				      report->detail);
	if (moved != bytes)
		return contender_fail(contender, "the relay counted %llu bytes, the client %llu", (unsigned long long)moved, (unsigned long long)bytes);
	if (contender->plane == PLANE_SOCKMAP && *redirected == 0)
		return contender_fail(contender, "nothing was redirected");
	return true;
}

bool contender_close_pair(struct contender *contender, struct end ends[2], uint64_t bytes, double *redirected)
{
	char byte;

	*redirected = 0;
	for (int side = 0; side < 2; side++)
		end_finish(&ends[side]);
	for (int side = 0; side < 2; side++)
		if (end_receive(&ends[side], &byte, 1) != 0)
			contender_fail(contender, "a stream did not end as it should: %s", end_error());
	for (int side = 0; side < 2; side++)
		end_close(&ends[side]);
	if (*contender->error || contender->kind != CONTENDER_RELAY)
		return !*contender->error;
	for (uint64_t deadline = clock_now_ms() + WAIT_S * 1000; clock_now_ms() < deadline; poll(NULL, 0, 5)) {
		json_t *answer = host_ask(&contender->host, "ended");
		const json_t *pair = json_array_get(json_object_get(answer, "ended"), 0);
		struct pair_report report;
		uint16_t ports[2];

		if (!answer)
			return contender_fail(contender, "%s", contender->host.error);
		if (pair)
			host_read_report(pair, &report, ports);
		bool has_come = pair != NULL;
		json_decref(answer);
		if (has_come)
			return check_report(contender, &report, bytes, redirected);
	}
	return contender_fail(contender, "no last report of the pair");
}
