// SPDX-License-Identifier: Apache-2.0
/* What every long-running program does the same way: descriptor limit,
 * signals on the event loop, and telling that it waits for somebody.
 *
 * Signals belong to the main thread's loop; a wait notice belongs to whoever
 * waits. */
#include "base/daemon.h"
#include "base/instant.h"
#include "base/log.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct daemon_signals {
	struct event *interrupt, *terminate;
	void (*stop)(void *context);
	void *context;
	bool stopping;
};

void daemon_prepare_process(void)
{
	struct rlimit limit;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* a terminal that closes does not end a server */
	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit))
			log_warning("cannot raise the limit of open descriptors to %llu",
				    (unsigned long long)limit.rlim_max);
	}
}

static void on_signal(evutil_socket_t number, short what, void *context)
{
	struct daemon_signals *signals = context;

	(void)what;
	if (signals->stopping) {
		log_warning("signal %s again: ending at once", number == SIGINT ? "SIGINT" : "SIGTERM");
		_exit(1);
	}
	signals->stopping = true;
	log_info("signal %s: stopping", number == SIGINT ? "SIGINT" : "SIGTERM");
	signals->stop(signals->context);
}

struct daemon_signals *daemon_watch_signals(struct event_base *base, void (*stop)(void *context), void *context)
{
	struct daemon_signals *signals = calloc(1, sizeof(*signals));

	if (!signals)
		return NULL;
	signals->stop = stop;
	signals->context = context;
	signals->interrupt = evsignal_new(base, SIGINT, on_signal, signals);
	signals->terminate = evsignal_new(base, SIGTERM, on_signal, signals);
	if (!signals->interrupt || !signals->terminate || event_add(signals->interrupt, NULL) ||
	    event_add(signals->terminate, NULL)) {
		daemon_signals_free(signals);
		return NULL;
	}
	return signals;
}

void daemon_signals_free(struct daemon_signals *signals)
{
	if (!signals)
		return;
	if (signals->interrupt)
		event_free(signals->interrupt);
	if (signals->terminate)
		event_free(signals->terminate);
	free(signals);
}

void wait_notice_tell(struct wait_notice *notice, const char *what)
{
	unsigned long long now = clock_now_ms(), waited;

	if (!notice->started_ms) {
		notice->started_ms = now;
		notice->next_ms = now + 1000;
		return;
	}
	if (now < notice->next_ms)
		return;
	waited = now - notice->started_ms;
	log_info("still waiting for %s, for %llu s now", what, waited / 1000);
	if (waited < 10000)
		notice->next_ms = notice->started_ms + 10000;
	else
		notice->next_ms = notice->started_ms + (waited / 60000 + 1) * 60000;
}

void wait_notice_clear(struct wait_notice *notice, const char *what)
{
	unsigned long long now = clock_now_ms();

	/* The first notice is due one second after the start; a later due time says that it was given. */
	if (notice->started_ms && notice->next_ms > notice->started_ms + 1000)
		log_info("no longer waiting for %s, after %llu s", what, (now - notice->started_ms) / 1000);
	memset(notice, 0, sizeof(*notice));
}
