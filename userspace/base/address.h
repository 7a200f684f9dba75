// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Network addresses: "host:port" texts, listeners, connecting with a deadline.
 *
 * Both IP families. A listener on "localhost" or another name that resolves to
 * both families binds one address, IPv4 preferred; ":port" binds the wildcard
 * of both families. */
#include <event2/event.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_TEXT_SIZE 64

/* Splits "host:port" ("[::1]:80" too). `host` gets a malloc'd copy, without
 * brackets. Returns 0 or -EINVAL. */
int address_split(const char *text, char **host, uint16_t *port);

/* "127.0.0.1:80" or "[::1]:80"; unix sockets give "unix". Returns `text`. */
char *address_format(const struct sockaddr *address, char text[ADDRESS_TEXT_SIZE]);

/* Text of the socket's peer, "?" if it has none any more. */
char *address_of_peer(int fd, char text[ADDRESS_TEXT_SIZE]);

/* Resolves `text` (blocking; only for bind addresses at start-up) and returns
 * a bound, listening, non-blocking, close-on-exec TCP socket with SO_REUSEADDR,
 * and SO_REUSEPORT if asked for. Returns the descriptor or a negative errno;
 * a name that cannot be resolved is logged, and -EADDRNOTAVAIL. */
int address_listen(const char *text, bool reuse_port, int backlog);

/* Connects to "host:port" without blocking: names are resolved
 * asynchronously, every address is tried in turn, all within `timeout_ms`.
 * `done` is called exactly once from the event loop, never from inside
 * connector_start: with a connected non-blocking descriptor that the callee
 * then owns, or with a negative errno and a reason that names the address.
 * connector_cancel frees a connector whose `done` has not been called. */
struct connector;
typedef void (*connector_done)(int fd_or_error, const char *reason, void *context);
int connector_start(struct event_base *base, const char *text, unsigned timeout_ms, connector_done done,
		    void *context, struct connector **result);
void connector_cancel(struct connector *connector);
