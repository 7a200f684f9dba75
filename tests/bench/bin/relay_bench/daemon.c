// SPDX-License-Identifier: Apache-2.0
#include "daemon.h"
#include "identity.h"
#include "sample.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_TIMEOUT_MS 10000
#define STOP_TIMEOUT_MS 5000
#define VALUE_COUNT 8

static const char *templates = "tests/bench";

struct values {
	struct {
		const char *name;
		char text[PATH_MAX];
	} list[VALUE_COUNT];
};

void daemon_set_templates(const char *folder)
{
	templates = folder;
}

static void fill_values(struct values *values, const struct contender *contender, uint16_t back, uint16_t middle)
{
	static const char *const names[VALUE_COUNT] = { "@ADDRESS@", "@FRONT@", "@SECOND@", "@BACK@",
							"@MIDDLE@", "@FOLDER@", "@SETTINGS@", "@PROCESSORS@" };

	for (int at = 0; at < VALUE_COUNT; at++)
		values->list[at].name = names[at];
	snprintf(values->list[0].text, PATH_MAX, "%s", place_address(PLACE_RELAY));
	snprintf(values->list[1].text, PATH_MAX, "%u", contender->port);
	snprintf(values->list[2].text, PATH_MAX, "%s", place_address(PLACE_SECOND));
	snprintf(values->list[3].text, PATH_MAX, "%u", back);
	snprintf(values->list[4].text, PATH_MAX, "%u", middle);
	snprintf(values->list[5].text, PATH_MAX, "%s", identity_folder());
	snprintf(values->list[6].text, PATH_MAX, "%.3000s/%.200s.conf", identity_folder(), contender->name);
	snprintf(values->list[7].text, PATH_MAX, "%ld", sysconf(_SC_NPROCESSORS_ONLN));
}

/* The text with values for names; the caller's. */
static char *expand(const char *text, const struct values *values)
{
	char *result = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&result, &size);

	while (*text) {
		int at = 0;
		while (at < VALUE_COUNT && strncmp(text, values->list[at].name, strlen(values->list[at].name)) != 0)
			at++;
		if (at < VALUE_COUNT) {
			fputs(values->list[at].text, out);
			text += strlen(values->list[at].name);
		} else {
			fputc(*text++, out);
		}
	}
	fclose(out);
	return result;
}

static bool write_settings(struct contender *contender, const struct values *values)
{
	char path[PATH_MAX], text[16384];

	snprintf(path, sizeof path, "%s/%s", templates, contender->settings);
	FILE *in = fopen(path, "re"), *out = fopen(values->list[6].text, "we");
	size_t size = in ? fread(text, 1, sizeof text - 1, in) : 0;
	text[size] = 0;
	char *expanded = expand(text, values);
	bool fine = in && out && size && fputs(expanded, out) >= 0;
	free(expanded);
	if (in)
		fclose(in);
	if (out)
		fine &= !fclose(out);
	return fine || contender_fail(contender, "cannot make settings from %s: %s", path, strerror(errno));
}

static void run(const struct contender *contender, const struct values *values)
{
	char *arguments[17] = { NULL }, path[PATH_MAX];

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	snprintf(path, sizeof path, "%.3000s/%.200s.log", identity_folder(), contender->name);
	int log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	for (int at = 0; at < 16 && contender->command[at]; at++)
		arguments[at] = expand(contender->command[at], values);
	if (log >= 0) {
		dup2(log, STDOUT_FILENO);
		dup2(log, STDERR_FILENO);
	}
	execvp(arguments[0], arguments);
	perror(arguments[0]);
	_exit(127);
}

static bool free_port(uint16_t *port)
{
	int fd = place_listen(PLACE_RELAY, port);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool wait_listening(struct contender *contender)
{
	for (uint64_t deadline = sample_now_ns() + START_TIMEOUT_MS * 1000000ull; sample_now_ns() < deadline; poll(NULL, 0, 20)) {
		int fd = contender_dial(contender, 0, 0);
		if (fd >= 0) {
			close(fd);
			return true;
		}
		if (waitpid(contender->pid, NULL, WNOHANG) == contender->pid) {
			contender->pid = 0;
			return contender_fail(contender, "ended at once; %s/%s.log may say why", identity_folder(), contender->name);
		}
	}
	return contender_fail(contender, "does not listen");
}

bool daemon_start(struct contender *contender, uint16_t back)
{
	struct values *values = malloc(sizeof *values);
	uint16_t middle;
	bool fine = values && free_port(&contender->port) && free_port(&middle);

	if (!fine) {
		free(values);
		return contender_fail(contender, "no free port: %s", strerror(errno));
	}
	fill_values(values, contender, back, middle);
	fine = !contender->settings || write_settings(contender, values);
	if (fine && place_enter(PLACE_RELAY)) {
		fflush(NULL);
		contender->pid = fork();
		if (contender->pid == 0)
			run(contender, values);
	}
	free(values);
	if (contender->pid > 0)
		return wait_listening(contender);
	contender->pid = 0;
	return contender_fail(contender, "not started: %s", strerror(errno));
}

void daemon_stop(struct contender *contender)
{
	if (contender->pid <= 0)
		return;
	kill(-contender->pid, SIGTERM);
	for (int wait_ms = 0; wait_ms < STOP_TIMEOUT_MS; wait_ms += 10) {
		if (waitpid(contender->pid, NULL, WNOHANG) == contender->pid)
			return;
		poll(NULL, 0, 10);
	}
	kill(-contender->pid, SIGKILL);
	waitpid(contender->pid, NULL, 0);
}
