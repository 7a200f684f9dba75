// SPDX-License-Identifier: Apache-2.0
/* p2pctl looks into a running proxy over its control socket. The table of
 * commands is all it knows; options are the same for each and may stand
 * anywhere. */
#include "command.h"

#include "base/log.h"
#include "base/program.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SOCKET "/run/p2p-proxy/control.sock"
#define WORDS_MAX 4

enum { FLAG_SOCKET = 's', FLAG_JSON = 'j', FLAG_HERE = 256 };

static int command_version(const struct options *options, char **arguments)
{
	(void)options, (void)arguments;
	puts(PROGRAM_VERSION);
	return 0;
}

static const struct command commands[] = {
	{"status", "", "the proxy at a glance: tickets, pairs, bytes, credit", 0, command_status},
	{"pairs", "", "every live pair: both ends, plane and why, bytes, gates", 0, command_pairs},
	{"pair", " ID", "everything about one pair", 1, command_pair},
	{"tickets", "", "open tickets: who waits for whom, and for how long", 0, command_tickets},
	{"probe", "", "what this kernel can do for the relay (works without a proxy)", 0, command_probe},
	{"version", "", "the version of p2pctl", 0, command_version},
};

struct words {
	struct options options;
	char *words[WORDS_MAX];
	int count;
};

static error_t parse(int key, char *argument, struct argp_state *state)
{
	struct words *words = state->input;

	switch (key) {
	case FLAG_SOCKET:
		words->options.socket = argument;
		return 0;
	case FLAG_JSON:
		words->options.json = true;
		return 0;
	case FLAG_HERE:
		words->options.here = true;
		return 0;
	case ARGP_KEY_ARG:
		if (words->count == 0 && strcmp(argument, "help") == 0)
			argp_state_help(state, stdout, ARGP_HELP_STD_HELP); /* ends the program, as --help does */
		if (words->count == WORDS_MAX)
			argp_error(state, "too many arguments");
		words->words[words->count++] = argument;
		return 0;
	case ARGP_KEY_END:
		if (words->count == 0)
			argp_error(state, "say what you want to see");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* The list of commands stands before the options in the help text. */
static char *help_text(int key, const char *text, void *input)
{
	char *help = NULL;
	size_t size = 0;

	(void)input;
	if (key != ARGP_KEY_HELP_PRE_DOC)
		return (char *)text;
	FILE *stream = open_memstream(&help, &size);
	if (!stream)
		return (char *)text;
	fprintf(stream, "%s\n\nCommands:\n", text);
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		char line[64];
		snprintf(line, sizeof line, "%s%s", commands[i].name, commands[i].arguments);
		fprintf(stream, "  %-10s %s\n", line, commands[i].summary);
	}
	fclose(stream);
	return help;
}

static const struct argp_option options[] = {
	{"socket", FLAG_SOCKET, "PATH", 0,
	 "control socket of the proxy (default: $P2PCTL_SOCKET, else " DEFAULT_SOCKET ")", 0},
	{"json", FLAG_JSON, NULL, 0, "print the answer as JSON, for programs", 0},
	{"here", FLAG_HERE, NULL, 0, "probe: try it with this command's privileges, do not ask the proxy", 0},
	{0},
};

static const struct argp arguments = {
	.options = options,
	.parser = parse,
	.args_doc = "COMMAND",
	.doc = "Looks into a running `proxy run public`.\vExit status: 0 fine, 1 the proxy cannot be asked or says no, "
	       "2 unusable command line.",
	.help_filter = help_text,
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

int main(int argc, char **argv)
{
	const char *socket = getenv("P2PCTL_SOCKET");
	struct words words = {.options.socket = socket && *socket ? socket : DEFAULT_SOCKET};

	program_hold_standard_descriptors();
	argp_program_version = "p2pctl " PROGRAM_VERSION;
	argp_err_exit_status = 2;
	argp_parse(&arguments, argc, argv, 0, NULL, &words);
	log_configure(LOG_LEVEL_WARNING, LOG_FORMAT_TEXT, "CTL");

	const struct command *command = find_command(words.words[0]);
	if (!command) {
		fprintf(stderr, "p2pctl: there is no command '%s'; see `p2pctl --help`\n", words.words[0]);
		return 2;
	}
	if (words.count - 1 != command->argument_count) {
		fprintf(stderr, "p2pctl: it is `p2pctl %s%s`\n", command->name, command->arguments);
		return 2;
	}
	int status = command->run(&words.options, words.words + 1);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "p2pctl: cannot write its output: %s\n", strerror(errno));
		return 1;
	}
	return status;
}
