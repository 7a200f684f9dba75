// SPDX-License-Identifier: Apache-2.0
/* A thread for each port, and one for each connection until its party has been given
 * to a worker of the relay: a lobby for tests need not be fast, and blocking calls show
 * what it does. Shared are the parties that wait for their partner and the number of
 * threads, under one lock. */
#include "lobby.h"

#include "relay/ktls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME_SIZE 32
#define PATIENCE_S 30

struct guest {
	struct guest *next;
	struct lobby *lobby;
	uint8_t name[NAME_SIZE];
	struct relay_party party;
	bool speaks_tls;
};

struct lobby_join {
	struct loop_message message; /* first */
	struct relay *relay;
	unsigned worker;
	struct relay_party parties[2];
};

struct lobby {
	struct relay *relay;
	SSL_CTX *tls;
	int listeners[2]; /* plain, TLS */
	pthread_t threads[2];
	pthread_mutex_t lock;
	pthread_cond_t left;
	unsigned guests; /* threads */
	struct guest *waiting;
};

/* ---- two parties ---- */

static void receive_join(struct loop_message *message)
{
	struct lobby_join *join = (struct lobby_join *)message;
	uint64_t id;

	relay_join(join->relay, join->worker, join->parties, &id);
	free(join);
}

static void let_go(struct relay_party *party)
{
	ktls_secrets_free(party->secrets);
	SSL_free(party->tls);
	close(party->fd);
}

/* Takes the party over. */
static void introduce(struct guest *guest)
{
	struct lobby *lobby = guest->lobby;
	struct guest **place, *other;

	fcntl(guest->party.fd, F_SETFL, fcntl(guest->party.fd, F_GETFL) | O_NONBLOCK);
	pthread_mutex_lock(&lobby->lock);
	for (place = &lobby->waiting; *place && memcmp((*place)->name, guest->name, NAME_SIZE) != 0; place = &(*place)->next)
		;
	other = *place;
	if (other) {
		*place = other->next;
	} else {
		guest->next = NULL;
		*place = guest;
	}
	pthread_mutex_unlock(&lobby->lock);
	if (!other)
		return;
	struct lobby_join *join = calloc(1, sizeof *join);
	if (!join)
		abort();
	join->message.receive = receive_join;
	join->relay = lobby->relay;
	join->worker = guest->name[0] % relay_worker_count(lobby->relay);
	join->parties[0] = other->party;
	join->parties[1] = guest->party;
	loop_post(relay_worker_loop(lobby->relay, join->worker), &join->message);
	free(other);
	free(guest);
}

/* ---- one party ---- */

static bool hear_plain(struct guest *guest)
{
	size_t got = 0;

	while (got < NAME_SIZE) {
		ssize_t part = recv(guest->party.fd, guest->name + got, NAME_SIZE - got, 0);

		if (part <= 0)
			return false;
		got += (size_t)part;
	}
	guest->party.bytes_read = NAME_SIZE;
	return true;
}

static bool hand_off(struct guest *guest, SSL *tls)
{
	char byte;
	int result;

	if (SSL_version(tls) != TLS1_3_VERSION || SSL_shutdown(tls) < 0)
		return false;
	result = SSL_read(tls, &byte, 1);
	if (result > 0 || SSL_get_error(tls, result) != SSL_ERROR_ZERO_RETURN || SSL_has_pending(tls))
		return false;
	guest->party.transport = TRANSPORT_HANDED_OFF;
	guest->party.bytes_read = BIO_number_read(SSL_get_rbio(tls));
	guest->party.bytes_written = BIO_number_written(SSL_get_wbio(tls));
	SSL_free(tls);
	return true;
}

static bool hear_tls(struct guest *guest)
{
	SSL *tls = SSL_new(guest->lobby->tls);
	BIO *bio = BIO_new(BIO_s_socket());
	uint8_t hello[1 + NAME_SIZE];
	size_t got = 0;

	if (!tls || !bio)
		abort();
	BIO_set_fd(bio, guest->party.fd, BIO_NOCLOSE);
	SSL_set_bio(tls, bio, bio);
	if (SSL_accept(tls) <= 0)
		goto out;
	while (got < sizeof hello) {
		int part = SSL_read(tls, hello + got, (int)(sizeof hello - got));

		if (part <= 0)
			goto out;
		got += (size_t)part;
	}
	memcpy(guest->name, hello + 1, NAME_SIZE);
	if (SSL_write(tls, hello, 1) != 1)
		goto out;
	if (hello[0] == 'H') {
		if (hand_off(guest, tls))
			return true;
		goto out;
	}
	guest->party.transport = TRANSPORT_TLS;
	guest->party.tls = tls;
	guest->party.secrets = hello[0] == 'K' ? ktls_secrets_take(tls) : NULL;
	return true;
out:
	SSL_free(tls);
	return false;
}

static void *hear(void *argument)
{
	struct guest *guest = argument;
	struct lobby *lobby = guest->lobby;
	struct timeval limit = { .tv_sec = PATIENCE_S };

	setsockopt(guest->party.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(guest->party.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	if (guest->speaks_tls ? hear_tls(guest) : hear_plain(guest)) {
		introduce(guest);
	} else {
		close(guest->party.fd);
		free(guest);
	}
	ERR_clear_error();
	pthread_mutex_lock(&lobby->lock);
	lobby->guests--;
	pthread_cond_signal(&lobby->left);
	pthread_mutex_unlock(&lobby->lock);
	return NULL;
}

/* ---- the ports ---- */

static void receive_guest(struct lobby *lobby, int fd, bool speaks_tls)
{
	struct guest *guest = calloc(1, sizeof *guest);
	pthread_attr_t attributes;
	pthread_t thread;

	if (!guest)
		abort();
	guest->lobby = lobby;
	guest->party.fd = fd;
	guest->speaks_tls = speaks_tls;
	pthread_mutex_lock(&lobby->lock);
	lobby->guests++;
	pthread_mutex_unlock(&lobby->lock);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attributes, hear, guest))
		abort();
	pthread_attr_destroy(&attributes);
}

struct port {
	struct lobby *lobby;
	bool speaks_tls;
};

static void *serve_port(void *argument)
{
	struct port *port = argument;
	int fd;

	while ((fd = accept4(port->lobby->listeners[port->speaks_tls], NULL, NULL, SOCK_CLOEXEC)) >= 0 || errno == EINTR ||
	       errno == ECONNABORTED)
		if (fd >= 0)
			receive_guest(port->lobby, fd, port->speaks_tls);
	free(port);
	return NULL;
}

static int listen_on_loopback(struct relay *relay, uint16_t *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t size = sizeof address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || relay_prepare_listener(relay, fd) || bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096) ||
	    getsockname(fd, (struct sockaddr *)&address, &size))
		return -errno;
	*port = ntohs(address.sin_port);
	return fd;
}

/* With a key and a certificate of its own, which nobody checks. */
static SSL_CTX *make_context(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();

	if (!context || !key || !certificate || relay_tls_context_prepare(context))
		abort();
	X509_set_version(certificate, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, (const unsigned char *)"lobby", -1, -1, 0);
	X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
	X509_set_pubkey(certificate, key);
	if (!X509_sign(certificate, key, EVP_sha256()) || SSL_CTX_use_certificate(context, certificate) <= 0 ||
	    SSL_CTX_use_PrivateKey(context, key) <= 0 || !SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION))
		abort();
	X509_free(certificate);
	EVP_PKEY_free(key);
	return context;
}

int lobby_open(struct relay *relay, struct lobby **result, uint16_t *plain_port, uint16_t *tls_port)
{
	struct lobby *lobby = calloc(1, sizeof *lobby);
	uint16_t *ports[] = { plain_port, tls_port };

	if (!lobby)
		return -ENOMEM;
	lobby->relay = relay;
	lobby->tls = make_context();
	pthread_mutex_init(&lobby->lock, NULL);
	pthread_cond_init(&lobby->left, NULL);
	for (unsigned at = 0; at < 2; at++) {
		struct port *port = calloc(1, sizeof *port);

		lobby->listeners[at] = listen_on_loopback(relay, ports[at]);
		if (!port || lobby->listeners[at] < 0)
			return port ? lobby->listeners[at] : -ENOMEM;
		*port = (struct port){ lobby, at };
		if (pthread_create(&lobby->threads[at], NULL, serve_port, port))
			return -EAGAIN;
	}
	*result = lobby;
	return 0;
}

unsigned lobby_count_waiting(struct lobby *lobby)
{
	unsigned count = 0;

	pthread_mutex_lock(&lobby->lock);
	for (const struct guest *guest = lobby->waiting; guest; guest = guest->next)
		count++;
	pthread_mutex_unlock(&lobby->lock);
	return count;
}

void lobby_close(struct lobby *lobby)
{
	for (unsigned at = 0; at < 2; at++) {
		shutdown(lobby->listeners[at], SHUT_RDWR);
		pthread_join(lobby->threads[at], NULL);
		close(lobby->listeners[at]);
	}
	pthread_mutex_lock(&lobby->lock);
	while (lobby->guests)
		pthread_cond_wait(&lobby->left, &lobby->lock);
	pthread_mutex_unlock(&lobby->lock);
	while (lobby->waiting) {
		struct guest *guest = lobby->waiting;

		lobby->waiting = guest->next;
		let_go(&guest->party);
		free(guest);
	}
	SSL_CTX_free(lobby->tls);
	pthread_mutex_destroy(&lobby->lock);
	pthread_cond_destroy(&lobby->left);
	free(lobby);
}
