// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What server and client do the same way with a libevent stream (plain or
 * TLS socket bufferevent). */
#include <event2/bufferevent.h>
#include <openssl/ssl.h>
#include <stdbool.h>

/* Over a connected, non-blocking descriptor that the stream owns from then on
 * (also on failure). `tls` NULL: plain; else steals the SSL object, whose
 * handshake begins. Sets TCP_NODELAY. Returns NULL on lack of memory. */
struct bufferevent *http_stream_new(struct event_base *base, int fd, SSL *tls, bool is_server);

/* Reason of an event other than CONNECTED, for people, and whether it is that
 * the peer closed or reset the connection (`is_closed` may be NULL). May be
 * called once per event. Per-thread buffer. */
const char *http_stream_reason(struct bufferevent *stream, short events, bool *is_closed);

/* Bytes that came from the network so far, TLS included; plain: what the
 * caller has seen is for the caller to know, 0. */
unsigned long long http_stream_tls_bytes_read(struct bufferevent *stream);

/* Says close_notify if TLS is up, then closes and frees. NULL is fine. */
void http_stream_close(struct bufferevent *stream);
