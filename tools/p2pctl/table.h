// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Rows of text in aligned columns on standard output. */
#include <stddef.h>

#define TABLE_COLUMNS_MAX 10

struct table;

/* `headings` ends with NULL; one that begins with '>' is aligned to the right
 * (without the sign). NULL: no memory. */
struct table *table_new(const char *const *headings);

/* Adds a cell to the current row; a row is complete when each column has one.
 * Text is copied; control characters are shown as '?'. */
void table_cell(struct table *table, const char *text);
void table_cell_f(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Adds a line that spans all columns behind the row that was completed last. */
void table_note(struct table *table, const char *text);

/* Prints and frees. */
void table_print(struct table *table);
