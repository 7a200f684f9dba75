// SPDX-License-Identifier: Apache-2.0
/* libevent streams over sockets: making, ending, and saying why one failed. */
#include "http/stream.h"

#include "tls/context.h"

#include <errno.h>
#include <event2/bufferevent_ssl.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <string.h>
#include <unistd.h>

struct bufferevent *http_stream_new(struct event_base *base, int fd, SSL *tls, bool is_server)
{
	struct bufferevent *stream;
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (tls)
		stream = bufferevent_openssl_socket_new(
			base, fd, tls, is_server ? BUFFEREVENT_SSL_ACCEPTING : BUFFEREVENT_SSL_CONNECTING,
			BEV_OPT_CLOSE_ON_FREE);
	else
		stream = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!stream) {
		if (tls)
			SSL_free(tls);
		close(fd);
	}
	return stream;
}

const char *http_stream_reason(struct bufferevent *stream, short events, bool *is_closed)
{
	int socket_error = EVUTIL_SOCKET_ERROR();
	SSL *tls = bufferevent_openssl_get_ssl(stream);
	unsigned long code, cause = 0;
	bool closed, unused;

	is_closed = is_closed ? is_closed : &unused;
	*is_closed = false;
	/* libevent moved OpenSSL's error queue into the stream, and gives the
	 * oldest error, which is the cause, last. */
	while ((code = bufferevent_get_openssl_error(stream))) {
		if (ERR_GET_LIB(code))
			cause = code;
	}
	if (events & BEV_EVENT_TIMEOUT)
		return "timed out";
	closed = cause ? ERR_GET_REASON(cause) == SSL_R_UNEXPECTED_EOF_WHILE_READING : events & BEV_EVENT_EOF;
	if (cause && !closed)
		return tls_error_code_text(tls, cause);
	if (!closed && socket_error) {
		*is_closed = socket_error == ECONNRESET || socket_error == EPIPE;
		return strerror(socket_error);
	}
	*is_closed = true;
	return "connection closed";
}

unsigned long long http_stream_tls_bytes_read(struct bufferevent *stream)
{
	SSL *tls = bufferevent_openssl_get_ssl(stream);

	return tls && SSL_get_rbio(tls) ? BIO_number_read(SSL_get_rbio(tls)) : 0;
}

void http_stream_close(struct bufferevent *stream)
{
	SSL *tls;

	if (!stream)
		return;
	tls = bufferevent_openssl_get_ssl(stream);
	if (tls && SSL_is_init_finished(tls)) {
		ERR_clear_error();
		SSL_set_shutdown(tls, SSL_RECEIVED_SHUTDOWN); /* do not wait for the peer's */
		SSL_shutdown(tls);
		ERR_clear_error();
	}
	bufferevent_free(stream);
}
