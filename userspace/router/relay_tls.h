// SPDX-License-Identifier: Apache-2.0
#pragma once
/* A party's side of a relay's TLS endpoint (docs/relay-tls.md): from the member
 * `relay_tls` of the two brokering messages to a socket that is plain TCP to the
 * other party, on which the peers' own TLS begins. */
#include "directory/directory.h"
#include "settings/settings.h"

#include <openssl/ssl.h>

/* How this operator dials relays; shared by both sides of a relayed connection. */
struct relay_dialling {
	enum relay_tls_use use;
	SSL_CTX *tls; /* relay_tls_context(); NULL: RELAY_TLS_OFF */
	bool skip_verify;
};

/* A client's context for relays, owned by the caller. NULL after the reason was logged. */
SSL_CTX *relay_tls_context(const struct tls_settings *settings);

/* What a brokering message offers. */
struct relay_offer {
	const char *endpoint; /* borrowed from the message; NULL: no TLS endpoint, or none that we can use */
	const char *server_name;
};

/* Reads the member of `message` and decides with `use`. 0: dial `offer->endpoint` over TLS
 * if it is not NULL, else the plain one. -ENOTSUP: TLS is required and not offered, -EBADMSG: the
 * offer is not that of the operator `proxy` or is malformed; `reason` says it in words. */
int relay_offer_choose(enum relay_tls_use use, const json_t *message, const char *proxy, struct relay_offer *offer,
		       const char **reason);

struct relay_tls;

struct relay_tls_options {
	struct event_base *base;
	int fd; /* connected, non-blocking; owned at once */
	const struct relay_dialling *dialling;
	const char *proxy; /* the relay's operator: name of its certificate, and entry with the fingerprint */
	struct directory *directory;
	const uint8_t *token; /* 32 bytes, copied */
	unsigned timeout_ms;  /* until the answer */
	/* The hello is written: the relay knows that we are there. May be NULL. */
	void (*shown)(void *context);
	/* Once: a socket in plain TCP, or a negative errno and a reason. Nothing of this is called
	 * from inside relay_tls_start(); after `done` the object is gone. */
	void (*done)(int fd_or_error, const char *reason, void *context);
	void *context;
};

/* 0 or a negative errno; then `fd` is closed. */
int relay_tls_start(const struct relay_tls_options *options, struct relay_tls **result);
/* `done` is not called any more. */
void relay_tls_cancel(struct relay_tls *relay);
