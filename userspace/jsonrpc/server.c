// SPDX-License-Identifier: Apache-2.0
/* JSON-RPC over HTTP: decides in the order of protocol page 4.1 whether a
 * request becomes a call, answers it itself if not, and hands calls to one
 * handler.
 *
 * Owns the HTTP server, the rate limiter and the TLS context made from its
 * settings. A call refers to its HTTP request only, which outlives both
 * servers. Runs on the thread of the event base. */
#include "jsonrpc/server.h"

#include "base/cleanup.h"
#include "base/rate_limit.h"
#include "http/server.h"
#include "jsonrpc/call.h"
#include "jsonrpc/cors.h"
#include "tls/context.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct jsonrpc_server {
	char *path;
	struct http_server *http;
	struct rate_limiter *limiter;
	SSL_CTX *tls;
	struct cors *cors; /* NULL: none */
	jsonrpc_handler handler;
	void *context;
};

static void answer_json(struct http_request *request, int status, const char *text, size_t length)
{
	http_request_add_header(request, "Content-Type", "application/json; charset=utf-8");
	http_request_answer(request, status, text, length);
}

static void send_answer(void *transport, bool is_error, const char *text, size_t length)
{
	answer_json(transport, is_error ? 400 : 200, text, length);
}

/* `reason` is for the log, where it may say more than the answer. */
static void refuse(struct http_request *request, int status, int code, const char *message, const char *reason,
		   const json_t *data)
{
	size_t length = 0;
	_free_ char *text = jsonrpc_error_text(code, message, data, NULL, &length);

	http_request_tell(request, LOG_LEVEL_WARNING, "refused a request from %s: %s", http_request_peer(request), reason);
	answer_json(request, text ? status : 500, text ? text : "", length);
}

static bool is_json_type(const char *type)
{
	static const char json[] = "application/json";

	if (!type || strncasecmp(type, json, sizeof(json) - 1) != 0)
		return false;
	type += sizeof(json) - 1;
	return *type == '\0' || *type == ';';
}

static void refuse_invalid(struct http_request *request, const json_t *faults)
{
	json_t *form = jsonrpc_form_error(faults);
	const char *detail = json_string_value(json_object_get(form, "message"));
	_free_ char *message = NULL;

	if (asprintf(&message, "invalid request: %s", detail ? detail : "") < 0)
		message = NULL;
	const char *text = message ? message : "invalid request";
	refuse(request, 400, JSONRPC_INVALID_REQUEST, text, text, form);
	json_decref(form);
}

static void start_call(struct jsonrpc_server *server, struct http_request *request)
{
	struct jsonrpc_pending_call *pending = NULL;
	struct jsonrpc_request message;
	json_t *faults;
	size_t length;
	const char *body = http_request_body(request, &length);
	int code = jsonrpc_request_parse(body, length, &message, &faults);

	if (code == 0)
		pending = jsonrpc_call_create(&message, http_request_peer(request), send_answer, request);
	if (pending)
		server->handler(&pending->call, server->context);
	else if (code == JSONRPC_PARSE_ERROR)
		refuse(request, 400, code, "JSON required", "the body is not a JSON object, or has too many values", NULL);
	else if (code == JSONRPC_INVALID_REQUEST)
		refuse_invalid(request, faults);
	else
		refuse(request, 500, JSONRPC_INTERNAL_ERROR, "internal server error", "out of memory or random bytes", NULL);
	json_decref(faults);
	jsonrpc_request_clear(&message);
}

static void handle_request(struct http_request *request, void *context)
{
	static const char not_found[] = "{\"message\":\"not found\"}";
	struct jsonrpc_server *server = context;
	bool is_allowed_origin;

	if (strcmp(http_request_path(request), server->path) != 0) {
		http_request_tell(request, LOG_LEVEL_WARNING, "unknown path asked for by %s", http_request_peer(request));
		answer_json(request, 404, not_found, sizeof(not_found) - 1);
		return;
	}
	is_allowed_origin = server->cors && cors_apply(server->cors, request);
	if (is_allowed_origin && strcmp(http_request_method(request), "OPTIONS") == 0)
		http_request_answer(request, 200, "", 0);
	else if (!is_json_type(http_request_header(request, "Content-Type")))
		refuse(request, 400, JSONRPC_PARSE_ERROR, "JSON required", "its Content-Type is not application/json", NULL);
	else
		start_call(server, request);
}

int jsonrpc_server_start(struct event_base *base, const char *name, const struct jsonrpc_server_settings *settings,
			 jsonrpc_handler handler, void *context, struct jsonrpc_server **result)
{
	struct jsonrpc_server *server = calloc(1, sizeof(*server));
	const struct rate_limit_settings *limits = &settings->limits;
	int error = -ENOMEM;

	*result = NULL;
	if (!server)
		return -ENOMEM;
	server->handler = handler;
	server->context = context;
	server->path = strdup(settings->path);
	if (!server->path)
		goto failed;
	if (limits->count > 0) {
		error = rate_limiter_create(limits->rules, limits->count, limits->exempt_loopback, &server->limiter);
		if (error)
			goto failed;
	}
	if (settings->cors) {
		error = cors_create(settings->cors, &server->cors);
		if (error)
			goto failed;
	}
	if (settings->tls) {
		error = -EINVAL;
		server->tls = tls_context_server(settings->tls, "http/1.1");
		if (!server->tls)
			goto failed;
	}
	const struct http_server_options options = {
		.name = name,
		.bind_address = settings->bind_address,
		.tls = server->tls,
		.limiter = server->limiter,
		.max_body_bytes = settings->max_body_bytes,
		.handle = handle_request,
		.context = server,
	};
	error = http_server_start(base, &options, &server->http);
	if (error)
		goto failed;
	*result = server;
	return 0;
failed:
	jsonrpc_server_free(server);
	return error;
}

void jsonrpc_server_stop(struct jsonrpc_server *server)
{
	http_server_stop(server->http);
}

size_t jsonrpc_server_open_calls(const struct jsonrpc_server *server)
{
	return http_server_open_requests(server->http);
}

uint16_t jsonrpc_server_port(const struct jsonrpc_server *server)
{
	return http_server_port(server->http);
}

void jsonrpc_server_free(struct jsonrpc_server *server)
{
	if (!server)
		return;
	http_server_free(server->http);
	rate_limiter_free(server->limiter);
	SSL_CTX_free(server->tls);
	cors_free(server->cors);
	free(server->path);
	free(server);
}
