// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What every test of the contract has: a relay_host of its own, an engine, pairs, and
 * one line of result. A test is a function; it fails by test_fail() (the first text
 * counts) and says what it measured by test_note(). */
#include "engine.h"
#include "host.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MB (1000000ull)
#define KIB (1024ull)

struct pair;
struct test;

enum case_planes { ON_SOCKMAP = 1u << PLANE_SOCKMAP, ON_SPLICE = 1u << PLANE_SPLICE, ON_COPY = 1u << PLANE_COPY, ON_ALL = 7 };

/* How a party comes to the relay; the letters of the lobby (relay_host/lobby.h), P for plain. */
enum transport_kind { KIND_PLAIN = 'P', KIND_HANDED_OFF = 'H', KIND_KTLS = 'K', KIND_USERSPACE_TLS = 'U' };

struct test_case {
	const char *name;
	const char *summary;
	unsigned planes; /* enum case_planes */
	void (*run)(struct test *test);
	bool runs_mixed; /* for parties of any transports too */
};

extern const struct test_case bulk_cases[], stopped_cases[], segment_cases[], end_cases[], token_cases[], join_cases[],
	crowd_cases[], overlap_cases[], fault_cases[], hold_cases[], gather_cases[];

struct test {
	const struct test_case *definition;
	enum plane plane;
	char kinds[3]; /* enum transport_kind of the two parties of each pair; "": plain ones with tokens */
	unsigned divisor; /* of every size; 1: as the contract says */
	bool is_full;     /* the longest durations too */
	unsigned patience; /* factor of every deadline: emulated machines are slow */
	uint64_t seed;

	struct host host;
	struct engine engine;
	struct pair **pairs;
	size_t pair_count, pair_capacity;
	struct pair **by_port; /* the latest pair that uses a port */
	uint64_t next_stream;
	uint64_t polled_ns;
	size_t tickets_at_once; /* fetched from the host */

	bool expects_unhappy; /* ends other than happy are part of the test */
	bool expects_wrong_books;
	char failure[600], skipped[400], figures[600];
};

/* Remembers the first failure. Returns false, for callers that return it. */
bool test_fail(struct test *test, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool test_failed(const struct test *test);
void test_note(struct test *test, const char *format, ...) __attribute__((format(printf, 2, 3)));
void test_skip(struct test *test, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define require(test, condition, ...) \
	do { \
		if (!(condition)) { \
			test_fail(test, __VA_ARGS__); \
			return; \
		} \
	} while (0)

/* `size` divided by the scale, but at least `least`. */
uint64_t test_size(const struct test *test, uint64_t size, uint64_t least);

/* TLS stays on at one party at least. */
bool test_keeps_tls(const struct test *test);

/* Starts the host for the test's plane (settings->planes is filled in). False: failed, or skipped
 * because this machine cannot have the plane; one that it must have is a failure. */
bool test_start_host(struct test *test, struct host_settings *settings);

/* Runs the engine until the condition holds; fails with "`what` did not come …" and the state
 * of the first pair that is not through. */
bool test_wait(struct test *test, bool (*condition)(void *context), void *context, unsigned deadline_ms, const char *what);

/* True at most every `interval_ms`: keeps conditions from asking the host too often. */
bool test_poll_is_due(struct test *test, unsigned interval_ms);

/* Bytes that the machine has left for the kernel, and the lowest of samples taken every 100 ms
 * from a thread. */
uint64_t memory_available(void);
struct memory_watch;
/* Begins to sample; `bound` is what a test may use. */
struct memory_watch *memory_watch_start(struct test *test, uint64_t bound);
/* Runs the engine for a window of `window_ms`, and up to three more while the memory in use seems to
 * be over the bound: other programs use memory too, but only for a while. 0: no window, what was
 * sampled since the start counts if it is within the bound. False: it is not, look at a window. */
bool memory_watch_observe(struct memory_watch *watch, unsigned window_ms);
/* Forgets what was sampled, for another memory_watch_observe(…, 0). */
void memory_watch_restart(struct memory_watch *watch);
/* Judges, unless the test has failed: how far did what the machine had left for the kernel fall in
 * the best window, below what it had before the test and has now that all pairs have ended? */
void memory_watch_finish(struct memory_watch *watch);
