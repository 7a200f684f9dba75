// SPDX-License-Identifier: Apache-2.0
/* The command line that the three daemons share (protocol page 1.2, 1.3):
 * global flags, read by argp up to the first word that is none, then the words
 * of a command, then what belongs to the command itself.
 *
 * Settings are loaded only for commands that read them, so `version` and help
 * work on a machine without any. Runs in the main thread before any other
 * exists. */
#include "base/program.h"
#include "base/cleanup.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FLAG_LEVEL = 256, FLAG_FORMAT, FLAG_PROFILE }; /* no short form */
enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NO_TOPIC = 3 };

#define HELP_COLUMNS 98
#define MOST_WORDS 4 /* of one command */

struct global_flags {
	enum log_level level;
	enum log_format format;
	bool help, version;
	int first; /* index of the first word that is no flag */
	int bad;   /* index of the word that cannot be used */
	const char *problem; /* NULL: argp's */
};

static const struct argp_option options[] = {
	{ "level", FLAG_LEVEL, "LEVEL", 0, "what to log: panic fatal error warn info debug trace (default info)", 0 },
	{ "format", FLAG_FORMAT, "FORMAT", 0, "shape of log lines: iris, or nothing for text", 0 },
	{ "profile", FLAG_PROFILE, "NAME", 0, "accepted for compatibility, does nothing", 0 },
	{ "help", 'h', NULL, 0, "show this help", 0 },
	{ "version", 'v', NULL, 0, "print the version", 0 },
	{ 0 },
};

static error_t parse_flag(int key, char *argument, struct argp_state *state)
{
	struct global_flags *flags = state->input;

	switch (key) {
	case FLAG_LEVEL:
		if (log_level_from_text(argument, &flags->level)) {
			flags->problem = "not a log level";
			return EINVAL;
		}
		return 0;
	case FLAG_FORMAT:
		if (*argument && strcmp(argument, "iris")) {
			flags->problem = "not a log format";
			return EINVAL;
		}
		flags->format = *argument ? LOG_FORMAT_IRIS : LOG_FORMAT_TEXT;
		return 0;
	case FLAG_PROFILE:
		return 0;
	case 'h':
		flags->help = true;
		return 0;
	case 'v':
		flags->version = true;
		return 0;
	case ARGP_KEY_ARG:
		/* The rest belongs to the command, flags of the same name too. */
		flags->first = state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_ERROR:
		flags->bad = state->next - 1;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Takes the next of the words of a command, and of its aliases: "server|s run". */
static bool word_matches(const char **words, const char *word)
{
	const char *p = *words, *end = strchrnul(p, ' ');
	size_t length = strlen(word);
	bool matches = false;

	while (p < end) {
		const char *bar = memchr(p, '|', (size_t)(end - p));
		const char *stop = bar ? bar : end;

		matches = matches || ((size_t)(stop - p) == length && !memcmp(p, word, length));
		p = bar ? bar + 1 : end;
	}
	*words = *end ? end + 1 : end;
	return matches;
}

/* How many of the given words the command begins with; `whole` says that the
 * command has no more. */
static int words_matched(const struct program_command *command, int argc, char **argv, bool *whole)
{
	const char *words = command->words;
	int count = 0;

	while (*words && count < argc && count < MOST_WORDS) {
		if (!word_matches(&words, argv[count])) {
			*whole = false;
			return count;
		}
		count++;
	}
	*whole = !*words;
	return count;
}

/* First spelling of each word: "server run". */
static void print_words(FILE *out, const char *words)
{
	bool alias = false;

	for (; *words; words++) {
		if (*words == ' ')
			alias = false;
		else if (*words == '|')
			alias = true;
		if (!alias)
			fputc(*words, out);
	}
}

static void print_command(FILE *out, const struct program *program, const struct program_command *command)
{
	fprintf(out, "  %s ", program->name);
	print_words(out, command->words);
	if (command->arguments && *command->arguments)
		fprintf(out, " %s", command->arguments);
	fprintf(out, "\n      %s\n", command->summary);
}

/* Line breaks of the text stay. */
static void print_wrapped(const char *text)
{
	size_t column = 0;

	while (*text) {
		size_t length = strcspn(text, " \n");

		if (column > 0 && column + 1 + length > HELP_COLUMNS) {
			putchar('\n');
			column = 0;
		}
		column += (size_t)printf("%s%.*s", column ? " " : "", (int)length, text);
		text += length;
		if (*text == '\n') {
			putchar('\n');
			column = 0;
		}
		text += *text != '\0';
	}
	putchar('\n');
}

static void print_help(const struct program *program)
{
	printf("Usage: %s [flags] command [arguments]\n\n", program->name);
	print_wrapped(program->about);
	printf("\nCommands:\n");
	for (const struct program_command *command = program->commands; command->words; command++)
		print_command(stdout, program, command);
	printf("  %s version\n      print the version\n"
	       "  %s help [command]\n      show this help, or that of a command\n\nFlags, before the command:\n",
	       program->name, program->name);
	for (const struct argp_option *option = options; option->name; option++) {
		_free_ char *flag = NULL;

		if (asprintf(&flag, "%s%s%s", option->name, option->arg ? " " : "", option->arg ? option->arg : "") < 0)
			flag = NULL;
		printf("  --%-16s %s%s\n", flag ? flag : option->name, option->doc,
		       option->key == 'h' ? " (-h)" : option->key == 'v' ? " (-v)" : "");
	}
	printf("\nA command that reads settings takes --check too: it says what is wrong with them and ends.\n"
	       "Settings: the files and folders named by %s, split at ':'.\n",
	       program->settings_env);
}

static int no_topic(const char *word)
{
	fprintf(stderr, "No help topic for '%s'\n", word);
	return EXIT_NO_TOPIC;
}

static bool is_help(const char *word)
{
	return !strcmp(word, "help") || !strcmp(word, "h") || !strcmp(word, "--help") || !strcmp(word, "-h");
}

/* Help of one command, or of all commands that begin with these words. */
static int print_topic(const struct program *program, int argc, char **argv)
{
	int shown = 0, best = 0;

	if (!argc || is_help(argv[0]) || !strcmp(argv[0], "version")) {
		print_help(program);
		return EXIT_FINE;
	}
	for (const struct program_command *command = program->commands; command->words; command++) {
		bool whole;
		int matched = words_matched(command, argc, argv, &whole);

		best = matched > best ? matched : best;
		if (matched < argc && !(whole && matched > 0))
			continue;
		if (!shown++)
			printf("Usage:\n");
		print_command(stdout, program, command);
	}
	return shown ? EXIT_FINE : no_topic(argv[best]);
}

/* As the program's own loading. If no file was named at all, that is the one thing
 * to say, not each key that is missing then. */
static void *load_settings(const struct program *program, const struct global_flags *flags, const char *search_path)
{
	void *settings;

	if (*search_path)
		return program->load_settings(search_path);
	log_configure(LOG_LEVEL_PANIC, flags->format, program->service);
	settings = program->load_settings(search_path);
	log_configure(flags->level, flags->format, program->service);
	if (!settings) {
		log_error("%s is not set: it names the settings files", program->settings_env);
		return NULL;
	}
	program->free_settings(settings);
	return program->load_settings(search_path); /* with what else it has to say */
}

static int check_settings(const struct program *program, const struct global_flags *flags, const char *search_path)
{
	unsigned warnings = log_warning_count();
	void *settings = load_settings(program, flags, search_path);
	char remark[40] = "";
	bool fine;

	if (!settings)
		return EXIT_FAILED;
	fine = !program->check_settings || program->check_settings(settings);
	program->free_settings(settings);
	if (!fine)
		return EXIT_FAILED;
	warnings = log_warning_count() - warnings;
	if (warnings)
		snprintf(remark, sizeof(remark), ", with %u warning%s", warnings, warnings == 1 ? "" : "s");
	if (*search_path)
		printf("settings are fine%s: %s\n", remark, search_path);
	else
		printf("settings are fine%s: %s names no files, all is default\n", remark, program->settings_env);
	return EXIT_FINE;
}

static int run_command(const struct program *program, const struct global_flags *flags,
		       const struct program_command *command, int argc, char **argv)
{
	const char *search_path = getenv(program->settings_env);
	void *settings = NULL;
	int status;

	for (int i = 0; i < argc && strcmp(argv[i], "--"); i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			printf("Usage:\n");
			print_command(stdout, program, command);
			return EXIT_FINE;
		}
		if (command->reads_settings && !strcmp(argv[i], "--check"))
			return check_settings(program, flags, search_path ? search_path : "");
	}
	if (program->accepts && !program->accepts(command, argc, argv))
		return EXIT_USAGE;
	if (command->reads_settings) {
		settings = load_settings(program, flags, search_path ? search_path : "");
		if (!settings)
			return EXIT_FAILED;
	}
	status = command->run(argc, argv, settings);
	if (settings)
		program->free_settings(settings);
	return status;
}

static int dispatch(const struct program *program, const struct global_flags *flags, int argc, char **argv)
{
	int best = 0;

	if (is_help(argv[0]))
		return print_topic(program, argc - 1, argv + 1);
	if (!strcmp(argv[0], "version")) {
		puts(PROGRAM_VERSION);
		return EXIT_FINE;
	}
	for (const struct program_command *command = program->commands; command->words; command++) {
		bool whole;
		int matched = words_matched(command, argc, argv, &whole);

		if (whole)
			return run_command(program, flags, command, argc - matched, argv + matched);
		best = matched > best ? matched : best;
	}
	if (!best)
		return no_topic(argv[0]);
	/* A group of commands: `hyper sd help`, and `hyper sd`, which asks for nothing. */
	if (best == argc) {
		print_topic(program, best, argv);
		return EXIT_USAGE;
	}
	if (is_help(argv[best]))
		return print_topic(program, best, argv);
	return no_topic(argv[best]);
}

/* What is wrong with a flag that argp itself refused. */
static const char *flag_problem(const char *word)
{
	for (const struct argp_option *option = options; option->name; option++) {
		if (option->arg && !strncmp(word, "--", 2) && !strcmp(word + 2, option->name))
			return "flag needs a value";
	}
	return "unusable flag";
}

void program_hold_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		/* The lowest free number is this one. */
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR) < 0)
			abort();
	}
}

int program_main(const struct program *program, int argc, char **argv)
{
	const struct argp parser = { .options = options, .parser = parse_flag };
	struct global_flags flags = { .level = LOG_LEVEL_INFO, .format = LOG_FORMAT_TEXT, .first = argc };

	program_hold_standard_descriptors();
	/* argp's own help knows nothing of commands, and would exit in the caller's place. */
	if (argp_parse(&parser, argc, argv, ARGP_NO_HELP | ARGP_NO_EXIT | ARGP_IN_ORDER | ARGP_NO_ERRS, NULL,
		       &flags)) {
		fprintf(stderr, "%s: %s: '%s' (see %s --help)\n", program->name,
			flags.problem ? flags.problem : flag_problem(argv[flags.bad]), argv[flags.bad], program->name);
		return EXIT_USAGE;
	}
	log_configure(flags.level, flags.format, program->service);
	if (flags.version) {
		printf("%s version %s\n", program->name, PROGRAM_VERSION);
		return EXIT_FINE;
	}
	if (flags.help)
		return print_topic(program, argc - flags.first, argv + flags.first);
	if (flags.first >= argc) {
		print_help(program);
		return EXIT_USAGE;
	}
	return dispatch(program, &flags, argc - flags.first, argv + flags.first);
}
