// SPDX-License-Identifier: Apache-2.0
#include "identity.h"

#include <limits.h>
#include <poll.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#define HANDSHAKE_TIMEOUT_MS 10000
#define SUITE "TLS_AES_128_GCM_SHA256"

static struct {
	char folder[PATH_MAX];
	uint8_t fingerprint[32];
	SSL_CTX *client, *server;
} identity;

static X509 *make_certificate(EVP_PKEY *key)
{
	X509 *certificate = X509_new();

	X509_set_version(certificate, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 30 * 86400);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, (const unsigned char *)"bench", -1, -1, 0);
	X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
	X509_set_pubkey(certificate, key);
	if (X509_sign(certificate, key, EVP_sha256()))
		return certificate;
	X509_free(certificate);
	return NULL;
}

static bool write_file(const char *name, X509 *certificate, EVP_PKEY *key)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof path, "%s/%s", identity.folder, name);
	FILE *file = fopen(path, "we");
	if (!file)
		return false;
	bool fine = (!certificate || PEM_write_X509(file, certificate)) && (!key || PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL));
	return !fclose(file) && fine;
}

static SSL_CTX *make_context(const SSL_METHOD *method, X509 *certificate, EVP_PKEY *key)
{
	SSL_CTX *context = SSL_CTX_new(method);

	if (!context || SSL_CTX_use_certificate(context, certificate) <= 0 || SSL_CTX_use_PrivateKey(context, key) <= 0 ||
	    !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) || !SSL_CTX_set_ciphersuites(context, SUITE))
		return NULL;
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_num_tickets(context, 0);
	return context;
}

bool identity_make(const char *folder)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = key ? make_certificate(key) : NULL;
	unsigned size = sizeof identity.fingerprint;

	snprintf(identity.folder, sizeof identity.folder, "%s", folder);
	bool fine = certificate && X509_digest(certificate, EVP_sha256(), identity.fingerprint, &size) &&
		    write_file(IDENTITY_CERTIFICATE, certificate, NULL) && write_file(IDENTITY_KEY, NULL, key) &&
		    write_file(IDENTITY_BOTH, certificate, key) &&
		    (identity.client = make_context(TLS_client_method(), certificate, key)) &&
		    (identity.server = make_context(TLS_server_method(), certificate, key));
	X509_free(certificate);
	EVP_PKEY_free(key);
	return fine;
}

const char *identity_folder(void)
{
	return identity.folder;
}

const uint8_t *identity_fingerprint(void)
{
	return identity.fingerprint;
}

static SSL *begin(SSL_CTX *context, int fd)
{
	SSL *tls = SSL_new(context);

	/* A BIO that leaves the socket open: it may go on without TLS. */
	BIO *bio = BIO_new_socket(fd, BIO_NOCLOSE);
	if (tls && bio)
		SSL_set_bio(tls, bio, bio);
	return tls;
}

static SSL *end_or_keep(SSL *tls, bool fine)
{
	if (fine)
		return tls;
	SSL_free(tls);
	return NULL;
}

SSL *identity_connect(int fd, const char *alpn)
{
	SSL *tls = begin(identity.client, fd);
	unsigned char list[32] = { (unsigned char)(alpn ? strlen(alpn) : 0) };

	if (alpn) {
		memcpy(list + 1, alpn, list[0]);
		SSL_set_alpn_protos(tls, list, list[0] + 1u);
	}
	return end_or_keep(tls, SSL_connect(tls) == 1);
}

SSL *identity_accept(int fd)
{
	SSL *tls = begin(identity.server, fd);

	return end_or_keep(tls, SSL_accept(tls) == 1);
}

/* True while the handshake goes on. */
static bool goes_on(SSL *tls)
{
	int result = SSL_do_handshake(tls), error = SSL_get_error(tls, result);

	return result != 1 && (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE);
}

bool identity_between(struct end ends[2])
{
	struct pollfd waits[2];
	bool unfinished[2] = { true, true };

	for (int side = 0; side < 2; side++) {
		end_set_blocking(&ends[side], false);
		ends[side].tls = begin(side ? identity.server : identity.client, ends[side].fd);
		waits[side] = (struct pollfd){ .fd = ends[side].fd, .events = POLLIN };
	}
	SSL_set_connect_state(ends[0].tls);
	SSL_set_accept_state(ends[1].tls);
	do {
		for (int side = 0; side < 2; side++)
			unfinished[side] = unfinished[side] && goes_on(ends[side].tls);
	} while ((unfinished[0] || unfinished[1]) && poll(waits, 2, HANDSHAKE_TIMEOUT_MS) > 0);
	for (int side = 0; side < 2; side++)
		end_set_blocking(&ends[side], true);
	return SSL_is_init_finished(ends[0].tls) && SSL_is_init_finished(ends[1].tls);
}
