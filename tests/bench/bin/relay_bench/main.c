// SPDX-License-Identifier: Apache-2.0
/* The relay measured against what people use today: every contender runs at the same time
 * and takes its turn in every round of a workload, so that what else the machine does meets
 * them all alike. Results are lines "workload contender figure value", one for each round;
 * whoever reads them takes medians. */
#include "sample.h"
#include "workload.h"

#include <argp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const struct workload workloads[] = {
	{ .name = "round-trip", .run = workload_round_trip, .pairs = 1, .weight = 1 },
	{ .name = "chat", .run = workload_chat, .pairs = 200, .weight = 1.5 },
	{ .name = "chat-pauses", .run = workload_chat, .pairs = 200, .pause_us = 20000, .weight = 1.5 },
	{ .name = "bulk", .run = workload_bulk, .pairs = 1, .weight = 1 },
	{ .name = "joins", .run = workload_joins, .pairs = 16, .weight = 1.5, .ours_only = true },
};

static struct contender contenders[] = {
	{ .name = "direct", .kind = CONTENDER_DIRECT },
	{ .name = "sockmap", .kind = CONTENDER_OURS, .plane = PLANE_SOCKMAP },
	{ .name = "splice", .kind = CONTENDER_OURS, .plane = PLANE_SPLICE },
	{ .name = "copy", .kind = CONTENDER_OURS, .plane = PLANE_COPY },
	{ .name = "haproxy", .kind = CONTENDER_HAPROXY },
	{ .name = "socat", .kind = CONTENDER_SOCAT },
};

struct options {
	const char *results, *haproxy_settings;
	unsigned rounds;
	double seconds;
	const char *names[16]; /* of workloads and contenders; none: all */
	unsigned name_count;
};

static FILE *results;

void figure(const struct workload *workload, const struct contender *contender, const char *name, double value)
{
	fprintf(results, "%s %s %s %.6g\n", workload->name, contender->name, name, value);
	fflush(results);
}

/* Names of one kind restrict that kind only. */
static bool is_wanted(const struct options *options, const char *name, bool is_workload)
{
	bool any = false;

	for (unsigned at = 0; at < options->name_count; at++) {
		bool names_workload = false;
		for (size_t one = 0; one < sizeof workloads / sizeof *workloads; one++)
			names_workload |= !strcmp(options->names[at], workloads[one].name);
		if (names_workload != is_workload)
			continue;
		if (!strcmp(options->names[at], name))
			return true;
		any = true;
	}
	return !any;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case 'o': options->results = argument; break;
	case 'p': options->haproxy_settings = argument; break;
	case 'r': options->rounds = (unsigned)atoi(argument); break;
	case 's': options->seconds = atof(argument); break;
	case ARGP_KEY_ARG:
		if (options->name_count == sizeof options->names / sizeof *options->names)
			argp_error(state, "too many names");
		options->names[options->name_count++] = argument;
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp_option option_list[] = {
	{ "results", 'o', "FILE", 0, "append figures to FILE (default: standard output)", 0 },
	{ "haproxy-settings", 'p', "FILE", 0, "default tests/bench/haproxy.cfg", 0 },
	{ "rounds", 'r', "N", 0, "rounds of each workload (default 5)", 0 },
	{ "seconds", 's', "S", 0, "length of a measurement (default 0.8)", 0 },
	{ 0 }
};
static const struct argp arguments = { option_list, parse_option, "[WORKLOAD|CONTENDER]...",
	"Measures relays against each other.", NULL, NULL, NULL };

static bool run_workload(const struct workload *workload, const struct options *options)
{
	size_t count = sizeof contenders / sizeof *contenders;
	bool fine = true;

	for (unsigned number = 0; number < options->rounds; number++) {
		fprintf(stderr, "  %s: round %u of %u\n", workload->name, number + 1, options->rounds);
		for (size_t turn = 0; turn < count; turn++) {
			struct contender *contender = &contenders[(turn + number) % count]; /* nobody is always first */
			if (!is_wanted(options, contender->name, false) || *contender->error ||
			    (workload->ours_only && contender->kind != CONTENDER_OURS))
				continue;
			if (!workload->run(contender, workload, options->seconds * workload->weight)) {
				fprintf(stderr, "relay_bench: %s with %s: %s\n", workload->name, contender->name, contender->error);
				fine = false;
			}
		}
	}
	return fine;
}

int main(int argc, char **argv)
{
	struct options options = { .haproxy_settings = "tests/bench/haproxy.cfg", .rounds = 5, .seconds = 0.8 };
	struct rlimit limit;
	bool fine = true;

	argp_parse(&arguments, argc, argv, 0, NULL, &options);
	results = options.results ? fopen(options.results, "ae") : stdout;
	if (!results) {
		perror(options.results);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (size_t at = 0; at < sizeof contenders / sizeof *contenders; at++)
		if (is_wanted(&options, contenders[at].name, false) && !contender_start(&contenders[at], options.haproxy_settings)) {
			fprintf(stderr, "relay_bench: %s: %s\n", contenders[at].name, contenders[at].error);
			fine = false;
		}
	for (size_t at = 0; at < sizeof workloads / sizeof *workloads; at++)
		if (is_wanted(&options, workloads[at].name, true))
			fine &= run_workload(&workloads[at], &options);
	for (size_t at = 0; at < sizeof contenders / sizeof *contenders; at++)
		contender_stop(&contenders[at]);
	fclose(results);
	return fine ? 0 : 1;
}
