// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Command line of the three daemons (protocol page 1.2, 1.3): global flags
 * before the command, `help` and `version` words, `--check` behind `run`. */
#include "base/log.h"

#include <stdbool.h>

struct program_command {
	const char *words;     /* "server run", "sd submit-records"; aliases split by '|': "server|s run" */
	const char *arguments; /* shown in help: "[--reset] FILE" */
	const char *summary;   /* one line */
	bool reads_settings;   /* load and validate settings before running */
	/* argv[0] is the first word behind the command. Returns the exit status. */
	int (*run)(int argc, char **argv, void *settings);
};

struct program {
	const char *name;         /* "hyper" */
	const char *service;      /* for `--format iris` */
	const char *settings_env; /* "HYPER_SETTINGS" */
	const char *about;        /* for --help: two or three sentences */
	const struct program_command *commands; /* ends with words == NULL */
	/* Loads and checks the settings named by the environment; logs every
	 * problem with file and line. Returns NULL on error. */
	void *(*load_settings)(const char *search_path);
	void (*free_settings)(void *settings);
	/* For --check, may be NULL: loads what the settings name (certificates, folders),
	 * logs every problem, and returns whether the program could run with them. */
	bool (*check_settings)(const void *settings);
	/* May be NULL: says on standard error what is wrong with a command's arguments,
	 * before any settings are read. */
	bool (*accepts)(const struct program_command *command, int argc, char **argv);
};

/* Parses argv and runs one command. `--check` as an argument of any command
 * with reads_settings only loads, reports and returns. Exit statuses: 0 fine,
 * 1 failed (settings too), 2 unusable command line or none, 3 unknown command word
 * ("No help topic for '…'"). */
int program_main(const struct program *program, int argc, char **argv);

/* Opens what is closed of descriptors 0 to 2, or the first file or socket opened
 * would get the log. Writing to a standard output that was closed still fails.
 * First thing in main(). */
void program_hold_standard_descriptors(void);

#define PROGRAM_VERSION "development"
