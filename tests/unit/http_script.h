// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What the tests of the HTTP client and of its connections share: asking, and peers
 * that follow a script, each a thread with a blocking socket. */
#include "http_loopback.h"

#include <stdatomic.h>

struct outcome {
	bool done;
	unsigned calls;
	char *error;
	bool closed_early;
	int status;
	char *body;
	struct http_client *free_this;
};

static inline void note_outcome(const struct http_answer *answer, void *context)
{
	struct outcome *outcome = context;

	free(outcome->error);
	free(outcome->body);
	outcome->error = answer->error ? strdup(answer->error) : NULL;
	outcome->body = answer->body ? strndup(answer->body, answer->length) : NULL;
	outcome->closed_early = answer->closed_early;
	outcome->status = answer->status;
	outcome->calls++;
	outcome->done = true;
	http_client_free(outcome->free_this);
}

static inline void clear_outcome(struct outcome *outcome)
{
	free(outcome->error);
	free(outcome->body);
	memset(outcome, 0, sizeof(*outcome));
}

struct asking {
	struct http_client *client;
	SSL_CTX *tls;
	char url[100], proxy[100];
};

static inline void ask(struct asking *asking, const char *scheme, uint16_t port, const char *path, uint16_t proxy_port,
		const struct tls_settings *tls, const char *server_name, unsigned timeout_ms)
{
	memset(asking, 0, sizeof(*asking));
	snprintf(asking->url, sizeof(asking->url), "%s://localhost:%u%s", scheme, port, path);
	snprintf(asking->proxy, sizeof(asking->proxy), "http://us%%65r:pass@127.0.0.1:%u", proxy_port);
	if (tls)
		asking->tls = tls_context_client(tls, "http/1.1");
	const struct http_client_options options = {
		.url = asking->url,
		.proxy_url = proxy_port ? asking->proxy : NULL,
		.server_name = server_name,
		.tls = asking->tls,
		.timeout_ms = timeout_ms ? timeout_ms : PATIENCE_MS,
		.max_body_bytes = 100000,
	};
	assert_int_equal(http_client_create(base, &options, &asking->client), 0);
}

static inline void stop_asking(struct asking *asking)
{
	http_client_free(asking->client);
	SSL_CTX_free(asking->tls);
	event_base_loop(base, EVLOOP_NONBLOCK); /* libevent closes sockets from its loop */
}

static inline void post(struct asking *asking, const char *body, struct outcome *outcome)
{
	outcome->done = false;
	assert_int_equal(http_client_post(asking->client, body, strlen(body), note_outcome, outcome, NULL), 0);
	assert_false(outcome->done);
	run_until(&outcome->done);
}

/* ---- scripted peers ---- */

#define TAKE_AND_CLOSE "-"

struct script {
	/* Per connection: what to answer; "": close at once; TAKE_AND_CLOSE: after a request; NULL: end of the script. */
	const char *steps[8];
	int listener;
	uint16_t port;
	pthread_t thread;
	char request[4096]; /* the last one */
	unsigned connections, requests;
	atomic_uint closed; /* connections */
	bool closes; /* after each answer */
	uint16_t tunnel_port; /* forwards bytes there after the answer */
};

static inline void forward(int fd, uint16_t port)
{
	int other = connect_raw(port);
	bool open = true;

	while (open) {
		fd_set set;
		char buffer[8192];
		ssize_t count;

		FD_ZERO(&set);
		FD_SET(fd, &set);
		FD_SET(other, &set);
		if (select((fd > other ? fd : other) + 1, &set, NULL, NULL, NULL) < 0)
			break;
		for (int i = 0; i < 2 && open; i++) {
			int from = i ? other : fd, to = i ? fd : other;

			if (!FD_ISSET(from, &set))
				continue;
			count = recv(from, buffer, sizeof(buffer), 0);
			open = count > 0 && send(to, buffer, (size_t)count, MSG_NOSIGNAL) == count;
		}
	}
	close(other);
}

/* Returns whether a request came. */
static inline bool read_request(int fd, char *request, size_t size)
{
	size_t length = 0;

	memset(request, 0, size);
	while (length + 1 < size) {
		ssize_t count = recv(fd, request + length, size - 1 - length, 0);
		char *end, *body_length;

		if (count <= 0)
			return false;
		length += (size_t)count;
		end = strstr(request, "\r\n\r\n");
		body_length = strstr(request, "Content-Length: ");
		if (end && strlen(end + 4) >= (body_length ? strtoul(body_length + 16, NULL, 10) : 0))
			return true;
	}
	return false;
}

static inline void *play(void *context)
{
	struct script *script = context;

	for (int step = 0; script->steps[step];) {
		int fd = accept(script->listener, NULL, NULL);

		if (fd < 0)
			break;
		script->connections++;
		while (script->steps[step]) {
			const char *answer = script->steps[step];

			if (!*answer) {
				step++;
				break;
			}
			if (!read_request(fd, script->request, sizeof(script->request)))
				break;
			step++;
			script->requests++;
			if (strcmp(answer, TAKE_AND_CLOSE) == 0)
				break;
			assert(send(fd, answer, strlen(answer), MSG_NOSIGNAL) >= 0);
			if (script->tunnel_port)
				forward(fd, script->tunnel_port);
			if (script->closes || script->tunnel_port)
				break;
		}
		close(fd);
		script->closed++;
	}
	return NULL;
}

/* Without the loop: the client does not notice. */
static inline void await_closed(struct script *script, unsigned count)
{
	uint64_t end = clock_now_ms() + PATIENCE_MS;

	while (script->closed < count) {
		assert_true(clock_now_ms() < end);
		usleep(1000);
	}
}

static inline void start_script(struct script *script)
{
	struct sockaddr_in bound;
	socklen_t length = sizeof(bound);

	script->listener = socket(AF_INET, SOCK_STREAM, 0);
	bound = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_int_equal(bind(script->listener, (struct sockaddr *)&bound, sizeof(bound)), 0);
	assert_int_equal(listen(script->listener, 8), 0);
	getsockname(script->listener, (struct sockaddr *)&bound, &length);
	script->port = ntohs(bound.sin_port);
	assert_int_equal(pthread_create(&script->thread, NULL, play, script), 0);
}

static inline void end_script(struct script *script)
{
	shutdown(script->listener, SHUT_RDWR);
	pthread_join(script->thread, NULL);
	close(script->listener);
}

/* Starts the peer, and a client of it. */
static inline void ask_script(struct asking *asking, struct script *script, const char *path)
{
	start_script(script);
	ask(asking, "http", script->port, path, 0, NULL, NULL, 0);
}

/* Ends the client, and then the peer: what that has noted may be read. */
static inline void end_asking(struct asking *asking, struct script *script, struct outcome *outcome)
{
	stop_asking(asking);
	end_script(script);
	clear_outcome(outcome);
}

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* For a peer that answers so. */
static inline void post_ok(struct asking *asking, const char *body, struct outcome *outcome)
{
	post(asking, body, outcome);
	assert_string_equal(outcome->body, "ok");
}
