// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The ticket desk: the seam between what knows the operators (brokering) and
 * what knows the sockets (the endpoint). It knows neither sockets nor JSON; a
 * party is an opaque pointer of the endpoint.
 *
 * A ticket is issued for one requester and one callee and leads to at most one
 * pair: two arrivals with its token. Every ticket ends exactly once, as matched
 * or with an outcome, and whoever made it end learns so from that call. A
 * waiting party belongs to its ticket: it is either taken out by its own
 * broker_leave(), or handed to exactly one other caller (as `match.first`, or
 * as `ending.party`), who must pass it on to its thread.
 *
 * A ticket has two seats, one for each of its operators. An arrival that has only
 * the token may take any; one that proved who it is takes its own, once.
 *
 * A ticket of the TLS passthrough is issued like any other and its client put
 * in as the first arrival.
 *
 * All functions may be called from any thread, but for create and free.
 * `now_ms` is the caller's monotonic clock. */
#include "base/outcome.h"
#include "broker/pairing.h"
#include "broker/token.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BROKER_NAME_SIZE 128 /* operator names in reports; longer ones are cut */

struct broker;

struct broker_limits {
	unsigned accept_timeout_ms; /* nobody has come; one has come and waits */
	unsigned ask_timeout_ms;    /* until the callee's answer */
	unsigned max_tickets;       /* open at once */
	unsigned max_tickets_per_requester;
	unsigned max_pairs_per_requester; /* at once, open tickets included; 0: no limit */
};

struct ticket_request {
	const char *requester; /* who asked for the connection */
	const char *callee;    /* who is to be connected */
};

struct ticket {
	uint64_t id; /* for people and logs; says nothing about the token */
	char requester[BROKER_NAME_SIZE];
	char callee[BROKER_NAME_SIZE];
	enum ticket_state state;
	uint64_t issued_ms, deadline_ms;
};

/* A ticket that ended without a pair. */
struct ticket_ending {
	struct ticket ticket;
	enum outcome outcome;
	void *party; /* waited and must be let go by the caller; NULL: none */
};

/* Seats of a ticket, as bits. */
enum { SEAT_CALLEE = 1, SEAT_REQUESTER = 2, SEAT_ANY = SEAT_CALLEE | SEAT_REQUESTER };

struct ticket_match {
	struct ticket ticket;
	void *first; /* waited; now the caller's */
	bool first_is_callee; /* by its seat; if both could have either, by the protocol's order */
	uint64_t waited_ms;
};

struct broker_totals {
	uint64_t issued, matched;
	uint64_t turned_away; /* requests over a limit */
	unsigned open;
	uint64_t ended[OUTCOME_COUNT];       /* tickets that ended without a pair */
	uint64_t pairs_ended[OUTCOME_COUNT];
};

int broker_create(const struct broker_limits *limits, struct broker **result);
void broker_free(struct broker *broker); /* no party may wait any more */

/* The key under which the table knows a token. */
struct token_key broker_key(const struct broker *broker, const struct token *token);

/* Makes a ticket in state ASKING. Returns 0, -ENOSPC (limit of all), -EDQUOT
 * (tickets of this requester), -EUSERS (its pairs), -ENOMEM, or an error of the random source. */
int broker_issue(struct broker *broker, const struct ticket_request *request, uint64_t now_ms, struct token *token,
		 struct token_key *key, uint64_t *id);

/* The callee agreed. 0, or -ENOENT: the ticket has ended meanwhile. */
int broker_agree(struct broker *broker, const struct token_key *key, uint64_t now_ms);

/* The callee refused or could not be asked. 0 and how it ended, or -ENOENT. */
int broker_refuse(struct broker *broker, const struct token_key *key, struct ticket_ending *ending);

/* The ticket of a token that may still be used: 0 or -ENOENT. */
int broker_find(struct broker *broker, const struct token_key *key, uint64_t now_ms, struct ticket *ticket);

/* TAKEN: the ticket is there, but not for this party; nothing has changed. */
enum arrival { ARRIVAL_UNKNOWN, ARRIVAL_WAITS, ARRIVAL_MATCHED, ARRIVAL_TAKEN };

/* A connection showed a token, and may have the given seats of its ticket.
 * MATCHED fills `match`, WAITS its `ticket` only. */
enum arrival broker_arrive_for(struct broker *broker, const struct token_key *key, unsigned seats, void *party,
			       uint64_t now_ms, struct ticket_match *match);
/* The same for SEAT_ANY. */
enum arrival broker_arrive(struct broker *broker, const struct token_key *key, void *party, uint64_t now_ms,
			   struct ticket_match *match);

/* The waiting party's connection ended. 0: the ticket is over and the party
 * the caller's again; -ENOENT: somebody else has taken it out before and
 * passes it on. */
int broker_leave(struct broker *broker, const struct token_key *key, const void *party, struct ticket_ending *ending);

/* Ends every ticket whose deadline has passed; calls `ended` for each, without
 * a lock held. Returns whether tickets are left. */
bool broker_expire(struct broker *broker, uint64_t now_ms,
		   void (*ended)(const struct ticket_ending *ending, void *context), void *context);

/* A joined pair ended. */
void broker_pair_ended(struct broker *broker, enum outcome outcome);
/* The pair of a match is over or never came to be; once for each match, with the
 * requester that stood in its ticket. */
void broker_pair_over(struct broker *broker, const char *requester);

/* Calls `visit` for each open ticket with a lock held: it must not call back. */
void broker_visit_tickets(struct broker *broker, void (*visit)(const struct ticket *ticket, void *context),
			  void *context);
void broker_totals(struct broker *broker, struct broker_totals *totals);
