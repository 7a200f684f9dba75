// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Where a client's requests go: an http or https URL, directly or through an
 * HTTP proxy. Pure. */
#include <stdbool.h>

struct http_route {
	bool is_tls;
	char *connect_to;          /* "host:port" of the peer, or of the proxy */
	char *authority;           /* for Host: the URL's host and port as written */
	char *target;              /* for the request line; absolute where a proxy must forward it */
	char *host;                /* without brackets */
	char *tunnel;              /* "host:port" for CONNECT; NULL: none */
	char *proxy_authorization; /* value of the header; NULL: none */
};

/* `proxy_url` may be NULL. Returns 0, -EINVAL (the URL is not one of ours), or
 * -ENOMEM. Clear it in every case. */
int http_route_read(const char *url, const char *proxy_url, struct http_route *route);
void http_route_clear(struct http_route *route);
