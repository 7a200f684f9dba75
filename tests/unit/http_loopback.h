// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What the tests of the HTTP server and client share: certificates, a loop that
 * runs until something is true, a server that echoes, raw sockets. */
#include "base/address.h"
#include "base/instant.h"
#include "base/log.h"
#include "http/client.h"
#include "http/server.h"
#include "tls/context.h"

#include "certificates.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 10000

static char folder[] = "/tmp/test-http-XXXXXX";
static char *files[3][2];
static struct tls_settings server_tls, client_tls, foreign_tls;
static struct event_base *base;

static inline int set_up(void **state)
{
	static struct test_identity ca, server, client;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	base = event_base_new();
	if (!base || !mkdtemp(folder))
		return -1;
	ca = test_identity_make("ca", NULL, NULL, NULL);
	server = test_identity_make("server", &ca, "DNS:server-1,DNS:localhost", NULL);
	client = test_identity_make("client", &ca, "DNS:client-1", NULL);
	test_identity_write(folder, "ca", &ca, NULL, &files[0][0], &files[0][1]);
	test_identity_write(folder, "server", &server, NULL, &files[1][0], &files[1][1]);
	test_identity_write(folder, "client", &client, NULL, &files[2][0], &files[2][1]);
	server_tls = (struct tls_settings){ .ca_certificate_files = { &files[0][0], 1 },
					    .certificate_file = files[1][0],
					    .key_file = files[1][1],
					    .verify_client = true };
	client_tls = server_tls;
	client_tls.certificate_file = files[2][0];
	client_tls.key_file = files[2][1];
	foreign_tls = server_tls;
	foreign_tls.certificate_file = foreign_tls.key_file = NULL;
	test_identity_free(&ca);
	test_identity_free(&server);
	test_identity_free(&client);
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		for (int j = 0; j < 2; j++) {
			unlink(files[i][j]);
			free(files[i][j]);
		}
	}
	event_base_free(base);
	return rmdir(folder);
}

/* Runs the loop until `*condition`; fails the test after PATIENCE_MS. */
static inline void run_until(const bool *condition)
{
	const struct timeval tick = { .tv_usec = 2000 };
	uint64_t end = clock_now_ms() + PATIENCE_MS;

	while (!*condition) {
		assert_true(clock_now_ms() < end);
		event_base_loopexit(base, &tick);
		event_base_dispatch(base);
	}
}

/* ---- the server ---- */

struct served {
	struct http_server *server;
	struct http_request *held; /* of path /hold */
	bool has_held;
	unsigned count;
	SSL_CTX *tls;
};

static inline void echo(struct http_request *request, void *context)
{
	struct served *served = context;
	size_t length;
	const char *body = http_request_body(request, &length);

	served->count++;
	if (strcmp(http_request_path(request), "/hold") == 0) {
		served->held = request;
		served->has_held = true;
		return;
	}
	http_request_add_header(request, "X-Method", http_request_method(request));
	http_request_answer(request, 200, length ? body : http_request_path(request),
			    length ? length : strlen(http_request_path(request)));
}

static inline struct served serve(struct served *served, const struct tls_settings *tls, struct http_server_options options)
{
	memset(served, 0, sizeof(*served));
	if (tls)
		served->tls = tls_context_server(tls, "http/1.1");
	options.name = "test";
	options.bind_address = "localhost:0";
	options.tls = served->tls;
	options.handle = echo;
	options.context = served;
	if (!options.max_body_bytes)
		options.max_body_bytes = 1 << 20;
	assert_int_equal(http_server_start(base, &options, &served->server), 0);
	return *served;
}

static inline void stop_serving(struct served *served)
{
	http_server_free(served->server);
	SSL_CTX_free(served->tls);
}

static inline int connect_raw(uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}
