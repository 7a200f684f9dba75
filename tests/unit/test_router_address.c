// SPDX-License-Identifier: Apache-2.0
/* Request ids split as protocol page 5.1 says. */
#include "router/address.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void check(const char *text, const char *operator_name, const char *method, const char *id)
{
	struct address address;
	assert_int_equal(address_parse(text, &address), 0);
	assert_string_equal(address.operator_name, operator_name);
	assert_string_equal(address.method, method);
	assert_string_equal(address.id, id);
	address_clear(&address);
}

static void splits_of_the_reference(void **state)
{
	(void)state;
	check("normal-name.f(acdds)", "normal-name", "f", "acdds");
	check("a.b.c.d.e.f(acdds)", "a.b.c.d.e", "f", "acdds");
}

static void id_may_hold_dots_and_brackets(void **state)
{
	(void)state;
	check("hd-2._ping(n:5)", "hd-2", "_ping", "n:5");
	check("hd-2._ping(1.5)", "hd-2", "_ping", "1.5");
	check("hd-2._ping((1)", "hd-2", "_ping", "(1");
	check("a.b(c()", "a", "b", "c(");
	check("a.b)c(d)", "a", "b)c", "d");
	check("..a(b)", ".", "a", "b");
}

static void last_possible_split_is_taken(void **state)
{
	(void)state;
	check("a.b(c.d(e)", "a.b(c", "d", "e");
	check("a.b(c.d(e.f)", "a.b(c", "d", "e.f");
	check("a.b(.(x)", "a", "b", ".(x");
}

static void everything_else_is_refused(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"", ")", "()", "(a)", "f(a)", ".f(a)", "a.(b)", "a.f()", "a.f", "a.f(", "a.f(b", "a.f(b)c", "a.f(b)(c)x",
		"a.f(b))", "a.f(b)g)", "respond(1)", "a", ".", "a.f b", "((((", "a.((b)",
	};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct address address;
		assert_int_equal(address_parse(texts[i], &address), -EINVAL);
		address_clear(&address);
	}
}

static void composing_is_the_inverse(void **state)
{
	(void)state;
	char *text = address_compose("public-proxy-1.ga.requestConnection", "00ff");
	assert_string_equal(text, "public-proxy-1.ga.requestConnection(00ff)");
	check(text, "public-proxy-1.ga", "requestConnection", "00ff");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(splits_of_the_reference),
		cmocka_unit_test(id_may_hold_dots_and_brackets),
		cmocka_unit_test(last_possible_split_is_taken),
		cmocka_unit_test(everything_else_is_refused),
		cmocka_unit_test(composing_is_the_inverse),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
