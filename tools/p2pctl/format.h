// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Values as people read them. Each returns `text`. */
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define FORMAT_SIZE 32

char *format_bytes(uint64_t bytes, char text[FORMAT_SIZE]);       /* "0 B", "12.3 KB", "4.56 GB" */
char *format_duration(uint64_t milliseconds, char text[FORMAT_SIZE]); /* "350 ms", "12.4 s", "3 m 12 s", "2 d 4 h" */

/* Counts of an object that are not zero: "credit 3, pile 1", or `empty`. */
char *format_counts(const json_t *counts, const char *empty, char *text, size_t size);
