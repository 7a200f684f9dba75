// SPDX-License-Identifier: Apache-2.0
/* Hex and standard base64: pure functions on buffers, safe from every thread.
 * Decoders read exactly `length` bytes and never write beyond what the caller
 * says it has. */
#include "base/encoding.h"

#include <errno.h>
#include <stdbool.h>

void hex_encode(const uint8_t *bytes, size_t size, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < size; i++) {
		*text++ = digits[bytes[i] >> 4];
		*text++ = digits[bytes[i] & 15];
	}
	*text = 0;
}

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

int hex_decode(const char *text, size_t length, uint8_t *bytes, size_t size)
{
	if (length % 2 || length / 2 != size)
		return -EINVAL;
	for (size_t i = 0; i < size; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

size_t base64_encode(const uint8_t *bytes, size_t size, char *text)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *out = text;

	for (size_t i = 0; i < size; i += 3) {
		size_t left = size - i;
		uint32_t group = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
				 (left > 2 ? bytes[i + 2] : 0);

		*out++ = alphabet[group >> 18];
		*out++ = alphabet[group >> 12 & 63];
		*out++ = left > 1 ? alphabet[group >> 6 & 63] : '=';
		*out++ = left > 2 ? alphabet[group & 63] : '=';
	}
	*out = 0;
	return (size_t)(out - text);
}

static int base64_value(char digit)
{
	if (digit >= 'A' && digit <= 'Z')
		return digit - 'A';
	if (digit >= 'a' && digit <= 'z')
		return digit - 'a' + 26;
	if (digit >= '0' && digit <= '9')
		return digit - '0' + 52;
	return digit == '+' ? 62 : digit == '/' ? 63 : -1;
}

int base64_decode(const char *text, size_t length, uint8_t *bytes, size_t capacity)
{
	uint32_t group = 0;
	unsigned digits = 0, padding = 0;
	size_t size = 0;

	for (size_t i = 0; i < length; i++) {
		int value;

		if (text[i] == '\r' || text[i] == '\n')
			continue;
		if (padding && digits == 0)
			return -EINVAL; /* something behind the padded group */
		if (text[i] == '=') {
			if (digits < 2)
				return -EINVAL;
			padding++;
			value = 0;
		} else {
			value = base64_value(text[i]);
			if (value < 0 || padding)
				return -EINVAL;
		}
		group = group << 6 | (uint32_t)value;
		if (++digits < 4)
			continue;
		for (unsigned byte = 0; byte < 3 - padding; byte++) {
			if (size == capacity)
				return -ENOSPC;
			bytes[size++] = (uint8_t)(group >> (16 - 8 * byte));
		}
		group = 0;
		digits = 0;
	}
	if (digits)
		return -EINVAL;
	return size <= INT32_MAX ? (int)size : -ENOSPC;
}
