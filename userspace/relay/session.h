// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Internal to relay/: the TLS session of a side whose TLS stays on, whoever does the
 * cryptography. See session.c. */
#include "relay/ktls.h"
#include "relay/pair.h"

#include <sys/types.h>

struct session {
	SSL *tls;
	struct ktls_secrets *secrets; /* NULL: the kernel cannot have it */
	bool in_kernel; /* both directions are armed; OpenSSL must not touch the socket any more */
	bool is_direct; /* and payload is read into this process, which costs less than a pipe there */
	bool is_refused; /* the kernel does not take it; `refused_errno` 0: the probe says so */
	bool is_empty; /* the last read took all there was */
	bool has_ended; /* close_notify was read */
	bool has_closed; /* close_notify was sent */
	bool is_gone; /* the peer has left after both */
	uint64_t payload_end; /* of the TCP stream to the peer, when close_notify was sent */
	bool update_due; /* a KeyUpdate is to be sent before the next byte */
	bool update_asks; /* and the peer is to change its keys too */
	int refused_errno;
	int error; /* that the last read met behind bytes */
	int64_t limit_received, limit_sent; /* TCP bytes and payload when the present keys began: bytes less payload */
	/* Gathering its records (session_gather.c): the present look's end, and what was counted at its beginning. */
	uint64_t look_until_ns, look_read;
	int64_t look_beyond;
	uint64_t other_read;
	bool is_narrow;           /* the source's window is limited meanwhile */
	unsigned idle_looks;      /* in a row that found nothing to gather */
	uint32_t gather_delay_ns; /* between two reads; 0: they are not gathered */
	enum outcome outcome; /* of the pair, after a call has failed with EPROTO */
	char detail[72];
};

/* Takes tls and secrets over, also on failure. `*result` is NULL without TLS. 0 or -ENOMEM. */
int session_open(const struct relay_party *party, struct session **result);
void session_free(struct session *session); /* NULL is allowed; before the socket is closed */

/* Bytes of payload; 0 at close_notify; -1 with errno: EAGAIN, EPROTO (see `outcome`), or the socket's. */
ssize_t session_receive(struct side *side, char *bytes, size_t size);
/* Bytes taken, or -1 with errno as above. After EAGAIN the next call must bring the same bytes. */
ssize_t session_send(struct side *target, const char *bytes, size_t size);
/* Sends close_notify, once. 0, -EAGAIN (try again later), or -errno as above. */
int session_close(struct side *target);
/* After close_notify was read: nothing else may come. False: something did, or the connection has failed, and
 * the pair is over. */
bool session_check_silence(struct side *side);
/* Sends a KeyUpdate that is due. False: not now, or the pair is over. */
bool session_update(struct side *target);
/* The connection has an error: was all that mattered through before? A peer that has sent its close_notify
 * may close its socket at once, and answers ours with a reset. */
bool session_is_through(struct side *side);
/* The connection is lost. A call that says so has taken the error: no event will tell of it. */
bool session_is_lost(int error);
/* Ends the pair after a call on `side`'s session has failed. */
void session_fail(struct side *side, int error, const char *what);

/* As pair_pump, where TLS stays on at one party or both: gives sessions to the kernel as
 * soon as they can be given, and moves the bytes by splice or copy. */
void session_pump(struct side *side);
/* Once a second: the limit of records for one key. */
void session_sweep(struct side *side);
/* Why the side's TLS is where it is. */
void session_tell(const struct side *side, char text[PROBE_TEXT_SIZE]);

/* ---- session_gather.c ---- */

/* All that has come from the kernel's TLS was read. True: many small records come one way, and the direction waits a
 * moment for more of them. */
bool session_gathers(struct side *side);
/* How long it waits, in ns, when so much came within 10 ms; 0: waiting is not worth it. */
uint32_t session_gather_delay(uint64_t bytes, uint64_t records);
/* It waits so: a record that comes is no reason to read. */
bool session_is_gathering(const struct side *side);

/* ---- the limit of a key ---- */

/* Header and tag; more where the record carries a type or a nonce. Padding counts as records, which is safe. */
#define SESSION_RECORD_OVERHEAD 21
/* What TCP has carried beyond the payload: headers, tags and control records. */
int64_t session_beyond_payload(const struct side *side, enum ktls_direction direction);

/* Records that one key may protect: below 2^24, by what may pass between two looks. */
extern uint64_t session_records_most;
