// SPDX-License-Identifier: Apache-2.0
/* The steps of a party at the relay, none of which blocks: handshake, the relay's
 * identity, hello, answer, close_notify both ways. One deadline for all of them.
 *
 * The relay is who the broker's message came from: its certificate must be good
 * for that operator's name and be listed in that operator's directory entry,
 * whatever the message says. The token is sent after that and not before.
 *
 * A look-up of the directory cannot be taken back: an attempt that ends
 * meanwhile stays allocated (`is_over`) until it has answered. */
#include "router/relay_tls.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "router/identifier.h"
#include "tls/context.h"
#include "tls/outer.h"

#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum stage { STAGE_SHAKES, STAGE_IDENTIFIES, STAGE_SHOWS, STAGE_AWAITS, STAGE_CLOSES, STAGE_AWAITS_CLOSE };

struct relay_tls {
	struct relay_tls_options options;
	char *proxy;
	struct event *readable, *writable, *timer;
	enum stage stage;
	struct outer session;
	int fd;
	bool is_identifying, is_over;
	uint8_t token[RELAY_HELLO_TOKEN_SIZE];
};

SSL_CTX *relay_tls_context(const struct tls_settings *settings)
{
	SSL_CTX *context = tls_context_client(settings, NULL);

	if (!context)
		return NULL;
	outer_context_prepare(context);
	/* Below 1.3 there is no hand-off, and nested TLS is not what we speak. */
	SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
	return context;
}

int relay_offer_choose(enum relay_tls_use use, const json_t *message, const char *proxy, struct relay_offer *offer,
		       const char **reason)
{
	const json_t *member = json_object_get(message, "relay_tls"), *version = json_object_get(member, "version");
	const char *endpoint = json_text(member, "endpoint"), *name = json_text(member, "server_name");

	*offer = (struct relay_offer){0};
	if (use == RELAY_TLS_OFF)
		return 0;
	/* Another version is an offer that we cannot take, as if it were not there. Numbers that
	 * came over gRPC are floating point. */
	if (!member || json_is_null(member) ||
	    (json_is_number(version) && json_number_value(version) != RELAY_PROTOCOL_VERSION)) {
		*reason = "relay_tls is set to require, but the proxy offers no TLS endpoint that this version speaks to";
		return use == RELAY_TLS_REQUIRE ? -ENOTSUP : 0;
	}
	if (!endpoint || !*endpoint || !name || !json_is_number(version)) {
		*reason = "the proxy's offer of a TLS endpoint is malformed";
		return -EBADMSG;
	}
	if (!proxy || strcmp(name, proxy) != 0) {
		*reason = "the offered TLS endpoint is not that of the proxy operator";
		return -EBADMSG;
	}
	*offer = (struct relay_offer){endpoint, name};
	return 0;
}

/* ---- ends ---- */

static void relay_free(struct relay_tls *relay)
{
	outer_clear(&relay->session);
	if (relay->readable)
		event_free(relay->readable);
	if (relay->writable)
		event_free(relay->writable);
	if (relay->timer)
		event_free(relay->timer);
	if (relay->fd >= 0)
		close(relay->fd);
	explicit_bzero(relay->token, sizeof(relay->token));
	relay->readable = relay->writable = relay->timer = NULL;
	relay->fd = -1;
	relay->is_over = true;
	if (relay->is_identifying)
		return; /* the directory's answer frees the rest */
	free(relay->proxy);
	free(relay);
}

static void relay_end(struct relay_tls *relay, int fd_or_error, const char *reason)
{
	struct relay_tls_options options = relay->options;

	relay_free(relay);
	options.done(fd_or_error, reason, options.context);
}

static void relay_fail(struct relay_tls *relay, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void relay_fail(struct relay_tls *relay, int error, const char *format, ...)
{
	_free_ char *text = NULL;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	va_end(arguments);
	relay_end(relay, error, text ? text : "out of memory");
}

/* ---- the steps ---- */

static void relay_go_on(struct relay_tls *relay);

static void relay_identified(struct peer_identities *identities, const char *failure, void *context)
{
	struct relay_tls *relay = context;
	bool is_proxy = !failure && peer_identities_find(identities, relay->proxy);

	if (!failure)
		peer_identities_clear(identities);
	relay->is_identifying = false;
	if (relay->is_over) {
		relay_free(relay);
		return;
	}
	if (!is_proxy) {
		relay_fail(relay, -EACCES, "the relay's certificate is not that of %s in the service directory%s%s",
			   relay->proxy, failure ? ": " : "", failure ? failure : "");
		return;
	}
	struct relay_hello hello = {.version = RELAY_PROTOCOL_VERSION, .payload_encrypted = true};
	uint8_t frame[RELAY_FRAME_MAX];
	memcpy(hello.token, relay->token, sizeof(hello.token));
	outer_put(&relay->session, frame, relay_hello_pack(&hello, frame));
	explicit_bzero(&hello, sizeof(hello));
	explicit_bzero(frame, sizeof(frame));
	relay->stage = STAGE_SHOWS;
	/* From the loop: the answer may have come from inside of the question. */
	event_active(relay->writable, EV_WRITE, 0);
}

static void identify(struct relay_tls *relay)
{
	struct certificate_identity certificate;
	X509 *leaf = SSL_get1_peer_certificate(relay->session.ssl);
	int error = leaf ? certificate_identity_read(leaf, &certificate) : -EINVAL;

	X509_free(leaf);
	if (error) {
		relay_fail(relay, error, "the relay's certificate cannot be read");
		return;
	}
	relay->stage = STAGE_IDENTIFIES;
	relay->is_identifying = true;
	struct identifier identifier = identifier_for_directory(relay->options.directory);
	identifier.identify(identifier.owner, &certificate, relay_identified, relay);
	certificate_identity_clear(&certificate);
}

/* True: go on with closing. */
static bool take_answer(struct relay_tls *relay)
{
	struct relay_answer answer;
	int error = relay_answer_parse(relay->session.message, relay->session.message_size, &answer);

	outer_forget(&relay->session);
	if (error)
		relay_fail(relay, error, "the relay's answer cannot be understood");
	else if (!answer.joined)
		relay_fail(relay, -ECONNREFUSED, "the relay did not join us: %s: %s", answer.outcome, answer.detail);
	else if (!answer.handed_off)
		relay_fail(relay, -EPROTO, "the relay did not hand the connection off");
	else
		return true;
	return false;
}

static enum outer_step take_step(struct relay_tls *relay)
{
	switch (relay->stage) {
	case STAGE_SHAKES:
		return outer_handshake(&relay->session);
	case STAGE_SHOWS:
		return outer_write(&relay->session);
	case STAGE_AWAITS:
		return outer_read(&relay->session);
	case STAGE_CLOSES:
		return outer_close_sending(&relay->session);
	case STAGE_AWAITS_CLOSE:
		return outer_close_receiving(&relay->session);
	case STAGE_IDENTIFIES:
		break;
	}
	return OUTER_WANTS_READ;
}

/* The present stage is through. False: nothing more to do now. */
static bool enter_next(struct relay_tls *relay)
{
	switch (relay->stage) {
	case STAGE_SHAKES:
		identify(relay);
		return false;
	case STAGE_SHOWS:
		relay->stage = STAGE_AWAITS;
		explicit_bzero(relay->token, sizeof(relay->token));
		if (relay->options.shown)
			relay->options.shown(relay->options.context);
		return true;
	case STAGE_AWAITS:
		relay->stage = STAGE_CLOSES;
		return take_answer(relay);
	case STAGE_CLOSES:
		relay->stage = STAGE_AWAITS_CLOSE;
		return true;
	default: {
		int fd = relay->fd;
		relay->fd = -1;
		relay_end(relay, fd, NULL);
		return false;
	}
	}
}

static void relay_go_on(struct relay_tls *relay)
{
	static const char *const doing[] = {
		[STAGE_SHAKES] = "TLS handshake with the relay failed",
		[STAGE_IDENTIFIES] = "",
		[STAGE_SHOWS] = "sending the hello to the relay failed",
		[STAGE_AWAITS] = "the relay gave no answer",
		[STAGE_CLOSES] = "the hand-off failed",
		[STAGE_AWAITS_CLOSE] = "the hand-off failed",
	};
	enum outer_step step;

	do {
		if (relay->stage == STAGE_IDENTIFIES)
			return;
		step = take_step(relay);
	} while (step == OUTER_DONE && enter_next(relay));
	switch (step) {
	case OUTER_DONE:
		return; /* maybe freed */
	case OUTER_WANTS_READ:
		event_add(relay->readable, NULL);
		return;
	case OUTER_WANTS_WRITE:
		event_add(relay->writable, NULL);
		return;
	case OUTER_ENDED:
		relay_fail(relay, -EPIPE, "%s: the relay closed the session", doing[relay->stage]);
		return;
	case OUTER_FAILED:
		relay_fail(relay, -EPROTO, "%s: %s", doing[relay->stage], relay->session.reason);
		return;
	}
}

static void socket_ready(evutil_socket_t fd, short events, void *context)
{
	(void)fd, (void)events;
	relay_go_on(context);
}

static void timer_fired(evutil_socket_t fd, short events, void *context)
{
	struct relay_tls *relay = context;

	(void)fd, (void)events;
	relay_fail(relay, -ETIMEDOUT, "%s",
		   relay->stage < STAGE_AWAITS ? "the relay's TLS endpoint did not react in time"
					       : "the relay did not join us in time");
}

int relay_tls_start(const struct relay_tls_options *options, struct relay_tls **result)
{
	struct relay_tls *relay = calloc(1, sizeof(*relay));
	struct timeval timeout = {options->timeout_ms / 1000, options->timeout_ms % 1000 * 1000};
	int error = -ENOMEM;

	if (!relay) {
		close(options->fd);
		return error;
	}
	relay->options = *options;
	relay->fd = options->fd;
	relay->proxy = strdup(options->proxy);
	memcpy(relay->token, options->token, sizeof(relay->token));
	relay->readable = event_new(options->base, relay->fd, EV_READ, socket_ready, relay);
	relay->writable = event_new(options->base, relay->fd, EV_WRITE, socket_ready, relay);
	relay->timer = evtimer_new(options->base, timer_fired, relay);
	if (!relay->proxy || !relay->readable || !relay->writable || !relay->timer)
		goto fail;
	error = outer_start(&relay->session, options->dialling->tls, relay->fd, false);
	if (!error)
		error = tls_connection_expect(relay->session.ssl, relay->proxy, options->dialling->skip_verify);
	if (error)
		goto fail;
	event_add(relay->timer, &timeout);
	event_add(relay->writable, NULL); /* begins from the loop */
	*result = relay;
	return 0;
fail:
	relay_free(relay);
	return error;
}

void relay_tls_cancel(struct relay_tls *relay)
{
	relay_free(relay);
}
