// SPDX-License-Identifier: Apache-2.0
/* One dial is: asking, connecting, over TLS also shown and joined, ended. The request to the proxy cannot be
 * taken back, so a dial that was cancelled or timed out while asking stays
 * allocated (`done` NULL) until the router has answered.
 *
 * The timer serves twice: as the deadline, and to report a result that came from
 * inside relay_dial_start. Tokens are wiped after use. */
#include "router/relay_dialer.h"

#include "base/address.h"
#include "base/encoding.h"
#include "base/instant.h"
#include "base/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

struct relay_dial {
	struct router *router;
	const struct relay_dialling *dialling;
	char *proxy;
	struct connector *connector;
	struct relay_tls *relay;
	bool uses_tls;
	struct event *timer;
	uint64_t deadline_ms;
	bool is_asking;
	relay_dial_done done; /* NULL: nobody waits any more */
	void *context;
	char *reason; /* set: failed, to be reported by the timer */
	int error;
	uint8_t token[RELAY_TOKEN_SIZE];
};

static void dial_free(struct relay_dial *dial)
{
	if (dial->connector)
		connector_cancel(dial->connector);
	if (dial->relay)
		relay_tls_cancel(dial->relay);
	if (dial->timer)
		event_free(dial->timer);
	explicit_bzero(dial->token, sizeof(dial->token));
	free(dial->reason);
	free(dial->proxy);
	free(dial);
}

static void dial_end(struct relay_dial *dial, int fd_or_error, const char *reason)
{
	relay_dial_done done = dial->done;
	bool is_asking = dial->is_asking;
	dial->done = NULL;
	event_del(dial->timer);
	/* An operator that is its own proxy: the end of the attempt is also the end of
	 * the question, which then frees the dial. */
	done(fd_or_error, reason, dial->context);
	if (!is_asking)
		dial_free(dial);
}

static void timer_fired(evutil_socket_t fd, short events, void *context)
{
	struct relay_dial *dial = context;
	(void)fd;
	(void)events;
	if (dial->reason)
		dial_end(dial, dial->error, dial->reason);
	else
		dial_end(dial, -ETIMEDOUT, dial->is_asking ? "the proxy did not answer in time" : "i/o timeout");
}

/* Reports from the loop, whoever called. */
static void dial_fail(struct relay_dial *dial, int error, const char *reason)
{
	dial->error = error;
	dial->reason = strdup(reason);
	event_active(dial->timer, EV_TIMEOUT, 0);
}

int relay_token_write(int fd, const uint8_t token[RELAY_TOKEN_SIZE])
{
	ssize_t written = send(fd, token, RELAY_TOKEN_SIZE, MSG_NOSIGNAL);
	if (written < 0)
		return -errno;
	return written == RELAY_TOKEN_SIZE ? 0 : -EPIPE;
}

static unsigned left_ms(const struct relay_dial *dial)
{
	uint64_t now_ms = clock_now_ms();
	return dial->deadline_ms > now_ms ? (unsigned)(dial->deadline_ms - now_ms) : 1;
}

static void handed_off(int fd_or_error, const char *reason, void *context)
{
	struct relay_dial *dial = context;
	dial->relay = NULL;
	dial_end(dial, fd_or_error, reason);
}

static void connected(int fd_or_error, const char *reason, void *context)
{
	struct relay_dial *dial = context;
	dial->connector = NULL;
	if (fd_or_error >= 0 && dial->uses_tls) {
		struct relay_tls_options options = {
			.base = router_base(dial->router),
			.fd = fd_or_error,
			.dialling = dial->dialling,
			.proxy = dial->proxy,
			.directory = router_directory(dial->router),
			.token = dial->token,
			.timeout_ms = left_ms(dial),
			.done = handed_off,
			.context = dial,
		};
		int error = relay_tls_start(&options, &dial->relay);
		if (error < 0)
			dial_end(dial, error, strerror(-error));
		return;
	}
	if (fd_or_error >= 0) {
		int error = relay_token_write(fd_or_error, dial->token);
		if (error < 0) {
			close(fd_or_error);
			fd_or_error = error;
			reason = strerror(-error);
		}
	}
	dial_end(dial, fd_or_error, fd_or_error < 0 ? reason : NULL);
}

/* {"token": base64 of 32 bytes, "endpoint": "host:port"}, and maybe "relay_tls". */
static void dial_endpoint(struct relay_dial *dial, const json_t *answer)
{
	const char *token = json_text(answer, "token"), *endpoint = json_text(answer, "endpoint");
	if (!token || base64_decode(token, strlen(token), dial->token, sizeof(dial->token)) != RELAY_TOKEN_SIZE) {
		dial_fail(dial, -EBADMSG, "the proxy's answer has no valid token");
		return;
	}
	if (!endpoint) {
		dial_fail(dial, -EBADMSG, "the proxy's answer has no valid endpoint");
		return;
	}
	struct relay_offer offer;
	const char *reason;
	int error = relay_offer_choose(dial->dialling->use, answer, dial->proxy, &offer, &reason);
	if (error < 0) {
		dial_fail(dial, error, reason);
		return;
	}
	dial->uses_tls = offer.endpoint;
	error = connector_start(router_base(dial->router), dial->uses_tls ? offer.endpoint : endpoint, left_ms(dial),
				connected, dial, &dial->connector);
	if (error < 0)
		dial_fail(dial, error, "the proxy's endpoint cannot be dialled");
}

static void answered(const struct router_outcome *outcome, void *context)
{
	struct relay_dial *dial = context;
	dial->is_asking = false;
	if (!dial->done)
		dial_free(dial);
	else if (outcome->failure)
		dial_fail(dial, -EIO, outcome->failure);
	else if (outcome->response && outcome->response->has_error)
		dial_fail(dial, -EIO, outcome->response->message ? outcome->response->message : "");
	else
		dial_endpoint(dial, outcome->response ? outcome->response->result : NULL);
}

/* "P.requestConnection(<16 hex digits>)" */
static int request_compose(const char *proxy, const char *to, struct hyper_request *request)
{
	uint8_t random[8];
	char digits[2 * sizeof(random) + 1];
	*request = (struct hyper_request){ 0 };
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	hex_encode(random, sizeof(random), digits);
	if (asprintf(&request->method, "%s.requestConnection", proxy) < 0)
		request->method = NULL;
	else
		request->id = address_compose(request->method, digits);
	request->params = json_pack("{s:s, s:s}", "to", to, "channel", "grpc_server");
	if (request->id && request->params)
		return 0;
	hyper_request_clear(request);
	return -ENOMEM;
}

int relay_dial_start(struct router *router, const struct relay_dialling *dialling, const char *proxy, const char *to,
		     unsigned timeout_ms, relay_dial_done done, void *context, struct relay_dial **result)
{
	struct hyper_request request;
	int error = request_compose(proxy, to, &request);
	if (error < 0)
		return error;
	struct relay_dial *dial = calloc(1, sizeof(*dial));
	if (dial) {
		dial->timer = event_new(router_base(router), -1, 0, timer_fired, dial);
		dial->proxy = strdup(proxy);
	}
	if (!dial || !dial->timer || !dial->proxy) {
		if (dial)
			dial_free(dial);
		hyper_request_clear(&request);
		return -ENOMEM;
	}
	dial->router = router;
	dial->dialling = dialling;
	dial->done = done;
	dial->context = context;
	dial->deadline_ms = clock_now_ms() + timeout_ms;
	dial->is_asking = true;
	struct timeval timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	event_add(dial->timer, &timeout);
	*result = dial;
	router_deliver(router, &request, router_name(router), answered, dial);
	hyper_request_clear(&request);
	return 0;
}

void relay_dial_cancel(struct relay_dial *dial)
{
	dial->done = NULL;
	if (dial->is_asking)
		event_del(dial->timer);
	else
		dial_free(dial);
}
