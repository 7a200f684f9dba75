// SPDX-License-Identifier: Apache-2.0
/* Protobuf messages of the operators: frames of the protocol page (6.1), the
 * recorded messages both ways, and what must be refused. */
#include "base/encoding.h"
#include "grpc/message.h"
#include "grpc/wire_check.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_frame_is(const uint8_t *frame, size_t size, const char *hex)
{
	char *text = malloc(size * 2 + 1);

	hex_encode(frame, size, text);
	assert_string_equal(text, hex);
	free(text);
}

static void announcement_has_the_bytes_of_the_page(void **state)
{
	(void)state;
	struct hyper_response response = { .id = (char *)"1", .result = json_pack("{s:s}", "name", "hd-2") };
	struct hyper_response decoded;
	uint8_t *frame;
	size_t size;

	assert_int_equal(grpc_response_frame(&response, &frame, &size), 0);
	assert_frame_is(frame, size, "00000000150a013112100a0e0a046e616d6512061a0468642d32");
	assert_int_equal(grpc_response_decode(frame + 5, size - 5, &decoded), 0);
	assert_string_equal(decoded.id, "1");
	assert_true(json_equal(decoded.result, response.result));
	assert_false(decoded.has_error);
	hyper_response_clear(&decoded);
	json_decref(response.result);
	free(frame);
}

static void ping_has_the_bytes_of_the_page(void **state)
{
	(void)state;
	struct hyper_request request = {
		.method = (char *)"hd-2._ping",
		.id = (char *)"hd-2._ping(1)",
		.client_name = (char *)"hd-1",
		.params = json_object(),
	};
	struct hyper_request decoded;
	uint8_t *frame;
	size_t size;

	assert_int_equal(grpc_request_frame(&request, &frame, &size), 0);
	assert_frame_is(frame, size, "00000000230a0a68642d322e5f70696e6712001a0d68642d322e5f70696e67283129220468642d31");
	assert_int_equal(grpc_request_decode(frame + 5, size - 5, &decoded), 0);
	assert_string_equal(decoded.method, request.method);
	assert_string_equal(decoded.id, request.id);
	assert_string_equal(decoded.client_name, request.client_name);
	assert_int_equal(json_object_size(decoded.params), 0);
	hyper_request_clear(&decoded);
	json_decref(request.params);
	free(frame);
}

static void missing_params_decode_as_an_empty_object_and_missing_result_as_none(void **state)
{
	(void)state;
	struct hyper_request request;
	struct hyper_response response;

	assert_int_equal(grpc_request_decode((const uint8_t *)"", 0, &request), 0);
	assert_true(json_is_object(request.params));
	assert_string_equal(request.method, "");
	hyper_request_clear(&request);
	assert_int_equal(grpc_response_decode((const uint8_t *)"", 0, &response), 0);
	assert_null(response.result);
	assert_false(response.has_error);
	hyper_response_clear(&response);
}

static void negative_codes_take_ten_bytes(void **state)
{
	(void)state;
	const int32_t codes[] = { -100, -32603, INT32_MIN, INT32_MAX, 0, 1, 404 };

	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
		struct hyper_response response = { .has_error = true, .code = codes[i], .message = (char *)"x" }, decoded;
		uint8_t *frame;
		size_t size;

		assert_int_equal(grpc_response_frame(&response, &frame, &size), 0);
		if (codes[i] == -100)
			assert_frame_is(frame, size, "00000000101a0e089cffffffffffffffff01120178");
		assert_int_equal(grpc_response_decode(frame + 5, size - 5, &decoded), 0);
		assert_true(decoded.has_error);
		assert_int_equal(decoded.code, codes[i]);
		assert_string_equal(decoded.message, "x");
		assert_null(decoded.data);
		hyper_response_clear(&decoded);
		free(frame);
	}
}

/* Encodes and decodes; the result must equal `expected`. */
static void assert_round_trip(json_t *params, json_t *expected)
{
	struct hyper_request request = { .params = params }, decoded;
	uint8_t *frame;
	size_t size;

	assert_non_null(params);
	assert_int_equal(grpc_request_frame(&request, &frame, &size), 0);
	assert_int_equal(grpc_request_decode(frame + 5, size - 5, &decoded), 0);
	if (!json_equal(decoded.params, expected)) {
		json_dumpf(decoded.params, stderr, 0);
		fail_msg("the decoded map differs");
	}
	hyper_request_clear(&decoded);
	free(frame);
}

static json_t *read_json(const char *text)
{
	return json_loads(text, JSON_DECODE_INT_AS_REAL, NULL);
}

static void every_kind_of_json_survives(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"{}",
		"{\"a\":null}",
		"{\"a\":[]}",
		"{\"a\":{}}",
		"{\"\":\"\"}",
		"{\"a\":[[[],[null,[true,false]]],{\"b\":[{}]}]}",
		"{\"t\":\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\x8d\",\"\xe2\x82\xac\":1}",
		"{\"n\":[0,-1,1.5,1e308,5e-324,-2.2250738585072014e-308,9007199254740992]}",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		json_t *value = read_json(texts[i]);

		assert_round_trip(value, value);
		json_decref(value);
	}
}

static void integers_become_doubles(void **state)
{
	(void)state;
	json_t *given = json_pack("{s:I,s:I,s:i}", "big", (json_int_t)9007199254740993, "min", (json_int_t)INT64_MIN,
				  "one", 1);
	json_t *expected = json_pack("{s:f,s:f,s:f}", "big", 9007199254740992.0, "min", -9223372036854775808.0, "one",
				     1.0);

	assert_round_trip(given, expected);
	json_decref(given);
	json_decref(expected);
}

static void negative_zero_keeps_its_sign(void **state)
{
	(void)state;
	struct hyper_request request = { .params = json_pack("{s:f}", "z", -0.0) }, decoded;
	uint8_t *frame;
	size_t size;

	assert_int_equal(grpc_request_frame(&request, &frame, &size), 0);
	assert_int_equal(grpc_request_decode(frame + 5, size - 5, &decoded), 0);
	double value = json_real_value(json_object_get(decoded.params, "z"));

	assert_true(value == 0 && signbit(value));
	hyper_request_clear(&decoded);
	json_decref(request.params);
	free(frame);
}

static json_t *nest(unsigned depth, bool lists)
{
	json_t *value = json_object();

	for (unsigned i = 1; i < depth; i++) {
		json_t *outer = lists && i + 1 < depth ? json_array() : json_object();

		if (json_is_array(outer))
			json_array_append_new(outer, value);
		else
			json_object_set_new(outer, "k", value);
		value = outer;
	}
	return value;
}

static void depth_is_limited_both_ways(void **state)
{
	(void)state;
	for (int lists = 0; lists < 2; lists++) {
		json_t *fits = nest(WIRE_DEPTH_MAX, lists), *too_deep = nest(WIRE_DEPTH_MAX + 1, lists);
		struct hyper_request request = { .params = too_deep };
		uint8_t *frame;
		size_t size;

		assert_round_trip(fits, fits);
		assert_int_equal(grpc_request_frame(&request, &frame, &size), -ELOOP);
		json_decref(fits);
		json_decref(too_deep);
	}
	/* 100,000 lists in each other, as a stranger may send them. */
	enum { LEVELS = 100000, ROOM = LEVELS * 12 };
	uint8_t *bytes = malloc(ROOM), *at = bytes + ROOM;
	struct hyper_request decoded;

	for (unsigned i = 0; i < LEVELS; i++) {
		/* Value{list}, then ListValue{values}: lengths as padded varints of four bytes. */
		for (int inner = 0; inner < 2; inner++) {
			size_t length = (size_t)(bytes + ROOM - at);

			at -= 4;
			for (int byte = 0; byte < 4; byte++)
				at[byte] = (uint8_t)((length >> (7 * byte) & 0x7f) | (byte < 3 ? 0x80 : 0));
			*--at = inner ? 0x0a : 0x32;
		}
	}
	uint8_t *message = malloc(ROOM + 64);
	size_t list_length = (size_t)(bytes + ROOM - at), used = 0;
	const size_t value_length = list_length, entry_length = 3 + 5 + value_length, struct_length = 5 + entry_length;

	message[used++] = 0x12;
	for (int shift = 0; shift < 28; shift += 7)
		message[used++] = (uint8_t)((struct_length >> shift & 0x7f) | (shift < 21 ? 0x80 : 0));
	message[used++] = 0x0a;
	for (int shift = 0; shift < 28; shift += 7)
		message[used++] = (uint8_t)((entry_length >> shift & 0x7f) | (shift < 21 ? 0x80 : 0));
	memcpy(message + used, "\x0a\x01k\x12", 4);
	used += 4;
	for (int shift = 0; shift < 28; shift += 7)
		message[used++] = (uint8_t)((value_length >> shift & 0x7f) | (shift < 21 ? 0x80 : 0));
	memcpy(message + used, at, list_length);
	used += list_length;
	assert_int_equal(grpc_request_decode(message, used, &decoded), -EBADMSG);
	free(message);
	free(bytes);
}

static void bad_text_is_refused_both_ways(void **state)
{
	(void)state;
	static const char *const bad[] = { "\xff", "a\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe0\x80\xaf",
					   "12345678\x80", "\xf5\x80\x80\x80" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct hyper_request request = { .method = (char *)bad[i] }, decoded;
		uint8_t *frame, message[32] = { 0x0a, (uint8_t)strlen(bad[i]) };
		size_t size;

		assert_false(utf8_is_valid((const uint8_t *)bad[i], strlen(bad[i])));
		assert_int_equal(grpc_request_frame(&request, &frame, &size), -EILSEQ);
		memcpy(message + 2, bad[i], message[1]);
		assert_int_equal(grpc_request_decode(message, message[1] + 2u, &decoded), -EBADMSG);
	}
	/* A NUL byte would cut the text. */
	struct hyper_request decoded;

	assert_int_equal(grpc_request_decode((const uint8_t *)"\x0a\x03" "a\0b", 5, &decoded), -EBADMSG);
}

static void malformed_messages_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *what, *hex;
	} cases[] = {
		{ "length beyond the end", "0a05" },
		{ "varint without end", "0affffffffffffffffffff01" },
		{ "group", "0b" },
		{ "field number 0", "0000" },
		{ "params twice", "12001200" },
		{ "value without a kind", "12070a050a016b1200" },
		{ "map entry without a value", "12050a030a016b" },
		{ "two kinds in one value", "120b0a090a016b120408001000" },
		{ "bool and string in one value", "120b0a090a016b120420011a00" },
		{ "not a number", "12100a0e0a016b120911000000000000f87f" },
		{ "infinity", "12100a0e0a016b120911000000000000f07f" },
		{ "text as varint", "0801" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint8_t bytes[64];
		size_t size = strlen(cases[i].hex) / 2;
		struct hyper_request decoded;

		assert_int_equal(hex_decode(cases[i].hex, size * 2, bytes, size), 0);
		if (grpc_request_decode(bytes, size, &decoded) != -EBADMSG)
			fail_msg("accepted: %s", cases[i].what);
	}
}

static void unknown_fields_are_skipped(void **state)
{
	(void)state;
	struct hyper_request decoded;

	assert_int_equal(grpc_request_decode((const uint8_t *)"\x0a\x01m\x50\x07\x5a\x02hi\x61" "12345678", 18, &decoded), 0);
	assert_string_equal(decoded.method, "m");
	hyper_request_clear(&decoded);
}

static void too_large_a_message_is_refused(void **state)
{
	(void)state;
	char *text = malloc(GRPC_MESSAGE_MAX + 1);
	struct hyper_request request = { .method = text };
	uint8_t *frame;
	size_t size;

	memset(text, 'a', GRPC_MESSAGE_MAX);
	text[GRPC_MESSAGE_MAX] = 0;
	assert_int_equal(grpc_request_frame(&request, &frame, &size), -EMSGSIZE);
	text[GRPC_MESSAGE_MAX - 5] = 0;
	assert_int_equal(grpc_request_frame(&request, &frame, &size), 0);
	assert_int_equal(size, GRPC_MESSAGE_MAX + GRPC_FRAME_HEADER_SIZE);
	free(frame);
	free(text);
}

/* Many tiny fields cost far more memory than wire bytes. */
static void number_of_fields_is_limited(void **state)
{
	(void)state;
	size_t size = 2 * (WIRE_FIELDS_MAX + 1);
	uint8_t *bytes = malloc(size);
	struct hyper_request decoded;

	for (size_t i = 0; i < size; i += 2) {
		bytes[i] = 0x50;
		bytes[i + 1] = 1;
	}
	assert_int_equal(grpc_request_decode(bytes, size, &decoded), -E2BIG);
	free(bytes);
}

/* What is sent is counted as it is received: to the field. */
static void as_many_fields_may_be_sent_as_received(void **state)
{
	(void)state;
	/* The method, params, the member without a key (3), and the list's values. */
	json_t *list = json_array(), *params = json_pack("{s:o}", "", list);
	struct hyper_request request = { .method = (char *)"m", .params = params };
	size_t size;

	while (json_array_size(list) < (WIRE_FIELDS_MAX - 5) / 2)
		json_array_append_new(list, json_real(1));
	for (unsigned more = 0; more < 3; more++) {
		struct hyper_request decoded;
		uint8_t *frame;
		int error = grpc_request_frame(&request, &frame, &size);

		assert_int_equal(error, more < 2 ? 0 : -E2BIG);
		if (error)
			break;
		assert_int_equal(grpc_request_decode(frame + GRPC_FRAME_HEADER_SIZE, size - GRPC_FRAME_HEADER_SIZE,
						     &decoded), 0);
		hyper_request_clear(&decoded);
		free(frame);
		*(more ? &request.client_name : &request.id) = (char *)"x";
	}
	json_decref(params);
}

static void copies_are_independent(void **state)
{
	(void)state;
	struct hyper_request request = { .method = (char *)"m", .id = (char *)"i", .params = json_object() }, copy;
	struct hyper_response response = { .id = (char *)"i", .has_error = true, .code = 7, .message = (char *)"t",
					   .data = request.params }, copied;

	assert_int_equal(hyper_request_copy(&request, &copy), 0);
	assert_int_equal(hyper_response_copy(&response, &copied), 0);
	json_decref(request.params);
	assert_string_equal(copy.method, "m");
	assert_null(copy.client_name);
	assert_int_equal(json_object_size(copy.params), 0);
	assert_int_equal(copied.code, 7);
	assert_string_equal(copied.message, "t");
	hyper_request_clear(&copy);
	hyper_response_clear(&copied);
}

/* Every message of a recorded ping: "frame … gRPC Request N bytes …", then JSON. */
static void recorded_messages_survive_both_ways(void **state)
{
	(void)state;
	const char *folder = getenv("TEST_VECTORS");
	char path[512], *line = NULL;
	size_t capacity = 0;
	unsigned requests = 0, responses = 0;

	snprintf(path, sizeof(path), "%s/grpc-messages.txt", folder ? folder : "tests/vectors");
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	while (getline(&line, &capacity, file) > 0) {
		const char *kind = strstr(line, "gRPC ");
		size_t recorded_size;
		uint8_t *frame;
		size_t size;

		if (!kind)
			continue;
		bool is_request = !strncmp(kind, "gRPC Request", 12);

		assert_int_equal(sscanf(kind, is_request ? "gRPC Request %zu" : "gRPC Response %zu", &recorded_size), 1);
		assert_true(getline(&line, &capacity, file) > 0);
		/* The recording has shortened the certificates. */
		bool is_complete = !strstr(line, "<PEM>");
		json_t *json = read_json(line);

		assert_non_null(json);
		if (is_request) {
			struct hyper_request decoded, request = {
				.method = (char *)json_string_value(json_object_get(json, "method")),
				.id = (char *)json_string_value(json_object_get(json, "id")),
				.client_name = (char *)json_string_value(json_object_get(json, "clientName")),
				.params = json_object_get(json, "params"),
			};

			assert_int_equal(grpc_request_frame(&request, &frame, &size), 0);
			assert_int_equal(grpc_request_decode(frame + 5, size - 5, &decoded), 0);
			assert_true(json_equal(decoded.params, request.params));
			assert_string_equal(decoded.id, request.id);
			hyper_request_clear(&decoded);
			requests++;
		} else {
			struct hyper_response decoded, response = {
				.id = (char *)json_string_value(json_object_get(json, "id")),
				.result = json_object_get(json, "result"),
			};

			assert_int_equal(grpc_response_frame(&response, &frame, &size), 0);
			assert_int_equal(grpc_response_decode(frame + 5, size - 5, &decoded), 0);
			assert_true(response.result ? json_equal(decoded.result, response.result) : !decoded.result);
			assert_string_equal(decoded.id, response.id);
			hyper_response_clear(&decoded);
			responses++;
		}
		if (is_complete)
			assert_int_equal(size, recorded_size + GRPC_FRAME_HEADER_SIZE);
		free(frame);
		json_decref(json);
	}
	free(line);
	fclose(file);
	assert_int_equal(requests, 4);
	assert_int_equal(responses, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(announcement_has_the_bytes_of_the_page),
		cmocka_unit_test(ping_has_the_bytes_of_the_page),
		cmocka_unit_test(missing_params_decode_as_an_empty_object_and_missing_result_as_none),
		cmocka_unit_test(negative_codes_take_ten_bytes),
		cmocka_unit_test(every_kind_of_json_survives),
		cmocka_unit_test(integers_become_doubles),
		cmocka_unit_test(negative_zero_keeps_its_sign),
		cmocka_unit_test(depth_is_limited_both_ways),
		cmocka_unit_test(bad_text_is_refused_both_ways),
		cmocka_unit_test(malformed_messages_are_refused),
		cmocka_unit_test(unknown_fields_are_skipped),
		cmocka_unit_test(too_large_a_message_is_refused),
		cmocka_unit_test(number_of_fields_is_limited),
		cmocka_unit_test(as_many_fields_may_be_sent_as_received),
		cmocka_unit_test(copies_are_independent),
		cmocka_unit_test(recorded_messages_survive_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
