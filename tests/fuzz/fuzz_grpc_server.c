// SPDX-License-Identifier: Apache-2.0
/* The HTTP/2 side of the server, behind TLS: the input is a program of steps,
 * each a frame (valid headers of our paths, DATA, control frames, raw bytes)
 * or something that the owner does (answers, sends over a reverse stream). */
#include "grpc/server_private.h"
#include "grpc_steps.h"

#define CALLS_MAX 64

static struct grpc_call *calls[CALLS_MAX];
static size_t call_count;
static struct grpc_reverse *reverse;
static bool answers_at_once;
static uint32_t next_stream;

static void encode_request(const char *path, const char *method, const char *type)
{
	const char *const texts[][2] = { { ":method", method }, { ":scheme", "https" }, { ":path", path },
					 { ":authority", "a" }, { "content-type", type }, { "te", "trailers" } };

	encode_headers(texts, sizeof(texts) / sizeof(*texts));
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
	prepare_loop(TLS_server_method());
	encode_request("/Hyper/Call", "POST", "application/grpc");
	encode_request("/Hyper/ServerCall", "POST", "application/grpc");
	encode_request("/Hyper/Other", "POST", "application/grpc");
	encode_request("/Hyper/Call", "GET", "application/grpc");
	encode_request("/Hyper/Call", "POST", "text/plain");
	encode_request("/x", "POST", "application/grpc+x");
}

static void run_step(uint8_t step, uint8_t argument, const uint8_t *payload, size_t size)
{
	uint32_t stream = (argument & 15u) * 2 + 1;

	switch (step % 10) {
	case 1:
		feed_headers(argument & 1, next_stream, argument >> 1);
		next_stream += 2;
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
	default:
		feed_step(step % 10, argument, stream, payload, size);
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
	next_stream = 1;
	run_steps(data + 1, size - 1, run_step);
	grpc_server_free(server);
	while (call_count)
		answer(calls[--call_count]);
	transport_release(transport);
	close(fds[0]);
	if (reverse)
		abort();
	return 0;
}
