// SPDX-License-Identifier: Apache-2.0
/* The HTTP/2 side of the client, behind TLS: the input is a program of steps,
 * each a frame of the server (answers, trailers, DATA, control frames, raw
 * bytes) or something that the owner does. Every call must end exactly once. */
#include "grpc/client_private.h"
#include "grpc_steps.h"

#define REQUESTS_MAX 64

static struct grpc_connection *connection;
static struct grpc_reverse_request *requests[REQUESTS_MAX];
static size_t request_count, open_calls;
static bool frees_when_done;

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
	static const char *const sets[][2][2] = {
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
	prepare_loop(TLS_client_method());
	for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++)
		encode_headers(sets[i], 2);
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
	case 1:
		feed_headers(argument >> 7, stream, argument >> 3);
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
	default:
		feed_step(step % 8, argument, stream, payload, size);
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
	run_steps(data + 1, size - 1, run_step);
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
