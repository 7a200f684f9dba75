// SPDX-License-Identifier: Apache-2.0
/* gRPC frames cut anywhere, several in one piece, and refused headers. */
#include "grpc/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t three_frames[] = "\0\0\0\0\3abc" "\0\0\0\0\0" "\0\0\0\0\5hello";
#define THREE_SIZE (sizeof(three_frames) - 1)

static void frames_cut_anywhere_give_the_same_messages(void **state)
{
	(void)state;
	for (size_t piece = 1; piece <= THREE_SIZE; piece++) {
		struct frame_splitter splitter = { 0 };
		static const char *const expected[] = { "abc", "", "hello" };
		size_t found = 0;

		for (size_t at = 0; at < THREE_SIZE; at += piece) {
			size_t size = THREE_SIZE - at < piece ? THREE_SIZE - at : piece, message_size;
			/* A copy of its own, so that reading beyond the piece is noticed. */
			uint8_t *copy = malloc(size);
			const uint8_t *bytes = copy, *message;

			memcpy(copy, three_frames + at, size);
			while (frame_splitter_next(&splitter, &bytes, &size, &message, &message_size) == 1) {
				assert_true(found < 3);
				assert_int_equal(message_size, strlen(expected[found]));
				assert_memory_equal(message, expected[found], message_size);
				found++;
			}
			assert_int_equal(size, 0);
			free(copy);
		}
		assert_int_equal(found, 3);
		assert_true(frame_splitter_is_between(&splitter));
		frame_splitter_clear(&splitter);
	}
}

static void an_unfinished_frame_is_known(void **state)
{
	(void)state;
	struct frame_splitter splitter = { 0 };
	const uint8_t *bytes = three_frames, *message;
	size_t size = 6, message_size;

	assert_true(frame_splitter_is_between(&splitter));
	assert_int_equal(frame_splitter_next(&splitter, &bytes, &size, &message, &message_size), 0);
	assert_false(frame_splitter_is_between(&splitter));
	frame_splitter_clear(&splitter);
}

static void bad_headers_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char bytes[6];
		int error;
	} cases[] = {
		{ "\1\0\0\0\1", -EOPNOTSUPP },
		{ "\2\0\0\0\1", -EBADMSG },
		{ "\0\0\x40\0\1", -EMSGSIZE },
		{ "\0\xff\xff\xff\xff", -EMSGSIZE },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct frame_splitter splitter = { 0 };
		const uint8_t *bytes = (const uint8_t *)cases[i].bytes, *message;
		size_t size = 5, message_size;

		assert_int_equal(frame_splitter_next(&splitter, &bytes, &size, &message, &message_size), cases[i].error);
		frame_splitter_clear(&splitter);
	}
}

static void memory_follows_what_arrived_not_what_was_announced(void **state)
{
	(void)state;
	struct frame_splitter splitter = { 0 };
	const uint8_t *bytes = (const uint8_t *)"\0\0\x3f\0\0x", *message;
	size_t size = 6, message_size;

	assert_int_equal(frame_splitter_next(&splitter, &bytes, &size, &message, &message_size), 0);
	assert_true(splitter.capacity <= 65536);
	frame_splitter_clear(&splitter);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_cut_anywhere_give_the_same_messages),
		cmocka_unit_test(an_unfinished_frame_is_known),
		cmocka_unit_test(bad_headers_are_refused),
		cmocka_unit_test(memory_follows_what_arrived_not_what_was_announced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
