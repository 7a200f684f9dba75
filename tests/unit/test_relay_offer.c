// SPDX-License-Identifier: Apache-2.0
/* Which endpoint a party dials, from the brokering message and its own setting. */
#include "router/relay_tls.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int choose(enum relay_tls_use use, const char *message, struct relay_offer *offer)
{
	json_t *params = json_loads(message, 0, NULL);
	const char *reason = NULL;

	assert_non_null(params);
	int error = relay_offer_choose(use, params, "proxy", offer, &reason);
	assert_true(error == 0 || reason);
	bool is_there = offer->endpoint;
	json_decref(params);
	if (is_there) /* borrowed from the message, which is gone */
		*offer = (struct relay_offer){"there", "there"};
	return error;
}

static void assert_chosen(const char *message, int prefer, bool prefer_tls, int require, bool require_tls)
{
	struct relay_offer offer;

	assert_int_equal(choose(RELAY_TLS_PREFER, message, &offer), prefer);
	assert_int_equal(offer.endpoint != NULL, prefer_tls);
	assert_int_equal(choose(RELAY_TLS_REQUIRE, message, &offer), require);
	assert_int_equal(offer.endpoint != NULL, require_tls);
	assert_int_equal(choose(RELAY_TLS_OFF, message, &offer), 0);
	assert_null(offer.endpoint);
}

static void an_offer_is_taken_unless_it_is_off(void **unused)
{
	(void)unused;
	assert_chosen("{\"relay_tls\": {\"endpoint\": \"a:1\", \"server_name\": \"proxy\", \"version\": 1}}", 0, true, 0, true);
	/* Numbers of messages that came over gRPC are floating point; members may be added. */
	assert_chosen("{\"relay_tls\": {\"endpoint\": \"a:1\", \"server_name\": \"proxy\", \"version\": 1.0, \"new\": []}}", 0,
		      true, 0, true);
}

static void without_an_offer_only_require_fails(void **unused)
{
	(void)unused;
	assert_chosen("{}", 0, false, -ENOTSUP, false);
	assert_chosen("{\"relay_tls\": null}", 0, false, -ENOTSUP, false);
	/* Another version is one that we cannot take. */
	assert_chosen("{\"relay_tls\": {\"version\": 2, \"whatever\": true}}", 0, false, -ENOTSUP, false);
}

static void a_wrong_offer_is_an_error_for_who_would_take_it(void **unused)
{
	static const char *const wrong[] = {
		"{\"relay_tls\": 5}",
		"{\"relay_tls\": {}}",
		"{\"relay_tls\": {\"endpoint\": \"\", \"server_name\": \"proxy\", \"version\": 1}}",
		"{\"relay_tls\": {\"endpoint\": 5, \"server_name\": \"proxy\", \"version\": 1}}",
		"{\"relay_tls\": {\"endpoint\": \"a:1\", \"version\": 1}}",
		"{\"relay_tls\": {\"endpoint\": \"a:1\", \"server_name\": \"proxy\", \"version\": \"1\"}}",
		/* the relay of somebody else */
		"{\"relay_tls\": {\"endpoint\": \"a:1\", \"server_name\": \"other\", \"version\": 1}}",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_chosen(wrong[i], -EBADMSG, false, -EBADMSG, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_offer_is_taken_unless_it_is_off),
		cmocka_unit_test(without_an_offer_only_require_fails),
		cmocka_unit_test(a_wrong_offer_is_an_error_for_who_would_take_it),
	};
	return cmocka_run_group_tests_name("relay offer", tests, NULL, NULL);
}
