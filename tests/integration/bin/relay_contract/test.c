// SPDX-License-Identifier: Apache-2.0
/* The common parts of all tests: results, the host for a plane, waiting with a
 * deadline. */
#include "kernel.h"
#include "pair.h"

#include "base/instant.h"

#include <stdarg.h>
#include <string.h>

bool test_fail(struct test *test, const char *format, ...)
{
	va_list arguments;

	if (*test->failure)
		return false;
	va_start(arguments, format);
	vsnprintf(test->failure, sizeof test->failure, format, arguments);
	va_end(arguments);
	if (!*test->failure)
		strcpy(test->failure, "failed");
	return false;
}

bool test_failed(const struct test *test)
{
	return *test->failure != 0;
}

void test_note(struct test *test, const char *format, ...)
{
	size_t length = strlen(test->figures);
	va_list arguments;

	if (length && length + 3 < sizeof test->figures) {
		strcpy(test->figures + length, ", ");
		length += 2;
	}
	va_start(arguments, format);
	vsnprintf(test->figures + length, sizeof test->figures - length, format, arguments);
	va_end(arguments);
}

void test_skip(struct test *test, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(test->skipped, sizeof test->skipped, format, arguments);
	va_end(arguments);
}

uint64_t test_size(const struct test *test, uint64_t size, uint64_t least)
{
	size /= test->divisor;
	return size > least ? size : least;
}

bool test_keeps_tls(const struct test *test)
{
	return strchr(test->kinds, KIND_KTLS) || strchr(test->kinds, KIND_USERSPACE_TLS);
}

/* The probe says no. Only a machine that cannot have the plane may leave the test out. */
static bool test_lacks_plane(struct test *test)
{
	const char *probed = test->host.plane_reasons[test->plane];
	char lack[100] = "";

	if (test->plane != PLANE_SOCKMAP || kernel_owes_sockmap(lack, sizeof lack))
		return test_fail(test, "the probe refuses a plane that this kernel and user must have: %s", probed);
	test_skip(test, "%s; the probe: %s", lack, probed);
	return false;
}

bool test_start_host(struct test *test, struct host_settings *settings)
{
	static const unsigned masks[PLANE_COUNT] = {
		[PLANE_COPY] = PLANE_MASK_COPY, [PLANE_SPLICE] = PLANE_MASK_SPLICE, [PLANE_SOCKMAP] = PLANE_MASK_SOCKMAP,
		[PLANE_KTLS_SPLICE] = PLANE_MASK_ALL,
	};

	/* Sockmap pairs start as copies, and a pair whose peer is half closed stays one. */
	settings->planes = masks[test->plane] | PLANE_MASK_COPY;
	settings->lobby = *test->kinds != 0;
	/* The others are allowed, and must not be taken where TLS stays on. */
	if (test_keeps_tls(test))
		settings->planes = PLANE_MASK_ALL;
	if (!host_start(&test->host, settings))
		return test_fail(test, "%s", test->host.error);
	if (strchr(test->kinds, KIND_KTLS) && !test->host.planes[PLANE_KTLS_SPLICE]) {
		test_skip(test, "this kernel does not do kTLS, or its module is not loaded");
		return false;
	}
	return test->host.planes[test->plane] || test_lacks_plane(test);
}

bool test_poll_is_due(struct test *test, unsigned interval_ms)
{
	uint64_t now_ns = clock_now_ns();

	if (now_ns < test->polled_ns + interval_ms * 1000000ull)
		return false;
	test->polled_ns = now_ns;
	return true;
}

bool test_wait(struct test *test, bool (*condition)(void *context), void *context, unsigned deadline_ms, const char *what)
{
	char text[480] = "";

	/* A TLS handshake costs a hundred times what a token costs. */
	deadline_ms *= test->patience * (*test->kinds ? 3 : 1);
	if (engine_run(&test->engine, condition, context, deadline_ms))
		return true;
	pairs_poll_reports(test);
	pairs_poll_ended(test);
	size_t waiting = 0;
	bool shows_failure = false, shows_open = false;
	for (size_t at = 0; at < test->pair_count; at++) {
		const struct pair *pair = test->pairs[at];
		if (pair->is_ended && end_is_through(&pair->ends[0]) && end_is_through(&pair->ends[1]))
			continue;
		bool has_failed = pair->ends[0].error || pair->ends[1].error || pair->ends[0].wrong || pair->ends[1].wrong;
		/* Where pairs are to fail, the one that has not is of interest. */
		bool is_open = test->expects_unhappy && (!pair->is_ended || !has_failed);
		if (!waiting++ || (is_open ? !shows_open : has_failed && !shows_failure && !shows_open))
			pair_text(pair, text, sizeof text);
		shows_failure = shows_failure || has_failed;
		shows_open = shows_open || is_open;
	}
	return test_fail(test, "%s did not come within %u ms; %zu of %zu pairs unfinished, one of them: %s", what, deadline_ms,
			 waiting, test->pair_count, text);
}
