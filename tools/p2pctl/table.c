// SPDX-License-Identifier: Apache-2.0
/* A table keeps copies of its cells until it is printed, because a column is as
 * wide as its widest cell. Without memory rows are left out, never mixed up. */
#include "table.h"

#include "format.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
	struct row *next;
	char *cells[TABLE_COLUMNS_MAX];
	char *note;
	size_t filled;
};

struct table {
	const char *const *headings;
	size_t columns;
	struct row *first, **end;
	struct row *current; /* not complete; in the list */
	struct row *last;
};

struct table *table_new(const char *const *headings)
{
	struct table *table = calloc(1, sizeof *table);
	if (!table)
		return NULL;
	table->headings = headings;
	while (headings[table->columns] && table->columns < TABLE_COLUMNS_MAX)
		table->columns++;
	table->end = &table->first;
	return table;
}

void table_cell(struct table *table, const char *text)
{
	if (!table)
		return;
	if (!table->current) {
		table->current = calloc(1, sizeof *table->current);
		if (!table->current)
			return;
		*table->end = table->current;
		table->end = &table->current->next;
	}
	struct row *row = table->current;
	row->cells[row->filled++] = format_printable(text);
	if (row->filled == table->columns) {
		table->last = row;
		table->current = NULL;
	}
}

void table_cell_f(struct table *table, const char *format, ...)
{
	char text[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	table_cell(table, text);
}

void table_note(struct table *table, const char *text)
{
	if (!table || !table->last)
		return;
	free(table->last->note);
	table->last->note = format_printable(text);
}

static const char *heading_of(const struct table *table, size_t column)
{
	const char *heading = table->headings[column];

	return *heading == '>' ? heading + 1 : heading;
}

static size_t width_of(const struct table *table, size_t column)
{
	size_t width = format_width(heading_of(table, column));

	for (const struct row *row = table->first; row; row = row->next) {
		size_t cell = row->cells[column] ? format_width(row->cells[column]) : 0;
		if (cell > width)
			width = cell;
	}
	return width;
}

static void print_cell(const struct table *table, size_t column, const char *text, size_t width)
{
	bool is_last = column + 1 == table->columns, is_right = *table->headings[column] == '>';
	int padding = (int)(width - format_width(text));

	if (is_right)
		printf("%*s%s", padding, "", text);
	else
		printf("%s%*s", text, is_last ? 0 : padding, "");
	fputs(is_last ? "\n" : "  ", stdout);
}

static void row_free(struct row *row)
{
	for (size_t i = 0; i < TABLE_COLUMNS_MAX; i++)
		free(row->cells[i]);
	free(row->note);
	free(row);
}

void table_print(struct table *table)
{
	size_t widths[TABLE_COLUMNS_MAX];

	if (!table)
		return;
	for (size_t i = 0; i < table->columns; i++)
		widths[i] = width_of(table, i);
	for (size_t i = 0; i < table->columns; i++)
		print_cell(table, i, heading_of(table, i), widths[i]);
	while (table->first) {
		struct row *row = table->first;
		for (size_t i = 0; i < table->columns && row->filled == table->columns; i++)
			print_cell(table, i, row->cells[i] ? row->cells[i] : "?", widths[i]);
		if (row->note)
			printf("%s\n", row->note);
		table->first = row->next;
		row_free(row);
	}
	free(table);
}
