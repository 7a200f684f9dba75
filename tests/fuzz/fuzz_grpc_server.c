// SPDX-License-Identifier: Apache-2.0
/* The HTTP/2 side of the server, behind TLS: the input is a program of steps,
 * each a frame (valid headers of our paths, DATA, control frames, raw bytes)
 * or something that the owner does (answers, sends over a reverse stream). */
#include "base/log.h"
#include "grpc/server_private.h"

#include <nghttp2/nghttp2.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CALLS_MAX 64
#define HEADER_SETS 6

static struct event_base *base;
static SSL_CTX *tls;
static struct {
	uint8_t bytes[128];
	size_t size;
} header_blocks[HEADER_SETS];

static struct grpc_call *calls[CALLS_MAX];
static size_t call_count;
static struct grpc_reverse *reverse;
static struct transport *transport;
static bool answers_at_once;
static uint32_t next_stream;

static void encode_headers(int index, const char *path, const char *method, const char *type)
{
	const char *const texts[][2] = { { ":method", method }, { ":scheme", "https" }, { ":path", path },
					 { ":authority", "a" }, { "content-type", type }, { "te", "trailers" } };
	nghttp2_nv headers[6];
	nghttp2_hd_deflater *deflater;

	for (int i = 0; i < 6; i++)
		headers[i] = (nghttp2_nv){ (uint8_t *)texts[i][0], (uint8_t *)texts[i][1], strlen(texts[i][0]),
					   strlen(texts[i][1]), NGHTTP2_NV_FLAG_NONE };
	if (nghttp2_hd_deflate_new(&deflater, 0))
		abort();
	ssize_t size = nghttp2_hd_deflate_hd(deflater, header_blocks[index].bytes, sizeof(header_blocks[index].bytes),
					     headers, 6);

	if (size < 0)
		abort();
	header_blocks[index].size = (size_t)size;
	nghttp2_hd_deflate_del(deflater);
}

static void answer(struct grpc_call *call)
{
	const struct hyper_request *request = grpc_call_request(call);

	if (strlen(request->id) & 1)
		grpc_call_fail(call, GRPC_STATUS_UNKNOWN, request->method);
	else
		grpc_call_respond(call, &(struct hyper_response){ .id = request->id, .result = request->params });
}

static void called(struct grpc_call *call, void *context)
{
	(void)context;
	if (answers_at_once || call_count == CALLS_MAX)
		answer(call);
	else
		calls[call_count++] = call;
}

static void reverse_opened(struct grpc_reverse *opened, const char *name, void *context)
{
	(void)name;
	(void)context;
	reverse = opened;
}

static void reverse_ended(struct grpc_reverse *ended, void *context)
{
	(void)context;
	if (reverse == ended)
		reverse = NULL;
}

static void reverse_done(const struct hyper_response *response, const char *failure, void *context)
{
	(void)context;
	if (!response == !failure)
		abort();
}

static void prepare(void)
{
	if (base)
		return;
	signal(SIGPIPE, SIG_IGN);
	log_configure(LOG_LEVEL_PANIC, LOG_FORMAT_TEXT, "fuzz");
	base = event_base_new();
	tls = SSL_CTX_new(TLS_server_method());
	encode_headers(0, "/Hyper/Call", "POST", "application/grpc");
	encode_headers(1, "/Hyper/ServerCall", "POST", "application/grpc");
	encode_headers(2, "/Hyper/Other", "POST", "application/grpc");
	encode_headers(3, "/Hyper/Call", "GET", "application/grpc");
	encode_headers(4, "/Hyper/Call", "POST", "text/plain");
	encode_headers(5, "/x", "POST", "application/grpc+x");
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

static void run_step(uint8_t step, uint8_t argument, const uint8_t *payload, size_t size)
{
	uint32_t stream = (argument & 15u) * 2 + 1;

	switch (step % 10) {
	case 0:
		feed(payload, size);
		break;
	case 1:
		feed_frame(NGHTTP2_HEADERS, (uint8_t)(4 | (argument & 1)), next_stream,
			   header_blocks[(argument >> 1) % HEADER_SETS].bytes, header_blocks[(argument >> 1) % HEADER_SETS].size);
		next_stream += 2;
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
		feed_frame(NGHTTP2_RST_STREAM, 0, stream, (const uint8_t *)"\0\0\0\10", 4);
		break;
	case 6:
		if (call_count)
			answer(calls[--call_count]);
		break;
	case 7:
		if (reverse) {
			struct hyper_request request = { .method = (char *)"m", .id = (char *)"i" };

			grpc_reverse_send(reverse, &request, argument ? 1000 : 0, reverse_done, NULL);
		}
		break;
	case 8:
		collect();
		break;
	case 9:
		event_base_loop(base, EVLOOP_NONBLOCK);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	const struct grpc_server_options options = {
		.name = "fuzz",
		.tls = NULL,
		.called = called,
		.reverse_opened = reverse_opened,
		.reverse_ended = reverse_ended,
	};
	struct grpc_server_options with_tls = options;
	struct grpc_server *server;
	int fds[2];

	if (size < 2)
		return 0;
	prepare();
	with_tls.tls = tls;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) || grpc_server_start(base, &with_tls, &server) ||
	    grpc_server_adopt(server, fds[1]))
		abort();
	transport = transport_hold(LIST_FIRST(&server->connections)->transport);
	transport->identities.items = calloc(1, sizeof(*transport->identities.items));
	transport->identities.items[0].name = strdup("hd-2");
	transport->identities.count = 1;
	transport->is_identified = true;
	if (session_create(transport))
		abort();
	answers_at_once = data[0] & 1;
	if (!(data[0] & 2))
		feed(preface, sizeof(preface) - 1);
	data++;
	size--;
	next_stream = 1;
	while (size >= 3) {
		uint8_t step = data[0], argument = data[1];
		size_t length = data[2] < size - 3 ? data[2] : size - 3;

		run_step(step, argument, data + 3, length);
		data += 3 + length;
		size -= 3 + length;
	}
	collect();
	event_base_loop(base, EVLOOP_NONBLOCK);
	grpc_server_free(server);
	while (call_count)
		answer(calls[--call_count]);
	transport_release(transport);
	close(fds[0]);
	if (reverse)
		abort();
	return 0;
}
