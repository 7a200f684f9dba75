// SPDX-License-Identifier: Apache-2.0
#pragma once
/* HTTP/1.1 messages as pure functions on buffers (RFC 9112): finding and
 * reading a head, how long its body is, the chunked coding. Server and client
 * share them. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX_BYTES 16384
#define HTTP_HEAD_MAX_FIELDS 100

struct http_field {
	const char *name, *value; /* value without white space around it */
};

enum http_framing {
	HTTP_BODY_NONE,
	HTTP_BODY_LENGTH,      /* content_length bytes, at least 1 */
	HTTP_BODY_CHUNKED,
	HTTP_BODY_UNTIL_CLOSE, /* answers only */
};

struct http_head {
	char *text;                   /* owned; everything below points into it */
	const char *method, *target;  /* requests */
	int status;                   /* answers */
	int minor_version;            /* of HTTP/1.x */
	struct http_field *fields;
	size_t field_count;
	enum http_framing framing;
	uint64_t content_length;
	bool keep_alive;       /* the sender does not mind another message on this connection */
	bool expects_continue; /* Expect: 100-continue */
};

/* Length of the head at the start of `bytes`, with its empty line, or 0 if the
 * end has not come. Bare LF ends a line too. */
size_t http_head_length(const char *bytes, size_t length);

/* Reads a head of exactly `length` bytes as http_head_length() gave it. Returns
 * 0, or a negative errno and the status that a server should answer with
 * (400, 417, 431, 501, 505) and a reason. Clear it in every case. */
int http_head_read(const char *bytes, size_t length, bool is_request, struct http_head *head, int *status,
		   const char **reason);
void http_head_clear(struct http_head *head);

/* First field of that name, case-insensitive, or NULL. */
const char *http_head_field(const struct http_head *head, const char *name);

/* Path of a request target, without query, percent-decoded; malloc'd. NULL if
 * it has none or a NUL in it. */
char *http_target_path(const char *target);

/* Whether a comma-separated list has `token`, case-insensitive. NULL list: no. */
bool http_list_has(const char *list, const char *token);

/* Decoder of the chunked coding; all zero at first. */
struct http_chunks {
	int state;
	uint64_t left;       /* of the present chunk */
	unsigned line_bytes; /* of the present size line or of all trailers */
	bool is_after_cr;    /* nothing but LF may follow */
};

/* Takes some of `bytes`: `used` of them, of which data_length at `data` belong
 * to the body (may be 0). Returns 1 when the body and its trailers are
 * complete, 0 to be called again with the rest and more, or -EINVAL. */
int http_chunks_take(struct http_chunks *chunks, const char *bytes, size_t length, size_t *used, const char **data,
		     size_t *data_length);
