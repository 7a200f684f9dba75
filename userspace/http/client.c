// SPDX-License-Identifier: Apache-2.0
/* HTTP/1.1 client on libevent's streams.
 *
 * Owns its exchanges and kept connections. Not libcurl, whose shared libraries
 * alone keep 9.8 MB resident where the whole proxy may have 10; and not evhttp's
 * client, which cannot say why a connection failed or whether it was closed
 * without a byte, and cannot go through a proxy to TLS.
 *
 * An exchange ends by exactly one of: its callback, which comes from the loop,
 * or cancellation. When the callback runs, the exchange is off every list, so
 * the callee may start another one or free the client. Everything runs on the
 * thread of the event base. */
#include "http/client.h"

#include "http/link.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void free_exchange(struct http_exchange *exchange)
{
	if (exchange->deadline)
		event_free(exchange->deadline);
	if (exchange->body)
		evbuffer_free(exchange->body);
	http_head_clear(&exchange->head);
	free(exchange->request);
	free(exchange);
}

static void finish(struct http_exchange *exchange, const struct http_answer *answer, bool keep)
{
	LIST_REMOVE(exchange, entry);
	evtimer_del(exchange->deadline);
	if (exchange->link)
		http_link_detach(exchange->link, keep);
	exchange->link = NULL;
	exchange->done(answer, exchange->context);
	free_exchange(exchange);
}

static void fail(struct http_exchange *exchange, bool closed_early, const char *reason)
{
	const struct http_answer answer = { .error = reason, .closed_early = closed_early };

	finish(exchange, &answer, false);
}

static void fail_answer(struct http_exchange *exchange, const char *reason)
{
	char text[400];

	snprintf(text, sizeof(text), "%s: %s", exchange->client->route.authority, reason);
	fail(exchange, false, text);
}

static void succeed(struct http_exchange *exchange, bool keep)
{
	size_t length = evbuffer_get_length(exchange->body);
	const struct http_answer answer = {
		.status = exchange->head.status,
		.body = length ? (const char *)evbuffer_pullup(exchange->body, -1) : "",
		.length = length,
	};

	finish(exchange, &answer, keep);
}

/* 1: read, 0: more is needed, negative: failed and gone. */
static int read_head(struct http_exchange *exchange, struct evbuffer *input)
{
	while (!exchange->has_head) {
		size_t available = evbuffer_get_length(input);
		size_t looked_at = available < HTTP_HEAD_MAX_BYTES ? available : HTTP_HEAD_MAX_BYTES;
		const char *bytes = (const char *)evbuffer_pullup(input, (ev_ssize_t)looked_at), *reason = NULL;
		size_t length = looked_at ? http_head_length(bytes, looked_at) : 0;
		int status;

		if (length == 0) {
			if (available < HTTP_HEAD_MAX_BYTES)
				return 0;
			fail_answer(exchange, "the head of the answer is too large");
			return -EMSGSIZE;
		}
		if (http_head_read(bytes, length, false, &exchange->head, &status, &reason)) {
			fail_answer(exchange, reason);
			return -EINVAL;
		}
		evbuffer_drain(input, length);
		exchange->has_head = exchange->head.status >= 200;
		if (!exchange->has_head) /* 100 Continue and the like come before the answer */
			http_head_clear(&exchange->head);
	}
	if (exchange->head.framing == HTTP_BODY_LENGTH &&
	    exchange->head.content_length > exchange->client->max_body_bytes) {
		fail_answer(exchange, "the answer is too large");
		return -EMSGSIZE;
	}
	return 1;
}

/* As read_head(); 1: the body is complete. */
static int read_body(struct http_exchange *exchange, struct evbuffer *input)
{
	size_t have = evbuffer_get_length(exchange->body), length;
	uint64_t missing;
	int result = 0;

	switch (exchange->head.framing) {
	case HTTP_BODY_NONE:
		return 1;
	case HTTP_BODY_LENGTH:
		missing = exchange->head.content_length - have;
		length = evbuffer_get_length(input);
		evbuffer_remove_buffer(input, exchange->body, missing < length ? (size_t)missing : length);
		return missing <= length;
	case HTTP_BODY_UNTIL_CLOSE:
		evbuffer_add_buffer(exchange->body, input);
		break;
	case HTTP_BODY_CHUNKED:
		while (result == 0 && (length = evbuffer_get_contiguous_space(input)) > 0) {
			const char *bytes = (const char *)evbuffer_pullup(input, (ev_ssize_t)length), *data;
			size_t used, data_length;

			result = http_chunks_take(&exchange->chunks, bytes, length, &used, &data, &data_length);
			evbuffer_add(exchange->body, data, data_length);
			evbuffer_drain(input, used);
		}
		break;
	}
	if (result >= 0 && evbuffer_get_length(exchange->body) > exchange->client->max_body_bytes)
		result = -EMSGSIZE;
	if (result < 0)
		fail_answer(exchange, result == -EMSGSIZE ? "the answer is too large" : "malformed chunked answer");
	return result;
}

void http_exchange_read(struct http_exchange *exchange, struct evbuffer *input)
{
	int result = read_head(exchange, input);

	if (result > 0)
		result = read_body(exchange, input);
	if (result > 0) /* bytes behind the answer are not ours to read */
		succeed(exchange, exchange->head.keep_alive && evbuffer_get_length(input) == 0);
}

void http_exchange_lost(struct http_exchange *exchange, bool may_repeat, bool is_clean, bool closed_early,
			const char *reason)
{
	/* A cut connection is no end: over TLS only close_notify is one. */
	if (exchange->has_head && exchange->head.framing == HTTP_BODY_UNTIL_CLOSE && is_clean) {
		succeed(exchange, false);
		return;
	}
	if (may_repeat) {
		http_link_detach(exchange->link, false);
		exchange->link = NULL;
		int error = http_link_attach(exchange->client, exchange, false);
		if (error)
			fail_answer(exchange, strerror(-error));
		return;
	}
	fail(exchange, closed_early, reason);
}

static void handle_deadline(int fd, short events, void *context)
{
	struct http_exchange *exchange = context;
	char text[100];

	(void)fd, (void)events;
	snprintf(text, sizeof(text), "%s within %u ms", http_link_phase(exchange->link), exchange->client->timeout_ms);
	fail_answer(exchange, text);
}

static int write_request(const struct http_client *client, struct http_exchange *exchange, const char *body,
			 size_t length)
{
	const struct http_route *route = &client->route;
	const char *authorization = route->tunnel ? NULL : route->proxy_authorization;
	char *head;
	int head_length = asprintf(&head,
				   "POST %s HTTP/1.1\r\n"
				   "Host: %s\r\n"
				   "Content-Length: %zu\r\n"
				   "Accept: application/json\r\n"
				   "Content-Type: application/json\r\n"
				   "%s%s%s\r\n",
				   route->target, route->authority, length,
				   authorization ? "Proxy-Authorization: " : "", authorization ? authorization : "",
				   authorization ? "\r\n" : "");

	if (head_length < 0)
		return -ENOMEM;
	exchange->request_length = (size_t)head_length + length;
	exchange->request = realloc(head, exchange->request_length + 1);
	if (!exchange->request) {
		free(head);
		return -ENOMEM;
	}
	memcpy(exchange->request + head_length, body, length);
	return 0;
}

int http_client_post(struct http_client *client, const char *body, size_t length, http_done done, void *context,
		     struct http_exchange **result)
{
	const struct timeval timeout = { .tv_sec = client->timeout_ms / 1000,
					 .tv_usec = client->timeout_ms % 1000 * 1000 };
	struct http_exchange *exchange = calloc(1, sizeof(*exchange));
	int error;

	if (!exchange)
		return -ENOMEM;
	exchange->client = client;
	exchange->done = done;
	exchange->context = context;
	exchange->body = evbuffer_new();
	exchange->deadline = evtimer_new(client->base, handle_deadline, exchange);
	error = exchange->body && exchange->deadline ? write_request(client, exchange, body, length) : -ENOMEM;
	if (!error)
		error = http_link_attach(client, exchange, true);
	if (error) {
		free_exchange(exchange);
		return error;
	}
	LIST_INSERT_HEAD(&client->exchanges, exchange, entry);
	evtimer_add(exchange->deadline, &timeout);
	if (result)
		*result = exchange;
	return 0;
}

void http_exchange_cancel(struct http_exchange *exchange)
{
	LIST_REMOVE(exchange, entry);
	if (exchange->link)
		http_link_detach(exchange->link, false);
	free_exchange(exchange);
}

int http_client_create(struct event_base *base, const struct http_client_options *options, struct http_client **result)
{
	struct http_client *client = calloc(1, sizeof(*client));
	int error = -ENOMEM;

	*result = NULL;
	if (!client)
		return -ENOMEM;
	LIST_INIT(&client->exchanges);
	LIST_INIT(&client->kept);
	client->base = base;
	client->skip_verify = options->skip_verify;
	client->timeout_ms = options->timeout_ms;
	client->max_body_bytes = options->max_body_bytes;
	error = http_route_read(options->url, options->proxy_url, &client->route);
	if (error)
		goto failed;
	client->server_name = strdup(options->server_name ? options->server_name : client->route.host);
	if (!client->server_name) {
		error = -ENOMEM;
		goto failed;
	}
	if (client->route.is_tls) {
		error = -EINVAL;
		if (!options->tls || !SSL_CTX_up_ref(options->tls))
			goto failed;
		client->tls = options->tls;
	}
	*result = client;
	return 0;
failed:
	http_client_free(client);
	return error;
}

void http_client_free(struct http_client *client)
{
	if (!client)
		return;
	while (!LIST_EMPTY(&client->exchanges))
		http_exchange_cancel(LIST_FIRST(&client->exchanges));
	http_links_close_kept(client);
	SSL_SESSION_free(client->session);
	SSL_CTX_free(client->tls);
	http_route_clear(&client->route);
	free(client->server_name);
	free(client);
}
