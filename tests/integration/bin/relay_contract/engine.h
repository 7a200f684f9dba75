// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The tester's sockets and the loop that drives them. An `end` is one connection to
 * the relay: it sends one stream of the pattern, with a pace and up to a limit that
 * the test moves, and checks every byte of another stream that it receives. What it
 * met (end of stream, errors, wrong bytes) it keeps; nothing in here decides whether
 * that is right.
 *
 * One thread; nothing blocks but engine_run(). */
#include "pattern.h"
#include "secure.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FOREVER UINT64_MAX
#define TOKEN_SIZE 32
#define PREFIX_SIZE 2 /* a stream of a handed-off party looks like TLS: this stands before the pattern */

enum finish {
	FINISH_STAY,     /* at the end of the stream nothing happens */
	FINISH_SHUTDOWN, /* FIN */
	FINISH_CLOSE,    /* close(2) at once */
	FINISH_RESET,    /* RST */
};

enum token_mode {
	TOKEN_ALONE,     /* in one write */
	TOKEN_BY_BYTES,  /* in 32 segments */
	TOKEN_WITH_DATA, /* in one write with the first bytes of the stream */
	TOKEN_WITH_END,  /* with the whole stream and its FIN in one segment: at most 30,000 bytes, FINISH_SHUTDOWN */
	TOKEN_NONE,
};

struct pace {
	uint64_t rate;            /* bytes per second; 0: as fast as it goes */
	uint32_t chunk_max;       /* random sizes of each call up to this; 0: as much as it takes */
	uint32_t pause_after_max; /* pauses after random numbers of bytes up to this; 0: never */
	uint32_t pause_max_us;
	/* state */
	uint64_t next_ns, until_pause;
};

struct end {
	struct engine *engine;
	int fd; /* -1: closed */
	uint16_t port;
	bool uses_ipv6;
	uint32_t watched; /* epoll mask */
	bool is_in_epoll;
	size_t timed; /* position in engine->timed, from 1; 0: not in it */

	uint8_t token[TOKEN_SIZE];
	enum token_mode token_mode;
	unsigned token_sent;

	struct secure *secure; /* TLS at the relay; NULL: plain */
	unsigned prefix_out, prefix_in; /* sizes; 0: none */
	unsigned prefix_sent, prefix_received;

	uint64_t out_stream, sent;
	uint64_t limit; /* may send up to here now */
	uint64_t total; /* the stream's length */
	enum finish finish;
	unsigned segment_bytes; /* of each segment, a packet of its own; 0: as the kernel likes */
	struct pace out_pace;
	bool fin_sent;
	bool blocked; /* the last send said EAGAIN */

	uint64_t in_stream, received;
	bool stopped; /* does not read */
	struct pace in_pace;
	bool eof_seen;
	uint32_t checksum_out, checksum_in; /* adler32, if the engine keeps them */

	int error; /* first errno of the socket */
	bool wrong;
	uint64_t wrong_at;
	char wrong_text[96];
};

struct engine {
	int epoll_fd;
	struct end **timed;
	size_t timed_count, timed_capacity;
	uint64_t now_ns;
	uint64_t random_state;
	bool keeps_checksums;
	uint64_t sent_bytes, received_bytes; /* of all ends, for rates */
};

int engine_create(struct engine *engine, uint64_t seed);
void engine_destroy(struct engine *engine);

uint64_t engine_random(struct engine *engine);
/* From `low` to `high`, both included. */
uint64_t engine_random_between(struct engine *engine, uint64_t low, uint64_t high);

/* Connects `end` to the port on loopback, without waiting, with these buffers
 * (SO_SNDBUF and SO_RCVBUF as given; 0: the kernel's). Paces, streams and limits
 * must be set. 0 or a negative errno. */
int end_connect(struct engine *engine, struct end *end, uint16_t port, unsigned send_buffer, unsigned receive_buffer);

/* After any change of limit, total, stopped or a pace by the test. */
void end_update(struct end *end);

/* close(2), or RST. Nothing if it is closed already. */
void end_close(struct end *end);
void end_reset(struct end *end);
/* end_close(), behind the end of the own stream where TLS tells it. */
void end_leave(struct end *end);

/* Puts another descriptor of the same connection in place (forge.c). */
void end_take_out(struct end *end);
int end_put_back(struct end *end, int fd);

/* Sent all it should and, unless it closed at the end, seen the end of the other stream. */
bool end_is_through(const struct end *end);

/* Drives everything until `condition` holds (true) or `deadline_ms` have passed (false). The
 * condition is looked at after each round, at least every 2 ms; it may change ends. */
bool engine_run(struct engine *engine, bool (*condition)(void *context), void *context, unsigned deadline_ms);

/* Drives everything for a while: for measurements over time, never to wait for something. */
void engine_run_for(struct engine *engine, unsigned duration_ms);
