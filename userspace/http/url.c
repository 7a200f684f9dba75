// SPDX-License-Identifier: Apache-2.0
/* URLs of peers and proxies, taken apart into what a client needs. */
#include "http/url.h"

#include "base/encoding.h"

#include <errno.h>
#include <event2/http.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static char *join(const char *a, const char *b, const char *c, const char *d)
{
	char *text;

	return asprintf(&text, "%s%s%s%s", a, b, c, d) < 0 ? NULL : text;
}

/* 0 or -EINVAL; `text` is "host:port", `port` as text if it was written. */
static int read_endpoint(const char *url, const char *http_port, struct evhttp_uri **parsed, char port[16],
			 bool *is_tls)
{
	struct evhttp_uri *uri = evhttp_uri_parse(url);
	const char *scheme = uri ? evhttp_uri_get_scheme(uri) : NULL, *host = uri ? evhttp_uri_get_host(uri) : NULL;

	*parsed = uri;
	if (!scheme || !host || !*host || evhttp_uri_get_port(uri) == 0)
		return -EINVAL;
	*is_tls = strcasecmp(scheme, "https") == 0;
	if (!*is_tls && strcasecmp(scheme, "http") != 0)
		return -EINVAL;
	if (evhttp_uri_get_port(uri) > 0)
		snprintf(port, 16, "%d", evhttp_uri_get_port(uri));
	else
		snprintf(port, 16, "%s", *is_tls ? "443" : http_port);
	return 0;
}

static int read_url(const char *url, bool has_proxy, struct http_route *route)
{
	struct evhttp_uri *uri;
	char port[16];
	int error = read_endpoint(url, "80", &uri, port, &route->is_tls);

	if (!error && evhttp_uri_get_userinfo(uri))
		error = -EINVAL; /* would have to be sent as a password; no peer asks for one */
	if (!error) {
		const char *host = evhttp_uri_get_host(uri), *path = evhttp_uri_get_path(uri);
		const char *query = evhttp_uri_get_query(uri);
		bool is_port_written = evhttp_uri_get_port(uri) > 0;
		char *origin_form = join(path && *path ? path : "/", query ? "?" : "", query ? query : "", "");

		route->authority = join(host, is_port_written ? ":" : "", is_port_written ? port : "", "");
		route->connect_to = join(host, ":", port, "");
		route->host = *host == '[' ? strndup(host + 1, strlen(host) - 2) : strdup(host);
		if (origin_form && route->authority && has_proxy && !route->is_tls) {
			route->target = join("http://", route->authority, origin_form, "");
			free(origin_form);
		} else {
			route->target = origin_form;
		}
		if (!route->authority || !route->connect_to || !route->host || !route->target)
			error = -ENOMEM;
	}
	if (uri)
		evhttp_uri_free(uri);
	return error;
}

static char *basic_authorization(const char *userinfo)
{
	size_t length = 0;
	char *plain = evhttp_uridecode(userinfo, 0, &length), *text = NULL;

	if (plain)
		text = malloc(sizeof("Basic ") + 4 * ((length + 2) / 3) + 1);
	if (text)
		base64_encode((const unsigned char *)plain, length, stpcpy(text, "Basic "));
	if (plain)
		OPENSSL_cleanse(plain, length);
	free(plain);
	return text;
}

static int read_proxy(const char *proxy_url, struct http_route *route)
{
	struct evhttp_uri *uri;
	char port[16];
	bool is_tls = false;
	int error = read_endpoint(proxy_url, "80", &uri, port, &is_tls);

	if (!error && is_tls)
		error = -EINVAL; /* TLS to the proxy itself is not spoken */
	if (!error) {
		const char *userinfo = evhttp_uri_get_userinfo(uri);

		if (userinfo && !(route->proxy_authorization = basic_authorization(userinfo)))
			error = -ENOMEM;
		if (route->is_tls)
			route->tunnel = route->connect_to;
		else
			free(route->connect_to);
		route->connect_to = join(evhttp_uri_get_host(uri), ":", port, "");
		if (!route->connect_to)
			error = -ENOMEM;
	}
	if (uri)
		evhttp_uri_free(uri);
	return error;
}

int http_route_read(const char *url, const char *proxy_url, struct http_route *route)
{
	int error;

	memset(route, 0, sizeof(*route));
	error = read_url(url, proxy_url, route);
	if (!error && proxy_url)
		error = read_proxy(proxy_url, route);
	return error;
}

void http_route_clear(struct http_route *route)
{
	free(route->connect_to);
	free(route->authority);
	free(route->target);
	free(route->host);
	free(route->tunnel);
	if (route->proxy_authorization)
		OPENSSL_cleanse(route->proxy_authorization, strlen(route->proxy_authorization));
	free(route->proxy_authorization);
	memset(route, 0, sizeof(*route));
}
