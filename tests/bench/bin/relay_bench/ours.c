// SPDX-License-Identifier: Apache-2.0
/* Our relay: one relay_host process on one plane, asked for tickets and for what became of
 * the pairs. A round counts only if the reports of the relay itself say that the plane
 * named moved exactly its bytes. Parties with TLS come in through its lobby. */
#include "contender.h"
#include "identity.h"
#include "sample.h"

#include "../../../integration/bin/relay_contract/host.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_TIMEOUT_MS 20000
#define TICKET_SECONDS 60
#define NAME_SIZE 32
#define CHAT_BYTES 64
#define MOST_PAIRS 6000 /* the storm has 5,000 at once */

static bool ours_fail(struct contender *contender)
{
	return contender_fail(contender, "%s", ((struct host *)contender->state)->error);
}

static bool ours_start(struct contender *contender)
{
	static const enum plane_mask masks[] = {
		[PLANE_COPY] = PLANE_MASK_COPY, [PLANE_SPLICE] = PLANE_MASK_SPLICE, [PLANE_SOCKMAP] = PLANE_MASK_SOCKMAP,
	};
	/* Workers as `proxy` has them; tickets that live as long as a round. */
	struct host_settings settings = {
		.planes = masks[contender->plane], .workers = (unsigned)sysconf(_SC_NPROCESSORS_ONLN),
		.accept_timeout_ms = TICKET_SECONDS * 1000, .max_pairs = MOST_PAIRS,
		.both_families = !place_is_loopback(PLACE_RELAY), .lobby = contender->tls != TLS_NONE,
		.bare_bytes = contender->is_bare ? CHAT_BYTES : 0,
	};
	struct host *host = calloc(1, sizeof *host);

	contender->state = host;
	if (!host || !place_enter(PLACE_RELAY) || !host_start(host, &settings))
		return host ? ours_fail(contender) : contender_fail(contender, "out of memory");
	contender->pid = host->pid;
	contender->port = contender->tls == TLS_NONE ? host->port : host->lobby_ports[1];
	return host->planes[contender->plane] || contender_fail(contender, "this kernel does not have the plane");
}

static void ours_stop(struct contender *contender)
{
	if (contender->state)
		host_stop(contender->state);
	free(contender->state);
	contender->state = NULL;
}

static bool ours_fetch(struct contender *contender, struct ticket *tickets, size_t count)
{
	for (size_t at = 0; at < count; at++) {
		uint8_t token[32];

		if (!host_token(contender->state, count - at, token))
			return ours_fail(contender);
		for (int side = 0; side < 2; side++)
			memcpy(tickets[at].shown[side], token, sizeof token);
		tickets[at].size = sizeof token;
	}
	return true;
}

/* ---- parties with TLS ---- */

/* Letter and name, the letter back (relay_host/lobby.h); a hand-off ends the TLS both ways. */
static bool enter_lobby(struct end *end, char letter, const uint8_t name[NAME_SIZE])
{
	uint8_t hello[1 + NAME_SIZE] = { (uint8_t)letter };
	char answer;

	memcpy(hello + 1, name, NAME_SIZE);
	end->tls = identity_connect(end->fd, NULL);
	if (!end->tls || !end_send_all(end, hello, sizeof hello) || !end_receive_all(end, &answer, 1) || answer != letter)
		return false;
	if (letter != 'H')
		return true;
	if (SSL_shutdown(end->tls) < 0 || end_receive(end, &answer, 1) != 0)
		return false;
	SSL_free(end->tls);
	end->tls = NULL;
	return true;
}

static bool open_in_lobby(struct contender *contender, struct end ends[2])
{
	static uint64_t last_name;
	uint8_t name[NAME_SIZE] = { 0 };

	last_name++;
	memcpy(name, &last_name, sizeof last_name);
	for (int side = 0; side < 2; side++) {
		ends[side].fd = contender_dial(contender, side, 0);
		if (ends[side].fd < 0 || !enter_lobby(&ends[side], contender->tls == TLS_BETWEEN ? 'H' : 'U', name))
			return false;
	}
	return true;
}

/* ---- what the relay says ---- */

static json_t *ask_list(struct contender *contender, const char *what)
{
	json_t *answer = host_ask(contender->state, what), *list = json_incref(json_object_get(answer, what));

	if (!answer)
		ours_fail(contender);
	json_decref(answer);
	return list;
}

static bool ours_settle(struct contender *contender, size_t pairs)
{
	size_t open = 0;

	if (contender->plane != PLANE_SOCKMAP)
		return true;
	for (uint64_t deadline = sample_now_ns() + WAIT_TIMEOUT_MS * 1000000ull; sample_now_ns() < deadline; poll(NULL, 0, 5)) {
		json_t *list = ask_list(contender, "gates"), *pair;
		size_t at;

		open = 0;
		json_array_foreach(list, at, pair)
			open += json_integer_value(json_array_get(pair, 4)) == GATE_STATE_OPEN &&
				json_integer_value(json_array_get(pair, 5)) == GATE_STATE_OPEN;
		json_decref(list);
		if (open >= pairs)
			return true;
		if (*contender->error)
			return false;
	}
	return contender_fail(contender, "%zu of %zu gates open", open, pairs);
}

struct count {
	size_t pairs, other_planes, unhappy;
	uint64_t bytes[2], redirected[2];
	char word[80];
};

/* A pair that was only joined ends before it is worth the kernel's map. */
static bool is_on_other_plane(const struct contender *contender, const struct pair_report *report)
{
	bool was_young = contender->plane == PLANE_SOCKMAP && report->plane == PLANE_COPY &&
			 report->directions[0].bytes + report->directions[1].bytes <= 1;

	return report->plane != contender->plane && !was_young;
}

static void count_ended(struct count *count, const struct contender *contender, const json_t *list)
{
	const json_t *item;
	size_t at;

	json_array_foreach(list, at, item) {
		struct pair_report report;
		uint16_t ports[2];

		host_read_report(item, &report, ports);
		count->pairs++;
		count->other_planes += is_on_other_plane(contender, &report);
		if (report.outcome != OUTCOME_HAPPY) {
			count->unhappy++;
			snprintf(count->word, sizeof count->word, "%s", outcome_word(report.outcome));
		}
		for (int side = 0; side < 2; side++) {
			count->bytes[side] += report.directions[side].bytes;
			count->redirected[side] += report.directions[side].redirected_bytes;
		}
	}
}

static bool judge(struct contender *contender, const struct contender_round *round, const struct count *count)
{
	if (count->pairs != round->pairs)
		return contender_fail(contender, "%zu of %zu pairs ended", count->pairs, round->pairs);
	if (count->other_planes)
		return contender_fail(contender, "%zu pairs were on another plane", count->other_planes);
	if (count->unhappy)
		return contender_fail(contender, "%zu pairs ended %s", count->unhappy, count->word);
	/* Either party may count as the first one. */
	uint64_t moved = count->bytes[0] + count->bytes[1], wanted = round->bytes[0] + round->bytes[1];
	if (contender->tls == TLS_NONE ? moved != wanted : moved < wanted)
		return contender_fail(contender, "the relay counted %llu bytes, the client %llu", (unsigned long long)moved,
				      (unsigned long long)wanted);
	for (int side = 0; side < 2; side++)
		if (contender->plane == PLANE_SOCKMAP && count->bytes[side] > round->pairs && !count->redirected[side])
			return contender_fail(contender, "nothing was redirected in direction %d", side);
	return true;
}

static bool ours_check(struct contender *contender, struct contender_round *round)
{
	struct count count = { 0 };

	for (uint64_t deadline = sample_now_ns() + WAIT_TIMEOUT_MS * 1000000ull; sample_now_ns() < deadline; poll(NULL, 0, 5)) {
		json_t *list = ask_list(contender, "ended");

		count_ended(&count, contender, list);
		json_decref(list);
		if (count.pairs >= round->pairs || *contender->error)
			break;
	}
	if (!judge(contender, round, &count))
		return false;
	round->redirected_share = (double)(count.redirected[0] + count.redirected[1]) / (double)(count.bytes[0] + count.bytes[1]);
	return true;
}

const struct contender_kind kind_ours = {
	.start = ours_start, .stop = ours_stop, .fetch = ours_fetch, .settle = ours_settle, .check = ours_check,
};
const struct contender_kind kind_ours_tls = {
	.start = ours_start, .stop = ours_stop, .open_pair = open_in_lobby, .settle = ours_settle, .check = ours_check,
};
