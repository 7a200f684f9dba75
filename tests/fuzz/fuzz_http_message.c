// SPDX-License-Identifier: Apache-2.0
/* Heads of both kinds, and the chunked coding fed in pieces of every size: the
 * result must not depend on where the pieces were cut. */
#include "http/message.h"
#include "http/url.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_head(const char *text, size_t size, bool is_request)
{
	size_t length = http_head_length(text, size);
	struct http_head head;
	const char *reason = NULL;
	int status = 0;

	if (length == 0)
		return;
	if (http_head_read(text, length, is_request, &head, &status, &reason) == 0) {
		if (is_request)
			free(http_target_path(head.target));
		if (head.framing == HTTP_BODY_LENGTH && head.content_length == 0)
			abort();
		http_list_has(http_head_field(&head, "Connection"), "close");
	} else if (status < 400 || !reason) {
		abort();
	}
	http_head_clear(&head);
}

/* Returns the decoder's verdict; the body's bytes go to `sum` and `body`. */
static int decode(const char *text, size_t size, size_t piece, uint64_t *body, uint64_t *sum)
{
	struct http_chunks chunks = { 0 };
	int result = 0;

	*body = *sum = 0;
	for (size_t at = 0; at < size && result == 0;) {
		const char *bytes;
		size_t used, length, take = size - at < piece ? size - at : piece;

		result = http_chunks_take(&chunks, text + at, take, &used, &bytes, &length);
		if (used > take || length > take || (result == 0 && used == 0))
			abort();
		for (size_t i = 0; i < length; i++)
			*sum = *sum * 31 + (unsigned char)bytes[i];
		*body += length;
		at += used;
	}
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	uint64_t body, sum, other_body, other_sum;
	struct http_route route;
	char *url = strndup(text, size);

	read_head(text, size, true);
	read_head(text, size, false);
	int whole = decode(text, size, size, &body, &sum), bytewise = decode(text, size, 1, &other_body, &other_sum);
	if (whole != bytewise || body != other_body || sum != other_sum)
		abort();
	http_route_read(url, NULL, &route);
	http_route_clear(&route);
	http_route_read("https://a/", url, &route);
	http_route_clear(&route);
	free(url);
	return 0;
}
