// SPDX-License-Identifier: Apache-2.0
/* The command line that the daemons share, and their manners: exit statuses,
 * help, what reaches a command; signals and notices of waiting. */
#include "base/daemon.h"
#include "base/instant.h"
#include "base/program.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char output[65536];

static int show(int argc, char **argv, void *settings)
{
	printf("ran %s", settings ? (const char *)settings : "without settings");
	for (int i = 0; i < argc; i++)
		printf(" [%s]", argv[i]);
	printf(" debug=%d\n", log_is_on(LOG_LEVEL_DEBUG));
	return argc == 1 && !strcmp(argv[0], "fail") ? 1 : 0;
}

static void *load(const char *search_path)
{
	if (!*search_path && getenv("TEST_NEEDS_KEYS")) {
		log_error("the key 'name' is missing");
		return NULL;
	}
	return strcmp(search_path, "broken") ? strdup(*search_path ? search_path : "(empty)") : NULL;
}

static const struct program_command commands[] = {
	{ "server|s run", "", "run the router", true, show },
	{ "sd submit-records", "[--reset] FILE", "sign and submit", true, show },
	{ "sd sign", "FILE", "sign a file", false, show },
	{ 0 },
};
/* "odd" is found only by looking closer, and "loose" is worth a warning. */
static bool check(const void *settings)
{
	if (!strcmp(settings, "loose"))
		log_warning("it is loose");
	return strcmp(settings, "odd");
}

static bool accepts(const struct program_command *command, int argc, char **argv)
{
	bool fine = strcmp(command->words, "sd submit-records") || (argc > 0 && strcmp(argv[argc - 1], "--reset"));

	if (!fine)
		fprintf(stderr, "a file is missing\n");
	return fine;
}

static const struct program program = {
	.name = "hyper",
	.service = "Hyper",
	.settings_env = "TEST_SETTINGS",
	.about = "Routes messages. To those who know where they go, and from those who wish it, in the order in "
		 "which they came.\nNothing else.",
	.commands = commands,
	.load_settings = load,
	.free_settings = free,
	.check_settings = check,
	.accepts = accepts,
};

/* Runs the program in a child; its output of both kinds is in `output`. */
static int run(const char *settings, const char *line)
{
	char copy[256], *argv[16] = { "hyper" };
	int argc = 1, fds[2], status;
	size_t length = 0;
	ssize_t count;
	pid_t child;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *save, *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	assert_int_equal(pipe(fds), 0);
	fflush(NULL);
	child = fork();
	if (!child) {
		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		if (settings)
			setenv("TEST_SETTINGS", settings, 1);
		else
			unsetenv("TEST_SETTINGS");
		status = program_main(&program, argc, argv);
		fflush(NULL);
		_exit(status);
	}
	close(fds[1]);
	while ((count = read(fds[0], output + length, sizeof(output) - 1 - length)) > 0)
		length += (size_t)count;
	output[length] = 0;
	close(fds[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void commands_get_what_belongs_to_them(void **state)
{
	(void)state;
	assert_int_equal(run("x", "server run"), 0);
	assert_string_equal(output, "ran x debug=0\n");
	assert_int_equal(run("x", "s run a --level b"), 0);
	assert_string_equal(output, "ran x [a] [--level] [b] debug=0\n");
	assert_int_equal(run("x", "sd submit-records --reset f.json"), 0);
	assert_string_equal(output, "ran x [--reset] [f.json] debug=0\n");
	assert_int_equal(run("broken", "sd sign f"), 0);
	assert_string_equal(output, "ran without settings [f] debug=0\n");
	assert_int_equal(run("x", "sd sign fail"), 1);
	assert_int_equal(run(NULL, "server run"), 0);
	assert_string_equal(output, "ran (empty) debug=0\n");
}

static void settings_that_nobody_named_are_one_problem(void **state)
{
	(void)state;
	setenv("TEST_NEEDS_KEYS", "1", 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(run(i ? "" : NULL, i ? "server run --check" : "server run"), 1);
		assert_non_null(strstr(output, "TEST_SETTINGS is not set: it names the settings files"));
		assert_null(strstr(output, "missing"));
	}
	unsetenv("TEST_NEEDS_KEYS");
}

static void global_flags_stand_before_the_command(void **state)
{
	(void)state;
	assert_int_equal(run("x", "--level debug --format iris --profile p server run"), 0);
	assert_string_equal(output, "ran x debug=1\n");
	assert_int_equal(run("x", "--level=DEBUG --format= server run"), 0);
	assert_string_equal(output, "ran x debug=1\n");
	assert_int_equal(run("x", "--level loud server run"), 2);
	assert_non_null(strstr(output, "not a log level: 'loud'"));
	assert_int_equal(run("x", "--format xml server run"), 2);
	assert_non_null(strstr(output, "not a log format: 'xml'"));
	assert_int_equal(run("x", "--nonsense server run"), 2);
	assert_non_null(strstr(output, "--nonsense"));
	assert_int_equal(run("x", "--level"), 2);
	assert_string_equal(output, "hyper: flag needs a value: '--level' (see hyper --help)\n");
	assert_int_equal(run("x", "--help=x"), 2);
	assert_non_null(strstr(output, "unusable flag: '--help=x'"));
}

static void unknown_commands_have_no_topic(void **state)
{
	static const char *const lines[] = { "nonsense", "server nonsense", "sd nonsense x", "help nonsense" };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(run("x", lines[i]), 3);
		assert_string_equal(output, "No help topic for 'nonsense'\n");
	}
}

static void help_is_everywhere(void **state)
{
	static const char *const whole[] = { "help", "h", "--help", "-h", "help help", "--level debug help" };
	static const char *const group[] = { "sd help", "sd h", "sd --help", "help sd", "--help sd" };

	(void)state;
	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
		assert_int_equal(run("broken", whole[i]), 0);
		assert_non_null(strstr(output, "Routes messages."));
		assert_non_null(strstr(output, "hyper server run"));
		assert_non_null(strstr(output, "--format FORMAT"));
		assert_non_null(strstr(output, "TEST_SETTINGS"));
	}
	for (size_t i = 0; i < sizeof(group) / sizeof(group[0]); i++) {
		assert_int_equal(run("broken", group[i]), 0);
		assert_non_null(strstr(output, "hyper sd submit-records [--reset] FILE"));
		assert_non_null(strstr(output, "hyper sd sign FILE"));
		assert_null(strstr(output, "server"));
	}
	/* What asks for nothing is no success. */
	assert_int_equal(run("broken", ""), 2);
	assert_non_null(strstr(output, "hyper server run"));
	for (char *at = output; *at; at += strcspn(at, "\n"), at += *at != 0)
		assert_true(strcspn(at, "\n") < 100);
	assert_non_null(strstr(output, "\nRoutes messages. To"));
	assert_int_equal(run("broken", "--level debug"), 2);
	assert_int_equal(run("broken", "sd"), 2);
	assert_non_null(strstr(output, "hyper sd sign FILE"));
	assert_int_equal(run("broken", "sd submit-records --help"), 0);
	assert_non_null(strstr(output, "sign and submit"));
	assert_null(strstr(output, "sign a file"));
}

static void the_version_needs_no_settings(void **state)
{
	(void)state;
	assert_int_equal(run("broken", "version"), 0);
	assert_string_equal(output, "development\n");
	assert_int_equal(run("broken", "--version"), 0);
	assert_string_equal(output, "hyper version development\n");
	assert_int_equal(run("broken", "-v"), 0);
}

static void settings_are_checked(void **state)
{
	(void)state;
	assert_int_equal(run("some/path", "server run --check"), 0);
	assert_string_equal(output, "settings are fine: some/path\n");
	assert_int_equal(run("odd", "server run --check"), 1);
	assert_string_equal(output, "");
	assert_int_equal(run("odd", "server run"), 0);
	assert_int_equal(run("loose", "--level error server run --check"), 0);
	assert_string_equal(output, "settings are fine, with 1 warning: loose\n");
	assert_int_equal(run("broken", "sd submit-records --reset"), 2);
	assert_string_equal(output, "a file is missing\n");
	assert_int_equal(run("broken", "server run --check"), 1);
	assert_int_equal(run("broken", "server run"), 1);
	assert_string_equal(output, "");
	assert_int_equal(run("x", "sd sign --check"), 0); /* no reader of settings: an argument like another */
	assert_string_equal(output, "ran without settings [--check] debug=0\n");
}

/* --- manners of a daemon --- */

static int stops;

static void stop(void *context)
{
	stops++;
	event_base_loopbreak(context);
}

static void the_first_signal_stops_the_second_ends(void **state)
{
	struct event_base *base = event_base_new();
	struct daemon_signals *signals = daemon_watch_signals(base, stop, base);
	int status;
	pid_t child;

	(void)state;
	log_configure(LOG_LEVEL_PANIC, LOG_FORMAT_TEXT, "Test");
	assert_non_null(signals);
	daemon_prepare_process();
	raise(SIGPIPE); /* ignored */
	raise(SIGTERM);
	event_base_dispatch(base);
	assert_int_equal(stops, 1);
	fflush(NULL);
	child = fork();
	if (!child) {
		event_reinit(base);
		raise(SIGINT);
		event_base_dispatch(base);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
	daemon_signals_free(signals);
	event_base_free(base);
}

/* Moves the start of the wait back, as if that much time had passed. */
static void age(struct wait_notice *notice, unsigned long long ms)
{
	notice->started_ms -= ms;
	notice->next_ms -= ms;
}

static bool tells(struct wait_notice *notice)
{
	unsigned long long due = notice->next_ms;

	wait_notice_tell(notice, "the test");
	return notice->next_ms != due;
}

static void waiting_is_told_after_1_10_60_seconds_and_each_minute(void **state)
{
	struct wait_notice notice = { 0 };
	/* the clock starts at boot; keep clear of its zero */
	unsigned long long before = clock_now_ms();

	(void)state;
	if (before < 200000)
		skip();
	log_configure(LOG_LEVEL_PANIC, LOG_FORMAT_TEXT, "Test");
	wait_notice_tell(&notice, "the test");
	assert_false(tells(&notice));
	age(&notice, 1000);
	assert_true(tells(&notice));
	assert_false(tells(&notice));
	age(&notice, 8000);
	assert_false(tells(&notice));
	age(&notice, 1000);
	assert_true(tells(&notice));
	age(&notice, 49000);
	assert_false(tells(&notice));
	age(&notice, 1000);
	assert_true(tells(&notice));
	age(&notice, 58000);
	assert_false(tells(&notice));
	age(&notice, 2000);
	assert_true(tells(&notice));
	wait_notice_clear(&notice, "the test");
	assert_int_equal(notice.started_ms, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_get_what_belongs_to_them),
		cmocka_unit_test(settings_that_nobody_named_are_one_problem),
		cmocka_unit_test(global_flags_stand_before_the_command),
		cmocka_unit_test(unknown_commands_have_no_topic),
		cmocka_unit_test(help_is_everywhere),
		cmocka_unit_test(the_version_needs_no_settings),
		cmocka_unit_test(settings_are_checked),
		cmocka_unit_test(the_first_signal_stops_the_second_ends),
		cmocka_unit_test(waiting_is_told_after_1_10_60_seconds_and_each_minute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
