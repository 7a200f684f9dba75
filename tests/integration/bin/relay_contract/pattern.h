// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The bytes that streams carry: pseudo-random, known from the stream's number and
 * the position alone, so that every byte can be compared as it arrives and a wrong
 * one can be named as lost, doubled or foreign. */
#include <stddef.h>
#include <stdint.h>

#define PATTERN_RUN (256u << 10) /* bytes that can be had in one piece, from any position */

/* Fills the table; once, before everything else. */
void pattern_seed(uint64_t seed);

/* PATTERN_RUN bytes of stream `stream` from `position` on. Never freed, shared. */
const uint8_t *pattern_at(uint64_t stream, uint64_t position);

/* Leading bytes of `data` that are right; `size` if all are. At most PATTERN_RUN. */
size_t pattern_compare(uint64_t stream, uint64_t position, const uint8_t *data, size_t size);

/* Where in the stream, relative to `position`, do these bytes really stand? Writes
 * a few words for people to `text`. */
void pattern_explain(uint64_t stream, uint64_t position, const uint8_t *data, size_t size, char *text, size_t text_size);

/* A number that is spread over 64 bits from any other; also the tests' random numbers. */
uint64_t pattern_mix(uint64_t value);
