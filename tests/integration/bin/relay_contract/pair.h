// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Two ends that the relay joins, and what it says about them. `ends[0]` comes first;
 * stream 0 goes from ends[0] to ends[1]. Reports are turned so that directions[0] is
 * stream 0, whichever party the relay calls the first. */
#include "contract.h"

struct flow {
	uint64_t total; /* bytes; FOREVER: until pair_cut() */
	uint64_t limit; /* may send at once; 0: all */
	enum finish finish;
	struct pace writer, reader;
	bool reader_is_stopped;
	unsigned segment_bytes; /* as of an end */
	bool holds; /* sends nothing yet: limit is 0 */
};

struct pair_plan {
	struct flow flows[2];
	unsigned send_buffer, receive_buffer; /* of the test's sockets; 0: the kernel's */
	enum token_mode token_modes[2];
	bool uses_ipv6[2];       /* settings.both_families of the host */
	bool second_comes_later; /* by pair_connect_second() */
};

struct pair {
	struct test *test;
	size_t number;
	struct pair_plan plan;
	struct end ends[2];
	/* as the host said last */
	bool is_joined, is_ended;
	uint16_t first_port;
	struct pair_report report;
	/* of the test */
	int stage;
	uint64_t mark, marks[2];
};

/* NULL: the test has failed. Lives until the test ends. */
struct pair *pair_open(struct test *test, const struct pair_plan *plan);
bool pair_connect_second(struct pair *pair);
/* Opens `count` of them. Where parties do a handshake it waits for each hundred, since all at once
 * would last longer than the host waits for one. False: the test has failed. */
bool pairs_open(struct test *test, size_t count, const struct pair_plan *plan);

/* Lets stream `stream` send up to `limit` now. */
void pair_release(struct pair *pair, unsigned stream, uint64_t limit);
/* Ends stream `stream` at what was sent by now, with `finish`. */
void pair_cut(struct pair *pair, unsigned stream, enum finish finish);
void pair_stop_reader(struct pair *pair, unsigned stream, bool stopped);

/* Closes what is still open of it, without looking back. */
void pair_abandon(struct pair *pair);

/* ---- asking the host ---- */

bool pairs_poll_gates(struct test *test);   /* plane, gates, is_joined */
bool pairs_poll_reports(struct test *test); /* the whole report of live pairs */
bool pairs_poll_ended(struct test *test);   /* is_ended and the last report */

bool pair_gates_are_open(const struct pair *pair);
/* Joined on the test's plane; on sockmap both gates are open too. */
bool pair_is_settled(const struct pair *pair);

/* ---- waiting; each fails the test itself ---- */

bool pairs_wait_settled(struct test *test, unsigned deadline_ms);
bool pairs_wait_through(struct test *test, unsigned deadline_ms);
bool pairs_wait_ended(struct test *test, unsigned deadline_ms);
/* Everything that was sent has been received, in pairs that are not through. */
bool pairs_wait_received(struct test *test, unsigned deadline_ms);
/* Received and settled; then each stream that carries bytes sends a few more, so that some go
 * through the open gates whatever comes next. */
bool pairs_warm_up(struct test *test, unsigned deadline_ms);

/* ---- judging; each fails the test itself and returns false ---- */

/* No wrong byte and no error so far. */
bool pair_check_bytes(struct pair *pair);
/* Ended happily on the test's plane, every byte arrived, the counters exact. */
bool pair_check_happy(struct pair *pair);
bool pairs_check_happy(struct test *test);
/* On sockmap: redirected in each direction that carried bytes. */
bool pair_check_redirected(struct pair *pair);
/* Ends[`side`] has seen ECONNRESET, never an end of the stream. */
bool pair_check_reset(struct pair *pair, unsigned side);

uint64_t report_closings(const struct direction_report *report);

/* For messages. */
const char *pair_text(const struct pair *pair, char *text, size_t size);
