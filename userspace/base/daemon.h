// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What every long-running program does the same way: the event loop, signals,
 * and waiting for something that another program provides. */
#include <event2/event.h>
#include <stdbool.h>

/* Raises RLIMIT_NOFILE to the hard limit, ignores SIGPIPE and SIGHUP. */
void daemon_prepare_process(void);

/* On the first SIGINT or SIGTERM calls `stop`; a second one ends the process
 * at once. Returns an opaque object to be freed before the base, or NULL. */
struct daemon_signals;
struct daemon_signals *daemon_watch_signals(struct event_base *base, void (*stop)(void *context), void *context);
void daemon_signals_free(struct daemon_signals *signals);

/* Says that something is awaited after 1, 10 and 60 s and then each minute:
 * call it at every retry. */
struct wait_notice {
	unsigned long long started_ms, next_ms; /* monotonic; zero at first */
};
void wait_notice_tell(struct wait_notice *notice, const char *what);
/* Forgets the wait (and logs that it is over, if it had been told). */
void wait_notice_clear(struct wait_notice *notice, const char *what);
