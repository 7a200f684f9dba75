// SPDX-License-Identifier: Apache-2.0
/* Copies of what the workers know, for other threads.
 *
 * A worker's state is read by its own thread only: whoever wants a copy posts a
 * question to the worker's loop and waits for the answer, a few dozen pairs at a
 * time, so that a question never delays the bytes for long. On the worker's own
 * thread, or when it does not run, the answer is made at once. The asker must
 * not hold a lock that the `ended` callback takes. */
#include "relay/worker.h"

#include "base/address.h"
#include "relay/pump.h"
#include "relay/session.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAIRS_PER_ANSWER 32

_Static_assert((int)CLOSING_CREDIT == (int)GATE_CREDIT && (int)CLOSING_MEMORY == (int)GATE_MEMORY &&
		       (int)CLOSING_PILE == (int)GATE_PILE && (int)CLOSING_FAILED == (int)GATE_FAILED &&
		       (int)CLOSING_SMALL == (int)GATE_SMALL &&
		       (int)CLOSING_COUNT == (int)GATE_CLOSINGS,
	       "report and kernel program name the same reasons");

const char *transport_name(enum transport transport)
{
	static const char *const names[] = {
		[TRANSPORT_PLAIN] = "plain TCP", [TRANSPORT_HANDED_OFF] = "handed off", [TRANSPORT_TLS] = "TLS"
	};

	return (unsigned)transport <= TRANSPORT_TLS ? names[transport] : "?";
}

const char *plane_name(enum plane plane)
{
	static const char *const names[] = {
		[PLANE_COPY] = "copy", [PLANE_SPLICE] = "splice", [PLANE_SOCKMAP] = "sockmap",
		[PLANE_KTLS_SPLICE] = "ktls-splice"
	};

	return (unsigned)plane < PLANE_COUNT ? names[plane] : "?";
}

const char *closing_reason_name(enum closing_reason reason)
{
	static const char *const names[] = {
		[CLOSING_CREDIT] = "credit", [CLOSING_MEMORY] = "memory", [CLOSING_PILE] = "pile", [CLOSING_FAILED] = "failed",
		[CLOSING_SMALL] = "small"
	};

	return (unsigned)reason < CLOSING_COUNT ? names[reason] : "?";
}

/* ---- one pair ---- */

static void tell_reason(const struct pair *pair, char text[PROBE_TEXT_SIZE])
{
	const struct probe_report *probe = &pair->worker->relay->probe;
	const char *why = "best plane that this kernel and the settings allow";

	switch ((enum plane_reason)pair->plane_reason) {
	case REASON_BEST:
		if (pair->plane == PLANE_KTLS_SPLICE) {
			why = "TLS stays on, and the kernel does its cryptography";
			break;
		}
		for (unsigned i = 0; pair->plane != PLANE_SOCKMAP && i < probe->count; i++) {
			if (strcmp(probe->items[i].name, "sockmap") == 0) {
				snprintf(text, PROBE_TEXT_SIZE, "no sockmap: %.140s", probe->items[i].sentence);
				return;
			}
		}
		break;
	case REASON_NO_INDEX:
		why = "no slot was free in the kernel's map";
		break;
	case REASON_YOUNG:
		why = "young; enters the kernel's map after 20 ms (not in a crowd), 4 reads or 64 KB";
		break;
	case REASON_JOINING:
		why = "copying what came before the join";
		break;
	case REASON_SLOW_READER:
		why = "a slow reader kept the pair from joining in time; tried again when it is quiet";
		break;
	case REASON_REFUSED:
		snprintf(text, PROBE_TEXT_SIZE, "the map refused a socket (%s)", strerror(pair->refused_errno));
		return;
	case REASON_HALF_REFUSED:
		snprintf(text, PROBE_TEXT_SIZE, "the map refused the second socket (%s)", strerror(pair->refused_errno));
		return;
	case REASON_URGENT:
		why = "urgent data came, which splice cannot pass; copied since then";
		break;
	case REASON_NO_PIPE:
		why = "no pipe was left at times; copied then";
		break;
	case REASON_TLS:
		for (unsigned i = 0; i < 2; i++) {
			if (pair->sides[i].session && !pair->sides[i].session->in_kernel)
				return session_tell(&pair->sides[i], text);
		}
		break;
	}
	snprintf(text, PROBE_TEXT_SIZE, "%s", why);
}

static void fill_direction(const struct pair *pair, unsigned number, struct direction_report *report)
{
	const struct side *side = &pair->sides[number];
	const struct gate_direction *gate = side->gate;

	memset(report, 0, sizeof *report);
	report->bytes = side->copied;
	report->packets = side->reads;
	report->ended = side->ended;
	report->rests = side->rests;
	if (!gate)
		return;
	uint64_t word = __atomic_load_n(&gate->gate, __ATOMIC_ACQUIRE);

	report->redirected_bytes = __atomic_load_n(&gate->redirected, __ATOMIC_RELAXED);
	report->bytes += report->redirected_bytes;
	report->credit_bytes = side->lent;
	report->openings = side->openings;
	report->holds = side->holds;
	report->gatherings = side->bulk ? side->bulk->gatherings : 0;
	report->trims = __atomic_load_n(&gate->trims, __ATOMIC_RELAXED);
	report->breaks = __atomic_load_n(&gate->breaks, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < CLOSING_COUNT; i++)
		report->closings[i] = __atomic_load_n(&gate->closings[i], __ATOMIC_RELAXED);
	if (pair->in_map) {
		report->packets = __atomic_load_n(&gate->packets, __ATOMIC_RELAXED);
		report->spilled_bytes = side->copied - side->copied_before;
	}
	report->gate = !side->mapped ? GATE_STATE_NONE : word & GATE_BROKEN ? GATE_STATE_BROKEN
		     : word & GATE_CLOSED ? GATE_STATE_CLOSED : GATE_STATE_OPEN;
}

/* Asks TCP, which the rest does not. */
static uint64_t in_flight(const struct pair *pair, unsigned number)
{
	const struct side *side = &pair->sides[number];
	int64_t flight = 0;

	if (side->gate && !pair->over && !side->ended)
		flight = gate_in_flight(side, pair->sides[!number].watch.fd);
	return flight > 0 ? (uint64_t)flight : 0;
}

void report_fill(struct pair *pair, struct pair_report *report)
{
	memset(report, 0, sizeof *report);
	report->id = pair->id;
	report->worker = pair->worker->number;
	report->age_ms = (loop_now_ns(pair->worker->loop) - pair->joined_ns) / 1000000;
	report->plane = (enum plane)pair->plane;
	tell_reason(pair, report->plane_reason);
	for (unsigned i = 0; i < 2; i++) {
		const struct sockaddr *address = (const struct sockaddr *)&pair->addresses[i];

		if (address->sa_family == AF_UNSPEC)
			snprintf(report->parties[i].address, sizeof report->parties[i].address, "?");
		else
			address_format(address, report->parties[i].address);
		report->parties[i].transport = (enum transport)pair->transports[i];
		report->parties[i].asked = pair->sides[i].asked;
		snprintf(report->parties[i].operator_name, RELAY_NAME_SIZE, "%s",
			 i ? pair->operator_names + strlen(pair->operator_names) + 1 : pair->operator_names);
		fill_direction(pair, i, &report->directions[i]);
		report->directions[i].in_flight_bytes = in_flight(pair, i);
	}
}

void report_add_totals(const struct pair *pair, struct relay_totals *totals)
{
	for (unsigned i = 0; i < 2; i++) {
		struct direction_report direction;

		fill_direction(pair, i, &direction);
		totals->bytes += direction.bytes;
		totals->redirected_bytes += direction.redirected_bytes;
		totals->spilled_bytes += direction.spilled_bytes;
		totals->packets += direction.packets;
		totals->openings += direction.openings;
		totals->holds += direction.holds;
		totals->trims += direction.trims;
		totals->breaks += direction.breaks;
		for (unsigned k = 0; k < CLOSING_COUNT; k++)
			totals->closings[k] += direction.closings[k];
	}
}

/* ---- questions to a worker ---- */

struct question {
	struct loop_message message;
	struct worker *worker;
	void (*answer)(struct question *question);
	sem_t answered;
	uint64_t above_id; /* pairs with greater ids */
	uint64_t only_id;  /* 0: all */
	struct pair_report *reports;
	unsigned count;
	bool is_last;
	struct relay_totals *totals;
};

static void answer_pairs(struct question *question)
{
	question->count = 0;
	question->is_last = true;
	for (struct pair *pair = question->worker->first; pair; pair = pair->next) {
		if (pair->id <= question->above_id || (question->only_id && pair->id != question->only_id))
			continue;
		if (question->count == PAIRS_PER_ANSWER) {
			question->is_last = false;
			return;
		}
		report_fill(pair, &question->reports[question->count++]);
		question->above_id = pair->id;
	}
}

static void answer_totals(struct question *question)
{
	struct relay_totals *totals = question->totals;
	const struct relay_totals *past = &question->worker->past;

	totals->pairs_joined += past->pairs_joined;
	for (unsigned i = 0; i < OUTCOME_COUNT; i++)
		totals->ended[i] += past->ended[i];
	totals->bytes += past->bytes;
	totals->redirected_bytes += past->redirected_bytes;
	totals->spilled_bytes += past->spilled_bytes;
	totals->packets += past->packets;
	totals->openings += past->openings;
	totals->holds += past->holds;
	totals->trims += past->trims;
	totals->breaks += past->breaks;
	for (unsigned i = 0; i < CLOSING_COUNT; i++)
		totals->closings[i] += past->closings[i];
	totals->late_records += past->late_records;
	totals->found_by_sweep += past->found_by_sweep;
	totals->books_checked += past->books_checked;
	totals->books_wrong += past->books_wrong;
	for (struct pair *pair = question->worker->first; pair; pair = pair->next) {
		totals->pairs_live++;
		totals->pairs_by_plane[pair->plane]++;
		report_add_totals(pair, totals);
	}
}

static void receive_question(struct loop_message *message)
{
	struct question *question = (struct question *)message;

	question->answer(question);
	sem_post(&question->answered);
}

static void ask(struct question *question)
{
	struct worker *worker = question->worker;
	bool posted = false;

	if (worker->started && pthread_equal(pthread_self(), worker->thread)) {
		question->answer(question);
		return;
	}
	question->message.receive = receive_question;
	pthread_mutex_lock(&worker->life);
	if (worker->runs) {
		loop_post(worker->loop, &question->message);
		posted = true;
	} else {
		question->answer(question);
	}
	pthread_mutex_unlock(&worker->life);
	while (posted && sem_wait(&question->answered) && errno == EINTR)
		;
}

void relay_visit_pairs(struct relay *relay, void (*visit)(const struct pair_report *report, void *context), void *context)
{
	struct pair_report *reports = malloc(PAIRS_PER_ANSWER * sizeof *reports);

	for (unsigned i = 0; reports && i < relay->worker_count; i++) {
		struct question question = { .worker = &relay->workers[i], .answer = answer_pairs, .reports = reports };

		sem_init(&question.answered, 0, 0);
		do {
			ask(&question);
			for (unsigned k = 0; k < question.count; k++)
				visit(&reports[k], context);
		} while (!question.is_last);
		sem_destroy(&question.answered);
	}
	free(reports);
}

int relay_find_pair(struct relay *relay, uint64_t id, struct pair_report *report)
{
	unsigned found = 0;

	for (unsigned i = 0; id && !found && i < relay->worker_count; i++) {
		struct question question = {
			.worker = &relay->workers[i], .answer = answer_pairs, .reports = report, .only_id = id
		};

		sem_init(&question.answered, 0, 0);
		ask(&question);
		found = question.count;
		sem_destroy(&question.answered);
	}
	return found ? 0 : -ENOENT;
}

void relay_totals(struct relay *relay, struct relay_totals *totals)
{
	memset(totals, 0, sizeof *totals);
	for (unsigned i = 0; i < relay->worker_count; i++) {
		struct question question = { .worker = &relay->workers[i], .answer = answer_totals, .totals = totals };

		sem_init(&question.answered, 0, 0);
		ask(&question);
		sem_destroy(&question.answered);
	}
	totals->credit_lent_bytes = atomic_load_explicit(&relay->budget.lent, memory_order_relaxed);
	totals->credit_budget_bytes = relay->budget.total;
	totals->buffers_lent_bytes = atomic_load_explicit(&relay->buffers.lent, memory_order_relaxed);
	totals->buffers_budget_bytes = relay->buffers.total;
}
