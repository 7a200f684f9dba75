// SPDX-License-Identifier: Apache-2.0
#pragma once
/* For tests of TLS at the relay: two OpenSSL sessions on the two ends of a
 * connection, the server's context prepared as the relay wants it. The server's end
 * may be non-blocking; the client's blocks. Included by one test program each, behind
 * cmocka.h. */
#include "relay/ktls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <pthread.h>

struct tls_suite {
	int version;
	const char *name;
};

static const struct tls_suite tls_suites[] = {
	{ TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256" },
	{ TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384" },
	{ TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305" },
};
#define TLS_SUITES (sizeof tls_suites / sizeof *tls_suites)

static inline SSL_CTX *tls_pair_server_context(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();

	assert_int_equal(relay_tls_context_prepare(context), 0);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
	X509_set_pubkey(certificate, key);
	assert_true(X509_sign(certificate, key, EVP_sha256()));
	assert_int_equal(SSL_CTX_use_certificate(context, certificate), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return context;
}

static inline void tls_pair_attach(SSL *tls, int fd)
{
	BIO *bio = BIO_new(BIO_s_socket());

	BIO_set_fd(bio, fd, BIO_NOCLOSE);
	SSL_set_bio(tls, bio, bio);
}

static inline void *tls_pair_connect(void *client)
{
	return SSL_connect(client) == 1 ? client : NULL;
}

static inline void tls_pair_open(const struct tls_suite *suite, int client_fd, int server_fd, SSL **client, SSL **server)
{
	SSL_CTX *client_context = SSL_CTX_new(TLS_client_method()), *server_context = tls_pair_server_context();
	pthread_t thread;
	void *connected;
	int result;

	SSL_CTX_set_min_proto_version(client_context, suite->version);
	SSL_CTX_set_max_proto_version(client_context, suite->version);
	assert_true(suite->version == TLS1_3_VERSION ? SSL_CTX_set_ciphersuites(client_context, suite->name)
						     : SSL_CTX_set_cipher_list(client_context, suite->name));
	*client = SSL_new(client_context);
	*server = SSL_new(server_context);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
	tls_pair_attach(*client, client_fd);
	tls_pair_attach(*server, server_fd);
	pthread_create(&thread, NULL, tls_pair_connect, *client);
	while ((result = SSL_accept(*server)) <= 0) {
		struct pollfd poll_fd = { .fd = server_fd, .events = POLLIN };

		assert_int_equal(SSL_get_error(*server, result), SSL_ERROR_WANT_READ);
		assert_int_equal(poll(&poll_fd, 1, 20000), 1);
	}
	pthread_join(thread, &connected);
	assert_non_null(connected);
}
