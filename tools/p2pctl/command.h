// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Sub-commands of p2pctl: one file each, named in the table of main.c. */
#include <jansson.h>
#include <stdbool.h>

struct options {
	const char *socket; /* path of the proxy's control socket */
	bool json;          /* the answer as it is, for programs */
	bool here;          /* probe: do not ask the proxy */
};

struct command {
	const char *name;
	const char *arguments; /* for the help text, also says how many are needed */
	const char *summary;
	int argument_count;
	int (*run)(const struct options *options, char **arguments); /* exit status */
};

int command_status(const struct options *options, char **arguments);
int command_pairs(const struct options *options, char **arguments);
int command_pair(const struct options *options, char **arguments);
int command_tickets(const struct options *options, char **arguments);
int command_probe(const struct options *options, char **arguments);
