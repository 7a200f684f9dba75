// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The life of one ticket as a state machine: no I/O, no clock, no memory.
 *
 *            agreed            arrival             arrival
 *   ASKING ---------> OPEN ------------> WAITING -----------> MATCHED
 *      |                                    ^  agreed            ^
 *      +---- arrival ---> ASKING_WAITING ---+                    |
 *                                 +----------- arrival ----------+
 *
 * Everything else (refused, the waiting party left, a deadline passed) ends in
 * OVER with the outcome that says why. */
#include "base/outcome.h"

#include <stdbool.h>

enum ticket_state {
	TICKET_ASKING,         /* the callee is being asked; nobody has come */
	TICKET_ASKING_WAITING, /* the callee is being asked; the first party has come */
	TICKET_OPEN,           /* the callee agreed; nobody has come */
	TICKET_WAITING,        /* the callee agreed; the first party has come */
	TICKET_MATCHED,
	TICKET_OVER,
	TICKET_STATE_COUNT
};

enum ticket_event {
	TICKET_EVENT_AGREED,   /* the callee answered the connection request */
	TICKET_EVENT_REFUSED,  /* it refused, or could not be asked */
	TICKET_EVENT_ARRIVAL,  /* a connection showed the token */
	TICKET_EVENT_LEFT,     /* the waiting party's connection ended */
	TICKET_EVENT_DEADLINE, /* the deadline of the state has passed */
	TICKET_EVENT_COUNT
};

/* What a step does to the ticket's deadline. */
enum ticket_wait {
	TICKET_WAIT_SAME,   /* goes on as it is */
	TICKET_WAIT_ACCEPT, /* starts anew: accept_timeout from now */
	TICKET_WAIT_NONE,   /* the ticket waits for nothing any more */
};

struct ticket_step {
	enum ticket_state state; /* the next one */
	enum outcome outcome;    /* of TICKET_OVER only */
	enum ticket_wait wait;
	bool releases_party; /* the waiting party must be let go by whoever caused the step */
	bool is_possible;    /* false: the event means nothing in this state, nothing changes */
};

struct ticket_step ticket_next(enum ticket_state state, enum ticket_event event);

/* "asking", "asking, one waits", "open", "one waits", "matched", "over". */
const char *ticket_state_name(enum ticket_state state);
bool ticket_state_has_party(enum ticket_state state);
