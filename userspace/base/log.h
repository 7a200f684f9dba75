// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Log lines on standard error (protocol page 9.4).
 *
 * One line per call, written with a single write(2), so lines of several
 * threads never mix. Never log a token, a key or a request body: names,
 * addresses, counts and reasons only. Text that came from a peer is quoted by
 * the writer, so no line can be forged. */
#include <stdbool.h>

enum log_level {
	LOG_LEVEL_PANIC,
	LOG_LEVEL_FATAL,
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_TRACE,
};

enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_IRIS };

/* Words accepted are those of the protocol page 1.2, case-insensitive.
 * Returns 0 or -EINVAL. */
int log_level_from_text(const char *text, enum log_level *level);

/* Sets what all threads log; call it before the first thread starts.
 * `service` ("Hyper", "PRO", "SD_") must stay valid for the process. */
void log_configure(enum log_level level, enum log_format format, const char *service);

bool log_is_on(enum log_level level);

/* How many warnings there have been, shown or not. */
unsigned log_warning_count(void);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_fatal(...) log_write(LOG_LEVEL_FATAL, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
