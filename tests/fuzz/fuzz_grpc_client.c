// SPDX-License-Identifier: Apache-2.0
/* The HTTP/2 side of the client, behind TLS: the input is a program of steps,
 * each a frame of the server (answers, trailers, DATA, control frames, raw
 * bytes) or something that the owner does. Every call must end exactly once. */
#include "base/log.h"
#include "grpc/client_private.h"

#include <nghttp2/nghttp2.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER_SETS 7
#define REQUESTS_MAX 64

static struct event_base *base;
static SSL_CTX *tls;
static struct {
	uint8_t bytes[128];
	size_t size;
} header_blocks[HEADER_SETS];

static struct grpc_connection *connection;
static struct transport *transport;
static struct grpc_reverse_request *requests[REQUESTS_MAX];
static size_t request_count, open_calls;
static bool frees_when_done;

static void encode_headers(int index, const char *const texts[][2], size_t count)
{
	nghttp2_nv headers[4];
	nghttp2_hd_deflater *deflater;

	for (size_t i = 0; i < count; i++)
		headers[i] = (nghttp2_nv){ (uint8_t *)texts[i][0], (uint8_t *)texts[i][1], strlen(texts[i][0]),
					   strlen(texts[i][1]), NGHTTP2_NV_FLAG_NONE };
	if (nghttp2_hd_deflate_new(&deflater, 0))
		abort();
	ssize_t size = nghttp2_hd_deflate_hd(deflater, header_blocks[index].bytes, sizeof(header_blocks[index].bytes),
					     headers, count);

	if (size < 0)
		abort();
	header_blocks[index].size = (size_t)size;
	nghttp2_hd_deflate_del(deflater);
}

static void free_connection(void)
{
	struct grpc_connection *dying = connection;

	connection = NULL;
	grpc_connection_free(dying);
}

static void done(const struct grpc_result *result, void *context)
{
	(void)context;
	if (!open_calls-- || (result->status == GRPC_STATUS_OK) != (result->response != NULL))
		abort();
	if (frees_when_done && connection)
		free_connection();
}

static void ready(struct grpc_connection *which, void *context)
{
	(void)context;
	if (which != connection)
		abort();
}

static void closed(struct grpc_connection *which, const char *reason, void *context)
{
	(void)context;
	if (which != connection || !reason || open_calls)
		abort();
	connection = NULL;
}

static void requested(struct grpc_reverse_request *request, void *context)
{
	(void)context;
	if (request_count < REQUESTS_MAX)
		requests[request_count++] = request;
	else
		grpc_reverse_answer(request, &(struct hyper_response){ .id = NULL });
}

static void ended(struct grpc_connection *which, const char *reason, void *context)
{
	(void)context;
	if (which != connection || !reason)
		abort();
}

static void prepare(void)
{
	static const char *const sets[HEADER_SETS][2][2] = {
		{ { ":status", "200" }, { "content-type", "application/grpc" } },
		{ { "grpc-status", "0" }, { "grpc-message", "" } },
		{ { "grpc-status", "2" }, { "grpc-message", "a%20b%zz%ff" } },
		{ { ":status", "404" }, { "content-type", "text/html" } },
		{ { ":status", "100" }, { "x", "y" } },
		{ { ":status", "200" }, { "grpc-status", "99999999999" } },
		{ { "grpc-status", "" }, { "x", "y" } },
	};

	if (base)
		return;
	signal(SIGPIPE, SIG_IGN);
	log_configure(LOG_LEVEL_PANIC, LOG_FORMAT_TEXT, "fuzz");
	base = event_base_new();
	tls = SSL_CTX_new(TLS_client_method());
	for (int i = 0; i < HEADER_SETS; i++)
		encode_headers(i, sets[i], 2);
}

/* What TLS would hand to nghttp2 and take from it. */
static void feed(const uint8_t *bytes, size_t size)
{
	if (transport->is_closed || transport->failure)
		return;
	transport->is_in_session = true;
	ssize_t taken = nghttp2_session_mem_recv(transport->session, bytes, size);
	transport->is_in_session = false;
	if (!transport->is_closed && taken < 0)
		transport_fail(transport, "protocol error");
}

static void collect(void)
{
	const uint8_t *bytes;
	ssize_t size = 1;

	while (!transport->is_closed && !transport->failure && size > 0) {
		transport->is_in_session = true;
		size = nghttp2_session_mem_send(transport->session, &bytes);
		transport->is_in_session = false;
		if (!transport->is_closed && size < 0)
			transport_fail(transport, "send");
	}
}

static void feed_frame(uint8_t type, uint8_t flags, uint32_t stream, const uint8_t *payload, size_t size)
{
	uint8_t header[9] = { (uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size, type, flags,
			      (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream };

	feed(header, sizeof(header));
	feed(payload, size);
}

static void run_owner_step(uint8_t argument)
{
	const struct hyper_request request = { .method = (char *)"m", .id = (char *)"i" };
	const struct grpc_reverse_handlers handlers = { requested, ended, NULL };

	switch (argument % 5) {
	case 0:
		if (connection && !grpc_connection_call(connection, &request, argument > 250 ? 0 : 1000, done, NULL))
			open_calls++;
		break;
	case 1:
		if (connection)
			grpc_connection_open_reverse(connection, "hd-1", &handlers);
		break;
	case 2:
		if (request_count) {
			struct grpc_reverse_request *answered = requests[argument % request_count];

			requests[argument % request_count] = requests[request_count - 1];
			request_count--;
			grpc_reverse_answer(answered, &(struct hyper_response){ .id = grpc_reverse_request_get(answered)->id });
		}
		break;
	case 3:
		if (connection && argument > 200)
			grpc_connection_finish(connection);
		break;
	case 4:
		event_base_loop(base, EVLOOP_NONBLOCK);
		break;
	}
}

static void run_step(uint8_t step, uint8_t argument, const uint8_t *payload, size_t size)
{
	uint32_t stream = (argument & 7u) * 2 + 1;

	switch (step % 8) {
	case 0:
		feed(payload, size);
		break;
	case 1:
		feed_frame(NGHTTP2_HEADERS, (uint8_t)(4 | (argument >> 7)), stream,
			   header_blocks[(argument >> 3) % HEADER_SETS].bytes, header_blocks[(argument >> 3) % HEADER_SETS].size);
		break;
	case 2:
		feed_frame(NGHTTP2_DATA, argument >> 7, stream, payload, size);
		break;
	case 3: { /* a whole gRPC frame */
		uint8_t framed[5 + 255] = { 0, 0, 0, 0, (uint8_t)size };

		memcpy(framed + 5, payload, size);
		feed_frame(NGHTTP2_DATA, argument >> 7, stream, framed, 5 + size);
		break;
	}
	case 4:
		feed_frame(argument & 15, argument >> 4, size ? payload[0] : 0, payload, size);
		break;
	case 5:
		feed_frame(NGHTTP2_RST_STREAM, 0, stream, (const uint8_t *)(argument >> 7 ? "\0\0\0\7" : "\0\0\0\10"), 4);
		break;
	case 6:
		run_owner_step(argument);
		break;
	case 7:
		collect();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t settings[] = "\0\0\0\4\0\0\0\0\0";
	struct grpc_connection_options options = {
		.server_name = "hd-2",
		.handshake_timeout_ms = 5000,
		.ready = ready,
		.closed = closed,
	};
	int fds[2];

	if (size < 2)
		return 0;
	prepare();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		abort();
	options.fd = fds[1];
	options.tls = tls;
	options.skip_verify = true;
	if (grpc_connection_start(base, &options, &connection))
		abort();
	transport = transport_hold(connection->transport);
	transport->is_identified = true;
	if (session_create(transport))
		abort();
	frees_when_done = data[0] & 1;
	if (!(data[0] & 2))
		feed(settings, sizeof(settings) - 1);
	for (unsigned calls = data[0] >> 5; calls--;)
		run_owner_step(0);
	if (data[0] & 4)
		run_owner_step(1);
	collect();
	data++;
	size--;
	while (size >= 3) {
		size_t length = data[2] < size - 3 ? data[2] : size - 3;

		run_step(data[0], data[1], data + 3, length);
		data += 3 + length;
		size -= 3 + length;
	}
	collect();
	event_base_loop(base, EVLOOP_NONBLOCK);
	if (connection)
		free_connection();
	if (open_calls)
		abort();
	while (request_count)
		grpc_reverse_answer(requests[--request_count], &(struct hyper_response){ .id = NULL });
	transport_release(transport);
	close(fds[0]);
	return 0;
}
