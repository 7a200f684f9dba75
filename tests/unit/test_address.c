// SPDX-License-Identifier: Apache-2.0
/* Address texts, listeners, and the connector on a real loop. */
#include "base/address.h"
#include "base/log.h"
#include "base/instant.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void addresses_are_split(void **state)
{
	static const struct {
		const char *text, *host;
		uint16_t port;
	} vectors[] = {
		{ "localhost:80", "localhost", 80 },   { "127.0.0.1:65535", "127.0.0.1", 65535 },
		{ ":8080", "", 8080 },		       { "[::1]:443", "::1", 443 },
		{ "[fe80::1%eth0]:1", "fe80::1%eth0", 1 }, { "host.example:0", "host.example", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		uint16_t port = 1;
		char *host = NULL;

		assert_int_equal(address_split(vectors[i].text, &host, &port), 0);
		assert_string_equal(host, vectors[i].host);
		assert_int_equal(port, vectors[i].port);
		free(host);
	}
}

static void what_is_no_address_is_refused(void **state)
{
	static const char *const wrong[] = { "", "localhost", "localhost:", "localhost:http", "localhost:65536",
					     "localhost:-1", "localhost:+1", "localhost:080000", "::1:80", "a:b:80",
					     "[::1]", "[::1]80", "[::1:80", "host :80", "ho]st:80", "localhost:80 " };
	uint16_t port;
	char *host;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(address_split(wrong[i], &host, &port), -EINVAL);
}

static void addresses_are_written(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(80) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(81) };
	struct sockaddr local = { .sa_family = AF_UNIX };
	char text[ADDRESS_TEXT_SIZE];

	(void)state;
	inet_pton(AF_INET, "192.0.2.7", &in.sin_addr);
	assert_string_equal(address_format((struct sockaddr *)&in, text), "192.0.2.7:80");
	inet_pton(AF_INET6, "2001:db8::7", &in6.sin6_addr);
	assert_string_equal(address_format((struct sockaddr *)&in6, text), "[2001:db8::7]:81");
	inet_pton(AF_INET6, "::ffff:192.0.2.7", &in6.sin6_addr);
	assert_string_equal(address_format((struct sockaddr *)&in6, text), "192.0.2.7:81");
	inet_pton(AF_INET6, "fe80:1234:5678:9abc:def0:1234:5678:9abc", &in6.sin6_addr);
	in6.sin6_scope_id = 4294967295U;
	in6.sin6_port = htons(65535);
	assert_string_equal(address_format((struct sockaddr *)&in6, text),
			    "[fe80:1234:5678:9abc:def0:1234:5678:9abc%4294967295]:65535");
	assert_string_equal(address_format(&local, text), "unix");
	assert_string_equal(address_of_peer(-1, text), "?");
}

static int port_of(int fd, int *family)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	if (family)
		*family = address.ss_family;
	return ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port :
						     ((struct sockaddr_in6 *)&address)->sin6_port);
}

static void listeners_bind_what_the_text_says(void **state)
{
	int fd, second, family;
	char text[64];

	(void)state;
	fd = address_listen("localhost:0", false, 8);
	assert_true(fd >= 0);
	assert_true(port_of(fd, &family) > 0);
	assert_int_equal(family, AF_INET);
	snprintf(text, sizeof(text), "127.0.0.1:%d", port_of(fd, NULL));
	assert_int_equal(address_listen(text, false, 8), -EADDRINUSE);
	close(fd);

	fd = address_listen("127.0.0.1:0", true, 8);
	snprintf(text, sizeof(text), "127.0.0.1:%d", port_of(fd, NULL));
	second = address_listen(text, true, 8);
	assert_true(second >= 0);
	close(second);
	close(fd);

	fd = address_listen(":0", false, 8);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(address_listen("nonsense", false, 8), -EINVAL);
	assert_int_equal(address_listen("192.0.2.1:0", false, 8), -EADDRNOTAVAIL);
}

/* --- connecting --- */

struct outcome_of_connect {
	struct event_base *base;
	int calls, result;
	char reason[256];
};

static void on_done(int fd_or_error, const char *reason, void *context)
{
	struct outcome_of_connect *outcome = context;

	outcome->calls++;
	outcome->result = fd_or_error;
	snprintf(outcome->reason, sizeof(outcome->reason), "%s", reason);
}

static struct outcome_of_connect connect_to(const char *text, unsigned timeout_ms)
{
	struct outcome_of_connect outcome = { .base = event_base_new() };
	struct connector *connector = NULL;

	assert_int_equal(connector_start(outcome.base, text, timeout_ms, on_done, &outcome, &connector), 0);
	assert_non_null(connector);
	assert_int_equal(outcome.calls, 0);
	event_base_dispatch(outcome.base); /* ends when nothing is left of the connector */
	assert_int_equal(outcome.calls, 1);
	event_base_free(outcome.base);
	return outcome;
}

static void connects_to(const char *bind_text, const char *host)
{
	int listener = address_listen(bind_text, false, 8), accepted = -1;
	struct outcome_of_connect outcome;
	char text[64];

	if (listener < 0)
		skip(); /* no IPv6 here */
	snprintf(text, sizeof(text), "%s:%d", host, port_of(listener, NULL));
	outcome = connect_to(text, 5000);
	assert_true(outcome.result >= 0);
	accepted = accept(listener, NULL, NULL);
	assert_true(accepted >= 0);
	close(accepted);
	close(outcome.result);
	close(listener);
}

static void connects_to_numeric_addresses(void **state)
{
	(void)state;
	connects_to("127.0.0.1:0", "127.0.0.1");
	connects_to("localhost:0", "localhost");
}

static void connects_over_ipv6(void **state)
{
	(void)state;
	connects_to("[::1]:0", "[::1]");
}

/* 127.0.0.1 refuses, ::1 takes it. */
static void tries_every_address(void **state)
{
	(void)state;
	connects_to("[::1]:0", "localhost");
}

/* A name of this machine that is not localhost, from /etc/hosts; the address
 * that it stands for in `address`. */
static bool name_from_hosts(char name[128], char address[64])
{
	FILE *hosts = fopen("/etc/hosts", "r");
	char line[512];
	bool found = false;

	while (hosts && !found && fgets(line, sizeof(line), hosts)) {
		char *save, *word = strtok_r(line, " \t\n", &save);

		if (!word || *word == '#')
			continue;
		snprintf(address, 64, strchr(word, ':') ? "[%s]:0" : "%s:0", word);
		while (!found && (word = strtok_r(NULL, " \t\n", &save)) && *word != '#') {
			int probe = strcmp(word, "localhost") ? address_listen(address, false, 1) : -1;

			found = probe >= 0;
			if (found)
				close(probe);
			snprintf(name, 128, "%s", word);
		}
	}
	if (hosts)
		fclose(hosts);
	return found;
}

static void names_are_resolved(void **state)
{
	char name[128], address[64];

	(void)state;
	if (!name_from_hosts(name, address))
		skip(); /* no such name on this machine */
	connects_to(address, name);
}

static void refusal_names_the_address(void **state)
{
	int listener = address_listen("127.0.0.1:0", false, 8), port = port_of(listener, NULL);
	struct outcome_of_connect outcome;
	char text[64];

	(void)state;
	close(listener);
	snprintf(text, sizeof(text), "127.0.0.1:%d", port);
	outcome = connect_to(text, 5000);
	assert_int_equal(outcome.result, -ECONNREFUSED);
	assert_non_null(strstr(outcome.reason, text));
	assert_non_null(strstr(outcome.reason, "refused"));
}

static void every_address_that_was_tried_is_named(void **state)
{
	int listener = address_listen("127.0.0.1:0", false, 8), port = port_of(listener, NULL);
	struct outcome_of_connect outcome;
	char text[64], expected[2][64];

	(void)state;
	close(listener);
	snprintf(text, sizeof(text), "localhost:%d", port);
	snprintf(expected[0], sizeof(expected[0]), "at 127.0.0.1:%d (Connection refused), ", port);
	snprintf(expected[1], sizeof(expected[1]), "[::1]:%d: ", port);
	outcome = connect_to(text, 5000);
	assert_true(outcome.result < 0);
	assert_non_null(strstr(outcome.reason, expected[0]));
	assert_non_null(strstr(outcome.reason, expected[1]));
}

static void an_unknown_host_cannot_be_bound(void **state)
{
	(void)state;
	log_configure(LOG_LEVEL_PANIC, LOG_FORMAT_TEXT, "Test");
	assert_int_equal(address_listen("no-such-name.invalid:0", false, 8), -EADDRNOTAVAIL);
}

/* A full backlog swallows the SYN. */
static void a_silent_address_ends_at_the_deadline(void **state)
{
	int listener = address_listen("127.0.0.1:0", false, 0), fill[8];
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct outcome_of_connect outcome;
	uint64_t began;
	char text[64];

	(void)state;
	address.sin_port = htons((uint16_t)port_of(listener, NULL));
	for (int i = 0; i < 8; i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(fill[i], (struct sockaddr *)&address, sizeof(address));
	}
	snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(address.sin_port));
	began = clock_now_ms();
	outcome = connect_to(text, 300);
	assert_int_equal(outcome.result, -ETIMEDOUT);
	assert_in_range(clock_now_ms() - began, 250, 5000);
	for (int i = 0; i < 8; i++)
		close(fill[i]);
	close(listener);
}

static void a_name_without_an_address_is_an_error(void **state)
{
	struct outcome_of_connect outcome = connect_to("no-such-name.invalid:80", 1000);

	(void)state;
	assert_true(outcome.result == -EHOSTUNREACH || outcome.result == -ETIMEDOUT);
	assert_non_null(strstr(outcome.reason, "no-such-name.invalid:80"));
}

static void cancelled_connectors_do_not_call_back(void **state)
{
	struct outcome_of_connect outcome = { .base = event_base_new() };
	struct connector *first, *second, *third;

	(void)state;
	assert_int_equal(connector_start(outcome.base, "127.0.0.1:1", 1000, on_done, &outcome, &first), 0);
	connector_cancel(first);
	assert_int_equal(connector_start(outcome.base, "no-such-name.invalid:1", 1000, on_done, &outcome, &second), 0);
	assert_int_equal(connector_start(outcome.base, "192.0.2.1:1", 1000, on_done, &outcome, &third), 0);
	event_base_loop(outcome.base, EVLOOP_NONBLOCK);
	if (!outcome.calls) { /* a machine without a route answers at once */
		connector_cancel(second);
		connector_cancel(third);
		event_base_dispatch(outcome.base);
		assert_int_equal(outcome.calls, 0);
	}
	connector_cancel(NULL);
	assert_int_equal(connector_start(outcome.base, "nonsense", 1000, on_done, &outcome, &first), -EINVAL);
	event_base_free(outcome.base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_split),
		cmocka_unit_test(what_is_no_address_is_refused),
		cmocka_unit_test(addresses_are_written),
		cmocka_unit_test(listeners_bind_what_the_text_says),
		cmocka_unit_test(connects_to_numeric_addresses),
		cmocka_unit_test(connects_over_ipv6),
		cmocka_unit_test(tries_every_address),
		cmocka_unit_test(names_are_resolved),
		cmocka_unit_test(refusal_names_the_address),
		cmocka_unit_test(every_address_that_was_tried_is_named),
		cmocka_unit_test(an_unknown_host_cannot_be_bound),
		cmocka_unit_test(a_silent_address_ends_at_the_deadline),
		cmocka_unit_test(a_name_without_an_address_is_an_error),
		cmocka_unit_test(cancelled_connectors_do_not_call_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
