// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/program.h"

/* The commands `hyper sd …` (protocol page 1.3, 3.7): one-shot programs with an
 * event loop of their own. `settings` is a struct hyper_settings.
 *
 * argv[0] is the first word behind the command words, as program.h says; each
 * returns the exit status: 0 fine, 1 failed, 2 unusable arguments. All that talk
 * to the service directory accept `--wait SECONDS` (default 30): for how long to
 * try when it does not answer. */

/* Hook of program.h: are these arguments of one of the commands? */
bool sd_command_accepts(const struct program_command *command, int argc, char **argv);

/* [--reset] [--wait SECONDS] FILE: signs the records of FILE and submits them. */
int sd_command_submit_records(int argc, char **argv, void *settings);
/* [--name NAME] [--wait SECONDS]: prints the entries as one JSON array line. */
int sd_command_get_entries(int argc, char **argv, void *settings);
/* FILE: prints {"signature":…,"data":…} for the JSON object in FILE. */
int sd_command_sign(int argc, char **argv, void *settings);
/* FILE NAME: checks such a file; NAME must be a DNS name of its certificate. */
int sd_command_verify(int argc, char **argv, void *settings);
