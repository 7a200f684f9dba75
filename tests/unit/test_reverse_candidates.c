// SPDX-License-Identifier: Apache-2.0
/* To whom reverse streams are kept open (protocol page 6.8). */
#include "router/reverse_candidates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static json_t *parse(const char *text)
{
	json_error_t error;
	json_t *value = json_loads(text, 0, &error);
	if (!value)
		fail_msg("%s: %s", text, error.text);
	return value;
}

/* Own entry: reachable through P only, called by "proxies" (service level) and "peers" (method level). */
#define SERVICES \
	"\"services\":[{\"name\":\"s\",\"permissions\":[{\"group\":\"proxies\",\"rights\":[\"call\"]}]," \
	"\"methods\":[{\"name\":\"m\",\"permissions\":[{\"group\":\"peers\",\"rights\":[]}]}]}]"
static const char proxied_own[] =
	"{\"name\":\"hd-1\",\"channels\":[{\"type\":\"grpc_client\",\"settings\":null},{\"type\":\"grpc_server\","
	"\"settings\":{\"address\":\"localhost:1\",\"proxy\":\"P\"}}]," SERVICES "}";
static const char public_own[] =
	"{\"name\":\"hd-1\",\"channels\":[{\"type\":\"grpc_server\",\"settings\":{\"address\":\"localhost:1\"}}]," SERVICES
	"}";
static const char broken_own[] =
	"{\"name\":\"hd-1\",\"channels\":[{\"type\":\"grpc_server\",\"settings\":{\"address\":5}}]," SERVICES "}";
static const char clientless_own[] = "{\"name\":\"hd-1\",\"channels\":[]," SERVICES "}";

/* Names of the candidates, joined by blanks. */
static void check(const char *own_text, const char *others, const char *expected)
{
	json_t *own = parse(own_text), *entries = parse(others);
	json_t *candidates = reverse_candidates(own, entries);
	assert_non_null(candidates);
	char names[256] = "";
	for (size_t i = 0; i < json_array_size(candidates); i++) {
		strcat(names, i ? " " : "");
		strcat(names, json_string_value(json_object_get(json_array_get(candidates, i), "name")));
	}
	assert_string_equal(names, expected);
	json_decref(candidates);
	json_decref(entries);
	json_decref(own);
}

#define ENTRY(name, group, channels) \
	"{\"name\":\"" name "\",\"groups\":[\"" group "\"],\"channels\":[" channels "]}"
#define SERVER(settings) "{\"type\":\"grpc_server\",\"settings\":" settings "}"
#define CLIENT "{\"type\":\"grpc_client\",\"settings\":null}"
#define PUBLIC SERVER("{\"address\":\"localhost:2\"}")

static void proxied_operator_keeps_streams_to_those_who_may_call_it(void **state)
{
	(void)state;
	check(proxied_own,
	      "[" ENTRY("P", "proxies", PUBLIC "," CLIENT) "," ENTRY("hd-2", "peers", PUBLIC) ","
	      ENTRY("other", "strangers", PUBLIC) "," ENTRY("hd-1", "peers", PUBLIC) "]",
	      "P hd-2");
}

static void public_operator_leaves_out_those_who_can_dial_it(void **state)
{
	(void)state;
	check(public_own, "[" ENTRY("a", "peers", PUBLIC "," CLIENT) "," ENTRY("b", "peers", PUBLIC) "]", "b");
	check(clientless_own, "[" ENTRY("a", "peers", PUBLIC "," CLIENT) "]", "a");
}

static void peers_that_cannot_be_dialled_are_left_out(void **state)
{
	(void)state;
	check(proxied_own,
	      "[" ENTRY("internal", "peers", SERVER("{\"address\":\"localhost:2\",\"internal\":true}")) ","
	      ENTRY("proxied", "peers", SERVER("{\"address\":\"localhost:2\",\"proxy\":\"P\"}")) ","
	      ENTRY("serverless", "peers", CLIENT) "]",
	      "");
}

static void malformed_entry_skips_only_itself(void **state)
{
	(void)state;
	check(proxied_own,
	      "[" ENTRY("bad", "peers", SERVER("{\"address\":7}")) "," ENTRY("worse", "peers", SERVER("null")) ","
	      "17,{\"channels\":5}," ENTRY("good", "peers", PUBLIC) "]",
	      "good");
}

static void malformed_own_channel_means_none(void **state)
{
	(void)state;
	check(broken_own, "[" ENTRY("a", "peers", PUBLIC) "]", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(proxied_operator_keeps_streams_to_those_who_may_call_it),
		cmocka_unit_test(public_operator_leaves_out_those_who_can_dial_it),
		cmocka_unit_test(peers_that_cannot_be_dialled_are_left_out),
		cmocka_unit_test(malformed_entry_skips_only_itself),
		cmocka_unit_test(malformed_own_channel_means_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
