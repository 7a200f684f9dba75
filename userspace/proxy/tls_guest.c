// SPDX-License-Identifier: Apache-2.0
/* Guests of the TLS endpoint up to the match: handshake, hello, who they are.
 *
 * The certificate's chain was checked by the handshake. Its names are held
 * against the two operators of the token's ticket first, so the directory is
 * asked about operators that the broker named and nobody else; the seats that
 * the directory confirms are those that the guest may have.
 *
 * A guest that is refused gets an answer that says why, then close_notify and
 * FIN. It is closed when it has ended too: closing earlier with bytes unread
 * would be a reset, which takes the answer away. */
#include "proxy/guest.h"

#include "base/instant.h"
#include "base/log.h"
#include "proxy/operators.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define LEAVE_TIMEOUT_MS 1000
#define LEAVING_MAX 256u             /* of a worker */
#define DRAINED_BYTES_MAX (64 * 1024)

int tls_guest_start(struct guest *guest)
{
	guest->tls = calloc(1, sizeof(*guest->tls)); /* its session begins with its first byte */
	return guest->tls ? 0 : -ENOMEM;
}

void tls_guest_detach(struct guest *guest)
{
	if (guest->state == GUEST_LEAVES)
		guest->worker->leaving_count--;
	if (guest->tls->question)
		guest->tls->question->context = NULL; /* the answer finds nobody */
	guest->tls->question = NULL;
}

void tls_guest_free(struct guest *guest)
{
	outer_clear(&guest->tls->session);
	free(guest->tls);
	guest->tls = NULL;
}

/* ---- refusing ---- */

void tls_guest_tell(struct guest *guest, enum outcome outcome, const char *detail)
{
	struct outer *session = &guest->tls->session;
	struct relay_answer answer = {.version = RELAY_PROTOCOL_VERSION};
	uint8_t frame[RELAY_FRAME_MAX];

	if (!session->ssl || !session->is_up)
		return;
	/* Details of a hello help those who write clients; others are for our log. */
	snprintf(answer.outcome, sizeof(answer.outcome), "%s", outcome_word(outcome));
	snprintf(answer.detail, sizeof(answer.detail), "%s",
		 outcome == OUTCOME_BAD_HELLO && detail ? detail : outcome_sentence(outcome));
	outer_put(session, frame, relay_answer_pack(&answer, frame));
	if (outer_write(session) == OUTER_DONE)
		outer_close_sending(session);
}

bool tls_guest_say_goodbye(struct guest *guest, enum outcome outcome, const char *detail)
{
	struct worker *worker = guest->worker;

	tls_guest_tell(guest, outcome, detail);
	if (guest->state == GUEST_LEAVES || outcome == OUTCOME_NO_RESOURCES || worker->is_stopped ||
	    worker->leaving_count >= LEAVING_MAX || shutdown(guest->fd, SHUT_WR))
		return false;
	guest_set_state(guest, GUEST_LEAVES);
	worker->leaving_count++;
	outer_clear(&guest->tls->session);
	if (loop_watch_change(worker->loop, &guest->watch, EPOLLIN | EPOLLRDHUP))
		return false;
	guest_arm(guest, LEAVE_TIMEOUT_MS);
	return true;
}

/* Reads what the peer still sends until it ends. */
static void drain(struct guest *guest)
{
	char bytes[4096];
	ssize_t got;

	while ((got = recv(guest->fd, bytes, sizeof(bytes), 0)) > 0 && guest->tls->drained_bytes < DRAINED_BYTES_MAX)
		guest->tls->drained_bytes += (unsigned)got;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	guest_detach(guest);
	guest_free(guest);
}

/* ---- who it is ---- */

static void refuse_as_wrong(struct guest *guest, const struct certificate_identity *identity)
{
	char detail[512];

	snprintf(detail, sizeof(detail), "ticket %llu is for %s and %s, the certificate for %.128s",
		 (unsigned long long)guest->ticket.id, guest->ticket.requester, guest->ticket.callee,
		 identity->name_count > 0 ? identity->names[0] : "nobody");
	guest_refuse(guest, OUTCOME_WRONG_OPERATOR, detail);
}

static void identified(struct loop_message *message)
{
	struct operators_question *question = CONTAINER_OF(message, struct operators_question, answered);
	struct guest *guest = question->context;
	unsigned seats = 0;
	char detail[QUESTION_FAILURE_SIZE + 32];

	if (!guest) {
		operators_question_free(question);
		return;
	}
	guest->tls->question = NULL;
	for (unsigned i = 0; i < QUESTION_NAMES_MAX; i++)
		seats |= question->is_listed[i] ? 1u << i : 0;
	snprintf(detail, sizeof(detail), "%s%s", question->failure[0] ? "the directory cannot be asked: " : "",
		 question->failure[0] ? question->failure : "its entry does not list the certificate");
	operators_question_free(question);
	if (seats == 0) {
		guest_refuse(guest, OUTCOME_UNIDENTIFIED, detail);
		return;
	}
	guest->tls->seats = seats;
	guest_arrive(guest, seats);
}

static bool has_name(const struct certificate_identity *identity, const char *name)
{
	/* Names of tickets are cut to their size; one of just that size may be a cut one. */
	for (size_t i = 0; i < identity->name_count && strlen(name) < BROKER_NAME_SIZE - 1; i++)
		if (strcmp(identity->names[i], name) == 0)
			return true;
	return false;
}

/* Asks the directory about the names that could fit. */
static int ask(struct guest *guest, const struct certificate_identity *identity)
{
	const char *const operators[QUESTION_NAMES_MAX] = {guest->ticket.callee, guest->ticket.requester}; /* by seat */
	struct operators_question *question = operators_question_new();
	unsigned count = 0;

	if (!question)
		return -ENOMEM;
	for (unsigned i = 0; i < QUESTION_NAMES_MAX; i++) {
		if (!has_name(identity, operators[i]))
			continue;
		question->names[i] = strdup(operators[i]);
		count++;
	}
	if (count == 0) {
		operators_question_free(question);
		return -EACCES;
	}
	memcpy(question->fingerprint, identity->fingerprint, sizeof(question->fingerprint));
	question->loop = guest->worker->loop;
	question->answered.receive = identified;
	question->context = guest;
	guest->tls->question = question;
	guest_set_state(guest, GUEST_IDENTIFIES);
	loop_watch_change(guest->worker->loop, &guest->watch, EPOLLRDHUP);
	guest_arm(guest, guest->worker->endpoint->options.token_timeout_ms);
	operators_ask(guest->worker->endpoint->options.operators, question);
	return 0;
}

static void identify(struct guest *guest)
{
	struct certificate_identity identity;
	X509 *leaf = SSL_get1_peer_certificate(guest->tls->session.ssl);
	int error = leaf ? certificate_identity_read(leaf, &identity) : -EINVAL;

	X509_free(leaf);
	if (error) {
		guest_refuse(guest, OUTCOME_UNIDENTIFIED, "the certificate cannot be read");
		return;
	}
	error = ask(guest, &identity);
	if (error == -EACCES)
		refuse_as_wrong(guest, &identity);
	else if (error)
		guest_refuse(guest, OUTCOME_NO_RESOURCES, strerror(-error));
	certificate_identity_clear(&identity);
}

/* ---- hello ---- */

static void take_hello(struct guest *guest)
{
	struct tls_guest *tls = guest->tls;
	struct endpoint *endpoint = guest->worker->endpoint;
	struct relay_hello hello;
	char detail[96];
	int error = relay_hello_parse(tls->session.message, tls->session.message_size, &hello);

	outer_forget(&tls->session);
	if (error == -EPROTONOSUPPORT)
		snprintf(detail, sizeof(detail), "the hello has version %u, this relay speaks version %u", hello.version,
			 RELAY_PROTOCOL_VERSION);
	else if (error == -EINVAL)
		snprintf(detail, sizeof(detail), "the token in the hello has not %u bytes", TOKEN_SIZE);
	else
		snprintf(detail, sizeof(detail), "the hello is no RelayHello");
	if (error) {
		guest_refuse(guest, OUTCOME_BAD_HELLO, detail);
		return;
	}
	tls->payload_encrypted = hello.payload_encrypted;
	tls->is_handed_off = hello.payload_encrypted && outer_is_tls13(&tls->session);
	memcpy(guest->token.bytes, hello.token, TOKEN_SIZE);
	explicit_bzero(&hello, sizeof(hello));
	guest->key = broker_key(endpoint->options.broker, &guest->token);
	token_wipe(&guest->token);
	if (tls->is_handed_off && SSL_has_pending(tls->session.ssl))
		guest_refuse(guest, OUTCOME_BAD_HELLO, "more came behind the hello, before the answer");
	else if (broker_find(endpoint->options.broker, &guest->key, clock_now_ms(), &guest->ticket))
		guest_refuse(guest, OUTCOME_UNKNOWN_TOKEN, NULL);
	else
		identify(guest);
}

/* A peer that has closed before our first flight can never send its last one: its step is
 * spared, and the ClientHello, if there is one, is thrown away. Later its whole part, hello
 * included, may be in the kernel already. */
static bool cannot_finish(const struct guest *guest, uint32_t events)
{
	const struct outer *session = &guest->tls->session;

	return !session->is_up && (events & (EPOLLHUP | EPOLLERR) ||
				   (events & EPOLLRDHUP &&
				    (!session->ssl || SSL_get_state(session->ssl) == TLS_ST_BEFORE)));
}

/* Edges: one that waits for its turn need not be told again, nor keep the loop awake. */
static void shaking_watch(struct guest *guest, uint32_t direction)
{
	loop_watch_change(guest->worker->loop, &guest->watch, direction | EPOLLRDHUP | EPOLLET);
}

uint32_t tls_guest_shaking_events(void)
{
	return EPOLLIN | EPOLLRDHUP | EPOLLET;
}

/* Handshake, then hello. */
static void shake(struct guest *guest)
{
	struct outer *session = &guest->tls->session;

	if (!session->ssl && outer_start(session, guest->worker->endpoint->options.tls, guest->fd, true)) {
		guest_refuse(guest, OUTCOME_NO_RESOURCES, strerror(ENOMEM));
		return;
	}
	enum outer_step step = session->is_up ? OUTER_DONE : outer_handshake(session);

	if (step == OUTER_FAILED) {
		guest_refuse(guest, OUTCOME_TLS_FAILED, session->reason);
		return;
	}
	if (step == OUTER_DONE)
		step = outer_read(session);
	switch (step) {
	case OUTER_DONE:
		take_hello(guest);
		return;
	case OUTER_WANTS_READ:
		shaking_watch(guest, EPOLLIN);
		return;
	case OUTER_WANTS_WRITE:
		shaking_watch(guest, EPOLLOUT);
		return;
	case OUTER_ENDED:
		guest_refuse(guest, OUTCOME_BAD_HELLO, "the session ended before the hello was complete");
		return;
	case OUTER_FAILED:
		guest_refuse(guest, session->has_broken_rules ? OUTCOME_BAD_HELLO : OUTCOME_NO_TOKEN, session->reason);
		return;
	}
}

/* A step of a handshake costs a millisecond or so, and the worker has pairs to serve: one in a
 * round of its loop, of each source in turn. So a pair waits for one of them at most, and an
 * honest party for one of each other source. */
static void take_turn(struct loop_timer *timer)
{
	struct worker *worker = CONTAINER_OF(timer, struct worker, handshakes);
	struct crowd *crowd = &worker->crowds[1];
	uint64_t started_ns = clock_now_ns();

	if (crowd_is_due(crowd, started_ns)) {
		struct crowd_member *next = crowd_next(crowd);
		if (next)
			shake(GUEST_OF(next, place));
		crowd_served(crowd, started_ns, clock_now_ns());
	}
	if (crowd_has_waiting(crowd))
		loop_timer_arm(worker->loop, timer, clock_now_ns(), take_turn); /* later than this round's time */
}

static void await_turn(struct guest *guest)
{
	struct worker *worker = guest->worker;

	crowd_wait(&worker->crowds[1], &guest->place);
	if (!loop_timer_is_armed(&worker->handshakes))
		loop_timer_arm(worker->loop, &worker->handshakes, loop_now_ns(worker->loop), take_turn);
}

/* ---- waiting ---- */

uint32_t tls_guest_waiting_events(const struct guest *guest)
{
	/* Where TLS stays, payload may follow the hello at once: it waits in the kernel. */
	return guest->tls->is_handed_off ? EPOLLIN | EPOLLRDHUP : EPOLLRDHUP;
}

static void wait(struct guest *guest)
{
	struct outer *session = &guest->tls->session;

	if (guest->tls->is_handed_off && outer_watch(session) == OUTER_WANTS_READ)
		return; /* part of a record */
	if (session->has_broken_rules)
		guest_leave(guest, OUTCOME_BAD_HELLO, session->reason);
	else
		guest_leave(guest, OUTCOME_IMPATIENT, session->reason[0] ? session->reason : NULL);
}

void tls_guest_ready(struct guest *guest, uint32_t events)
{
	switch (guest->state) {
	case GUEST_SHAKES:
		if (cannot_finish(guest, events))
			guest_refuse(guest, OUTCOME_TLS_FAILED, "it closed before the end of the handshake");
		else if (guest->tls->session.is_up)
			shake(guest);
		else
			await_turn(guest);
		return;
	case GUEST_IDENTIFIES:
		guest_refuse(guest, OUTCOME_NO_TOKEN, "it closed");
		return;
	case GUEST_WAITS:
		wait(guest);
		return;
	case GUEST_LEAVES:
		drain(guest);
		return;
	default:
		return;
	}
}

void tls_guest_timeout(struct guest *guest)
{
	switch (guest->state) {
	case GUEST_SHAKES:
		if (guest->tls->session.is_up)
			guest_refuse(guest, OUTCOME_NO_TOKEN, "the hello did not come in time");
		else
			guest_refuse(guest, OUTCOME_TLS_FAILED, "the handshake did not end in time");
		return;
	case GUEST_IDENTIFIES:
		guest_refuse(guest, OUTCOME_UNIDENTIFIED, "the directory did not answer in time");
		return;
	default:
		guest_detach(guest);
		guest_free(guest);
		return;
	}
}
