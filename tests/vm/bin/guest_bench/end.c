// SPDX-License-Identifier: Apache-2.0
/* Blocking sockets and OpenSSL on top of them, without read-ahead. */
#include "end.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IO_LIMIT_S 120 /* of an emulated machine's time */

static SSL_CTX *client_context, *server_context;
static pthread_once_t contexts_once = PTHREAD_ONCE_INIT;

static void use_own_certificate(SSL_CTX *context)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();

	if (!key || !certificate)
		abort();
	X509_set_version(certificate, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, (const unsigned char *)"bench", -1, -1, 0);
	X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
	X509_set_pubkey(certificate, key);
	if (!X509_sign(certificate, key, EVP_sha256()) || SSL_CTX_use_certificate(context, certificate) <= 0 ||
	    SSL_CTX_use_PrivateKey(context, key) <= 0)
		abort();
	X509_free(certificate);
	EVP_PKEY_free(key);
}

static void make_contexts(void)
{
	client_context = SSL_CTX_new(TLS_client_method());
	server_context = SSL_CTX_new(TLS_server_method());
	if (!client_context || !server_context || !SSL_CTX_set_ciphersuites(client_context, END_SUITE) ||
	    !SSL_CTX_set_min_proto_version(client_context, TLS1_3_VERSION) || !SSL_CTX_set_num_tickets(server_context, 0))
		abort();
	use_own_certificate(server_context);
}

static void prepare(int fd)
{
	struct timeval limit = { .tv_sec = IO_LIMIT_S };
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

int end_dial(uint32_t address, uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = address };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	prepare(fd);
	if (!connect(fd, (struct sockaddr *)&to, sizeof to))
		return fd;
	close(fd);
	return -1;
}

int end_listen(uint32_t address, uint16_t *port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = address };
	socklen_t size = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&at, size) || listen(fd, 16) || getsockname(fd, (struct sockaddr *)&at, &size)) {
		close(fd);
		return -1;
	}
	*port = ntohs(at.sin_port);
	return fd;
}

int end_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0)
		prepare(fd);
	return fd;
}

/* ---- TLS ---- */

static bool start_tls(struct end *end, bool is_server)
{
	BIO *bio = BIO_new(BIO_s_socket()); /* SSL_set_fd would attach kTLS */

	pthread_once(&contexts_once, make_contexts);
	end->tls = SSL_new(is_server ? server_context : client_context);
	if (!bio || !end->tls)
		abort();
	BIO_set_fd(bio, end->fd, BIO_NOCLOSE);
	SSL_set_bio(end->tls, bio, bio);
	if ((is_server ? SSL_accept(end->tls) : SSL_connect(end->tls)) == 1)
		return true;
	end_close(end);
	return false;
}

bool end_connect_tls(struct end *end)
{
	return start_tls(end, false);
}

bool end_accept_tls(struct end *end)
{
	return start_tls(end, true);
}

static bool leave_tls(struct end *end)
{
	char byte;
	int result;

	if (SSL_shutdown(end->tls) < 0)
		return false;
	result = SSL_read(end->tls, &byte, 1);
	if (result > 0 || SSL_get_error(end->tls, result) != SSL_ERROR_ZERO_RETURN || SSL_has_pending(end->tls))
		return false;
	SSL_free(end->tls);
	end->tls = NULL;
	return true;
}

bool end_introduce(struct end *end, char kind, const uint8_t name[32])
{
	uint8_t hello[33] = { (uint8_t)kind };
	char answer;

	memcpy(hello + 1, name, 32);
	if (kind == 'P')
		return end_send(end, name, 32);
	return end_connect_tls(end) && end_send(end, hello, sizeof hello) && end_receive_all(end, &answer, 1) && answer == kind &&
	       (kind != 'H' || leave_tls(end));
}

/* ---- bytes ---- */

bool end_send(struct end *end, const void *bytes, size_t size)
{
	size_t sent = 0;

	if (end->tls)
		return SSL_write(end->tls, bytes, (int)size) == (int)size;
	while (sent < size) {
		ssize_t part = send(end->fd, (const char *)bytes + sent, size - sent, MSG_NOSIGNAL);

		if (part <= 0)
			return false;
		sent += (size_t)part;
	}
	return true;
}

ssize_t end_receive(struct end *end, void *bytes, size_t size)
{
	int result;

	if (!end->tls)
		return recv(end->fd, bytes, size, 0);
	result = SSL_read(end->tls, bytes, (int)size);
	if (result > 0)
		return result;
	return SSL_get_error(end->tls, result) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

bool end_receive_all(struct end *end, void *bytes, size_t size)
{
	size_t got = 0;

	while (got < size) {
		ssize_t part = end_receive(end, (char *)bytes + got, size - got);

		if (part <= 0)
			return false;
		got += (size_t)part;
	}
	return true;
}

void end_finish(struct end *end)
{
	if (end->fd < 0)
		return;
	if (end->tls)
		SSL_shutdown(end->tls);
	shutdown(end->fd, SHUT_WR);
}

void end_close(struct end *end)
{
	SSL_free(end->tls);
	end->tls = NULL;
	if (end->fd >= 0)
		close(end->fd);
	end->fd = -1;
}

const char *end_error(void)
{
	unsigned long code = ERR_peek_last_error();

	return code ? ERR_reason_error_string(code) : strerror(errno);
}
