// SPDX-License-Identifier: Apache-2.0
/* Reader of HTTP/1.1 heads and of the chunked coding.
 *
 * Strict where two readers could disagree about where a message ends: a length
 * and a transfer coding together, a transfer coding in a request of HTTP/1.0, lengths
 * that differ, white space before the colon, folded lines and control bytes are errors. Pure: no I/O, no globals. */
#include "http/message.h"

#include <ctype.h>
#include <errno.h>
#include <event2/http.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MOST_LINE_BYTES 8192 /* of a chunk's size line, of all trailers */

size_t http_head_length(const char *bytes, size_t length)
{
	const char *at = bytes, *end = bytes + length;

	while ((at = memchr(at, '\n', (size_t)(end - at)))) {
		at++;
		if (at < end && *at == '\n')
			return (size_t)(at + 1 - bytes);
		if (at + 1 < end && at[0] == '\r' && at[1] == '\n')
			return (size_t)(at + 2 - bytes);
	}
	return 0;
}

static bool is_token(const char *text)
{
	if (!*text)
		return false;
	for (; *text; text++) {
		if (!isalnum((unsigned char)*text) && !strchr("!#$%&'*+-.^_`|~", *text))
			return false;
	}
	return true;
}

static char *trim(char *text)
{
	size_t length;

	text += strspn(text, " \t");
	length = strlen(text);
	while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\t'))
		text[--length] = '\0';
	return text;
}

/* Cuts the next line off; NULL at the end. */
static char *take_line(char **rest)
{
	char *line = *rest, *end = line ? strchr(line, '\n') : NULL;

	if (!end)
		return NULL;
	*rest = end + 1;
	if (end > line && end[-1] == '\r')
		end--;
	*end = '\0';
	return line;
}

/* "HTTP/1.0" and "HTTP/1.1"; other minor versions are read as 1.1. */
static int read_version(const char *text, int *minor)
{
	if (strncmp(text, "HTTP/", 5) != 0 || !isdigit((unsigned char)text[5]) || text[6] != '.' ||
	    !isdigit((unsigned char)text[7]) || text[8])
		return 400;
	if (text[5] != '1')
		return 505;
	*minor = text[7] - '0';
	return 0;
}

static int read_request_line(char *line, struct http_head *head)
{
	char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;

	if (!version)
		return 400;
	*target++ = '\0';
	*version++ = '\0';
	if (!is_token(line) || !*target)
		return 400;
	head->method = line;
	head->target = target;
	return read_version(version, &head->minor_version);
}

static int read_status_line(char *line, struct http_head *head)
{
	char *code = strchr(line, ' ');

	if (!code)
		return 400;
	*code++ = '\0';
	for (int i = 0; i < 3; i++) {
		if (!isdigit((unsigned char)code[i]))
			return 400;
		head->status = head->status * 10 + code[i] - '0';
	}
	if ((code[3] && code[3] != ' ') || head->status < 100)
		return 400;
	return read_version(line, &head->minor_version);
}

static int read_fields(char *rest, struct http_head *head, const char **reason)
{
	size_t lines = 0;
	char *line;

	for (const char *at = rest; (at = strchr(at, '\n')); at++)
		lines++;
	if (lines > HTTP_HEAD_MAX_FIELDS + 1) {
		*reason = "too many header fields";
		return 431;
	}
	head->fields = calloc(lines + 1, sizeof(*head->fields));
	if (!head->fields) {
		*reason = "no memory";
		return 500;
	}
	while ((line = take_line(&rest)) && *line) {
		char *colon = strchr(line, ':');

		if (!colon) {
			*reason = "header line without a colon";
			return 400;
		}
		*colon = '\0';
		if (!is_token(line)) {
			*reason = "malformed header name";
			return 400;
		}
		head->fields[head->field_count++] = (struct http_field){ line, trim(colon + 1) };
	}
	return 0;
}

const char *http_head_field(const struct http_head *head, const char *name)
{
	for (size_t i = 0; i < head->field_count; i++) {
		if (strcasecmp(head->fields[i].name, name) == 0)
			return head->fields[i].value;
	}
	return NULL;
}

char *http_target_path(const char *target)
{
	const char *authority = strstr(target, "://");
	size_t length = 0;
	char *raw, *path;

	if (*target != '/' && authority) { /* the form for proxies, which a server must take too */
		target = authority + 3;
		target += strcspn(target, "/?#");
	}
	raw = strndup(target, strcspn(target, "?#"));
	path = raw ? evhttp_uridecode(raw, 0, &length) : NULL;
	free(raw);
	if (path && strlen(path) != length) {
		free(path);
		path = NULL;
	}
	return path;
}

bool http_list_has(const char *list, const char *token)
{
	size_t length = strlen(token);

	while (list && *list) {
		list += strspn(list, " \t,");
		size_t item = strcspn(list, ",");
		size_t end = item;
		while (end > 0 && (list[end - 1] == ' ' || list[end - 1] == '\t'))
			end--;
		if (end == length && strncasecmp(list, token, length) == 0)
			return true;
		list += item;
	}
	return false;
}

static bool connection_has(const struct http_head *head, const char *token)
{
	for (size_t i = 0; i < head->field_count; i++) {
		if (strcasecmp(head->fields[i].name, "Connection") == 0 && http_list_has(head->fields[i].value, token))
			return true;
	}
	return false;
}

static int read_content_length(const char *text, uint64_t *length)
{
	uint64_t value = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text) || value > (UINT64_MAX - 9) / 10)
			return -EINVAL;
		value = value * 10 + (uint64_t)(*text - '0');
	}
	*length = value;
	return 0;
}

static int read_framing(struct http_head *head, bool is_request, const char **reason)
{
	bool has_length = false, is_chunked = false;

	for (size_t i = 0; i < head->field_count; i++) {
		const struct http_field *field = &head->fields[i];
		uint64_t length;

		if (strcasecmp(field->name, "Content-Length") == 0) {
			if (read_content_length(field->value, &length) ||
			    (has_length && length != head->content_length)) {
				*reason = "bad Content-Length";
				return 400;
			}
			has_length = true;
			head->content_length = length;
		} else if (strcasecmp(field->name, "Transfer-Encoding") == 0) {
			if (is_chunked || strcasecmp(field->value, "chunked") != 0) {
				*reason = "unknown transfer coding";
				return 501;
			}
			is_chunked = true;
		}
	}
	if (is_chunked && is_request && head->minor_version == 0) {
		*reason = "Transfer-Encoding in a request of HTTP/1.0";
		return 400;
	}
	if (is_chunked && has_length) {
		*reason = "both Content-Length and Transfer-Encoding";
		return 400;
	}
	if (!is_request && (head->status < 200 || head->status == 204 || head->status == 304))
		head->framing = HTTP_BODY_NONE;
	else if (is_chunked)
		head->framing = HTTP_BODY_CHUNKED;
	else if (has_length)
		head->framing = head->content_length > 0 ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
	else
		head->framing = is_request ? HTTP_BODY_NONE : HTTP_BODY_UNTIL_CLOSE;
	return 0;
}

static int read_expectation(struct http_head *head, const char **reason)
{
	const char *expected = http_head_field(head, "Expect");

	if (!expected || head->minor_version == 0)
		return 0;
	head->expects_continue = strcasecmp(expected, "100-continue") == 0;
	*reason = "unknown expectation";
	return head->expects_continue ? 0 : 417;
}

static int read_head(struct http_head *head, size_t length, bool is_request, const char **reason)
{
	char *rest = head->text, *line;
	int status;

	/* HTAB, CR and LF are the only control bytes that may occur. */
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)head->text[i];
		bool ends_line = byte == '\n' || (byte == '\r' && head->text[i + 1] == '\n');

		if (byte == 127 || (byte < 32 && byte != '\t' && !ends_line)) {
			*reason = "control byte in the head";
			return 400;
		}
	}
	line = take_line(&rest);
	*reason = is_request ? "malformed request line" : "malformed status line";
	if (!line)
		return 400;
	status = is_request ? read_request_line(line, head) : read_status_line(line, head);
	if (status == 505)
		*reason = "unknown HTTP version";
	if (!status)
		status = read_fields(rest, head, reason);
	if (!status)
		status = read_framing(head, is_request, reason);
	if (!status && is_request)
		status = read_expectation(head, reason);
	head->keep_alive = head->minor_version > 0 ? !connection_has(head, "close") : connection_has(head, "keep-alive");
	return status;
}

int http_head_read(const char *bytes, size_t length, bool is_request, struct http_head *head, int *status,
		   const char **reason)
{
	memset(head, 0, sizeof(*head));
	head->text = malloc(length + 1);
	if (!head->text) {
		*status = 500;
		*reason = "no memory";
		return -ENOMEM;
	}
	memcpy(head->text, bytes, length);
	head->text[length] = '\0';
	*status = read_head(head, length, is_request, reason);
	return *status ? -EINVAL : 0;
}

void http_head_clear(struct http_head *head)
{
	free(head->fields);
	free(head->text);
	memset(head, 0, sizeof(*head));
}

enum {
	CHUNK_SIZE_START, /* before the first digit */
	CHUNK_SIZE,
	CHUNK_EXTENSION, /* ignored up to the end of the line */
	CHUNK_DATA,
	CHUNK_DATA_END,
	TRAILER_START, /* at the start of a trailer line */
	TRAILER,
	CHUNKS_DONE,
};

static int hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	digit |= 0x20;
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* One byte of anything but data. */
static int take_control_byte(struct http_chunks *chunks, char byte)
{
	int value;

	if (chunks->state != CHUNK_DATA_END && ++chunks->line_bytes > MOST_LINE_BYTES)
		return -EINVAL;
	/* Readers disagree about a CR that ends no line. */
	if (chunks->is_after_cr && byte != '\n')
		return -EINVAL;
	chunks->is_after_cr = byte == '\r';
	switch (chunks->state) {
	case CHUNK_SIZE_START:
	case CHUNK_SIZE:
		value = hex_value(byte);
		if (value >= 0) {
			if (chunks->left > UINT64_MAX >> 8)
				return -EINVAL;
			chunks->left = chunks->left * 16 + (uint64_t)value;
			chunks->state = CHUNK_SIZE;
			return 0;
		}
		if (chunks->state == CHUNK_SIZE_START || (byte != ';' && byte != ' ' && byte != '\r' && byte != '\n'))
			return -EINVAL;
		chunks->state = CHUNK_EXTENSION;
		__attribute__((fallthrough));
	case CHUNK_EXTENSION:
		if (byte == '\n') {
			chunks->state = chunks->left ? CHUNK_DATA : TRAILER_START;
			chunks->line_bytes = 0;
		}
		return 0;
	case CHUNK_DATA_END:
		if (byte == '\n')
			chunks->state = CHUNK_SIZE_START;
		return byte == '\n' || byte == '\r' ? 0 : -EINVAL;
	case TRAILER_START:
		if (byte == '\n')
			chunks->state = CHUNKS_DONE;
		else if (byte != '\r')
			chunks->state = TRAILER;
		return 0;
	case TRAILER:
		if (byte == '\n')
			chunks->state = TRAILER_START;
		return 0;
	}
	return -EINVAL;
}

int http_chunks_take(struct http_chunks *chunks, const char *bytes, size_t length, size_t *used, const char **data,
		     size_t *data_length)
{
	*used = 0;
	*data = bytes;
	*data_length = 0;
	while (*used < length && chunks->state != CHUNKS_DONE) {
		if (chunks->state == CHUNK_DATA) {
			size_t left = length - *used;

			*data = bytes + *used;
			*data_length = chunks->left < left ? (size_t)chunks->left : left;
			*used += *data_length;
			chunks->left -= *data_length;
			if (chunks->left == 0)
				chunks->state = CHUNK_DATA_END;
			return 0;
		}
		if (take_control_byte(chunks, bytes[(*used)++]))
			return -EINVAL;
	}
	return chunks->state == CHUNKS_DONE;
}
