// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What the two sides of grpc_peer share: commands come as one JSON object a
 * line on standard input, everything that happens goes out as one on standard
 * output. */
#include "grpc/client.h"

struct peer_options {
	const char *role; /* "serve" or "call" */
	const char *address, *server_name, *certificate, *key, *ca;
	const char *unknown_name; /* a name that the "directory" does not have */
};

/* Steals `event`. */
void peer_tell(json_t *event);
struct identifier peer_identifier(const struct peer_options *options);
json_t *peer_describe_response(const struct hyper_response *response);

void serving_start(struct event_base *base, const struct peer_options *options, SSL_CTX *tls);
void serving_command(const char *verb, const json_t *command);
void serving_finish(void);

void calling_start(struct event_base *base, const struct peer_options *options, SSL_CTX *tls);
void calling_command(const char *verb, const json_t *command);
void calling_finish(void);
