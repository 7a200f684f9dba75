// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Clocks, and wall-clock instants as the protocol writes them.
 *
 * RFC3339Nano (protocol page, conventions): 0 to 9 fractional digits, trailing
 * zeros and a bare dot removed, zone "Z" for offset zero, else +hh:mm. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct instant {
	int64_t seconds;        /* since 1970-01-01T00:00:00Z */
	int32_t nanoseconds;    /* 0 to 999,999,999 */
	int32_t offset_minutes; /* zone it was written in; kept, because hashes cover the text */
};

#define INSTANT_TEXT_SIZE 48

/* Monotonic clock. */
uint64_t clock_now_ns(void);
uint64_t clock_now_ms(void);

/* The current time in the local zone. */
struct instant instant_now(void);

/* Parses RFC 3339 with an optional fraction; digits beyond nanoseconds are
 * cut. Returns 0 or -EINVAL. */
int instant_parse(const char *text, size_t length, struct instant *result);

/* Writes RFC3339Nano in the instant's own offset; returns `text`. */
char *instant_format(struct instant value, char text[INSTANT_TEXT_SIZE]);

/* Negative, 0 or positive as `a` is before, equal to or after `b`. */
int instant_compare(struct instant a, struct instant b);

/* 0001-01-01T00:00:00Z, which structured hashes treat as Null. */
bool instant_is_zero(struct instant value);
