// SPDX-License-Identifier: Apache-2.0
/* A side whose TLS stays on. copy.c and splice.c move payload through these calls and
 * need not know whether OpenSSL or the kernel does the cryptography.
 *
 * In userspace the SSL object serves both directions of the pair: this side's reading
 * and the other side's writing. A write that the socket did not take is repeated with
 * the same bytes, which is what the other side's own buffer does anyway. OpenSSL reads
 * record by record, so whenever it stands between two records the kernel may take over
 * (session_settle): then the sequence numbers are known, nothing of the stream is in
 * this process, and what the socket holds is whole records.
 *
 * A stream of a TLS party ends with close_notify. TCP's end without it is an error, and
 * so is anything behind it. A session that fails has said which outcome the pair gets.
 * Worker's thread only. */
#include "relay/ktls_keys.h"
#include "relay/session.h"

#include "relay/worker.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define RECORD_BYTES_MOST 16384

static ssize_t failed(int error)
{
	errno = error;
	return -1;
}

static ssize_t broken(struct session *session, enum outcome outcome, const char *detail)
{
	session->outcome = outcome;
	snprintf(session->detail, sizeof session->detail, "%s", detail ? detail : "");
	return failed(EPROTO);
}

/* ---- life ---- */

int session_open(const struct relay_party *party, struct session **result)
{
	struct session *session = party->tls ? calloc(1, sizeof *session) : NULL;

	*result = session;
	if (!session) {
		SSL_free(party->tls);
		ktls_secrets_free(party->secrets);
		return party->tls ? -ENOMEM : 0;
	}
	session->tls = party->tls;
	session->secrets = party->secrets;
	/* The relay closes the socket itself. */
	if (SSL_get_rbio(session->tls))
		BIO_set_close(SSL_get_rbio(session->tls), BIO_NOCLOSE);
	if (SSL_get_wbio(session->tls))
		BIO_set_close(SSL_get_wbio(session->tls), BIO_NOCLOSE);
	SSL_set_mode(session->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS |
					   SSL_MODE_AUTO_RETRY);
	return 0;
}

void session_free(struct session *session)
{
	if (!session)
		return;
	SSL_free(session->tls);
	ktls_secrets_free(session->secrets);
	free(session);
}

/* After an end of TCP: false if it was a reset. OpenSSL sends an alert at an early end, and a peer that has closed its
 * socket answers that with a reset; then only TCP's count, which has the FIN in it, tells what came first. */
static bool has_seen_fin(const struct side *side)
{
	struct tcp_facts facts;

	tcp_facts_read(side->watch.fd, &facts);
	return facts.state != TCP_STATE_CLOSE ||
	       (!side->session->in_kernel && facts.received > BIO_number_read(SSL_get_rbio(side->session->tls)));
}

void session_fail(struct side *side, int error, const char *what)
{
	const struct session *session = side->session;

	if (error == EBADMSG || error == EMSGSIZE)
		return pair_end(side_pair(side), OUTCOME_TLS_BROKEN, "side %u, %s: a record cannot be opened", side->number, what);
	/* A reset of which somebody else has taken the error looks like an early end. */
	if (error == EPROTO && session && session->outcome == OUTCOME_TRUNCATED && !session->has_closed && !has_seen_fin(side))
		error = ECONNRESET;
	if (error == EPROTO && session && session->outcome != OUTCOME_HAPPY)
		return pair_end(side_pair(side), session->outcome, "side %u, %s%s%s", side->number, what,
				*session->detail ? ": " : "", session->detail);
	pair_fail(side, error, what);
}

/* ---- OpenSSL ---- */

/* What a call that returned `result` means. */
static ssize_t explain(struct session *session, int result, int saved_errno)
{
	unsigned long code;

	switch (SSL_get_error(session->tls, result)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return failed(EAGAIN);
	case SSL_ERROR_ZERO_RETURN:
		session->has_ended = true;
		return 0;
	case SSL_ERROR_SYSCALL:
		if (saved_errno)
			return failed(saved_errno);
		return broken(session, OUTCOME_TRUNCATED, NULL);
	default:
		break;
	}
	code = ERR_peek_error();
	if (ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return broken(session, OUTCOME_TRUNCATED, NULL);
	if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) >= SSL_AD_REASON_OFFSET)
		return broken(session, OUTCOME_TLS_ALERT, SSL_alert_desc_string_long(ERR_GET_REASON(code) - SSL_AD_REASON_OFFSET));
	return broken(session, OUTCOME_TLS_BROKEN, ERR_reason_error_string(code));
}

bool session_is_lost(int error)
{
	return error == ECONNRESET || error == EPIPE || error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH;
}

/* Keeps what a read has met behind the bytes that it brought: the next call returns it. There may be no next
 * call for as long as the target takes nothing, so a lost connection is told at once. */
static ssize_t bring(struct session *session, size_t got, ssize_t verdict)
{
	if (verdict < 0 && session_is_lost(errno))
		return verdict;
	if (verdict < 0 && errno == EAGAIN)
		session->is_empty = true;
	else if (verdict < 0)
		session->error = errno;
	return got ? (ssize_t)got : verdict;
}

static ssize_t receive_in_userspace(struct session *session, char *bytes, size_t size)
{
	size_t got = 0;

	session->is_empty = false;
	/* Room for a whole record each time, so that none is left in OpenSSL's buffer. */
	while (size - got >= RECORD_BYTES_MOST) {
		ERR_clear_error();
		errno = 0;
		int result = SSL_read(session->tls, bytes + got, (int)(size - got));
		if (result <= 0)
			return bring(session, got, explain(session, result, errno));
		got += (size_t)result;
	}
	return (ssize_t)got;
}

static ssize_t send_in_userspace(struct session *session, const char *bytes, size_t size)
{
	size_t sent = 0;

	while (sent < size) {
		ERR_clear_error();
		errno = 0;
		int result = SSL_write(session->tls, bytes + sent, (int)(size - sent));
		if (result <= 0) {
			ssize_t meaning = explain(session, result, errno);

			if (sent && errno == EAGAIN)
				break;
			return meaning ? meaning : failed(EPIPE);
		}
		sent += (size_t)result;
	}
	return (ssize_t)sent;
}

static int close_in_userspace(struct session *session)
{
	int result;

	ERR_clear_error();
	errno = 0;
	result = SSL_shutdown(session->tls);
	/* 0: ours is written out, the peer's has not come; 1: both. */
	if (result >= 0)
		return 0;
	return explain(session, result, errno) < 0 ? -errno : 0;
}

/* ---- the kernel ---- */

static void mark_limit(struct side *side, enum ktls_direction direction);

/* Returns 1 to go on, or as session_receive. */
static ssize_t take_key_update(struct side *side, bool asks)
{
	struct session *session = side->session;
	int error = ktls_rearm(side->watch.fd, session->secrets, KTLS_RECEIVE);
	char detail[72];

	if (error) {
		snprintf(detail, sizeof detail, "new key refused (%s)", strerror(-error));
		return broken(session, OUTCOME_KEY_UPDATE, detail);
	}
	mark_limit(side, KTLS_RECEIVE);
	if (asks)
		session->update_due = true;
	return 1;
}

/* Same. */
static ssize_t take_control(struct side *side, uint8_t type, const uint8_t *bytes, size_t size)
{
	struct session *session = side->session;
	const char *fault;
	uint8_t detail;

	switch (ktls_control_read(ktls_secrets_version(session->secrets), type, bytes, size, &detail, &fault)) {
	case KTLS_CONTROL_NOTHING:
		return 1;
	case KTLS_CONTROL_CLOSE:
		session->has_ended = true;
		return 0;
	case KTLS_CONTROL_ALERT:
		return broken(session, OUTCOME_TLS_ALERT, SSL_alert_desc_string_long(detail));
	case KTLS_CONTROL_KEY_UPDATE:
		return take_key_update(side, detail);
	default:
		return broken(session, OUTCOME_TLS_BROKEN, fault);
	}
}

static ssize_t receive_from_kernel(struct side *side, char *bytes, size_t size)
{
	struct session *session = side->session;
	unsigned ends = 0;
	size_t got = 0;

	session->is_empty = false;
	while (size - got >= RECORD_BYTES_MOST) {
		uint8_t type;
		ssize_t part = ktls_receive(side->watch.fd, bytes + got, size - got, &type), verdict;

		if (part < 0)
			return bring(session, got, -1);
		if (part == 0) {
			/* The end of TCP, unless it was an empty record. */
			if (++ends < 3)
				continue;
			return bring(session, got, broken(session, OUTCOME_TRUNCATED, NULL));
		}
		if (type == TLS_RECORD_DATA) {
			got += (size_t)part;
			continue;
		}
		verdict = take_control(side, type, (uint8_t *)bytes + got, (size_t)part);
		if (verdict <= 0)
			return bring(session, got, verdict);
	}
	return (ssize_t)got;
}

bool session_update(struct side *target)
{
	struct session *session = target->session;
	const uint8_t message[] = { SSL3_MT_KEY_UPDATE, 0, 0, 1, session->update_asks };
	int error = 0;

	if (!session->update_due)
		return true;
	error = ktls_send_control(target->watch.fd, TLS_RECORD_HANDSHAKE, message, sizeof message);
	if (error == -EAGAIN || error == -EINTR)
		return false;
	if (!error) {
		session->update_due = session->update_asks = false;
		error = ktls_rearm(target->watch.fd, session->secrets, KTLS_SEND);
		if (!error) {
			mark_limit(target, KTLS_SEND);
			return true;
		}
	}
	pair_end(side_pair(target), OUTCOME_KEY_UPDATE, "side %u: %s", target->number, strerror(-error));
	return false;
}

static int close_in_kernel(struct side *target)
{
	static const uint8_t close_notify[] = { 1, 0 };

	/* Records that the kernel has sealed may still wait outside TCP's queue, at most two of them. With room
	 * for all of it, this alert pushes them out before itself, and FIN cannot overtake anything. */
	if (!tcp_memory_is_low(target->watch.fd))
		return -EAGAIN;
	return ktls_send_control(target->watch.fd, TLS_RECORD_ALERT, close_notify, sizeof close_notify);
}

/* ---- both ---- */

ssize_t session_receive(struct side *side, char *bytes, size_t size)
{
	struct session *session = side->session;

	if (session->has_ended)
		return 0;
	if (session->error)
		return failed(session->error);
	return session->in_kernel ? receive_from_kernel(side, bytes, size) : receive_in_userspace(session, bytes, size);
}

ssize_t session_send(struct side *target, const char *bytes, size_t size)
{
	if (!target->session->in_kernel)
		return send_in_userspace(target->session, bytes, size);
	if (!session_update(target))
		return failed(side_pair(target)->over ? EPROTO : EAGAIN);
	return ktls_send(target->watch.fd, bytes, size);
}

int session_close(struct side *target)
{
	struct session *session = target->session;
	uint64_t end = tcp_stream_end(target->watch.fd);
	int error = session->has_closed ? 0 : session->in_kernel ? close_in_kernel(target) : close_in_userspace(session);

	if (!error && !session->has_closed) {
		session->has_closed = true;
		session->payload_end = end;
	}
	return error;
}

bool session_is_through(struct side *side)
{
	struct session *session = side->session;

	if (!session || !session->has_ended || !session->has_closed || tcp_acked(side->watch.fd) < session->payload_end)
		return false;
	session->is_gone = true;
	return true;
}

bool session_check_silence(struct side *side)
{
	char byte;
	ssize_t size = recv(side->watch.fd, &byte, 1, MSG_DONTWAIT);
	int error = errno;

	if (size == 0 || (size < 0 && (error == EAGAIN || error == EINTR)))
		return true;
	if (size > 0 || error == EIO) { /* EIO: a control record of the kernel's TLS */
		pair_end(side_pair(side), OUTCOME_TLS_BROKEN, "side %u: bytes after close_notify", side->number);
		return false;
	}
	/* The error has been taken here, so no event will tell of it. */
	if (error != EBADMSG && error != EMSGSIZE && session_is_through(side))
		return true;
	session_fail(side, error, "after close_notify");
	return false;
}

/* ---- from OpenSSL to the kernel ---- */

static bool stands_between_records(SSL *tls)
{
	/* Without read-ahead a header is read alone: "RH" says that no record has been begun. */
	return !SSL_has_pending(tls) && strcmp(SSL_rstate_string(tls), "RH") == 0;
}

static void give_to_kernel(struct side *side)
{
	struct session *session = side->session;
	int fd = side->watch.fd, error = ktls_attach(fd);

	if (!error)
		error = ktls_arm(fd, session->secrets, KTLS_SEND);
	if (error) {
		/* Attached without keys it passes everything through. */
		session->is_refused = true;
		session->refused_errno = -error;
		return;
	}
	error = ktls_arm(fd, session->secrets, KTLS_RECEIVE);
	if (error)
		return pair_end(side_pair(side), OUTCOME_NO_RESOURCES, "side %u: the kernel took one key and not the other: %s", side->number,
				strerror(-error));
	session->in_kernel = true;
	session->is_direct = side_pair(side)->worker->relay->probe.ktls_direct &&
			     (ktls_secrets_version(session->secrets) == KTLS_TLS_1_2 || !ktls_expect_no_padding(fd));
	mark_limit(side, KTLS_SEND);
	mark_limit(side, KTLS_RECEIVE);
}

static bool may_be_given(const struct side *side)
{
	const struct session *session = side->session;
	const struct relay *relay = side_pair((struct side *)(uintptr_t)side)->worker->relay;

	return session->secrets && relay->probe.planes[PLANE_KTLS_SPLICE] &&
	       relay->probe.ktls[ktls_secrets_version(session->secrets)][ktls_secrets_cipher(session->secrets)];
}

static void session_settle(struct pair *pair)
{
	bool changed = false, all = true;

	for (unsigned i = 0; i < 2; i++) {
		struct side *side = &pair->sides[i], *writer = &pair->sides[!i];
		struct session *session = side->session;

		if (!session || session->in_kernel)
			continue;
		if (!session->is_refused && !may_be_given(side))
			session->is_refused = true;
		if (!session->is_refused && !session->has_ended && !session->has_closed && !writer->hold_length &&
		    stands_between_records(session->tls)) {
			give_to_kernel(side);
			if (pair->over)
				return;
			changed = changed || session->in_kernel;
		}
		all = all && session->in_kernel;
	}
	if (!changed)
		return;
	if (all) {
		pair->plane = PLANE_KTLS_SPLICE;
		pair->plane_reason = REASON_BEST;
	}
	/* What came for OpenSSL without being read raises no new event. */
	for (unsigned i = 0; i < 2; i++)
		side_wait_for(&pair->sides[i], pair->sides[i].waits | WAIT_TIMER, loop_now_ns(pair->worker->loop));
}

void session_pump(struct side *side)
{
	struct pair *pair = side_pair(side);

	session_settle(pair);
	if (pair->over)
		return;
	if (pair->plane == PLANE_KTLS_SPLICE)
		return side->session && side->session->is_direct ? copy_pump(side) : splice_pump(side);
	copy_pump(side);
	if (!pair->over)
		session_settle(pair);
}

void session_tell(const struct side *side, char text[PROBE_TEXT_SIZE])
{
	const struct session *session = side->session;
	const struct probe_report *probe = &side_pair((struct side *)(uintptr_t)side)->worker->relay->probe;

	snprintf(text, PROBE_TEXT_SIZE, "TLS stays on, in userspace: not yet between two records");
	if (!session->secrets)
		snprintf(text, PROBE_TEXT_SIZE, "TLS stays on, in userspace: no keys for the kernel");
	else if (session->refused_errno)
		snprintf(text, PROBE_TEXT_SIZE, "TLS stays on, in userspace: the kernel refused it (%s)", strerror(session->refused_errno));
	else if (session->is_refused && probe->planes[PLANE_KTLS_SPLICE])
		snprintf(text, PROBE_TEXT_SIZE, "TLS stays on, in userspace: this kernel does not take its cipher suite");
	for (unsigned i = 0; session->is_refused && session->secrets && i < probe->count; i++)
		if (strcmp(probe->items[i].name, "ktls-splice") == 0 && probe->items[i].state != PROBE_YES)
			snprintf(text, PROBE_TEXT_SIZE, "TLS stays on, in userspace: %.120s", probe->items[i].sentence);
}

/* ---- the limit of a key ---- */

uint64_t session_records_most = 14ull << 20;

/* Payload that waits unread when a key begins is counted too, which hides as many records as fit into a
 * receive buffer. */
int64_t session_beyond_payload(const struct side *side, enum ktls_direction direction)
{
	struct tcp_facts facts;

	if (direction == KTLS_SEND)
		return (int64_t)(tcp_stream_end(side->watch.fd) - side_other((struct side *)(uintptr_t)side)->copied);
	tcp_facts_read(side->watch.fd, &facts);
	return (int64_t)(facts.received - side->read);
}

static void mark_limit(struct side *side, enum ktls_direction direction)
{
	int64_t *limit = direction == KTLS_SEND ? &side->session->limit_sent : &side->session->limit_received;

	*limit = session_beyond_payload(side, direction);
}

void session_sweep(struct side *side)
{
	struct session *session = side->session;
	struct pair *pair = side_pair(side);
	const int64_t overhead = SESSION_RECORD_OVERHEAD;
	int64_t sent, received, most = (int64_t)session_records_most;

	if (!session->in_kernel)
		return;
	sent = (session_beyond_payload(side, KTLS_SEND) - session->limit_sent) / overhead;
	received = (session_beyond_payload(side, KTLS_RECEIVE) - session->limit_received) / overhead;
	if (sent <= most && received <= most)
		return;
	if (!pair->worker->relay->probe.ktls_rekeys || ktls_secrets_version(session->secrets) != KTLS_TLS_1_3 || received > most + most / 8)
		return pair_end(pair, OUTCOME_KEY_LIMIT, "side %u: about %lld records sent, %lld received", side->number, (long long)sent,
				(long long)received);
	session->update_due = true;
	session->update_asks = received > most;
	session_update(side);
}
