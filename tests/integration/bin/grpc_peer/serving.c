// SPDX-License-Identifier: Apache-2.0
/* The serving side: answers calls by the method's last word (echo, fail, error,
 * hold, large, forward) and sends requests over reverse streams. */
#include "peer.h"

#include "base/json.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define STREAMS_MAX 64
#define HELD_MAX 4096

static struct grpc_server *server;
static struct grpc_call *held[HELD_MAX];
static size_t held_count;
static struct {
	struct grpc_reverse *reverse;
	char name[64];
} streams[STREAMS_MAX];

static const char *last_word(const char *method)
{
	const char *dot = strrchr(method, '.');

	return dot ? dot + 1 : method;
}

static struct grpc_reverse *newest_stream(const char *name)
{
	for (int i = STREAMS_MAX; i-- > 0;)
		if (streams[i].reverse && name && !strcmp(streams[i].name, name))
			return streams[i].reverse;
	return NULL;
}

static void forwarded(const struct hyper_response *response, const char *failure, void *context)
{
	struct grpc_call *call = context;

	if (response)
		grpc_call_respond(call, response);
	else
		grpc_call_fail(call, GRPC_STATUS_UNAVAILABLE, failure);
}

static void forward(struct grpc_call *call)
{
	const struct hyper_request *request = grpc_call_request(call);
	struct grpc_reverse *reverse = newest_stream(json_text(request->params, "to"));
	double timeout = json_number_value(json_object_get(request->params, "timeout_ms"));
	int error = reverse ? grpc_reverse_send(reverse, request, timeout ? (unsigned)timeout : 5000, forwarded, call) : -1;

	if (error)
		grpc_call_fail(call, GRPC_STATUS_UNAVAILABLE, reverse ? strerror(-error) : "no stream");
}

static void answer_large(struct grpc_call *call, size_t size)
{
	char *text = malloc(size + 1);
	struct hyper_response response = { .id = grpc_call_request(call)->id };

	memset(text, 'y', size);
	text[size] = 0;
	response.result = json_pack("{s:s}", "text", text);
	free(text);
	grpc_call_respond(call, &response);
	json_decref(response.result);
}

static void called(struct grpc_call *call, void *context)
{
	const struct hyper_request *request = grpc_call_request(call);
	const char *word = last_word(request->method);
	(void)context;

	peer_tell(json_pack("{s:s, s:s, s:s, s:s, s:s}", "event", "called", "method", request->method, "id", request->id,
			    "client", request->client_name, "first_identity", grpc_call_identities(call)->items[0].name));
	if (!strcmp(word, "fail")) {
		const char *text = json_text(request->params, "text");

		grpc_call_fail(call, GRPC_STATUS_UNKNOWN, text ? text : "");
	} else if (!strcmp(word, "error")) {
		struct hyper_response response = { .id = request->id, .has_error = true, .code = -32603,
						   .message = (char *)"gr\xc3\xbc\xc3\x9f", .data = request->params };

		grpc_call_respond(call, &response);
	} else if (!strcmp(word, "none")) {
		grpc_call_respond(call, &(struct hyper_response){ .id = request->id });
	} else if (!strcmp(word, "large")) {
		answer_large(call, (size_t)json_number_value(json_object_get(request->params, "size")));
	} else if (!strcmp(word, "forward")) {
		forward(call);
	} else if (!strcmp(word, "echo")) {
		grpc_call_respond(call, &(struct hyper_response){ .id = request->id, .result = request->params });
	} else if (held_count < HELD_MAX) {
		held[held_count++] = call; /* "hold": answered at the end */
	} else {
		grpc_call_fail(call, GRPC_STATUS_UNAVAILABLE, "too many calls are held");
	}
}

static void reverse_opened(struct grpc_reverse *reverse, const char *name, void *context)
{
	(void)context;
	for (int i = 0; i < STREAMS_MAX; i++) {
		if (!streams[i].reverse) {
			streams[i].reverse = reverse;
			snprintf(streams[i].name, sizeof(streams[i].name), "%s", name);
			break;
		}
	}
	peer_tell(json_pack("{s:s, s:s}", "event", "reverse_opened", "name", name));
}

static void reverse_ended(struct grpc_reverse *reverse, void *context)
{
	(void)context;
	for (int i = 0; i < STREAMS_MAX; i++)
		if (streams[i].reverse == reverse)
			streams[i].reverse = NULL;
	peer_tell(json_pack("{s:s}", "event", "reverse_ended"));
}

void serving_start(struct event_base *base, const struct peer_options *options, SSL_CTX *tls)
{
	const struct grpc_server_options server_options = {
		.name = "peer",
		.bind_address = options->address,
		.tls = tls,
		.identifier = peer_identifier(options),
		.called = called,
		.reverse_opened = reverse_opened,
		.reverse_ended = reverse_ended,
	};
	int error = grpc_server_start(base, &server_options, &server);

	if (error) {
		fprintf(stderr, "cannot serve on %s: %s\n", options->address, strerror(-error));
		exit(1);
	}
	peer_tell(json_pack("{s:s}", "event", "serving"));
}

static void sent(const struct hyper_response *response, const char *failure, void *context)
{
	(void)context;
	peer_tell(json_pack("{s:s, s:o*, s:s*}", "event", "reverse_done", "response",
			    response ? peer_describe_response(response) : NULL, "failure", failure));
}

void serving_command(const char *verb, const json_t *command)
{
	if (!strcmp(verb, "stop")) {
		grpc_server_stop(server);
	} else if (!strcmp(verb, "send")) {
		struct grpc_reverse *reverse = newest_stream(json_text(command, "to"));
		struct hyper_request request = {
			.method = (char *)json_text(command, "method"),
			.id = (char *)json_text(command, "id"),
			.client_name = (char *)"peer",
			.params = json_object_get(command, "params"),
		};
		double timeout = json_number_value(json_object_get(command, "timeout_ms"));
		int error = reverse ? grpc_reverse_send(reverse, &request, timeout ? (unsigned)timeout : 5000, sent, NULL) : -1;

		if (error)
			sent(NULL, reverse ? strerror(-error) : "no stream", NULL);
	}
}

void serving_finish(void)
{
	while (held_count)
		grpc_call_fail(held[--held_count], GRPC_STATUS_UNAVAILABLE, "the end");
	grpc_server_free(server);
}
