// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Hex and standard base64, as pure functions on buffers. */
#include <stddef.h>
#include <stdint.h>

/* Writes 2 * size lower-case digits and a NUL to `text`. */
void hex_encode(const uint8_t *bytes, size_t size, char *text);

/* Decodes exactly `size` bytes from 2 * size digits (either case).
 * Returns 0 or -EINVAL. */
int hex_decode(const char *text, size_t length, uint8_t *bytes, size_t size);

/* Standard alphabet with padding (RFC 4648 section 4).
 * `text` needs 4 * ((size + 2) / 3) + 1 bytes. Returns the length. */
size_t base64_encode(const uint8_t *bytes, size_t size, char *text);

/* CR and LF are skipped, padding is required, anything else is an error.
 * At most `capacity` bytes are written. Returns their number or -EINVAL,
 * -ENOSPC. */
int base64_decode(const char *text, size_t length, uint8_t *bytes, size_t capacity);
