// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Forms of the brokering calls (protocol page 7.3, 7.4). Pure functions on
 * jansson values. */
#include <jansson.h>

/* Params of `requestConnection` that passed the form. */
struct connection_request {
	const char *to;        /* callee; borrowed from the params */
	const char *channel;   /* borrowed from the params */
	const char *requester; /* borrowed from `client` */
	json_t *client;        /* client info as the callee gets it; owned */
};

/* 0, -EINVAL with an object of field -> detail in `problems` (owned by the
 * caller; for jsonrpc_form_error), or -ENOMEM. Clear the request in every case. */
int connection_request_read(const json_t *params, struct connection_request *request, json_t **problems);
void connection_request_clear(struct connection_request *request);

/* Where the parties are told to go. */
struct told_endpoints {
	const char *plain;
	const char *tls;         /* NULL: there is none, and the messages have no member for it */
	const char *server_name; /* of the TLS endpoint: the proxy's operator name */
};

/* Params of the callee's `_connectionRequest`, and the requester's answer. NULL:
 * no memory. */
json_t *connection_request_params(const struct connection_request *request, const struct told_endpoints *endpoints,
				  const char *token_text);
json_t *connection_answer(const struct told_endpoints *endpoints, const char *token_text);
