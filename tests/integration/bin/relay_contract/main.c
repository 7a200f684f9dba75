// SPDX-License-Identifier: Apache-2.0
/* The relay's contract (bytes in order, once, unchanged; bounded memory; half-close;
 * resets that stay resets; exact counters), held against each data plane:
 *
 *   relay_contract [--plane sockmap|splice|copy|all] [--small | --scale N | --full]
 *                  [--mix XY|all]... [--test NAME]... [--except NAME]... [--seed N] [--patience N] [--list]
 *
 * A mix names the transports of the two parties: P plain, H handed off, K kTLS, U
 * userspace TLS. Bare ones run on every plane that --plane names, at a fiftieth of the
 * size unless --full; all are "HP" and so on to "UU", without "PP".
 *
 * Everything runs in a network namespace of its own, so ports and counters are private.
 * Each test on each plane has a relay_host process of its own and prints one line. */
#include "contract.h"
#include "pair.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/instant.h"

struct names {
	const char *words[32];
	size_t count;
};

struct selection {
	unsigned planes; /* enum case_planes */
	struct names wanted, unwanted; /* tests; none wanted: all */
	unsigned divisor, patience;
	bool is_full;
	uint64_t seed;
	char mixes[16][3];
	size_t mix_count;
};

static const struct test_case *const topics[] = {
	token_cases, end_cases, bulk_cases, hold_cases, gather_cases, join_cases, crowd_cases, segment_cases, overlap_cases, fault_cases, stopped_cases,
};

static struct pair *pairs_by_port[65536];

static bool names_have(const struct names *names, const char *name)
{
	for (size_t at = 0; at < names->count; at++)
		if (!strcmp(names->words[at], name))
			return true;
	return false;
}

static bool name_is_selected(const struct selection *selection, const char *name)
{
	return (!selection->wanted.count || names_have(&selection->wanted, name)) && !names_have(&selection->unwanted, name);
}

/* What must hold after every test: nothing left in the relay, the books right. */
static void test_check_totals(struct test *test)
{
	struct relay_totals totals;
	uint64_t deadline_ns = clock_now_ns() + 5000000000u;

	do {
		if (!host_totals(&test->host, &totals, NULL)) {
			test_fail(test, "%s", test->host.error);
			return;
		}
		engine_run_for(&test->engine, 2);
	} while (totals.pairs_live && clock_now_ns() < deadline_ns);
	require(test, !totals.pairs_live, "%llu pairs live on after both parties left", (unsigned long long)totals.pairs_live);
	require(test, test->expects_wrong_books || !totals.books_wrong, "the books were wrong %llu times",
		(unsigned long long)totals.books_wrong);
	if (test->expects_unhappy)
		return;
	for (int outcome = 0; outcome < OUTCOME_COUNT; outcome++)
		require(test, outcome == OUTCOME_HAPPY || !totals.ended[outcome], "%llu pairs ended as %s",
			(unsigned long long)totals.ended[outcome], outcome_word((enum outcome)outcome));
	if (test_keeps_tls(test))
		return; /* TCP counts other bytes there */
	require(test, totals.books_checked >= 2 * totals.ended[OUTCOME_HAPPY],
		"%llu pairs ended, but the books of both directions were checked %llu times only",
		(unsigned long long)totals.ended[OUTCOME_HAPPY], (unsigned long long)totals.books_checked);
}

static void test_run(struct test *test)
{
	engine_create(&test->engine, test->seed);
	memset(pairs_by_port, 0, sizeof pairs_by_port);
	test->by_port = pairs_by_port;
	test->definition->run(test);
	for (size_t at = 0; at < test->pair_count; at++)
		pair_abandon(test->pairs[at]);
	if (test->host.pid && !test_failed(test) && !*test->skipped)
		test_check_totals(test);
	if (!host_stop(&test->host) && !*test->skipped)
		test_fail(test, "%s", test->host.error);
	for (size_t at = 0; at < test->pair_count; at++)
		free(test->pairs[at]);
	free(test->pairs);
	engine_destroy(&test->engine);
}

/* What TCP had to do that costs time or means trouble, of the whole namespace. */
struct tcp_trouble {
	unsigned long long timeouts, memory_aborts, pruned;
};

static unsigned long long counter_value(const char *names, const char *values, const char *wanted)
{
	char name[64], value[32];
	int name_length, value_length;

	while (sscanf(names, "%63s%n", name, &name_length) == 1 && sscanf(values, "%31s%n", value, &value_length) == 1) {
		if (!strcmp(name, wanted))
			return strtoull(value, NULL, 10);
		names += name_length;
		values += value_length;
	}
	return 0;
}

static struct tcp_trouble tcp_trouble_read(void)
{
	struct tcp_trouble trouble = { 0 };
	char *names = NULL, *values = NULL;
	size_t sizes[2] = { 0 };
	FILE *file = fopen("/proc/net/netstat", "re");

	if (file && getline(&names, &sizes[0], file) > 0 && getline(&values, &sizes[1], file) > 0)
		trouble = (struct tcp_trouble){
			.timeouts = counter_value(names, values, "TCPTimeouts"),
			.memory_aborts = counter_value(names, values, "TCPAbortOnMemory"),
			.pruned = counter_value(names, values, "RcvPruned"),
		};
	if (file)
		fclose(file);
	free(names);
	free(values);
	return trouble;
}

static void print_trouble(const struct tcp_trouble *before)
{
	struct tcp_trouble now = tcp_trouble_read();

	if (now.timeouts != before->timeouts)
		printf("; %llu TCP timeouts", now.timeouts - before->timeouts);
	if (now.memory_aborts != before->memory_aborts)
		printf("; %llu aborts for memory", now.memory_aborts - before->memory_aborts);
	if (now.pruned != before->pruned)
		printf("; %llu receive buffers pruned", now.pruned - before->pruned);
	printf("\n");
	fflush(stdout);
}

static void run_case(const struct test_case *definition, enum plane plane, const char *kinds, const struct selection *selection,
		     unsigned counts[3])
{
	struct test test = {
		.definition = definition, .plane = plane, .divisor = selection->divisor, .is_full = selection->is_full, .patience = selection->patience,
		.seed = pattern_mix(selection->seed ^ plane), .tickets_at_once = 64,
	};
	char label[40];
	uint64_t start_ms = clock_now_ms();
	struct tcp_trouble before = tcp_trouble_read();

	snprintf(test.kinds, sizeof test.kinds, "%s", kinds);
	if (*kinds && !selection->is_full && test.divisor < 50)
		test.divisor = 50;
	snprintf(label, sizeof label, "%s%s%s", kinds, *kinds ? " " : "", plane_name(plane));
	test_run(&test);
	double seconds = (double)(clock_now_ms() - start_ms) / 1000;
	if (*test.failure) {
		counts[1]++;
		printf("FAIL %s (%s) - %s (seed %llu, %.1f s)", definition->name, label, test.failure,
		       (unsigned long long)selection->seed, seconds);
	} else if (*test.skipped) {
		counts[2]++;
		printf("skip %s (%s) - %s", definition->name, label, test.skipped);
	} else {
		counts[0]++;
		printf("ok   %s (%s) - %s%s%.1f s", definition->name, label, test.figures, *test.figures ? "; " : "", seconds);
	}
	print_trouble(&before);
}

/* One line instead of one for each test. */
static bool skip_without_ktls(const char *kinds, unsigned counts[3])
{
	struct probe_report report;

	if (!strchr(kinds, KIND_KTLS))
		return false;
	relay_probe(PLANE_MASK_KTLS_SPLICE, &report);
	if (report.planes[PLANE_KTLS_SPLICE])
		return false;
	const char *reason = "";
	for (unsigned at = 0; at < report.count; at++)
		if (!strcmp(report.items[at].name, plane_name(PLANE_KTLS_SPLICE)))
			reason = report.items[at].sentence;
	counts[2]++;
	printf("skip every test (%s %s) - %s\n", kinds, plane_name(PLANE_KTLS_SPLICE), reason);
	return true;
}

static void list_cases(void)
{
	for (size_t topic = 0; topic < sizeof topics / sizeof *topics; topic++)
		for (const struct test_case *definition = topics[topic]; definition->name; definition++)
			printf("%-20s %s%s%s  %s\n", definition->name, definition->planes & ON_SOCKMAP ? "sockmap " : "        ",
			       definition->planes & ON_SPLICE ? "splice " : "       ", definition->planes & ON_COPY ? "copy" : "    ",
			       definition->summary);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	close(fd);
}

/* A network of its own; without the right to have one the tests run in the present one. */
static void enter_namespace(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

	if (unshare(CLONE_NEWNET)) {
		printf("note: no network namespace of its own (%s): ports and counters are shared\n", strerror(errno));
		return;
	}
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request))
		printf("note: loopback stays down: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
	write_file("/proc/sys/net/ipv4/ip_local_port_range", "2000 64999");
}

static int usage(void)
{
	fprintf(stderr, "usage: relay_contract [--plane sockmap|splice|copy|all] [--small | --scale N | --full]\n"
			"                      [--mix XY|all]... [--test NAME]... [--except NAME]... [--seed N] [--patience N]\n"
			"                      [--list]\n");
	return 2;
}

static bool parse_plane(const char *text, unsigned *planes)
{
	if (!strcmp(text, "all"))
		*planes = ON_ALL;
	else if (!strcmp(text, "sockmap"))
		*planes = ON_SOCKMAP;
	else if (!strcmp(text, "splice"))
		*planes = ON_SPLICE;
	else if (!strcmp(text, "copy"))
		*planes = ON_COPY;
	else
		return false;
	return true;
}

static bool add_mix(struct selection *selection, const char *text)
{
	static const char kinds[] = { KIND_PLAIN, KIND_HANDED_OFF, KIND_KTLS, KIND_USERSPACE_TLS };
	bool is_all = !strcmp(text, "all");
	size_t before = selection->mix_count;

	for (size_t at = 0; at < 16; at++) {
		char mix[3] = { kinds[at / 4], kinds[at % 4], 0 };
		if ((is_all ? at > 0 : !strcmp(text, mix)) && selection->mix_count < 16)
			memcpy(selection->mixes[selection->mix_count++], mix, sizeof mix);
	}
	return selection->mix_count > before;
}

static bool add_name(struct names *names, const char *name)
{
	if (names->count == sizeof names->words / sizeof *names->words)
		return false;
	names->words[names->count++] = name;
	return true;
}

static bool parse_arguments(int argc, char **argv, struct selection *selection)
{
	for (int at = 1; at < argc; at++) {
		const char *word = argv[at], *value = at + 1 < argc ? argv[at + 1] : NULL;
		if (!strcmp(word, "--small")) {
			selection->divisor = 50;
		} else if (!strcmp(word, "--full")) {
			selection->is_full = true;
		} else if (!value) {
			return false;
		} else if (!strcmp(word, "--plane")) {
			if (!parse_plane(value, &selection->planes))
				return false;
			at++;
		} else if (!strcmp(word, "--mix")) {
			if (!add_mix(selection, value))
				return false;
			at++;
		} else if (!strcmp(word, "--scale") && atoi(value) > 0) {
			selection->divisor = (unsigned)atoi(value);
			at++;
		} else if (!strcmp(word, "--patience") && atoi(value) > 0) {
			selection->patience = (unsigned)atoi(value);
			at++;
		} else if (!strcmp(word, "--seed")) {
			selection->seed = strtoull(value, NULL, 0);
			at++;
		} else if (!strcmp(word, "--test") || !strcmp(word, "--except")) {
			if (!add_name(word[2] == 't' ? &selection->wanted : &selection->unwanted, value))
				return false;
			at++;
		} else {
			return false;
		}
	}
	return true;
}

static bool names_are_known(const struct names *names)
{
	for (size_t at = 0; at < names->count; at++) {
		bool is_known = false;
		for (size_t topic = 0; topic < sizeof topics / sizeof *topics; topic++)
			for (const struct test_case *definition = topics[topic]; definition->name; definition++)
				is_known = is_known || !strcmp(definition->name, names->words[at]);
		if (!is_known) {
			fprintf(stderr, "relay_contract: no test '%s' (--list shows them)\n", names->words[at]);
			return false;
		}
	}
	return true;
}

static void run_plane(const struct selection *selection, enum plane plane, const char *kinds, unsigned counts[3])
{
	for (size_t topic = 0; topic < sizeof topics / sizeof *topics; topic++)
		for (const struct test_case *definition = topics[topic]; definition->name; definition++)
			if (name_is_selected(selection, definition->name) &&
			    (*kinds ? definition->runs_mixed : (definition->planes & 1u << plane) != 0))
				run_case(definition, plane, kinds, selection, counts);
}

int main(int argc, char **argv)
{
	static const enum plane order[] = { PLANE_SOCKMAP, PLANE_SPLICE, PLANE_COPY };
	struct selection selection = { .planes = ON_ALL, .divisor = 1, .patience = 1 };
	struct rlimit files;
	unsigned counts[3] = { 0 };

	if (argc == 2 && !strcmp(argv[1], "--list")) {
		list_cases();
		return 0;
	}
	if (getrandom(&selection.seed, 4, 0) != 4)
		selection.seed = (uint64_t)getpid();
	if (!parse_arguments(argc, argv, &selection))
		return usage();
	if (!names_are_known(&selection.wanted) || !names_are_known(&selection.unwanted))
		return 2;
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	printf("seed %llu%s\n", (unsigned long long)selection.seed, selection.is_full ? ", full sizes" : "");
	if (selection.divisor > 1)
		printf("sizes divided by %u\n", selection.divisor);
	enter_namespace();
	pattern_seed(selection.seed);
	for (size_t at = 0; at < sizeof order / sizeof *order && !selection.mix_count; at++)
		if (selection.planes & 1u << order[at])
			run_plane(&selection, order[at], "", counts);
	for (size_t mix = 0; mix < selection.mix_count; mix++) {
		const char *kinds = selection.mixes[mix];
		if (skip_without_ktls(kinds, counts))
			continue;
		if (strchr(kinds, KIND_USERSPACE_TLS))
			run_plane(&selection, PLANE_COPY, kinds, counts);
		else if (strchr(kinds, KIND_KTLS))
			run_plane(&selection, PLANE_KTLS_SPLICE, kinds, counts);
		else
			for (size_t at = 0; at < sizeof order / sizeof *order; at++)
				if (selection.planes & 1u << order[at])
					run_plane(&selection, order[at], kinds, counts);
	}
	printf("%u passed, %u failed, %u skipped\n", counts[0], counts[1], counts[2]);
	return counts[1] ? 1 : 0;
}
