// SPDX-License-Identifier: Apache-2.0
/* `p2pctl status`: what the proxy is doing, on one page. */
#include "ask.h"
#include "format.h"

#include <inttypes.h>
#include <stdio.h>

static void print_tickets(const json_t *tickets)
{
	char ended[256];

	printf("tickets    %" PRIu64 " open, %" PRIu64 " issued, %" PRIu64 " matched, %" PRIu64 " requests over a limit\n",
	       number_of(tickets, "open"), number_of(tickets, "issued"), number_of(tickets, "matched"),
	       number_of(tickets, "turned_away"));
	printf("           ended without a pair: %s\n",
	       format_counts(json_object_get(tickets, "ended"), "none", ended, sizeof ended));
}

static void print_pairs(const json_t *pairs)
{
	const json_t *gates = json_object_get(pairs, "gates"), *credit = json_object_get(pairs, "credit");
	const json_t *buffers = json_object_get(pairs, "buffers");
	char a[FORMAT_SIZE], b[FORMAT_SIZE], c[FORMAT_SIZE], text[256];

	printf("pairs      %" PRIu64 " live (%s), %" PRIu64 " joined\n", number_of(pairs, "live"),
	       format_counts(json_object_get(pairs, "by_plane"), "none", text, sizeof text), number_of(pairs, "joined"));
	printf("           ended: %s\n", format_counts(json_object_get(pairs, "ended"), "none", text, sizeof text));
	printf("bytes      %s in all, %s redirected by the kernel, %s spilled, %" PRIu64 " packets\n",
	       format_bytes(number_of(pairs, "bytes"), a), format_bytes(number_of(pairs, "redirected_bytes"), b),
	       format_bytes(number_of(pairs, "spilled_bytes"), c), number_of(pairs, "packets"));
	printf("credit     %s lent of %s\n", format_bytes(number_of(credit, "lent_bytes"), a),
	       format_bytes(number_of(credit, "budget_bytes"), b));
	printf("buffers    %s lent of %s\n", format_bytes(number_of(buffers, "lent_bytes"), a),
	       format_bytes(number_of(buffers, "budget_bytes"), b));
	printf("gates      %" PRIu64 " openings (%" PRIu64 " with a hold); closings: %s; %" PRIu64 " trims, %" PRIu64 " breaks\n",
	       number_of(gates, "openings"), number_of(gates, "holds"),
	       format_counts(json_object_get(gates, "closings"), "none", text, sizeof text), number_of(gates, "trims"),
	       number_of(gates, "breaks"));
	printf("books      %" PRIu64 " checked, %" PRIu64 " wrong; %" PRIu64 " late records, %" PRIu64 " found by the sweep\n",
	       number_of(gates, "books_checked"), number_of(gates, "books_wrong"), number_of(gates, "late_records"),
	       number_of(gates, "found_by_sweep"));
}

static bool is_sound(const json_t *answer)
{
	return json_is_object(json_object_get(answer, "endpoint")) &&
	       json_is_object(json_object_get(answer, "tickets")) && json_is_object(json_object_get(answer, "pairs"));
}

int command_status(const struct options *options, char **arguments)
{
	char a[FORMAT_SIZE], b[FORMAT_SIZE], text[256];
	json_t *status = ask(options, "status", NULL, is_sound);
	const json_t *endpoint = json_object_get(status, "endpoint");

	(void)arguments;
	if (!status)
		return 1;
	if (options->json) {
		int result = print_json(status);
		json_decref(status);
		return result;
	}
	printf("proxy      %s, version %s, pid %" PRIu64 ", up %s, %" PRIu64 " workers, %s resident%s\n",
	       text_of(status, "name"), text_of(status, "version"), number_of(status, "pid"),
	       format_duration(number_of(status, "uptime_ms"), a), number_of(status, "workers"),
	       format_bytes(number_of(status, "resident_bytes"), b),
	       json_is_true(json_object_get(status, "stopping")) ? ", stopping" : "");
	printf("endpoint   %s (peers are told %s): %" PRIu64 " accepted, %" PRIu64 " without a token yet, %" PRIu64
	       " waiting\n",
	       text_of(endpoint, "listens_on"), text_of(endpoint, "told_to_peers"), number_of(endpoint, "accepted"),
	       number_of(endpoint, "reading_token"), number_of(endpoint, "waiting"));
	const json_t *tls = json_object_get(endpoint, "tls");
	if (tls)
		printf("over TLS   %s (peers are told %s): %" PRIu64 " accepted\n", text_of(tls, "listens_on"),
		       text_of(tls, "told_to_peers"), number_of(tls, "accepted"));
	printf("           refused: %s\n",
	       format_counts(json_object_get(endpoint, "refused"), "none", text, sizeof text));
	print_tickets(json_object_get(status, "tickets"));
	print_pairs(json_object_get(status, "pairs"));
	json_decref(status);
	return 0;
}
