// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Values as people read them. Those with `text` return it. */
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define FORMAT_SIZE 32

char *format_bytes(uint64_t bytes, char text[FORMAT_SIZE]);       /* "0 B", "12.3 KB", "4.56 GB" */
char *format_duration(uint64_t milliseconds, char text[FORMAT_SIZE]); /* "350 ms", "12.4 s", "3 m 12 s", "2 d 4 h" */

/* Counts of an object that are not zero: "credit 3, pile 1", or `empty`. */
char *format_counts(const json_t *counts, const char *empty, char *text, size_t size);

/* A copy of another operator's words that no terminal obeys: control characters, those of
 * UTF-8 too, are '?'. NULL: no memory. */
char *format_printable(const char *text);

/* Characters of UTF-8 text, which is the columns that it takes in Latin script. */
size_t format_width(const char *text);

/* An operator's name for a table: "unknown" if it is empty, cut behind FORMAT_NAME_MOST
 * characters; `p2pctl pair` and --json have it whole. */
#define FORMAT_NAME_MOST 32
#define FORMAT_NAME_SIZE (4 * FORMAT_NAME_MOST + 8)
char *format_name(const char *name, char text[FORMAT_NAME_SIZE]);
