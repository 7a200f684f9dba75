// SPDX-License-Identifier: Apache-2.0
/* Asks relay_host (tests/integration/bin/relay_host has its commands) for tickets and for
 * what became of the pairs. A round counts only if the reports of the relay itself say that
 * the plane named moved exactly its bytes. */
#include "host.h"
#include "sample.h"

#include "base/encoding.h"

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
#include <unistd.h>

#define WAIT_TIMEOUT_MS 20000
#define TICKET_SECONDS 60

static json_t *host_ask(struct contender *contender, json_t *command)
{
	char *line = NULL;
	size_t capacity = 0;

	if (command) {
		json_dumpf(command, contender->out, JSON_COMPACT);
		fputc('\n', contender->out);
		fflush(contender->out);
		json_decref(command);
	}
	ssize_t length = getline(&line, &capacity, contender->in);
	json_t *answer = length > 0 ? json_loadb(line, (size_t)length, 0, NULL) : NULL;
	free(line);
	if (!answer || json_object_get(answer, "error"))
		contender_fail(contender, "relay_host: %s",
			       answer ? json_string_value(json_object_get(answer, "error")) : "no answer");
	return answer;
}

static json_t *host_ask_list(struct contender *contender, const char *what)
{
	json_t *answer = host_ask(contender, json_pack("{s:s}", "do", what));
	json_t *list = json_incref(json_object_get(answer, what));

	json_decref(answer);
	return list;
}

/* It stands beside this program. */
static void host_exec(int control, const char *settings)
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

bool host_start(struct contender *contender)
{
	static const enum plane_mask masks[] = {
		[PLANE_COPY] = PLANE_MASK_COPY, [PLANE_SPLICE] = PLANE_MASK_SPLICE, [PLANE_SOCKMAP] = PLANE_MASK_SOCKMAP,
	};
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	int control[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control))
		return contender_fail(contender, "socketpair: %s", strerror(errno));
	/* Workers as `proxy` has them; tickets that live as long as a round. */
	json_t *settings = json_pack("{s:i, s:i, s:i}", "planes", (int)masks[contender->plane], "workers", (int)processors,
				     "accept_timeout_ms", TICKET_SECONDS * 1000);
	char *text = json_dumps(settings, JSON_COMPACT);
	json_decref(settings);
	fflush(stdout);
	contender->pid = fork();
	if (contender->pid == 0) {
		fcntl(control[1], F_SETFD, 0);
		host_exec(control[1], text);
	}
	free(text);
	close(control[1]);
	contender->in = fdopen(control[0], "r");
	contender->out = fdopen(fcntl(control[0], F_DUPFD_CLOEXEC, 0), "w");
	contender->tokens = json_array();
	json_t *hello = host_ask(contender, NULL);
	contender->port = (uint16_t)json_integer_value(json_object_get(hello, "port"));
	bool has_plane = json_is_true(json_array_get(json_object_get(hello, "planes"), contender->plane));
	json_decref(hello);
	return has_plane || contender_fail(contender, "this kernel does not have the plane");
}

void host_stop(struct contender *contender)
{
	if (contender->pid <= 0)
		return;
	kill(contender->pid, SIGTERM);
	fclose(contender->out);
	fclose(contender->in);
	waitpid(contender->pid, NULL, 0);
	json_decref(contender->tokens);
}

/* Those that will soon expire are left to do so. */
static void drop_old_tokens(struct contender *contender)
{
	if (sample_now_ns() < contender->tokens_until_ns)
		return;
	json_array_clear(contender->tokens);
	contender->tokens_used = 0;
	contender->tokens_until_ns = sample_now_ns() + TICKET_SECONDS * 1000000000ull / 2;
}

bool contender_stock_tokens(struct contender *contender, size_t count)
{
	if (contender->kind != CONTENDER_OURS)
		return true;
	drop_old_tokens(contender);
	size_t left = json_array_size(contender->tokens) - contender->tokens_used;
	if (left >= count)
		return true;
	json_t *answer = host_ask(contender, json_pack("{s:s, s:I}", "do", "tickets", "count", (json_int_t)(count - left)));
	bool fine = !json_array_extend(contender->tokens, json_object_get(answer, "tokens"));
	json_decref(answer);
	return fine;
}

bool contender_token(struct contender *contender, uint8_t token[32])
{
	if (!contender_stock_tokens(contender, 1))
		return false;
	const char *text = json_string_value(json_array_get(contender->tokens, contender->tokens_used++));
	return text && hex_decode(text, strlen(text), token, 32) == 0;
}

bool contender_settle(struct contender *contender, size_t pairs)
{
	if (contender->kind != CONTENDER_OURS || contender->plane != PLANE_SOCKMAP)
		return true;
	size_t open = 0;
	for (uint64_t deadline = sample_now_ns() + WAIT_TIMEOUT_MS * 1000000ull; sample_now_ns() < deadline; poll(NULL, 0, 5)) {
		json_t *list = host_ask_list(contender, "gates"), *pair;
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

static void count_ended(struct count *count, const struct contender *contender, const json_t *list)
{
	const json_t *pair, *direction;
	size_t at, side;

	json_array_foreach(list, at, pair) {
		count->pairs++;
		count->other_planes += json_integer_value(json_object_get(pair, "plane")) != (json_int_t)contender->plane;
		if (json_integer_value(json_object_get(pair, "outcome")) != OUTCOME_HAPPY) {
			count->unhappy++;
			snprintf(count->word, sizeof count->word, "%s", json_string_value(json_object_get(pair, "word")));
		}
		json_array_foreach(json_object_get(pair, "directions"), side, direction) {
			count->bytes[side] += (uint64_t)json_integer_value(json_object_get(direction, "bytes"));
			count->redirected[side] += (uint64_t)json_integer_value(json_object_get(direction, "redirected"));
		}
	}
}

bool contender_check(struct contender *contender, struct contender_round *round)
{
	struct count count = { 0 };

	if (contender->kind != CONTENDER_OURS)
		return true;
	for (uint64_t deadline = sample_now_ns() + WAIT_TIMEOUT_MS * 1000000ull; sample_now_ns() < deadline; poll(NULL, 0, 5)) {
		json_t *list = host_ask_list(contender, "ended");
		count_ended(&count, contender, list);
		json_decref(list);
		if (count.pairs >= round->pairs || *contender->error)
			break;
	}
	if (count.pairs != round->pairs)
		return contender_fail(contender, "%zu of %zu pairs ended", count.pairs, round->pairs);
	if (count.other_planes)
		return contender_fail(contender, "%zu pairs were on another plane", count.other_planes);
	if (count.unhappy)
		return contender_fail(contender, "%zu pairs ended %s", count.unhappy, count.word);
	/* Either party may count as the first one. */
	uint64_t moved = count.bytes[0] + count.bytes[1], wanted = round->bytes[0] + round->bytes[1];
	if (moved != wanted)
		return contender_fail(contender, "the relay counted %llu bytes, the client %llu", (unsigned long long)moved,
				      (unsigned long long)wanted);
	for (int side = 0; side < 2; side++)
		if (contender->plane == PLANE_SOCKMAP && count.bytes[side] > round->pairs && !count.redirected[side])
			return contender_fail(contender, "nothing was redirected in direction %d", side);
	round->redirected_share = (double)(count.redirected[0] + count.redirected[1]) / (double)moved;
	return true;
}
