// SPDX-License-Identifier: Apache-2.0
/* A process of its own is what makes CPU time and memory of the relay measurable,
 * and what keeps one test's leftovers out of the next. */
#include "host.h"

#include "base/encoding.h"
#include "base/instant.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_TIMEOUT_S 20

static bool host_fail(struct host *host, const char *what)
{
	if (!*host->error)
		snprintf(host->error, sizeof host->error, "relay_host: %s", what);
	return false;
}

/* One line of JSON from the host. */
static json_t *host_read(struct host *host)
{
	char *line = NULL;
	size_t capacity = 0;
	ssize_t length = getline(&line, &capacity, host->in);
	json_t *answer = length > 0 ? json_loadb(line, (size_t)length, 0, NULL) : NULL;

	free(line);
	if (!answer) {
		host_fail(host, "no answer: it ended, or hangs");
		return NULL;
	}
	const char *error = json_string_value(json_object_get(answer, "error"));
	if (error) {
		host_fail(host, error);
		json_decref(answer);
		return NULL;
	}
	return answer;
}

json_t *host_ask(struct host *host, const char *command)
{
	if (!host->pid || *host->error)
		return NULL;
	fprintf(host->out, "{\"do\":\"%s\"}\n", command);
	fflush(host->out);
	return host_read(host);
}

static char *settings_text(const struct host_settings *settings)
{
	json_t *json = json_pack("{s:i, s:i}", "planes", (int)settings->planes, "workers", (int)(settings->workers ? settings->workers : 1));
	const struct { const char *key; uint64_t value; } numbers[] = {
		{ "pair_memory", settings->pair_memory_bytes },
		{ "credit_budget", settings->credit_budget_bytes },
		{ "buffer_budget", settings->buffer_budget_bytes },
		{ "max_pairs", settings->max_pairs },
		{ "accept_timeout_ms", settings->accept_timeout_ms },
		{ "token_timeout_ms", settings->token_timeout_ms },
		{ "stall_limit_ms", settings->stall_limit_ms },
		{ "lose_record_every", settings->lose_record_every },
		{ "late_record_every", settings->late_record_every },
		{ "lose_packet_every", settings->lose_packet_every },
		{ "break_packet_every", settings->break_packet_every },
		{ "no_trim", settings->no_trim },
		{ "bare_bytes", settings->bare_bytes },
		{ "lobby", settings->lobby },
		{ "no_gathering", settings->no_gathering },
		{ "no_pipes", settings->no_pipes },
		{ "both_families", settings->both_families },
	};

	for (size_t at = 0; at < sizeof numbers / sizeof *numbers; at++)
		if (numbers[at].value)
			json_object_set_new(json, numbers[at].key, json_integer((json_int_t)numbers[at].value));
	if (getenv("RELAY_LOG_LEVEL"))
		json_object_set_new(json, "log_level", json_integer(atoi(getenv("RELAY_LOG_LEVEL"))));
	char *text = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	return text;
}

static void host_exec(int control, char *settings)
{
	char path[PATH_MAX], number[16];
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - 16);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (length < 0)
		_exit(126);
	path[length] = 0;
	strcpy(strrchr(path, '/') + 1, "relay_host");
	snprintf(number, sizeof number, "%d", control);
	execl(path, path, number, settings, (char *)NULL);
	perror(path);
	_exit(127);
}

bool host_start(struct host *host, const struct host_settings *settings)
{
	int pair[2];
	struct timeval limit = { .tv_sec = ANSWER_TIMEOUT_S };

	*host = (struct host){ 0 };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return host_fail(host, strerror(errno));
	char *text = settings_text(settings);
	fflush(stdout);
	host->pid = fork();
	if (host->pid == 0) {
		fcntl(pair[1], F_SETFD, 0);
		host_exec(pair[1], text);
	}
	free(text);
	close(pair[1]);
	if (host->pid < 0) {
		host->pid = 0;
		close(pair[0]);
		return host_fail(host, strerror(errno));
	}
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	host->in = fdopen(pair[0], "r");
	host->out = fdopen(fcntl(pair[0], F_DUPFD_CLOEXEC, 0), "w");
	host->tokens = json_array();
	host->tokens_keep_ms = (settings->accept_timeout_ms ? settings->accept_timeout_ms : 10000) / 4;
	json_t *hello = host_read(host);
	if (!hello)
		return false;
	host->port = (uint16_t)json_integer_value(json_object_get(hello, "port"));
	for (size_t at = 0; at < 2; at++)
		host->lobby_ports[at] = (uint16_t)json_integer_value(json_array_get(json_object_get(hello, "lobby"), at));
	for (size_t plane = 0; plane < PLANE_COUNT; plane++) {
		const char *reason = json_string_value(json_array_get(json_object_get(hello, "reasons"), plane));
		host->planes[plane] = json_is_true(json_array_get(json_object_get(hello, "planes"), plane));
		snprintf(host->plane_reasons[plane], sizeof host->plane_reasons[plane], "%s", reason ? reason : "");
	}
	json_decref(hello);
	return true;
}

bool host_stop(struct host *host)
{
	int status = -1;

	if (!host->pid)
		return true;
	json_decref(host_ask(host, "stop"));
	fclose(host->out);
	fclose(host->in);
	json_decref(host->tokens);
	/* The process ends by itself when its control socket is closed; a deadline for a hang. */
	pid_t ended = 0;
	for (int wait_ms = 0; wait_ms < ANSWER_TIMEOUT_S * 1000 && !ended; wait_ms += 5) {
		ended = waitpid(host->pid, &status, WNOHANG);
		if (!ended)
			poll(NULL, 0, 5);
	}
	if (!ended) {
		kill(host->pid, SIGKILL);
		waitpid(host->pid, &status, 0);
		host_fail(host, "did not stop within its deadline");
	}
	host->pid = 0;
	if (WIFSIGNALED(status))
		snprintf(host->error, sizeof host->error, "relay_host: killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status))
		snprintf(host->error, sizeof host->error, "relay_host: ended with status %d", WEXITSTATUS(status));
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

bool host_token(struct host *host, size_t count, uint8_t token[32])
{
	if (host->tokens_used == json_array_size(host->tokens) || clock_now_ns() > host->tokens_until_ns) {
		if (!host->pid || *host->error)
			return false;
		fprintf(host->out, "{\"do\":\"tickets\",\"count\":%zu}\n", count ? count : 1);
		fflush(host->out);
		json_t *answer = host_read(host);
		if (!answer)
			return false;
		json_decref(host->tokens);
		host->tokens = json_incref(json_object_get(answer, "tokens"));
		host->tokens_used = 0;
		host->tokens_until_ns = clock_now_ns() + host->tokens_keep_ms * 1000000ull;
		json_decref(answer);
	}
	const char *text = json_string_value(json_array_get(host->tokens, host->tokens_used++));
	return text && strlen(text) == 64 && !hex_decode(text, 64, token, 32);
}

static uint64_t number(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void numbers(const json_t *object, const char *key, uint64_t *values, size_t count)
{
	for (size_t at = 0; at < count; at++)
		values[at] = (uint64_t)json_integer_value(json_array_get(json_object_get(object, key), at));
}

bool host_totals(struct host *host, struct relay_totals *totals, struct host_door *door)
{
	json_t *json = host_ask(host, "totals");

	if (!json)
		return false;
	*totals = (struct relay_totals){
		.pairs_live = number(json, "live"), .pairs_joined = number(json, "joined"),
		.bytes = number(json, "bytes"), .redirected_bytes = number(json, "redirected"),
		.spilled_bytes = number(json, "spilled"), .packets = number(json, "packets"),
		.openings = number(json, "openings"), .holds = number(json, "holds"), .trims = number(json, "trims"), .breaks = number(json, "breaks"),
		.late_records = number(json, "late_records"), .found_by_sweep = number(json, "found_by_sweep"),
		.books_checked = number(json, "books_checked"), .books_wrong = number(json, "books_wrong"),
		.credit_lent_bytes = number(json, "lent"), .credit_budget_bytes = number(json, "budget"),
		.buffers_lent_bytes = number(json, "buffers_lent"), .buffers_budget_bytes = number(json, "buffers_budget"),
	};
	numbers(json, "ended", totals->ended, OUTCOME_COUNT);
	numbers(json, "by_plane", totals->pairs_by_plane, PLANE_COUNT);
	numbers(json, "closings", totals->closings, CLOSING_COUNT);
	if (door) {
		numbers(json, "refused", door->refused, OUTCOME_COUNT);
		door->reading = (unsigned)number(json, "reading");
		door->waiting = (unsigned)number(json, "waiting");
	}
	json_decref(json);
	return true;
}

static void read_direction(const json_t *json, struct direction_report *report)
{
	*report = (struct direction_report){
		.bytes = number(json, "bytes"), .packets = number(json, "packets"),
		.redirected_bytes = number(json, "redirected"), .spilled_bytes = number(json, "spilled"),
		.openings = number(json, "openings"), .holds = number(json, "holds"), .trims = number(json, "trims"), .breaks = number(json, "breaks"),
		.gatherings = number(json, "gatherings"),
		.credit_bytes = number(json, "credit"), .in_flight_bytes = number(json, "in_flight"),
		.gate = (enum gate_state)number(json, "gate"), .ended = json_is_true(json_object_get(json, "ended")),
	};
	numbers(json, "closings", report->closings, CLOSING_COUNT);
}

void host_read_report(const json_t *json, struct pair_report *report, uint16_t ports[2])
{
	*report = (struct pair_report){ .id = number(json, "id"), .plane = (enum plane)number(json, "plane"),
					.outcome = (enum outcome)number(json, "outcome"), .age_ms = number(json, "age_ms") };
	snprintf(report->plane_reason, sizeof report->plane_reason, "%s", json_string_value(json_object_get(json, "reason")));
	snprintf(report->detail, sizeof report->detail, "%s", json_string_value(json_object_get(json, "detail")));
	for (size_t side = 0; side < 2; side++) {
		ports[side] = (uint16_t)json_integer_value(json_array_get(json_object_get(json, "ports"), side));
		read_direction(json_array_get(json_object_get(json, "directions"), side), &report->directions[side]);
	}
}

uint64_t host_cpu_ns(const struct host *host)
{
	clockid_t clock;
	struct timespec used;

	if (clock_getcpuclockid(host->pid, &clock) || clock_gettime(clock, &used))
		return 0;
	return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

uint64_t host_resident_bytes(const struct host *host)
{
	char path[40];
	unsigned long size = 0, resident = 0;

	snprintf(path, sizeof path, "/proc/%d/statm", (int)host->pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%lu %lu", &size, &resident) != 2)
		resident = 0;
	fclose(file);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
