// SPDX-License-Identifier: Apache-2.0
/* The relay object: probing, loading, starting and stopping; see relay.h.
 *
 * Memory of a pair (settings: pair_memory_bytes) is divided so: a quarter for
 * each way of sending (the send buffer, and packets that wait for it uncharged on a
 * psock queue), three sixteenths for each receive buffer, the rest for the sides' own
 * buffers (docs/architecture.md, "What a pair may occupy"). These are limits;
 * buffers.c and credit.c say how much of it a pair gets.
 *
 * A thread of its own waits for grace periods, which block for some
 * milliseconds each. */
#include "relay/worker.h"

#include "base/log.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Pairs of slots beyond max_pairs, for those that wait for a grace period. */
#define SLOTS_SPARE(pairs) ((pairs) / 8 + 256)
#define PAIRS_MOST (1u << 20) /* on the sockmap plane */

/* The last one of the numbers in a file. */
static uint64_t read_limit(const char *path)
{
	unsigned long long most = 0;
	FILE *file = fopen(path, "re");

	if (!file)
		return 0;
	while (fscanf(file, "%llu", &most) == 1)
		;
	fclose(file);
	return most;
}

static void share_memory(struct relay *relay)
{
	uint64_t memory = relay->options.settings.pair_memory_bytes;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), none = 0;

	relay->send_buffer_bytes = memory / 4;
	relay->receive_buffer_bytes = memory / 16 * 3;
	relay->has_buffer_locks = fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &none, sizeof none);
	relay->receive_most_bytes = 2 * read_limit("/proc/sys/net/core/rmem_max");
	relay->tunes_receive_buffers = read_limit("/proc/sys/net/ipv4/tcp_rmem") <= relay->receive_buffer_bytes;
	relay->tunes_send_buffers = relay->has_buffer_locks &&
				    read_limit("/proc/sys/net/ipv4/tcp_wmem") <= relay->send_buffer_bytes;
	/* Pairs that turn out to be plain must be able to leave the large buffer for the kernel's tuning. */
	relay->gated_buffer_bytes = relay->tunes_send_buffers ? 2 * relay->send_buffer_bytes : relay->send_buffer_bytes;
	if (fd >= 0)
		close(fd);
}

/* A grace period in which every run of the kernel program that began before has
 * ended: the program runs under RCU, and this call waits for all of it. */
static void wait_for_grace(void)
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0)) {
		/* Not offered (isolated processors) or filtered: far longer than any softirq runs. */
		struct timespec second = { .tv_sec = 1 };

		nanosleep(&second, NULL);
	}
}

static void *run_grace(void *argument)
{
	struct relay *relay = argument;

	if (relay->options.thread_started)
		relay->options.thread_started(relay->options.context);
	while (slots_wait_for_retired(&relay->slots)) {
		slots_begin_grace(&relay->slots);
		wait_for_grace();
		slots_end_grace(&relay->slots);
	}
	return NULL;
}

static int start_sockmap(struct relay *relay)
{
	uint64_t pairs = relay->options.settings.max_pairs;
	char reason[96];
	sigset_t all, before;
	int error;

	if (pairs > PAIRS_MOST)
		pairs = PAIRS_MOST;
	pairs += SLOTS_SPARE(pairs);
	error = gate_object_open(&gate_image, (uint32_t)pairs * 2, relay->worker_count, &relay->object, reason, sizeof reason);
	if (error) {
		log_warning("relay: sockmap plane not available: %s", reason);
		relay->probe.planes[PLANE_SOCKMAP] = false;
		return 0;
	}
	error = gate_object_watch_endings(relay->object);
	if (error)
		log_warning("relay: ends of sockets are not announced (%s), so all are polled", strerror(-error));
	error = slots_init(&relay->slots, (uint32_t)pairs);
	if (error)
		return error;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = -pthread_create(&relay->grace_thread, NULL, run_grace, relay);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	relay->grace_runs = !error;
	return error;
}

int relay_create(const struct relay_options *options, struct relay **result)
{
	struct relay *relay = calloc(1, sizeof *relay);
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	int error = -ENOMEM;

	if (!relay)
		return -ENOMEM;
	relay->options = *options;
	relay->worker_count = options->settings.workers ? options->settings.workers : processors > 0 ? (unsigned)processors : 1;
	atomic_init(&relay->next_id, 1);
	relay_probe(options->settings.planes, &relay->probe);
	for (unsigned i = 0; i < relay->probe.count; i++)
		log_info("probe: %s: %s", relay->probe.items[i].name, relay->probe.items[i].sentence);
	share_memory(relay);
	credit_budget_init(&relay->budget, options->settings.credit_budget_bytes, CREDIT_PART);
	credit_budget_init(&relay->buffers, options->settings.buffer_budget_bytes, BUFFERS_PART);
	relay->workers = calloc(relay->worker_count, sizeof *relay->workers);
	if (!relay->workers)
		goto out;
	error = relay->probe.planes[PLANE_SOCKMAP] ? start_sockmap(relay) : 0;
	for (unsigned i = 0; !error && i < relay->worker_count; i++)
		error = worker_start(&relay->workers[i], relay, i);
	if (error)
		goto out;
	*result = relay;
	return 0;
out:
	log_error("relay: cannot start: %s", strerror(-error));
	relay_stop(relay);
	relay_free(relay);
	return error;
}

unsigned relay_worker_count(const struct relay *relay)
{
	return relay->worker_count;
}

struct loop *relay_worker_loop(const struct relay *relay, unsigned worker)
{
	return relay->workers[worker].loop;
}

const struct probe_report *relay_probed(const struct relay *relay)
{
	return &relay->probe;
}

/* The kernel counts twice what it is told. */
static int set_send_buffer(int fd, uint64_t real_bytes)
{
	int bytes = real_bytes / 2 > INT32_MAX / 2 ? INT32_MAX / 2 : (int)(real_bytes / 2);

	if (!setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes))
		return 0;
	return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) ? -errno : 0;
}

int relay_prepare_listener(const struct relay *relay, int fd)
{
	static const struct {
		int level, option;
	} switches[] = { { IPPROTO_TCP, TCP_NODELAY }, { SOL_SOCKET, SO_OOBINLINE }, { SOL_SOCKET, SO_KEEPALIVE } };
	int one = 1, error = 0;

	for (unsigned i = 0; i < sizeof switches / sizeof *switches; i++)
		if (setsockopt(fd, switches[i].level, switches[i].option, &one, sizeof one))
			return -errno;
	/* Receive buffers, and the send buffers of plain pairs, are lent (buffers.c). */
	if (relay->object || !relay->tunes_send_buffers)
		error = set_send_buffer(fd, relay->gated_buffer_bytes);
	return error;
}

int relay_join(struct relay *relay, unsigned worker, const struct relay_party parties[2], uint64_t *pair_id)
{
	return pair_start(&relay->workers[worker], parties, pair_id);
}

void relay_stop(struct relay *relay)
{
	atomic_store_explicit(&relay->refuses, true, memory_order_relaxed);
	for (unsigned i = 0; relay->workers && i < relay->worker_count; i++)
		worker_stop(&relay->workers[i]);
	for (unsigned i = 0; relay->workers && i < relay->worker_count; i++)
		worker_join(&relay->workers[i]);
}

void relay_free(struct relay *relay)
{
	if (!relay)
		return;
	for (unsigned i = 0; relay->workers && i < relay->worker_count; i++)
		worker_free(&relay->workers[i]);
	if (relay->grace_runs) {
		slots_close(&relay->slots);
		pthread_join(relay->grace_thread, NULL);
	}
	if (relay->slots.free)
		slots_destroy(&relay->slots);
	gate_object_close(relay->object);
	free(relay->workers);
	free(relay);
}
