// SPDX-License-Identifier: Apache-2.0
/* JSON-RPC calls over one HTTP client.
 *
 * Owns the HTTP client and the TLS context made from its settings, and the
 * calls under way. The URL alone says whether TLS is spoken. The HTTP status is not looked at: existing programs answer
 * 400 for every JSON-RPC error. */
#include "jsonrpc/client.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "http/client.h"
#include "tls/context.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#define MOST_ANSWER_BYTES (64u << 20)
#define DEFAULT_TIMEOUT_MS 30000

struct jsonrpc_client {
	struct http_client *http;
	SSL_CTX *tls;
	LIST_HEAD(, jsonrpc_pending) calls;
};

struct jsonrpc_pending {
	LIST_ENTRY(jsonrpc_pending) entry;
	struct http_exchange *exchange;
	jsonrpc_done done;
	void *context;
};

int jsonrpc_client_create(struct event_base *base, const struct jsonrpc_client_settings *settings,
			  const char *endpoint, const char *server_name, struct jsonrpc_client **result)
{
	struct jsonrpc_client *client = calloc(1, sizeof(*client));
	const struct tls_settings *tls = settings->tls;
	int error = -EINVAL;

	*result = NULL;
	if (!client)
		return -ENOMEM;
	LIST_INIT(&client->calls);
	if (!endpoint)
		endpoint = settings->endpoint;
	if (!endpoint) {
		log_error("a JSON-RPC client has no endpoint");
		goto failed;
	}
	if (strncasecmp(endpoint, "https:", 6) == 0) {
		client->tls = tls_context_client(tls, "http/1.1");
		if (!client->tls)
			goto failed;
	} else if (tls) {
		log_warning("JSON-RPC endpoint %s is called without TLS: its `tls` settings are for https:// only", endpoint);
	}
	const struct http_client_options options = {
		.url = endpoint,
		.proxy_url = settings->proxy_url,
		.server_name = server_name ? server_name : tls ? tls->server_name : NULL,
		.tls = client->tls,
		.skip_verify = tls && tls->insecure_skip_verify,
		.timeout_ms = settings->timeout_ms ? settings->timeout_ms : DEFAULT_TIMEOUT_MS,
		.max_body_bytes = MOST_ANSWER_BYTES,
	};
	error = http_client_create(base, &options, &client->http);
	if (error) {
		log_error("cannot use the JSON-RPC endpoint %s%s: %s", endpoint,
			  settings->proxy_url ? " through its proxy" : "", strerror(-error));
		goto failed;
	}
	*result = client;
	return 0;
failed:
	jsonrpc_client_free(client);
	return error;
}

void jsonrpc_client_free(struct jsonrpc_client *client)
{
	if (!client)
		return;
	while (!LIST_EMPTY(&client->calls))
		jsonrpc_client_cancel(LIST_FIRST(&client->calls));
	http_client_free(client->http);
	SSL_CTX_free(client->tls);
	free(client);
}

static void handle_answer(const struct http_answer *http, void *context)
{
	struct jsonrpc_pending *pending = context;
	struct jsonrpc_answer answer = { 0 };
	_free_ char *detail = NULL, *failure = NULL;

	LIST_REMOVE(pending, entry);
	if (http->error) {
		pending->done(NULL, http->error, http->closed_early, pending->context);
	} else if (jsonrpc_answer_read(http->body, http->length, &answer, &detail)) {
		if (asprintf(&failure, "%s (HTTP status %d)", detail ? detail : "no memory", http->status) < 0)
			failure = NULL;
		pending->done(NULL, failure ? failure : "no memory", false, pending->context);
	} else {
		pending->done(&answer, NULL, false, pending->context);
	}
	jsonrpc_answer_clear(&answer);
	free(pending);
}

int jsonrpc_client_call(struct jsonrpc_client *client, const char *method, const json_t *params, const char *id,
			jsonrpc_done done, void *context, struct jsonrpc_pending **result)
{
	struct jsonrpc_pending *pending = calloc(1, sizeof(*pending));
	size_t length = 0;
	_free_ char *text = jsonrpc_request_text(method, params, id, &length);
	int error = -ENOMEM;

	if (pending && text) {
		pending->done = done;
		pending->context = context;
		error = http_client_post(client->http, text, length, handle_answer, pending, &pending->exchange);
	}
	if (error) {
		free(pending);
		return error;
	}
	LIST_INSERT_HEAD(&client->calls, pending, entry);
	if (result)
		*result = pending;
	return 0;
}

void jsonrpc_client_cancel(struct jsonrpc_pending *pending)
{
	LIST_REMOVE(pending, entry);
	http_exchange_cancel(pending->exchange);
	free(pending);
}
