// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The relay as a library: joins two connected TCP sockets and moves their bytes
 * until both ends are through, on the best plane that the kernel was probed to
 * accept (architecture.md, 3 to 5). It knows nothing of tokens or JSON-RPC.
 *
 * One relay has several workers, each a thread with a loop. A pair belongs to
 * the worker it was joined on. */
#include "base/outcome.h"
#include "relay/loop.h"
#include "settings/settings.h"

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

enum plane { PLANE_COPY, PLANE_SPLICE, PLANE_SOCKMAP, PLANE_KTLS_SPLICE, PLANE_COUNT };
const char *plane_name(enum plane plane);

/* ---- what this kernel can do ---- */

enum probe_state { PROBE_YES, PROBE_NO, PROBE_FORBIDDEN /* by a setting */ };
#define PROBE_TEXT_SIZE 160
struct probe_item {
	const char *name; /* "sockmap", "splice", … */
	enum probe_state state;
	char sentence[PROBE_TEXT_SIZE]; /* what was tried and what came of it */
};
#define PROBE_ITEMS_MAX 32
struct probe_report {
	struct probe_item items[PROBE_ITEMS_MAX];
	unsigned count;
	bool planes[PLANE_COUNT]; /* may a pair use it */
	bool ktls[2][3]; /* TLS 1.2 and 1.3, by enum ktls_cipher (ktls.h): both directions work in the kernel */
	bool ktls_rekeys; /* an armed socket takes new keys */
	bool ktls_direct; /* records are opened straight into the reader's memory, padded ones too */
	bool ktls_several; /* several records may be spliced into a pipe before it is emptied */
};
/* Tries every capability on a loopback pair; leaves nothing behind. Works
 * without a running daemon; takes below a second. */
void relay_probe(unsigned planes_allowed, struct probe_report *report);

/* ---- the relay ---- */

struct relay;

enum closing_reason { CLOSING_CREDIT, CLOSING_MEMORY, CLOSING_PILE, CLOSING_FAILED, CLOSING_SMALL, CLOSING_COUNT };
const char *closing_reason_name(enum closing_reason reason);

enum gate_state { GATE_STATE_NONE, GATE_STATE_CLOSED, GATE_STATE_OPEN, GATE_STATE_BROKEN };

struct direction_report { /* from party 0 to party 1, and back */
	uint64_t bytes;    /* delivered to the target's socket, however */
	uint64_t packets;  /* redirected segments, or reads on other planes */
	uint64_t redirected_bytes;
	uint64_t spilled_bytes;   /* moved by userspace after the join on a kernel plane */
	uint64_t closings[CLOSING_COUNT];
	uint64_t openings;
	uint64_t holds; /* of these openings: the sender was held, and went on into an open gate */
	uint64_t gatherings; /* times that a stream of small segments was moved by userspace on purpose */
	uint64_t trims, breaks;
	uint64_t credit_bytes;    /* lent now */
	uint64_t in_flight_bytes;
	enum gate_state gate;
	bool ended; /* FIN passed on */
	bool rests; /* its source is not polled: the kernel program announces its end */
};

/* What a party's bytes travel in between it and the relay. */
enum transport {
	TRANSPORT_PLAIN,      /* bare TCP from the start */
	TRANSPORT_HANDED_OFF, /* TLS for authentication, bare TCP since; its payload must look like TLS (first
			       * bytes 0x16 or 0x15, then 0x03), otherwise the pair is reset */
	TRANSPORT_TLS,        /* TLS stays on: kTLS with splice, or userspace TLS */
};
const char *transport_name(enum transport transport);

#define RELAY_NAME_SIZE 128
struct relay_party_report {
	char address[64];
	char operator_name[RELAY_NAME_SIZE]; /* as named by the broker; "" unknown */
	enum transport transport;
	bool asked; /* as relay_party says */
};

struct pair_report {
	uint64_t id;
	unsigned worker;
	uint64_t age_ms;
	enum plane plane;
	char plane_reason[PROBE_TEXT_SIZE];
	struct relay_party_report parties[2];
	struct direction_report directions[2]; /* [0]: party 0 sends */
	enum outcome outcome; /* of an ended pair */
	char detail[96];      /* why, in numbers, where the outcome alone does not say it; else "" */
};

struct relay_totals {
	uint64_t pairs_live, pairs_joined;
	uint64_t ended[OUTCOME_COUNT];
	uint64_t pairs_by_plane[PLANE_COUNT]; /* live */
	uint64_t bytes, redirected_bytes, spilled_bytes, packets;
	uint64_t closings[CLOSING_COUNT], openings, holds, trims, breaks;
	uint64_t late_records, found_by_sweep, books_checked, books_wrong;
	uint64_t credit_lent_bytes, credit_budget_bytes;
	uint64_t buffers_lent_bytes, buffers_budget_bytes; /* of receive buffers, and of plain pairs' send buffers */
};

struct relay_options {
	struct relay_settings settings;
	/* From the pair's worker thread, after both sockets are closed. May be NULL. */
	void (*ended)(const struct pair_report *report, void *context);
	/* First thing on each thread of the relay, when all that needs privileges is
	 * done: capabilities belong to a thread, and this is where they are dropped.
	 * May be NULL. */
	void (*thread_started)(void *context);
	void *context;
};

/* Probes, loads the kernel program, starts the workers. Logs one sentence per
 * capability. 0 or a negative errno, logged. */
int relay_create(const struct relay_options *options, struct relay **result);
unsigned relay_worker_count(const struct relay *relay);
struct loop *relay_worker_loop(const struct relay *relay, unsigned worker);
const struct probe_report *relay_probed(const struct relay *relay);

/* Options for sockets that will be joined: call it on the listener, before
 * listen(), so that buffers are in place when a connection arrives (TCP_NODELAY,
 * SO_OOBINLINE, keepalive, SO_SNDBUFFORCE, …). */
int relay_prepare_listener(const struct relay *relay, int fd);

struct ktls_secrets; /* relay/ktls.h */

struct relay_party {
	int fd; /* connected, non-blocking, watched at most by `watch`; owned by the relay at once */
	struct loop_watch *watch; /* of `fd`, in the worker's loop: taken over, which is cheaper than a new one; NULL: none */
	char operator_name[RELAY_NAME_SIZE];
	bool asked; /* of the two, the one that asked for the pair; only reported */
	struct sockaddr_in6 peer; /* or sockaddr_in, as accept() gave it; AF_UNSPEC: the relay asks the kernel */
	uint64_t bytes_read; /* that were taken from the socket before (token, hello): the books need it */
	uint64_t bytes_written; /* TCP bytes, as bytes_read: on a handed-off socket BIO_number_read/-written at the switch */
	enum transport transport;
	/* TRANSPORT_TLS: an established server session with BIO_s_socket on `fd`, nothing but the handshake (and,
	 * maybe, the hello and its answer) done; owned by the relay at once. NULL otherwise. */
	SSL *tls;
	struct ktls_secrets *secrets; /* traffic secrets of that session, owned by the relay at once; NULL: userspace TLS */
};

/* On the worker's own thread. Both descriptors are owned by the relay, also on
 * failure. Returns 0 and an id that is never used again, or a negative errno
 * (-EMFILE: no pair slot left), after resetting both. */
int relay_join(struct relay *relay, unsigned worker, const struct relay_party parties[2], uint64_t *pair_id);

/* From any thread: a consistent copy of each live pair, in order of ids for each
 * worker. Waits for the workers: hold no lock that `ended` takes. */
void relay_visit_pairs(struct relay *relay, void (*visit)(const struct pair_report *report, void *context), void *context);
int relay_find_pair(struct relay *relay, uint64_t id, struct pair_report *report); /* 0 or -ENOENT */
void relay_totals(struct relay *relay, struct relay_totals *totals);

/* Refuses new pairs, lets the live ones go on until `settings.stop_deadline_ms`
 * has passed (0: at once), resets the rest, joins the worker threads. Blocks.
 * Watches that others put into the worker loops must be removed before. */
void relay_stop(struct relay *relay);
void relay_free(struct relay *relay);
