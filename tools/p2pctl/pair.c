// SPDX-License-Identifier: Apache-2.0
/* `p2pctl pair ID`: everything about one pair. */
#include "ask.h"
#include "format.h"

#include "base/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void print_text(const char *text)
{
	_free_ char *printable = format_printable(text);

	fputs(printable ? printable : "?", stdout);
}

static void print_operator(const json_t *party)
{
	const char *name = text_of(party, "operator");

	print_text(*name ? name : "unknown");
}

static void print_party(const json_t *party)
{
	print_operator(party);
	printf(" at ");
	print_text(text_of(party, "address"));
	printf(" (%s, %s)", json_is_true(json_object_get(party, "identified")) ? "identified" : "known by the token only",
	       text_of(party, "transport"));
}

static void print_direction(const json_t *parties, const json_t *direction, unsigned from)
{
	char a[FORMAT_SIZE], b[FORMAT_SIZE], c[FORMAT_SIZE], text[256];

	printf("\n");
	print_operator(json_array_get(parties, from));
	printf(" to ");
	print_operator(json_array_get(parties, !from));
	printf("%s\n", json_is_true(json_object_get(direction, "ended")) ? " (ended)" : "");
	printf("  bytes      %s (%" PRIu64 "): %s redirected, %s spilled\n", format_bytes(number_of(direction, "bytes"), a),
	       number_of(direction, "bytes"), format_bytes(number_of(direction, "redirected_bytes"), b),
	       format_bytes(number_of(direction, "spilled_bytes"), c));
	printf("  packets    %" PRIu64 "\n", number_of(direction, "packets"));
	printf("  gate       %s, %" PRIu64 " openings (%" PRIu64 " with a hold), closings: %s; %" PRIu64 " gatherings\n",
	       text_of(direction, "gate"), number_of(direction, "openings"), number_of(direction, "holds"),
	       format_counts(json_object_get(direction, "closings"), "none", text, sizeof text),
	       number_of(direction, "gatherings"));
	printf("  credit     %s lent, %s in flight\n", format_bytes(number_of(direction, "credit_bytes"), a),
	       format_bytes(number_of(direction, "in_flight_bytes"), b));
	printf("  trims      %" PRIu64 ", breaks %" PRIu64 "\n", number_of(direction, "trims"),
	       number_of(direction, "breaks"));
}

static void print_pair(const json_t *pair)
{
	const json_t *parties = json_object_get(pair, "parties"), *directions = json_object_get(pair, "directions");
	char age[FORMAT_SIZE];

	printf("pair %" PRIu64 ", joined %s ago on worker %" PRIu64 "\n", number_of(pair, "id"),
	       format_duration(number_of(pair, "age_ms"), age), number_of(pair, "worker"));
	for (unsigned i = 0; i < 2; i++) {
		printf("  party      ");
		print_party(json_array_get(parties, i));
		printf("\n");
	}
	printf("  plane      %s: ", text_of(pair, "plane"));
	print_text(text_of(pair, "plane_reason"));
	printf("\n");
	for (unsigned i = 0; i < 2; i++)
		print_direction(parties, json_array_get(directions, i), i);
}

static bool is_sound(const json_t *answer)
{
	return has_list(answer, "parties") && has_list(answer, "directions") &&
	       json_array_size(json_object_get(answer, "parties")) == 2 &&
	       json_array_size(json_object_get(answer, "directions")) == 2;
}

int command_pair(const struct options *options, char **arguments)
{
	char *end;

	errno = 0;
	unsigned long long id = strtoull(arguments[0], &end, 10);
	if (!isdigit((unsigned char)*arguments[0]) || *end || errno || id > 1ull << 53) {
		fprintf(stderr, "p2pctl: '%s' is not the number of a pair; `p2pctl pairs` shows them\n", arguments[0]);
		return 2;
	}
	json_t *pair = ask(options, "pair", json_pack("{s:I}", "id", (json_int_t)id), is_sound);
	if (!pair)
		return 1;
	int result = 0;
	if (options->json)
		result = print_json(pair);
	else
		print_pair(pair);
	json_decref(pair);
	return result;
}
