// SPDX-License-Identifier: Apache-2.0
#pragma once
/* OpenSSL contexts from `tls` settings (protocol page 2.5, 6.3).
 * TLS 1.2 at least, 1.3 preferred; AEAD suites only. */
#include "settings/settings.h"

#include <openssl/ssl.h>

/* `alpn` is one protocol name ("h2", "http/1.1"): offered by clients, selected
 * by servers. Returns a context owned by the caller (SSL_CTX_free), or NULL
 * after the reason (file, OpenSSL's words) was logged. */
SSL_CTX *tls_context_server(const struct tls_settings *settings, const char *alpn);

/* Settings may be NULL: system CAs, no client certificate. The server name is
 * set per connection: tls_connection_expect(). */
SSL_CTX *tls_context_client(const struct tls_settings *settings, const char *alpn);

/* SNI and the name that the peer's certificate must carry. With
 * insecure_skip_verify only SNI is set. Returns 0 or -EINVAL. */
int tls_connection_expect(SSL *ssl, const char *server_name, bool skip_verify);

/* Why a handshake or connection failed, for the log: OpenSSL's reason and the
 * certificate verification result, of the calling thread. Static buffer per thread. */
const char *tls_error_text(const SSL *ssl);

/* The same for an OpenSSL error code that somebody took from the queue (libevent
 * does). 0: "connection closed", or the verification result if it is bad. */
const char *tls_error_code_text(const SSL *ssl, unsigned long code);
