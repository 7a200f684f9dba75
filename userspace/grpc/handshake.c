// SPDX-License-Identifier: Apache-2.0
/* TLS handshake and pinning of a transport (protocol page 6.3, 6.4), and the
 * words for what went wrong with either.
 *
 * The identifier may answer at once or much later, when the transport may be
 * dead: it holds a reference until then. Its answer takes effect with the next
 * turn. Nothing is read in between, so nothing piles up. Event loop's thread. */
#include "grpc/transport.h"

#include "tls/context.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

const char *handshake_tls_cause(struct transport *transport, int result, int system_error)
{
	int kind = SSL_get_error(transport->ssl, result);

	if (kind == SSL_ERROR_ZERO_RETURN || (kind == SSL_ERROR_SYSCALL && !system_error) ||
	    (kind == SSL_ERROR_SSL && ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)) {
		ERR_clear_error();
		return "EOF";
	}
	if (kind == SSL_ERROR_SYSCALL) {
		ERR_clear_error();
		return strerror(system_error);
	}
	return tls_error_text(transport->ssl);
}

void transport_fail_because(struct transport *transport, const char *cause)
{
	if (!transport->is_identified)
		transport_fail(transport, "authentication handshake failed: %s", cause);
	else if (transport->is_server)
		transport_fail(transport, "%s", cause);
	else if (!transport->is_settled)
		transport_fail(transport, "error reading server preface: %s", cause);
	else if (transport->peer_goodbye)
		transport_fail(transport, "error reading from server: %s, received prior goaway: %s", cause,
			       transport->peer_goodbye);
	else
		transport_fail(transport, "error reading from server: %s", cause);
}

int handshake_prepare(struct transport *transport, const struct transport_options *options)
{
	transport->ssl = SSL_new(options->tls);
	if (!transport->ssl || !SSL_set_fd(transport->ssl, transport->fd))
		return -ENOMEM;
	SSL_set_mode(transport->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					     SSL_MODE_RELEASE_BUFFERS);
	SSL_set_read_ahead(transport->ssl, 1);
	if (options->is_server) {
		SSL_set_accept_state(transport->ssl);
		return 0;
	}
	SSL_set_connect_state(transport->ssl);
	return tls_connection_expect(transport->ssl, options->server_name, options->skip_verify);
}

static void note_identities(struct peer_identities *identities, const char *failure, void *context)
{
	struct transport *transport = context;

	certificate_identity_clear(&transport->certificate);
	if (failure) {
		transport->identity_error = strdup(failure);
	} else if (transport->is_closed) {
		peer_identities_clear(identities);
	} else {
		transport->identities = *identities;
		*identities = (struct peer_identities){ 0 };
		/* A peer that passed the chain check as one operator must not stand in for another. */
		if (!transport->identities.count ||
		    (!transport->is_server && !peer_identities_find(&transport->identities, transport->server_name)))
			transport->identity_error = strdup("no name matched");
		else
			transport->is_identified = true;
	}
	transport_schedule(transport);
	transport_release(transport);
}

static void ask_identity(struct transport *transport)
{
	X509 *leaf = SSL_get1_peer_certificate(transport->ssl);
	int error;

	transport->is_tls_up = true;
	if (!leaf) {
		transport_fail_because(transport, "the peer has no certificate");
		return;
	}
	error = certificate_identity_read(leaf, &transport->certificate);
	X509_free(leaf);
	if (error) {
		transport_fail_because(transport, "the peer's certificate cannot be read");
		return;
	}
	/* Nothing is read until the answer is there: nothing piles up. */
	event_del(transport->readable);
	transport->is_identifying = true;
	transport_hold(transport);
	transport->identifier.identify(transport->identifier.owner, &transport->certificate, note_identities, transport);
}

void handshake_go_on(struct transport *transport)
{
	ERR_clear_error();
	errno = 0;
	int result = SSL_do_handshake(transport->ssl), system_error = errno;

	if (result == 1) {
		ask_identity(transport);
		return;
	}
	switch (SSL_get_error(transport->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		break;
	case SSL_ERROR_WANT_WRITE:
		event_add(transport->writable, NULL);
		break;
	default:
		transport_fail_because(transport, handshake_tls_cause(transport, result, system_error));
	}
}
