// SPDX-License-Identifier: Apache-2.0
/* Log lines on standard error, in the three shapes of protocol page 9.4: text
 * for files, coloured text for a terminal, and `iris`.
 *
 * A line is built in one buffer and handed to the kernel by one write(2), so
 * lines of several threads and processes never mix. Whatever a message holds,
 * it stays one line: the text format quotes it as Go's strconv.Quote does, the
 * other two write control characters and broken UTF-8 as escapes.
 *
 * The configuration is set before the first thread starts and only read
 * afterwards; log_write() may be called from every thread, and keeps errno. */
#include "base/log.h"
#include "base/cleanup.h"
#include "base/instant.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static enum log_level most_verbose = LOG_LEVEL_INFO;
static enum log_format line_format = LOG_FORMAT_TEXT;
static const char *service_name = "Hyper";
static bool on_terminal;
static uint64_t started_ms;
static atomic_uint warnings;

static const struct {
	const char *word;
	int colour; /* SGR parameter on a terminal */
} levels[] = {
	[LOG_LEVEL_PANIC] = { "panic", 31 },	 [LOG_LEVEL_FATAL] = { "fatal", 31 },
	[LOG_LEVEL_ERROR] = { "error", 31 },	 [LOG_LEVEL_WARNING] = { "warning", 33 },
	[LOG_LEVEL_INFO] = { "info", 36 },	 [LOG_LEVEL_DEBUG] = { "debug", 37 },
	[LOG_LEVEL_TRACE] = { "trace", 37 },
};

int log_level_from_text(const char *text, enum log_level *level)
{
	for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (!strcasecmp(text, levels[i].word)) {
			*level = (enum log_level)i;
			return 0;
		}
	}
	if (!strcasecmp(text, "warn")) {
		*level = LOG_LEVEL_WARNING;
		return 0;
	}
	return -EINVAL;
}

void log_configure(enum log_level level, enum log_format format, const char *service)
{
	most_verbose = level;
	line_format = format;
	service_name = service;
	on_terminal = isatty(STDERR_FILENO) == 1;
	started_ms = clock_now_ms();
}

unsigned log_warning_count(void)
{
	return atomic_load_explicit(&warnings, memory_order_relaxed);
}

bool log_is_on(enum log_level level)
{
	return level <= most_verbose;
}

/* A growing line. Without memory it is cut, never lost. */
struct line {
	char *text;
	size_t length, capacity;
	char *allocated;
	char fixed[2048];
};

static void line_add(struct line *line, const char *text, size_t length)
{
	if (line->capacity - line->length < length) {
		size_t capacity = (line->length + length) * 2;
		char *grown = malloc(capacity);

		if (!grown) {
			length = line->capacity - line->length;
		} else {
			memcpy(grown, line->text, line->length);
			free(line->allocated);
			line->text = line->allocated = grown;
			line->capacity = capacity;
		}
	}
	memcpy(line->text + line->length, text, length);
	line->length += length;
}

static void line_add_text(struct line *line, const char *text)
{
	line_add(line, text, strlen(text));
}

/* Length of the UTF-8 sequence at `text`, its code point in `rune`; 0 if it is
 * no well-formed sequence. */
static unsigned utf8_decode(const unsigned char *text, size_t available, uint32_t *rune)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned length = text[0] < 0x80 ? 1 : text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
	uint32_t value = length == 1 ? text[0] : text[0] & (0x7fU >> length);

	if (length > available || (text[0] >= 0x80 && text[0] < 0xc2) || text[0] > 0xf4)
		return 0;
	for (unsigned i = 1; i < length; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (text[i] & 0x3f);
	}
	if (value < smallest[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
		return 0;
	*rune = value;
	return length;
}

/* False for what changes how a line looks: controls, separators, directional
 * marks, spaces other than ASCII's, private use. */
static bool rune_is_printable(uint32_t rune)
{
	static const struct {
		uint32_t first, last;
	} hidden[] = {
		{ 0x00, 0x1f },	    { 0x7f, 0xa0 },	{ 0xad, 0xad },	    { 0x61c, 0x61c },
		{ 0x1680, 0x1680 }, { 0x180e, 0x180e }, { 0x2000, 0x200f }, { 0x2028, 0x202f },
		{ 0x205f, 0x206f }, { 0x3000, 0x3000 }, { 0xe000, 0xf8ff }, { 0xfdd0, 0xfdef },
		{ 0xfeff, 0xfeff }, { 0xfff0, 0xfffb }, { 0xfffe, 0xffff }, { 0xe0000, 0x10ffff },
	};

	for (unsigned i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
		if (rune >= hidden[i].first && rune <= hidden[i].last)
			return false;
	}
	return true;
}

static void line_add_escape(struct line *line, const unsigned char *text, unsigned size, uint32_t rune)
{
	static const char controls[] = "abtnvfr"; /* 0x07 to 0x0d */
	char escape[16];

	if (rune >= 7 && rune <= 13 && size)
		snprintf(escape, sizeof(escape), "\\%c", controls[rune - 7]);
	else if (!size || rune < 0x80)
		snprintf(escape, sizeof(escape), "\\x%02x", text[0]);
	else
		snprintf(escape, sizeof(escape), rune > 0xffff ? "\\U%08x" : "\\u%04x", (unsigned)rune);
	line_add_text(line, escape);
}

static void line_add_escaped(struct line *line, const char *message, size_t length, bool quoted)
{
	const unsigned char *text = (const unsigned char *)message;

	for (size_t i = 0; i < length;) {
		uint32_t rune = 0;
		unsigned size = utf8_decode(text + i, length - i, &rune);

		if (!size || !rune_is_printable(rune)) {
			line_add_escape(line, text + i, size, rune);
		} else {
			if (quoted && (rune == '"' || rune == '\\'))
				line_add(line, "\\", 1);
			line_add(line, message + i, size);
		}
		i += size ? size : 1;
	}
}

static bool needs_quotes(const char *message)
{
	for (; *message; message++) {
		unsigned char c = (unsigned char)*message;

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      memchr("-._/@^+", c, 7)))
			return true;
	}
	return false;
}

static void upper_case(const char *word, char *upper, size_t size)
{
	size_t i;

	for (i = 0; i + 1 < size && word[i]; i++)
		upper[i] = (char)(word[i] - 'a' + 'A');
	upper[i] = 0;
}

static void line_build(struct line *line, enum log_level level, const char *message)
{
	struct instant now = instant_now();
	size_t length = strlen(message);
	char when[INSTANT_TEXT_SIZE], upper[16], head[128];

	if (line_format == LOG_FORMAT_IRIS) {
		upper_case(levels[level].word, upper, sizeof(upper));
		snprintf(head, sizeof(head), "%s %s %d %s [nan] [nan] : ", instant_format(now, when), upper,
			 (int)getpid(), service_name);
		line_add_text(line, head);
		line_add_escaped(line, message, length, false);
	} else if (on_terminal) {
		upper_case(levels[level].word, upper, 5);
		snprintf(head, sizeof(head), "\x1b[%dm%s\x1b[0m[%04u] ", levels[level].colour, upper,
			 (unsigned)((clock_now_ms() - started_ms) / 1000));
		line_add_text(line, head);
		line_add_escaped(line, message, length, false);
		for (size_t column = length; column < 44; column++)
			line_add(line, " ", 1);
	} else {
		now.nanoseconds = 0;
		snprintf(head, sizeof(head), "time=\"%s\" level=%s msg=", instant_format(now, when),
			 levels[level].word);
		line_add_text(line, head);
		if (needs_quotes(message)) {
			line_add(line, "\"", 1);
			line_add_escaped(line, message, length, true);
			line_add(line, "\"", 1);
		} else {
			line_add(line, message, length);
		}
	}
}

void log_write(enum log_level level, const char *format, ...)
{
	int saved_errno = errno;
	_free_ char *longer = NULL;
	char fixed[1024];
	const char *message = fixed;
	struct line line;
	va_list arguments;
	int length;

	if (level == LOG_LEVEL_WARNING)
		atomic_fetch_add_explicit(&warnings, 1, memory_order_relaxed);
	if (!log_is_on(level))
		return;
	va_start(arguments, format);
	length = vsnprintf(fixed, sizeof(fixed), format, arguments);
	va_end(arguments);
	if (length < 0)
		return;
	if ((size_t)length >= sizeof(fixed)) {
		va_start(arguments, format);
		if (vasprintf(&longer, format, arguments) >= 0)
			message = longer;
		else
			longer = NULL;
		va_end(arguments);
	}

	line.text = line.fixed;
	line.length = 0;
	line.capacity = sizeof(line.fixed) - 1; /* room for the newline, memory or not */
	line.allocated = NULL;
	line_build(&line, level, message);
	if (line.length == line.capacity && line.allocated)
		line.length--;
	line.text[line.length++] = '\n';

	for (size_t written = 0; written < line.length;) {
		ssize_t count = write(STDERR_FILENO, line.text + written, line.length - written);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			break; /* nobody to tell */
		written += (size_t)count;
	}
	free(line.allocated);
	errno = saved_errno;
}
