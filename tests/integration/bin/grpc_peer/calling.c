// SPDX-License-Identifier: Apache-2.0
/* The calling side: one connection, calls and a reverse stream on command. */
#include "peer.h"

#include "base/address.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct event_base *loop;
static const struct peer_options *peer;
static SSL_CTX *context_tls;
static struct grpc_connection *connection;
static struct connector *connector;

struct pending {
	json_int_t number;
};

static void ready(struct grpc_connection *which, void *context)
{
	(void)context;
	peer_tell(json_pack("{s:s, s:s}", "event", "ready", "server", grpc_connection_identities(which)->items[0].name));
}

static void closed(struct grpc_connection *which, const char *reason, void *context)
{
	(void)which;
	(void)context;
	connection = NULL;
	peer_tell(json_pack("{s:s, s:s}", "event", "closed", "reason", reason));
}

static void connected(int fd_or_error, const char *reason, void *context)
{
	(void)context;
	connector = NULL;
	if (fd_or_error < 0) {
		peer_tell(json_pack("{s:s, s:s}", "event", "closed", "reason", reason));
		return;
	}
	const struct grpc_connection_options options = {
		.fd = fd_or_error,
		.tls = context_tls,
		.server_name = peer->server_name,
		.identifier = peer_identifier(peer),
		.handshake_timeout_ms = 5000,
		.ready = ready,
		.closed = closed,
	};

	if (grpc_connection_start(loop, &options, &connection))
		exit(1);
}

static void connect_now(void)
{
	if (connector_start(loop, peer->address, 5000, connected, NULL, &connector))
		exit(1);
}

void calling_start(struct event_base *base, const struct peer_options *options, SSL_CTX *tls)
{
	loop = base;
	peer = options;
	context_tls = tls;
	connect_now();
}

static void done(const struct grpc_result *result, void *context)
{
	struct pending *pending = context;

	peer_tell(json_pack("{s:s, s:I, s:s, s:s, s:b, s:o*}", "event", "done", "number", pending->number, "status",
			    grpc_status_name(result->status), "message", result->message, "undelivered", result->undelivered,
			    "response", result->response ? peer_describe_response(result->response) : NULL));
	free(pending);
}

static void call(const json_t *command)
{
	struct hyper_request request = {
		.method = (char *)json_text(command, "method"),
		.id = (char *)json_text(command, "id"),
		.client_name = (char *)"peer",
		.params = json_object_get(command, "params"),
	};
	json_int_t timeout = json_integer_value(json_object_get(command, "timeout_ms"));
	json_int_t size = json_integer_value(json_object_get(command, "size"));
	struct pending *pending = calloc(1, sizeof(*pending));
	json_t *large = NULL;

	if (size) {
		char *text = malloc((size_t)size + 1);

		memset(text, 'x', (size_t)size);
		text[size] = 0;
		request.params = large = json_pack("{s:s}", "text", text);
		free(text);
	}
	pending->number = json_integer_value(json_object_get(command, "number"));
	int error = connection ? grpc_connection_call(connection, &request, timeout ? (unsigned)timeout : 5000, done, pending)
			       : -1;

	json_decref(large);
	if (error) {
		peer_tell(json_pack("{s:s, s:I, s:s, s:s, s:b}", "event", "done", "number", pending->number, "status", "none",
				    "message", strerror(-error), "undelivered", 1));
		free(pending);
	}
}

static void requested(struct grpc_reverse_request *request, void *context)
{
	const struct hyper_request *got = grpc_reverse_request_get(request);
	(void)context;

	peer_tell(json_pack("{s:s, s:s, s:s, s:s}", "event", "requested", "method", got->method, "id", got->id, "client",
			    got->client_name));
	if (strstr(got->method, "error"))
		grpc_reverse_answer(request, &(struct hyper_response){ .id = got->id, .has_error = true, .code = 404,
								      .message = (char *)"no matching client found" });
	else
		grpc_reverse_answer(request, &(struct hyper_response){ .id = got->id, .result = got->params });
}

static void ended(struct grpc_connection *which, const char *reason, void *context)
{
	(void)which;
	(void)context;
	peer_tell(json_pack("{s:s, s:s}", "event", "reverse_ended", "reason", reason));
}

void calling_command(const char *verb, const json_t *command)
{
	if (!strcmp(verb, "call")) {
		call(command);
	} else if (!strcmp(verb, "connect")) {
		if (!connection && !connector)
			connect_now();
	} else if (!strcmp(verb, "reverse") && connection) {
		const struct grpc_reverse_handlers handlers = { requested, ended, NULL };

		grpc_connection_open_reverse(connection, json_text(command, "name"), &handlers);
	} else if (!strcmp(verb, "finish") && connection) {
		grpc_connection_finish(connection);
	} else if (!strcmp(verb, "free")) {
		grpc_connection_free(connection);
		connection = NULL;
	}
}

void calling_finish(void)
{
	if (connector)
		connector_cancel(connector);
	grpc_connection_free(connection);
}
