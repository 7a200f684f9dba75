// SPDX-License-Identifier: Apache-2.0
/* The relay measured against what people use today: every contender runs at the same time,
 * and takes its turn, in an order drawn anew, in every round of a workload, so that what
 * else the machine does meets them all alike. Every round goes through all workloads.
 * Results are lines "workload contender figure value", one for each round; whoever reads
 * them takes medians. */
#include "contender.h"
#include "contenders.h"
#include "daemon.h"
#include "identity.h"
#include "progress.h"
#include "sample.h"
#include "workload.h"
#include "workloads.h"

#include <argp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAILURES_ALLOWED 3
#define FILES_WANTED 20000

struct options {
	const char *results, *folder, *templates;
	enum suite suite;
	unsigned rounds;
	double seconds;
	const char *names[32]; /* of workloads and contenders; none: all */
	unsigned name_count;
};

double workload_warm_up_s = 0.2;
static FILE *results;
static unsigned failures[CONTENDERS_MAX];

void figure(const char *label, const struct contender *contender, const char *name, double value)
{
	fprintf(results, "%s %s %s %.6g\n", label, contender->name, name, value);
	fflush(results);
}

const char *workload_label(const struct workload *workload, size_t size, char label[WORKLOAD_LABEL_SIZE])
{
	if (workload->sizes[1])
		snprintf(label, WORKLOAD_LABEL_SIZE, "%s-%zu", workload->name, size);
	else
		snprintf(label, WORKLOAD_LABEL_SIZE, "%s", workload->name);
	return label;
}

/* Names of one kind restrict that kind only. */
static bool is_named(const struct options *options, const char *name, bool is_workload)
{
	bool any = false;

	for (unsigned at = 0; at < options->name_count; at++) {
		bool names_workload = false;
		for (size_t one = 0; one < workload_count; one++)
			names_workload |= !strcmp(options->names[at], workloads[one].name);
		if (names_workload != is_workload)
			continue;
		if (!strcmp(options->names[at], name))
			return true;
		any = true;
	}
	return !any;
}

static bool is_wanted(const struct options *options, const struct workload *workload)
{
	bool any_named = !is_named(options, "", true);

	return any_named ? is_named(options, workload->name, true) : workload->suites & options->suite;
}

static bool fits(const struct options *options, const struct workload *workload, size_t contender)
{
	const struct contender *it = &contenders[contender];
	size_t pairs = workload->joins ? workload->joins : workload->pairs;

	return is_named(options, it->name, false) && failures[contender] < FAILURES_ALLOWED && (it->tls != TLS_NONE) == workload->with_tls &&
	       (!workload->needs_tickets || it->kind->fetch) && (!it->only || !strcmp(it->only, workload->name)) &&
	       (!it->most_pairs || pairs <= it->most_pairs) &&
	       (options->suite != SUITE_QUICK || it->in_quick);
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct options *options = state->input;
	static const char place_keys[] = "RAB";

	switch (key) {
	case 'o': options->results = argument; break;
	case 'f': options->folder = argument; break;
	case 't': options->templates = argument; break;
	case 'r': options->rounds = (unsigned)atoi(argument); break;
	case 's': options->seconds = atof(argument); break;
	case 'w': workload_warm_up_s = atof(argument); break;
	case 'q': options->suite = SUITE_QUICK; break;
	case 'R':
	case 'A':
	case 'B':
		if (!place_define((enum place)(strchr(place_keys, key) - place_keys), argument))
			argp_error(state, "'%s' is not NAMESPACE,ADDRESS, or there is no such namespace", argument);
		break;
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
	{ "folder", 'f', "FOLDER", 0, "for settings and logs of the contenders (default build/bench/relays)", 0 },
	{ "templates", 't', "FOLDER", 0, "of their settings (default tests/bench)", 0 },
	{ "rounds", 'r', "N", 0, "rounds of each workload (default 5)", 0 },
	{ "seconds", 's', "S", 0, "length of a measurement (default 0.4)", 0 },
	{ "warm-up", 'w', "S", 0, "before each measurement (default 0.2)", 0 },
	{ "quick", 'q', NULL, 0, "only the workloads of `make bench-quick`", 0 },
	{ "relay", 'R', "NAMESPACE,ADDRESS", 0, "where the contenders are", 1 },
	{ "first", 'A', "NAMESPACE,ADDRESS", 0, "where the first end of each pair is", 1 },
	{ "second", 'B', "NAMESPACE,ADDRESS", 0, "where the second end of each pair is", 1 },
	{ 0 }
};
static const struct argp arguments = { option_list, parse_option, "[WORKLOAD|CONTENDER]...",
	"Measures relays against each other.", NULL, NULL, NULL };

static void shuffle(size_t *order, size_t count)
{
	for (size_t at = count; at > 1; at--) {
		size_t other = (size_t)random() % at, kept = order[at - 1];
		order[at - 1] = order[other];
		order[other] = kept;
	}
}

/* A contender that failed begins anew. */
static bool run_turn(struct contender *contender, const struct workload *workload, double seconds)
{
	if (!*contender->error && workload->run(contender, workload, seconds))
		return true;
	fprintf(stderr, "relay_bench: %s with %s: %s\n", workload->name, contender->name, contender->error);
	contender_stop(contender);
	if (!contender_start(contender))
		fprintf(stderr, "relay_bench: %s does not start again: %s\n", contender->name, contender->error);
	return false;
}

static bool run_workload(const struct workload *workload, const struct options *options, struct progress *progress, unsigned round)
{
	size_t order[CONTENDERS_MAX];
	bool fine = true;

	for (size_t at = 0; at < contender_count; at++)
		order[at] = at;
	shuffle(order, contender_count);
	for (size_t turn = 0; turn < contender_count; turn++) {
		size_t at = order[turn];
		if (!fits(options, workload, at))
			continue;
		progress_begin(progress, workload->name, contenders[at].name, round);
		if (!run_turn(&contenders[at], workload, options->seconds * workload->weight)) {
			failures[at]++;
			fine = false;
		}
		progress_end(progress);
	}
	return fine;
}

static bool start_contenders(const struct options *options)
{
	bool fine = true;

	for (size_t at = 0; at < contender_count; at++) {
		bool takes_part = false;

		for (size_t one = 0; one < workload_count; one++)
			takes_part |= is_wanted(options, &workloads[one]) && fits(options, &workloads[one], at);
		if (!takes_part) {
			failures[at] = FAILURES_ALLOWED;
		} else if (!contender_start(&contenders[at])) {
			fprintf(stderr, "relay_bench: %s: %s\n", contenders[at].name, contenders[at].error);
			failures[at] = FAILURES_ALLOWED;
			contender_stop(&contenders[at]);
			fine = false;
		}
	}
	return fine;
}

static bool run_all(const struct options *options)
{
	struct progress progress = { .rounds = options->rounds };
	bool fine = true;

	for (size_t one = 0; one < workload_count; one++)
		for (size_t at = 0; is_wanted(options, &workloads[one]) && at < contender_count; at++)
			if (fits(options, &workloads[one], at))
				progress_plan(&progress, workloads[one].name, contenders[at].name);
	for (unsigned round = 0; round < options->rounds; round++)
		for (size_t one = 0; one < workload_count; one++)
			if (is_wanted(options, &workloads[one]))
				fine &= run_workload(&workloads[one], options, &progress, round);
	progress_done(&progress);
	return fine;
}

static bool make_folder(const char *path, char *absolute)
{
	char part[PATH_MAX];

	for (const char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof part, "%.*s", slash ? (int)(slash - path) : (int)strlen(path), path);
		mkdir(part, 0755);
		if (!slash)
			return realpath(path, absolute);
	}
}

int main(int argc, char **argv)
{
	struct options options = { .folder = "build/bench/relays", .templates = "tests/bench", .suite = SUITE_FULL, .rounds = 5, .seconds = 0.4 };
	struct rlimit limit;
	char folder[PATH_MAX];

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
	if (limit.rlim_cur < FILES_WANTED)
		fprintf(stderr, "relay_bench: only %llu files may be open; the largest workloads need %d\n",
			(unsigned long long)limit.rlim_cur, FILES_WANTED);
	if (!make_folder(options.folder, folder) || !identity_make(folder)) {
		fprintf(stderr, "relay_bench: cannot write to %s\n", options.folder);
		return 1;
	}
	daemon_set_templates(options.templates);
	srandom((unsigned)sample_now_ns());
	bool fine = start_contenders(&options);
	fine &= run_all(&options);
	for (size_t at = 0; at < contender_count; at++)
		if (failures[at] < FAILURES_ALLOWED)
			contender_stop(&contenders[at]);
	fclose(results);
	return fine ? 0 : 1;
}
