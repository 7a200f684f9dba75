// SPDX-License-Identifier: Apache-2.0
/* Log lines: their shape in each format, and that no text can forge one. */
#include "base/log.h"
#include "base/outcome.h"

#include <errno.h>
#include <pthread.h>
#include <pty.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int real_stderr, capture_file;
static char captured[1 << 20];

static void capture_begin(void)
{
	FILE *file = tmpfile();

	capture_file = dup(fileno(file));
	fclose(file);
	real_stderr = dup(STDERR_FILENO);
	dup2(capture_file, STDERR_FILENO);
}

static const char *capture_end(void)
{
	ssize_t length = pread(capture_file, captured, sizeof(captured) - 1, 0);

	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	close(capture_file);
	captured[length > 0 ? length : 0] = 0;
	return captured;
}

static void assert_matches(const char *text, const char *pattern)
{
	regex_t compiled;

	assert_int_equal(regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB), 0);
	if (regexec(&compiled, text, 0, NULL, 0))
		fail_msg("'%s' does not match '%s'", text, pattern);
	regfree(&compiled);
}

#define WHEN "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
#define ZONE "(Z|[+-][0-9]{2}:[0-9]{2})"

static void text_lines_are_those_of_logrus(void **state)
{
	(void)state;
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "Hyper");
	capture_begin();
	log_info("listening on %s", "localhost:80");
	assert_matches(capture_end(), "^time=\"" WHEN ZONE "\" level=info msg=\"listening on localhost:80\"\n$");
	capture_begin();
	log_warning("plain-word/_.@^+");
	assert_matches(capture_end(), "^time=\"" WHEN ZONE "\" level=warning msg=plain-word/_\\.@\\^\\+\n$");
	capture_begin();
	log_error("%s", "");
	assert_matches(capture_end(), "level=error msg=\n$");
}

static const char *text_of(const char *message)
{
	capture_begin();
	log_fatal("%s", message);
	return strstr(capture_end(), "msg=") + 4;
}

static void messages_are_quoted_as_go_does(void **state)
{
	(void)state;
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "Hyper");
	assert_string_equal(text_of("a\nb\r\tc\a\b\f\v"), "\"a\\nb\\r\\tc\\a\\b\\f\\v\"\n");
	assert_string_equal(text_of("say \"no\" \\ 'x'"), "\"say \\\"no\\\" \\\\ 'x'\"\n");
	assert_string_equal(text_of("\x1b[31m\x7f"), "\"\\x1b[31m\\x7f\"\n");
	assert_string_equal(text_of("\xff\xc3(\xe2\x82"), "\"\\xff\\xc3(\\xe2\\x82\"\n");
	assert_string_equal(text_of("Gr\u00fc\u00dfe \u65e5\U0001F600"), "\"Gr\u00fc\u00dfe \u65e5\U0001F600\"\n");
	assert_string_equal(text_of("a\u202eb\u2028c\ufeff\U000F0000"), "\"a\\u202eb\\u2028c\\ufeff\\U000f0000\"\n");
	assert_string_equal(text_of("\xed\xa0\x80\xc0\x80"), "\"\\xed\\xa0\\x80\\xc0\\x80\"\n");
}

static void iris_lines_have_their_own_shape(void **state)
{
	(void)state;
	log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_IRIS, "PRO");
	capture_begin();
	log_warning("a \"peer\"\nsays\x1b[2J");
	assert_matches(capture_end(), "^" WHEN "(\\.[0-9]{1,9})?" ZONE
				      " WARNING [0-9]+ PRO \\[nan\\] \\[nan\\] : a \"peer\"\\\\nsays\\\\x1b\\[2J\n$");
	capture_begin();
	log_debug("on");
	log_write(LOG_LEVEL_TRACE, "off");
	assert_matches(capture_end(), "DEBUG [0-9]+ PRO \\[nan\\] \\[nan\\] : on\n$");
}

static void a_terminal_gets_colours_and_columns(void **state)
{
	int master, slave, saved = dup(STDERR_FILENO);
	char line[256] = "";

	(void)state;
	if (openpty(&master, &slave, NULL, NULL, NULL))
		skip(); /* no pseudo terminals here */
	dup2(slave, STDERR_FILENO);
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "Hyper");
	log_warning("hello\x1b[2J");
	dup2(saved, STDERR_FILENO);
	assert_true(read(master, line, sizeof(line) - 1) > 0);
	assert_string_equal(line, "\x1b[33mWARN\x1b[0m[0000] hello\\x1b[2J                                   \r\n");
	close(master);
	close(slave);
	close(saved);
}

static void levels_below_the_chosen_one_are_silent(void **state)
{
	(void)state;
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "Hyper");
	assert_true(log_is_on(LOG_LEVEL_ERROR));
	assert_false(log_is_on(LOG_LEVEL_WARNING));
	capture_begin();
	log_warning("no");
	log_info("no");
	assert_string_equal(capture_end(), "");
}

static void level_words(void **state)
{
	static const char *const words[] = { "panic", "FATAL", "Error", "warning", "info", "debug", "trace" };
	enum log_level level;

	(void)state;
	for (unsigned i = 0; i < 7; i++) {
		assert_int_equal(log_level_from_text(words[i], &level), 0);
		assert_int_equal(level, i);
	}
	assert_int_equal(log_level_from_text("warn", &level), 0);
	assert_int_equal(level, LOG_LEVEL_WARNING);
	assert_int_equal(log_level_from_text("", &level), -EINVAL);
	assert_int_equal(log_level_from_text("information", &level), -EINVAL);
}

static void long_messages_are_whole(void **state)
{
	char *message = malloc(100001);
	const char *line;

	(void)state;
	memset(message, '\n', 100000);
	message[100000] = 0;
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "Hyper");
	capture_begin();
	errno = ENOENT;
	log_info("%s", message);
	assert_int_equal(errno, ENOENT);
	line = strstr(capture_end(), "msg=");
	assert_int_equal(strlen(line), strlen("msg=\"") + 200000 + strlen("\"\n"));
	free(message);
}

static void *write_lines(void *argument)
{
	for (int i = 0; i < 500; i++)
		log_info("thread %s line %d", (const char *)argument, i);
	return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
	pthread_t threads[4];
	int count = 0;

	(void)state;
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "Hyper");
	capture_begin();
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, write_lines, "abcd");
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (char *save, *line = strtok_r((char *)capture_end(), "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		int number = -1;

		assert_memory_equal(line, "time=\"", 6);
		assert_int_equal(sscanf(strstr(line, "msg="), "msg=\"thread abcd line %d\"", &number), 1);
		count++;
	}
	assert_int_equal(count, 2000);
}

static void every_outcome_has_a_word_and_a_sentence(void **state)
{
	(void)state;
	for (int i = 0; i < OUTCOME_COUNT; i++) {
		assert_true(strlen(outcome_word((enum outcome)i)) > 3);
		assert_true(strlen(outcome_sentence((enum outcome)i)) > 10);
	}
	assert_string_equal(outcome_word(OUTCOME_HAPPY), "happy");
	assert_string_equal(outcome_word((enum outcome)999), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_lines_are_those_of_logrus),
		cmocka_unit_test(messages_are_quoted_as_go_does),
		cmocka_unit_test(iris_lines_have_their_own_shape),
		cmocka_unit_test(a_terminal_gets_colours_and_columns),
		cmocka_unit_test(levels_below_the_chosen_one_are_silent),
		cmocka_unit_test(level_words),
		cmocka_unit_test(long_messages_are_whole),
		cmocka_unit_test(lines_of_threads_do_not_mix),
		cmocka_unit_test(every_outcome_has_a_word_and_a_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
