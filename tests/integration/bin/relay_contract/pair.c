// SPDX-License-Identifier: Apache-2.0
/* Reports are matched to pairs by the two ports: with one host and one network
 * namespace for the test they are unique among living pairs, and a pair whose report
 * has come is not looked at again. */
#include "pair.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WARM_UP_BYTES 500
#define PAIRS_AT_ONCE 100

static bool connect_end(struct pair *pair, unsigned side)
{
	struct test *test = pair->test;
	struct end *end = &pair->ends[side];
	char kind = test->kinds[side];
	uint16_t port = !kind ? test->host.port : test->host.lobby_ports[kind != KIND_PLAIN];
	int error;

	if (kind == KIND_HANDED_OFF)
		end->prefix_out = pair->ends[!side].prefix_in = PREFIX_SIZE;
	if (kind && kind != KIND_PLAIN)
		end->token_mode = TOKEN_NONE; /* it stands in the hello */
	error = end_connect(&test->engine, end, port, pair->plan.send_buffer, pair->plan.receive_buffer);
	if (error)
		return test_fail(test, "connect: %s", strerror(-error));
	test->by_port[end->port] = pair;
	if (kind && kind != KIND_PLAIN)
		end->secure = secure_start(end->fd, kind, end->token, (unsigned)engine_random(&test->engine));
	end_update(end);
	return true;
}

struct pair *pair_open(struct test *test, const struct pair_plan *plan)
{
	struct pair *pair = calloc(1, sizeof *pair);
	uint8_t token[TOKEN_SIZE];

	if (!pair)
		abort();
	if (test->pair_count == test->pair_capacity) {
		test->pair_capacity = test->pair_capacity * 2 + 64;
		test->pairs = realloc(test->pairs, test->pair_capacity * sizeof(struct pair *));
		if (!test->pairs)
			abort();
	}
	pair->test = test;
	pair->number = test->pair_count;
	pair->plan = *plan;
	test->pairs[test->pair_count++] = pair;
	uint64_t stream = test->next_stream;
	test->next_stream += 2;
	for (unsigned side = 0; side < 2; side++) {
		const struct flow *out = &plan->flows[side], *in = &plan->flows[!side];
		struct end *end = &pair->ends[side];
		*end = (struct end){
			.fd = -1, .engine = &test->engine, .uses_ipv6 = plan->uses_ipv6[side], .token_mode = plan->token_modes[side],
			.out_stream = stream + side, .in_stream = stream + !side,
			.total = out->total, .limit = out->holds ? 0 : out->limit ? out->limit : out->total,
			.finish = out->finish, .segment_bytes = out->segment_bytes,
			.out_pace = out->writer, .in_pace = in->reader, .stopped = in->reader_is_stopped,
			.checksum_in = 1, .checksum_out = 1,
		};
	}
	if (*test->kinds) {
		for (size_t at = 0; at < sizeof token; at++)
			token[at] = (uint8_t)engine_random(&test->engine);
	} else if (!host_token(&test->host, test->tickets_at_once, token)) {
		test_fail(test, "%s", *test->host.error ? test->host.error : "no ticket");
		return NULL;
	}
	memcpy(pair->ends[0].token, token, sizeof token);
	memcpy(pair->ends[1].token, token, sizeof token);
	if (!connect_end(pair, 0))
		return NULL;
	if (!plan->second_comes_later && !pair_connect_second(pair))
		return NULL;
	return pair;
}

bool pair_connect_second(struct pair *pair)
{
	return connect_end(pair, 1);
}

void pair_release(struct pair *pair, unsigned stream, uint64_t limit)
{
	struct end *end = &pair->ends[stream];

	end->limit = limit < end->total ? limit : end->total;
	end_update(end);
}

void pair_cut(struct pair *pair, unsigned stream, enum finish finish)
{
	struct end *end = &pair->ends[stream];

	end->limit = end->total = end->sent;
	end->finish = finish;
	end_update(end);
}

void pair_stop_reader(struct pair *pair, unsigned stream, bool stopped)
{
	pair->ends[!stream].stopped = stopped;
	end_update(&pair->ends[!stream]);
}

void pair_abandon(struct pair *pair)
{
	end_close(&pair->ends[0]);
	end_close(&pair->ends[1]);
}

/* ---- asking the host ---- */

static bool pair_has_ports(const struct pair *pair, uint16_t one, uint16_t other)
{
	return pair && !pair->is_ended &&
	       ((pair->ends[0].port == one && pair->ends[1].port == other) ||
		(pair->ends[0].port == other && pair->ends[1].port == one));
}

/* A port may have come to a newer pair before the report of the older one is here. */
static struct pair *pair_by_ports(struct test *test, uint16_t one, uint16_t other)
{
	if (pair_has_ports(test->by_port[one], one, other))
		return test->by_port[one];
	for (size_t at = test->pair_count; at-- > 0;)
		if (pair_has_ports(test->pairs[at], one, other))
			return test->pairs[at];
	return NULL;
}

/* The report's first direction becomes that from ends[0]. */
static void pair_turn(struct pair *pair, uint16_t port_of_party_0)
{
	if (port_of_party_0 == pair->ends[0].port)
		return;
	struct direction_report direction = pair->report.directions[0];
	pair->report.directions[0] = pair->report.directions[1];
	pair->report.directions[1] = direction;
}

bool pairs_poll_gates(struct test *test)
{
	json_t *answer = host_ask(&test->host, "gates"), *item;
	size_t at;

	if (!answer)
		return test_fail(test, "%s", test->host.error);
	json_array_foreach(json_object_get(answer, "gates"), at, item) {
		int ports[2], plane, gates[2];
		json_int_t id;
		if (json_unpack(item, "[iiIiii]", &ports[0], &ports[1], &id, &plane, &gates[0], &gates[1]))
			continue;
		struct pair *pair = pair_by_ports(test, (uint16_t)ports[0], (uint16_t)ports[1]);
		if (!pair)
			continue;
		pair->is_joined = true;
		pair->report.id = (uint64_t)id;
		pair->report.plane = (enum plane)plane;
		pair->report.directions[0].gate = (enum gate_state)gates[0];
		pair->report.directions[1].gate = (enum gate_state)gates[1];
		pair_turn(pair, (uint16_t)ports[0]);
	}
	json_decref(answer);
	return true;
}

static bool poll_list(struct test *test, const char *what, bool are_ended)
{
	json_t *answer = host_ask(&test->host, what), *item;
	size_t at;

	if (!answer)
		return test_fail(test, "%s", test->host.error);
	json_array_foreach(json_object_get(answer, what), at, item) {
		struct pair_report report;
		uint16_t ports[2];
		host_read_report(item, &report, ports);
		struct pair *pair = pair_by_ports(test, ports[0], ports[1]);
		if (!pair)
			continue;
		pair->is_joined = true;
		pair->is_ended = are_ended;
		pair->report = report;
		pair_turn(pair, ports[0]);
	}
	json_decref(answer);
	return true;
}

bool pairs_poll_reports(struct test *test)
{
	return poll_list(test, "pairs", false);
}

bool pairs_poll_ended(struct test *test)
{
	return poll_list(test, "ended", true);
}

bool pair_gates_are_open(const struct pair *pair)
{
	return pair->is_joined && pair->report.directions[0].gate == GATE_STATE_OPEN &&
	       pair->report.directions[1].gate == GATE_STATE_OPEN;
}

bool pair_is_settled(const struct pair *pair)
{
	return pair->is_joined && pair->report.plane == pair->test->plane &&
	       (pair->test->plane != PLANE_SOCKMAP || pair_gates_are_open(pair));
}

bool pairs_open(struct test *test, size_t count, const struct pair_plan *plan)
{
	for (size_t at = 0; at < count; at++) {
		if (!pair_open(test, plan))
			return false;
		if (at % PAIRS_AT_ONCE != PAIRS_AT_ONCE - 1)
			continue;
		engine_run_for(&test->engine, 0);
		if (*test->kinds && !pairs_wait_settled(test, 30000))
			return false;
	}
	return true;
}

/* ---- waiting ---- */

static bool ends_failed(const struct pair *pair)
{
	return pair->ends[0].error || pair->ends[1].error || pair->ends[0].wrong || pair->ends[1].wrong;
}

static bool all_are_settled(void *context)
{
	struct test *test = context;

	if (!test_poll_is_due(test, 2))
		return false;
	if (!pairs_poll_gates(test))
		return true;
	for (size_t at = 0; at < test->pair_count; at++)
		if (!test->pairs[at]->is_ended && !pair_is_settled(test->pairs[at]) && !ends_failed(test->pairs[at]))
			return false;
	return true;
}

bool pairs_wait_settled(struct test *test, unsigned deadline_ms)
{
	return test_wait(test, all_are_settled, test, deadline_ms,
			 test->plane == PLANE_SOCKMAP ? "open gates" : "joined pairs") && !test_failed(test);
}

static bool all_are_through(void *context)
{
	const struct test *test = context;

	for (size_t at = 0; at < test->pair_count; at++) {
		const struct pair *pair = test->pairs[at];
		if (pair->is_ended || ends_failed(pair))
			continue;
		if (!end_is_through(&pair->ends[0]) || !end_is_through(&pair->ends[1]))
			return false;
	}
	return true;
}

bool pairs_wait_through(struct test *test, unsigned deadline_ms)
{
	return test_wait(test, all_are_through, test, deadline_ms, "the end of all streams");
}

static bool all_are_ended(void *context)
{
	struct test *test = context;

	if (!test_poll_is_due(test, 5))
		return false;
	if (!pairs_poll_ended(test))
		return true;
	for (size_t at = 0; at < test->pair_count; at++)
		if (!test->pairs[at]->is_ended)
			return false;
	return true;
}

bool pairs_wait_ended(struct test *test, unsigned deadline_ms)
{
	return test_wait(test, all_are_ended, test, deadline_ms, "the relay's report of every end") && !test_failed(test);
}

static bool all_is_received(void *context)
{
	const struct test *test = context;

	for (size_t at = 0; at < test->pair_count; at++) {
		const struct end *ends = test->pairs[at]->ends;
		if (ends_failed(test->pairs[at]))
			return true;
		for (int side = 0; side < 2; side++)
			if (ends[side].sent < ends[side].limit || ends[!side].received < ends[side].sent)
				return false;
	}
	return true;
}

bool pairs_wait_received(struct test *test, unsigned deadline_ms)
{
	return test_wait(test, all_is_received, test, deadline_ms, "all bytes sent so far");
}

bool pairs_warm_up(struct test *test, unsigned deadline_ms)
{
	if (!pairs_wait_received(test, deadline_ms) || !pairs_wait_settled(test, deadline_ms))
		return false;
	for (size_t at = 0; at < test->pair_count; at++)
		for (unsigned stream = 0; stream < 2; stream++) {
			const struct end *from = &test->pairs[at]->ends[stream];
			if (from->limit && from->fd >= 0)
				pair_release(test->pairs[at], stream, from->sent + WARM_UP_BYTES);
		}
	return pairs_wait_received(test, deadline_ms);
}

/* ---- judging ---- */

uint64_t report_closings(const struct direction_report *report)
{
	uint64_t sum = 0;

	for (int reason = 0; reason < CLOSING_COUNT; reason++)
		sum += report->closings[reason];
	return sum;
}

const char *pair_text(const struct pair *pair, char *text, size_t size)
{
	const struct end *a = &pair->ends[0], *b = &pair->ends[1];
	const struct direction_report *d = pair->report.directions;
	static const char *const gates[] = { "none", "closed", "open", "BROKEN" };

	snprintf(text, size,
		 "pair %zu (ports %u %u): sent %" PRIu64 "/%" PRIu64 " received %" PRIu64 "/%" PRIu64 "%s%s error %d/%d eof %d/%d;"
		 " relay: %s%s plane %s gates %s/%s bytes %" PRIu64 "/%" PRIu64 " redirected %" PRIu64 "/%" PRIu64
		 " spilled %" PRIu64 "/%" PRIu64 " flight %" PRIu64 "/%" PRIu64 " credit %" PRIu64 "/%" PRIu64 " ended %d/%d%s%s%s",
		 pair->number, a->port, b->port, a->sent, b->sent, b->received, a->received,
		 a->wrong || b->wrong ? " WRONG BYTES " : "", a->wrong ? a->wrong_text : b->wrong ? b->wrong_text : "",
		 a->error, b->error, a->eof_seen, b->eof_seen,
		 pair->is_ended ? "ended " : pair->is_joined ? "live" : "not joined",
		 pair->is_ended ? outcome_word(pair->report.outcome) : "", plane_name(pair->report.plane),
		 gates[d[0].gate & 3], gates[d[1].gate & 3], d[0].bytes, d[1].bytes, d[0].redirected_bytes, d[1].redirected_bytes,
		 d[0].spilled_bytes, d[1].spilled_bytes, d[0].in_flight_bytes, d[1].in_flight_bytes, d[0].credit_bytes,
		 d[1].credit_bytes, d[0].ended, d[1].ended, *pair->report.detail ? " (" : "", pair->report.detail, *pair->report.detail ? ")" : "");
	return text;
}

static bool pair_fail(struct pair *pair, const char *what)
{
	char text[480];

	return test_fail(pair->test, "%s: %s", what, pair_text(pair, text, sizeof text));
}

bool pair_check_bytes(struct pair *pair)
{
	if (pair->ends[0].wrong || pair->ends[1].wrong)
		return pair_fail(pair, "wrong bytes");
	if (pair->ends[0].error || pair->ends[1].error)
		return pair_fail(pair, "an error on an end");
	return true;
}

bool pair_check_happy(struct pair *pair)
{
	if (!pair_check_bytes(pair))
		return false;
	for (unsigned stream = 0; stream < 2; stream++) {
		const struct end *from = &pair->ends[stream], *to = &pair->ends[!stream];
		/* Who closes at once does not read any more. */
		bool is_read = to->finish != FINISH_CLOSE && to->finish != FINISH_RESET;
		if (is_read && (!to->eof_seen || to->received != from->sent))
			return pair_fail(pair, "not every byte arrived");
		if (pair->is_ended && is_read && pair->report.directions[stream].bytes != from->sent + from->prefix_sent)
			return pair_fail(pair, "the relay counted other bytes than were sent");
	}
	if (!pair->is_ended)
		return pair_fail(pair, "the relay has not ended the pair");
	if (pair->report.outcome != OUTCOME_HAPPY)
		return pair_fail(pair, "not a happy end");
	return true;
}

bool pairs_check_happy(struct test *test)
{
	for (size_t at = 0; at < test->pair_count; at++)
		if (!pair_check_happy(test->pairs[at]))
			return false;
	return true;
}

bool pair_check_redirected(struct pair *pair)
{
	if (pair->report.plane != pair->test->plane)
		return pair_fail(pair, "served by another plane");
	for (unsigned stream = 0; stream < 2; stream++) {
		const struct direction_report *report = &pair->report.directions[stream];
		if (pair->test->plane == PLANE_SOCKMAP && report->bytes > pair->ends[stream].prefix_sent && !report->redirected_bytes)
			return pair_fail(pair, "nothing was redirected");
		if (pair->test->plane != PLANE_SOCKMAP && report->redirected_bytes)
			return pair_fail(pair, "redirected on a plane that does not");
		if (report->redirected_bytes + report->spilled_bytes > report->bytes)
			return pair_fail(pair, "more redirected and spilled than delivered");
		if (report->bytes > pair->ends[stream].prefix_sent && !report->packets)
			return pair_fail(pair, "no packets counted");
		/* A gate begins closed: it was opened as often as it was closed, or once more. */
		if (pair->test->plane == PLANE_SOCKMAP && report->openings - report_closings(report) > 1)
			return pair_fail(pair, "openings and closings do not go together");
	}
	return true;
}

bool pair_check_reset(struct pair *pair, unsigned side)
{
	const struct end *end = &pair->ends[side];

	if (end->wrong)
		return pair_fail(pair, "wrong bytes before the reset");
	if (end->eof_seen)
		return pair_fail(pair, "a reset became a clean end");
	if (end->error != ECONNRESET)
		return pair_fail(pair, "no ECONNRESET");
	return true;
}
