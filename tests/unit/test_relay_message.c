// SPDX-License-Identifier: Apache-2.0
/* Hello and answer on the wire, as a stranger would write them. */
#include "tls/relay_message.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void a_hello_has_the_documented_bytes(void **unused)
{
	struct relay_hello hello = {.version = 1, .payload_encrypted = true}, read;
	uint8_t frame[RELAY_FRAME_MAX];
	static const uint8_t head[] = {0, 0, 0, 38, 0x08, 1, 0x12, 32};

	(void)unused;
	memset(hello.token, 0xa5, sizeof hello.token);
	size_t size = relay_hello_pack(&hello, frame);
	assert_int_equal(size, 4 + 38);
	assert_memory_equal(frame, head, sizeof head);
	assert_int_equal(frame[sizeof head], 0xa5);
	assert_int_equal(frame[size - 2], 0x18);
	assert_int_equal(frame[size - 1], 1);
	assert_int_equal(relay_length_parse(frame), 38);
	assert_int_equal(relay_hello_parse(frame + 4, size - 4, &read), 0);
	assert_memory_equal(read.token, hello.token, sizeof hello.token);
	assert_true(read.payload_encrypted);
	assert_int_equal(relay_hello_parse(frame + 4, size - 4 - 2, &read), 0); /* absent is false */
	assert_false(read.payload_encrypted);
}

static void unknown_fields_are_skipped(void **unused)
{
	struct relay_hello hello = {.version = 1}, read;
	uint8_t frame[RELAY_FRAME_MAX];

	(void)unused;
	size_t size = relay_hello_pack(&hello, frame);
	memcpy(frame + size, (const uint8_t[]){0x7a, 3, 'n', 'e', 'w'}, 5); /* field 15, a text */
	assert_int_equal(relay_hello_parse(frame + 4, size - 4 + 5, &read), 0);
}

static void wrong_hellos_are_told_apart(void **unused)
{
	struct relay_hello hello = {.version = 2}, read;
	uint8_t frame[RELAY_FRAME_MAX], large[RELAY_MESSAGE_MAX + 1] = {0};

	(void)unused;
	size_t size = relay_hello_pack(&hello, frame);
	assert_int_equal(relay_hello_parse(frame + 4, size - 4, &read), -EPROTONOSUPPORT);
	assert_int_equal(read.version, 2);
	assert_int_equal(relay_hello_parse((const uint8_t[]){0x08, 1}, 2, &read), -EINVAL);
	assert_int_equal(relay_hello_parse((const uint8_t[]){0x08, 1, 0x12, 3, 1, 2, 3}, 7, &read), -EINVAL);
	assert_int_equal(relay_hello_parse((const uint8_t[]){0x08, 1, 0x12, 99, 1, 2, 3}, 7, &read), -EBADMSG);
	assert_int_equal(relay_hello_parse((const uint8_t *)"GET / HTTP/1.1", 14, &read), -EBADMSG);
	assert_int_equal(relay_hello_parse(large, sizeof large, &read), -EBADMSG);
}

static void lengths_are_from_1_to_4096(void **unused)
{
	(void)unused;
	assert_int_equal(relay_length_parse((const uint8_t[]){0, 0, 0, 0}), -EMSGSIZE);
	assert_int_equal(relay_length_parse((const uint8_t[]){0, 0, 0, 1}), 1);
	assert_int_equal(relay_length_parse((const uint8_t[]){0, 0, 16, 0}), 4096);
	assert_int_equal(relay_length_parse((const uint8_t[]){0, 0, 16, 1}), -EMSGSIZE);
	assert_int_equal(relay_length_parse((const uint8_t[]){255, 255, 255, 255}), -EMSGSIZE);
	assert_int_equal(relay_length_parse((const uint8_t[]){'G', 'E', 'T', ' '}), -EMSGSIZE);
}

static void answers_come_back(void **unused)
{
	struct relay_answer answer = {.version = 1, .joined = true, .handed_off = true}, read;
	uint8_t frame[RELAY_FRAME_MAX];

	(void)unused;
	size_t size = relay_answer_pack(&answer, frame);
	assert_int_equal(relay_answer_parse(frame + 4, size - 4, &read), 0);
	assert_true(read.joined && read.handed_off);
	assert_string_equal(read.outcome, "");

	/* The longest that we say fits the frame. */
	answer = (struct relay_answer){.version = 1};
	memset(answer.outcome, 'o', sizeof answer.outcome - 1);
	memset(answer.detail, 'd', sizeof answer.detail - 1);
	size = relay_answer_pack(&answer, frame);
	assert_true(size <= RELAY_FRAME_MAX);
	assert_int_equal(relay_answer_parse(frame + 4, size - 4, &read), 0);
	assert_string_equal(read.detail, answer.detail);
	assert_false(read.joined);
}

static void texts_of_an_answer_are_made_fit_for_logs(void **unused)
{
	static const uint8_t message[] = {0x08, 1, 0x1a, 5, 'a', '\n', 0x1b, '[', 'b'};
	struct relay_answer read;

	(void)unused;
	assert_int_equal(relay_answer_parse(message, sizeof message, &read), 0);
	assert_string_equal(read.outcome, "a??[b");
	assert_int_equal(relay_answer_parse((const uint8_t[]){0x08, 9}, 2, &read), -EPROTONOSUPPORT);
	assert_int_equal(relay_answer_parse((const uint8_t[]){0xff}, 1, &read), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hello_has_the_documented_bytes),
		cmocka_unit_test(unknown_fields_are_skipped),
		cmocka_unit_test(wrong_hellos_are_told_apart),
		cmocka_unit_test(lengths_are_from_1_to_4096),
		cmocka_unit_test(answers_come_back),
		cmocka_unit_test(texts_of_an_answer_are_made_fit_for_logs),
	};
	return cmocka_run_group_tests_name("relay message", tests, NULL, NULL);
}
