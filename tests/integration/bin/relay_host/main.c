// SPDX-License-Identifier: Apache-2.0
/* The relay in a process of its own, for the contract test: the same library and the
 * same endpoint that the proxy daemon runs, without brokering. A test starts it with its
 * settings as one JSON text and a socket for control, on which every line is one JSON
 * command and one JSON answer:
 *
 *   {"do":"tickets","count":N}  {"tokens":["hex",…]}
 *   {"do":"gates"}              {"gates":[[port,port,id,plane,gate,gate],…]}   live pairs, short
 *   {"do":"pairs"}              {"pairs":[…]}                                  live pairs
 *   {"do":"ended"}              {"ended":[…]}                                  ended since the last call
 *   {"do":"totals"}             {…, "refused":[by outcome], "reading":N, "waiting":N}
 *   {"do":"stop"}               {}         then relay_stop() and the process ends
 *
 * The main thread does the control; the relay's workers do everything else. The list
 * of ended pairs is the only thing they share, under one lock. The workers copy only: JSON
 * would cost them more than a short pair does, and benchmarks run this program too. */
#include "doorway.h"
#include "lobby.h"
#include "report.h"

#include "base/daemon.h"
#include "base/encoding.h"
#include "base/log.h"
#include "relay/faults.h"
#include "relay/worker.h"

#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPIRE_EVERY_MS 20
#define ENDED_FIRST 256

/* Pairs whose end nobody has asked for yet. */
struct ended {
	struct pair_report *reports;
	size_t count, capacity;
};

struct host {
	struct relay *relay;
	struct doorway *doorway;
	struct lobby *lobby; /* NULL: not asked for */
	FILE *in, *out;
	pthread_mutex_t lock;
	struct ended ended;
};

static void host_pair_ended(const struct pair_report *report, void *context)
{
	struct host *host = context;
	struct ended *ended = &host->ended;

	pthread_mutex_lock(&host->lock);
	if (ended->count == ended->capacity) {
		ended->capacity = ended->capacity ? 2 * ended->capacity : ENDED_FIRST;
		ended->reports = realloc(ended->reports, ended->capacity * sizeof *ended->reports);
		if (!ended->reports)
			abort();
	}
	ended->reports[ended->count++] = *report;
	pthread_mutex_unlock(&host->lock);
}

static void collect_pair(const struct pair_report *report, void *context)
{
	json_array_append_new(context, report_of_pair(report));
}

static void collect_gates(const struct pair_report *report, void *context)
{
	json_array_append_new(context, report_of_gates(report));
}

static json_t *answer_tickets(struct host *host, json_int_t count)
{
	json_t *tokens = json_array();

	for (json_int_t at = 0; at < count; at++) {
		uint8_t token[32];
		char text[65];
		int error = doorway_issue(host->doorway, token);
		if (error) {
			json_decref(tokens);
			return json_pack("{s:s}", "error", strerror(-error));
		}
		hex_encode(token, sizeof token, text);
		json_array_append_new(tokens, json_string(text));
	}
	return json_pack("{s:o}", "tokens", tokens);
}

static json_t *answer_totals(struct host *host)
{
	struct relay_totals totals;
	uint64_t refused[OUTCOME_COUNT] = { 0 };
	json_t *list = json_array();
	unsigned reading, waiting;

	relay_totals(host->relay, &totals);
	doorway_count_endings(host->doorway, refused);
	for (int at = 0; at < OUTCOME_COUNT; at++)
		json_array_append_new(list, json_integer((json_int_t)refused[at]));
	json_t *answer = report_of_totals(&totals);
	doorway_count_guests(host->doorway, &reading, &waiting);
	json_object_set_new(answer, "refused", list);
	json_object_set_new(answer, "reading", json_integer(reading));
	if (host->lobby)
		waiting += lobby_count_waiting(host->lobby);
	json_object_set_new(answer, "waiting", json_integer(waiting));
	return answer;
}

static json_t *answer_ended(struct host *host)
{
	json_t *list = json_array();

	pthread_mutex_lock(&host->lock);
	struct ended ended = host->ended;
	host->ended = (struct ended){ 0 };
	pthread_mutex_unlock(&host->lock);
	for (size_t at = 0; at < ended.count; at++)
		json_array_append_new(list, report_of_pair(&ended.reports[at]));
	free(ended.reports);
	return json_pack("{s:o}", "ended", list);
}

static json_t *host_answer(struct host *host, const json_t *command)
{
	const char *what = json_string_value(json_object_get(command, "do"));

	if (!what)
		return json_pack("{s:s}", "error", "no command");
	if (!strcmp(what, "tickets"))
		return answer_tickets(host, json_integer_value(json_object_get(command, "count")));
	if (!strcmp(what, "gates") || !strcmp(what, "pairs")) {
		json_t *list = json_array();
		relay_visit_pairs(host->relay, *what == 'g' ? collect_gates : collect_pair, list);
		return json_pack("{s:o}", what, list);
	}
	if (!strcmp(what, "ended"))
		return answer_ended(host);
	if (!strcmp(what, "totals"))
		return answer_totals(host);
	if (!strcmp(what, "stop"))
		return json_object();
	return json_pack("{s:s}", "error", "unknown command");
}

static void host_say(struct host *host, json_t *answer)
{
	json_dumpf(answer, host->out, JSON_COMPACT);
	fputc('\n', host->out);
	fflush(host->out);
	json_decref(answer);
}

/* Until the test says stop or is gone. The test sends one command at a time, so
 * nothing is left in the stream's buffer when it is polled. */
static void host_serve(struct host *host)
{
	struct pollfd control = { .fd = fileno(host->in), .events = POLLIN };
	char *line = NULL;
	size_t capacity = 0;
	ssize_t length;
	bool stop = false;

	while (!stop) {
		int ready = poll(&control, 1, EXPIRE_EVERY_MS);
		doorway_expire(host->doorway);
		if (ready <= 0)
			continue;
		if ((length = getline(&line, &capacity, host->in)) <= 0)
			break;
		json_t *command = json_loadb(line, (size_t)length, 0, NULL);
		const char *what = json_string_value(json_object_get(command, "do"));
		stop = what && !strcmp(what, "stop");
		host_say(host, host_answer(host, command));
		json_decref(command);
	}
	free(line);
}

static unsigned setting(const json_t *settings, const char *key, unsigned preset)
{
	const json_t *value = json_object_get(settings, key);

	return value ? (unsigned)json_integer_value(value) : preset;
}

static uint64_t setting_bytes(const json_t *settings, const char *key, uint64_t preset)
{
	const json_t *value = json_object_get(settings, key);

	return value ? (uint64_t)json_integer_value(value) : preset;
}

/* Only a test that asks for faults gets the program that has them. */
static void host_set_faults(const json_t *settings)
{
	struct relay_faults faults = {
		.kernel = {
			.lose_record_every = setting(settings, "lose_record_every", 0),
			.lose_packet_every = setting(settings, "lose_packet_every", 0),
			.break_packet_every = setting(settings, "break_packet_every", 0),
			.no_trim = setting(settings, "no_trim", 0),
			.bare_bytes = setting(settings, "bare_bytes", 0),
		},
		.late_record_every = setting(settings, "late_record_every", 0),
	};

	const struct gate_faults *kernel = &faults.kernel;
	if (kernel->lose_record_every || kernel->lose_packet_every || kernel->break_packet_every || kernel->no_trim ||
	    kernel->bare_bytes || faults.late_record_every)
		relay_set_faults(&faults);
}

static const char *probed_sentence(const struct probe_report *probed, const char *name)
{
	for (unsigned at = 0; at < probed->count; at++)
		if (!strcmp(probed->items[at].name, name))
			return probed->items[at].sentence;
	return "";
}

int main(int argc, char **argv)
{
	struct host host = { .lock = PTHREAD_MUTEX_INITIALIZER };
	uint16_t port = 0;

	json_t *settings = argc == 3 ? json_loads(argv[2], 0, NULL) : NULL;
	if (!settings) {
		fprintf(stderr, "usage: relay_host CONTROL-FD JSON-SETTINGS (started by relay_contract)\n");
		return 2;
	}
	int control = atoi(argv[1]);
	host.in = fdopen(control, "r");
	host.out = fdopen(dup(control), "w");
	if (!host.in || !host.out)
		return 2;
	log_configure((enum log_level)setting(settings, "log_level", LOG_LEVEL_ERROR), LOG_FORMAT_TEXT, "PRO");
	daemon_prepare_process();
	host_set_faults(settings);
	struct relay_options options = {
		.settings = {
			.workers = setting(settings, "workers", 1),
			.planes = setting(settings, "planes", PLANE_MASK_ALL),
			.pair_memory_bytes = setting_bytes(settings, "pair_memory", 32u << 20),
			.credit_budget_bytes = setting_bytes(settings, "credit_budget", 0),
			.max_pairs = setting_bytes(settings, "max_pairs", 4096),
			.buffer_budget_bytes = setting_bytes(settings, "buffer_budget", 0),
			.stall_limit_ms = setting(settings, "stall_limit_ms", 0),
			.stop_deadline_ms = setting(settings, "stop_deadline_ms", 0),
		},
		.ended = host_pair_ended,
		.context = &host,
	};
	int error = relay_create(&options, &host.relay);
	if (error) {
		host_say(&host, json_pack("{s:s}", "error", strerror(-error)));
		return 1;
	}
	/* Workers look at it when they have pairs. */
	for (unsigned at = 0; at < host.relay->worker_count && setting(settings, "no_pipes", 0); at++)
		host.relay->workers[at].pipes.most = 0;
	host.relay->never_gathers = setting(settings, "no_gathering", 0);
	struct doorway_options door = {
		.relay = host.relay,
		.accept_timeout_ms = setting(settings, "accept_timeout_ms", 10000),
		.token_timeout_ms = setting(settings, "token_timeout_ms", 5000),
		.both_families = setting(settings, "both_families", 0),
	};
	error = doorway_open(&door, &host.doorway, &port);
	if (error) {
		host_say(&host, json_pack("{s:s}", "error", strerror(-error)));
		return 1;
	}
	const struct probe_report *probed = relay_probed(host.relay);
	json_t *planes = json_array(), *reasons = json_array();
	for (int plane = 0; plane < PLANE_COUNT; plane++) {
		json_array_append_new(planes, json_boolean(probed->planes[plane]));
		json_array_append_new(reasons, json_string(probed_sentence(probed, plane_name((enum plane)plane))));
	}
	uint16_t lobby_ports[2] = { 0, 0 };
	if (setting(settings, "lobby", 0) && (error = lobby_open(host.relay, &host.lobby, &lobby_ports[0], &lobby_ports[1]))) {
		host_say(&host, json_pack("{s:s}", "error", strerror(-error)));
		return 1;
	}
	host_say(&host, json_pack("{s:i, s:[i, i], s:o, s:o}", "port", (int)port, "lobby", (int)lobby_ports[0],
				  (int)lobby_ports[1], "planes", planes, "reasons", reasons));
	host_serve(&host);
	if (host.lobby)
		lobby_close(host.lobby);
	doorway_close(host.doorway);
	relay_stop(host.relay);
	doorway_free(host.doorway);
	relay_free(host.relay);
	free(host.ended.reports);
	json_decref(settings);
	fclose(host.in);
	fclose(host.out);
	return 0;
}
