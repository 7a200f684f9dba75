// SPDX-License-Identifier: Apache-2.0
/* The state machine of pairing.h, written out. */
#include "broker/pairing.h"

static struct ticket_step go(enum ticket_state state, enum ticket_wait wait)
{
	return (struct ticket_step){.state = state, .wait = wait, .is_possible = true};
}

static struct ticket_step end(enum outcome outcome, bool releases_party)
{
	return (struct ticket_step){.state = TICKET_OVER, .outcome = outcome, .wait = TICKET_WAIT_NONE,
				    .releases_party = releases_party, .is_possible = true};
}

static struct ticket_step nothing(enum ticket_state state)
{
	return (struct ticket_step){.state = state, .wait = TICKET_WAIT_SAME};
}

struct ticket_step ticket_next(enum ticket_state state, enum ticket_event event)
{
	switch (state) {
	case TICKET_ASKING:
		switch (event) {
		case TICKET_EVENT_AGREED:
			return go(TICKET_OPEN, TICKET_WAIT_ACCEPT);
		case TICKET_EVENT_ARRIVAL:
			return go(TICKET_ASKING_WAITING, TICKET_WAIT_ACCEPT);
		case TICKET_EVENT_REFUSED:
		case TICKET_EVENT_DEADLINE: /* the call hangs: the callee could not be asked */
			return end(OUTCOME_REFUSED, false);
		default:
			return nothing(state);
		}
	case TICKET_ASKING_WAITING:
		switch (event) {
		case TICKET_EVENT_AGREED: /* the first party's time runs from its arrival */
			return go(TICKET_WAITING, TICKET_WAIT_SAME);
		case TICKET_EVENT_ARRIVAL:
			return go(TICKET_MATCHED, TICKET_WAIT_NONE);
		case TICKET_EVENT_REFUSED:
			return end(OUTCOME_REFUSED, true);
		case TICKET_EVENT_LEFT:
			return end(OUTCOME_IMPATIENT, false);
		case TICKET_EVENT_DEADLINE:
			return end(OUTCOME_LONELY, true);
		default:
			return nothing(state);
		}
	case TICKET_OPEN:
		switch (event) {
		case TICKET_EVENT_ARRIVAL:
			return go(TICKET_WAITING, TICKET_WAIT_ACCEPT);
		case TICKET_EVENT_DEADLINE:
			return end(OUTCOME_UNCLAIMED, false);
		default:
			return nothing(state);
		}
	case TICKET_WAITING:
		switch (event) {
		case TICKET_EVENT_ARRIVAL:
			return go(TICKET_MATCHED, TICKET_WAIT_NONE);
		case TICKET_EVENT_LEFT:
			return end(OUTCOME_IMPATIENT, false);
		case TICKET_EVENT_DEADLINE:
			return end(OUTCOME_LONELY, true);
		default:
			return nothing(state);
		}
	default:
		return nothing(state);
	}
}

const char *ticket_state_name(enum ticket_state state)
{
	switch (state) {
	case TICKET_ASKING:
		return "asking";
	case TICKET_ASKING_WAITING:
		return "asking, one waits";
	case TICKET_OPEN:
		return "open";
	case TICKET_WAITING:
		return "one waits";
	case TICKET_MATCHED:
		return "matched";
	case TICKET_OVER:
		return "over";
	default:
		return "?";
	}
}

bool ticket_state_has_party(enum ticket_state state)
{
	return state == TICKET_ASKING_WAITING || state == TICKET_WAITING;
}
