// SPDX-License-Identifier: Apache-2.0
/* A worker: the thread with its loop, its stocks of buffers and pipes, and the
 * sweep that finds what a lost event has left lying.
 *
 * Stocks are filled on demand up to a limit; a few idle things are kept. What is
 * in use belongs to a side of a pair. */
#include "relay/worker.h"

#include "base/log.h"
#include "relay/pump.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define SWEEP_NS 100000000ull
#define HOLDS_KEPT 16u
#define PIPES_FIRST 16u /* made before capabilities are dropped */
#define PIPES_KEPT 64u
#define PIPES_MOST 512u
#define PIPE_BYTES (256u << 10)
#define PIPE_BYTES_LEAST (64u << 10) /* a user's pipes beyond pipe-user-pages-soft get less */

/* ---- stocks ---- */

char *worker_take_hold(struct worker *worker)
{
	struct hold_stock *stock = &worker->holds;
	void *hold = stock->free;

	if (stock->used >= stock->most)
		return NULL;
	if (hold) {
		stock->free = *(void **)hold;
		stock->kept--;
	} else {
		hold = malloc(CHUNK_BYTES);
	}
	if (hold)
		stock->used++;
	return hold;
}

void worker_give_hold(struct worker *worker, char *hold)
{
	struct hold_stock *stock = &worker->holds;

	stock->used--;
	if (stock->kept >= HOLDS_KEPT) {
		free(hold);
		return;
	}
	*(void **)hold = stock->free;
	stock->free = hold;
	stock->kept++;
}

static struct pipe_pair *open_pipe(void)
{
	struct pipe_pair *made = calloc(1, sizeof *made);
	int ends[2], capacity;

	if (!made)
		return NULL;
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
		free(made);
		return NULL;
	}
	made->out = ends[0];
	made->in = ends[1];
	capacity = fcntl(made->in, F_SETPIPE_SZ, PIPE_BYTES);
	if (capacity < 0)
		capacity = fcntl(made->in, F_GETPIPE_SZ);
	if (capacity < (int)PIPE_BYTES_LEAST) {
		close(ends[0]);
		close(ends[1]);
		free(made);
		return NULL;
	}
	made->capacity = (unsigned)capacity;
	return made;
}

static void close_pipe(struct pipe_pair *pipe)
{
	close(pipe->in);
	close(pipe->out);
	free(pipe);
}

struct pipe_pair *worker_take_pipe(struct worker *worker)
{
	struct pipe_stock *stock = &worker->pipes;
	struct pipe_pair *taken = stock->free;

	if (stock->used >= stock->most)
		return NULL;
	if (taken) {
		stock->free = taken->next;
		stock->kept--;
	} else {
		taken = open_pipe();
	}
	if (taken)
		stock->used++;
	return taken;
}

void worker_give_pipe(struct worker *worker, struct pipe_pair *pipe)
{
	struct pipe_stock *stock = &worker->pipes;

	stock->used--;
	if (stock->kept >= PIPES_KEPT) {
		close_pipe(pipe);
		return;
	}
	pipe->next = stock->free;
	stock->free = pipe;
	stock->kept++;
}

void worker_drop_pipe(struct worker *worker, struct pipe_pair *pipe)
{
	worker->pipes.used--;
	close_pipe(pipe);
}

void worker_fill_pipes(struct worker *worker, unsigned count)
{
	while (worker->pipes.kept < count) {
		struct pipe_pair *made = open_pipe();

		if (!made)
			return;
		made->next = worker->pipes.free;
		worker->pipes.free = made;
		worker->pipes.kept++;
	}
}

/* ---- the dead ---- */

static void bury(struct loop_timer *timer)
{
	struct worker *worker = (struct worker *)((char *)timer - offsetof(struct worker, bury_timer));

	while (worker->dead) {
		struct pair *pair = worker->dead;

		worker->dead = pair->next;
		pair_free(pair);
	}
	if (worker->stopping && !worker->first)
		loop_stop(worker->loop);
}

void worker_bury(struct worker *worker, struct pair *pair)
{
	pair->next = worker->dead;
	worker->dead = pair;
	loop_timer_arm(worker->loop, &worker->bury_timer, loop_now_ns(worker->loop), bury);
}

/* ---- sweep ---- */

static void sweep(struct loop_timer *timer)
{
	struct worker *worker = (struct worker *)((char *)timer - offsetof(struct worker, sweep_timer));
	struct pair *next;

	for (struct pair *pair = worker->first; pair; pair = next) {
		next = pair->next; /* a pair's end takes only itself off the list */
		sweep_pair(pair);
	}
	if (worker->ring)
		announce_handle_late(worker);
	loop_timer_arm(worker->loop, timer, loop_now_ns(worker->loop) + SWEEP_NS, sweep);
}

/* ---- life ---- */

static void on_ring(struct loop_watch *watch, uint32_t events)
{
	struct worker *worker = (struct worker *)((char *)watch - offsetof(struct worker, ring_watch));

	(void)events;
	ring_buffer__consume(worker->ring);
}

static void on_stop_deadline(struct loop_timer *timer)
{
	struct worker *worker = (struct worker *)((char *)timer - offsetof(struct worker, stop_timer));

	while (worker->first)
		pair_end(worker->first, OUTCOME_SHUTDOWN, NULL);
	loop_timer_arm(worker->loop, &worker->bury_timer, loop_now_ns(worker->loop), bury);
}

static void on_stop(struct loop_message *message)
{
	struct worker *worker = (struct worker *)((char *)message - offsetof(struct worker, stop_message));
	uint64_t deadline_ns = worker->relay->options.settings.stop_deadline_ms * 1000000ull;

	worker->stopping = true;
	if (worker->first)
		loop_timer_arm(worker->loop, &worker->stop_timer, loop_now_ns(worker->loop) + deadline_ns, on_stop_deadline);
	else
		loop_timer_arm(worker->loop, &worker->bury_timer, loop_now_ns(worker->loop), bury);
}

static void *run(void *argument)
{
	struct worker *worker = argument;
	const struct relay_options *options = &worker->relay->options;
	int error;

	if (options->thread_started)
		options->thread_started(options->context);
	error = loop_run(worker->loop);
	if (error)
		log_error("relay worker %u: event loop: %s", worker->number, strerror(-error));
	pthread_mutex_lock(&worker->life);
	worker->runs = false;
	pthread_mutex_unlock(&worker->life);
	loop_receive(worker->loop); /* nobody waits for an answer in vain */
	return NULL;
}

int worker_start(struct worker *worker, struct relay *relay, unsigned number)
{
	sigset_t all, before;
	int error;

	worker->relay = relay;
	worker->number = number;
	pthread_mutex_init(&worker->life, NULL);
	worker->holds.most = (unsigned)(relay->options.settings.max_pairs * 2);
	worker->pipes.most = PIPES_MOST;
	worker->scratch = malloc(CHUNK_BYTES);
	if (!worker->scratch)
		return -ENOMEM;
	error = loop_create(&worker->loop);
	if (error)
		return error;
	if (relay->object) {
		int fd = relay->object->ring_fds[number];

		worker->pairs = calloc(relay->object->slots / 2, sizeof *worker->pairs);
		if (!worker->pairs)
			return -ENOMEM;
		worker->ring = ring_buffer__new(fd, announce_handle, worker, NULL);
		if (!worker->ring)
			return -ENOMEM;
		error = loop_watch_add(worker->loop, &worker->ring_watch, fd, EPOLLIN, on_ring);
		if (error)
			return error;
	}
	if (relay->probe.planes[PLANE_SPLICE] || relay->probe.planes[PLANE_KTLS_SPLICE])
		worker_fill_pipes(worker, PIPES_FIRST);
	loop_timer_arm(worker->loop, &worker->sweep_timer, loop_now_ns(worker->loop) + SWEEP_NS, sweep);
	worker->runs = true;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's */
	error = -pthread_create(&worker->thread, NULL, run, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error) {
		worker->runs = false;
		return error;
	}
	worker->started = true;
	char name[16];
	snprintf(name, sizeof name, "relay-%u", number % 1000);
	pthread_setname_np(worker->thread, name);
	return 0;
}

void worker_stop(struct worker *worker)
{
	if (!worker->started)
		return;
	worker->stop_message.receive = on_stop;
	loop_post(worker->loop, &worker->stop_message);
}

void worker_join(struct worker *worker)
{
	if (!worker->started)
		return;
	pthread_join(worker->thread, NULL);
	worker->started = false;
}

void worker_free(struct worker *worker)
{
	if (!worker->relay)
		return;
	while (worker->first) /* only if its loop has failed */
		pair_end(worker->first, OUTCOME_SHUTDOWN, NULL);
	if (worker->loop)
		bury(&worker->bury_timer);
	if (worker->ring_watch.slot)
		loop_watch_remove(worker->loop, &worker->ring_watch);
	ring_buffer__free(worker->ring);
	while (worker->holds.free) {
		void *hold = worker->holds.free;

		worker->holds.free = *(void **)hold;
		free(hold);
	}
	while (worker->pipes.free) {
		struct pipe_pair *pipe = worker->pipes.free;

		worker->pipes.free = pipe->next;
		close_pipe(pipe);
	}
	loop_free(worker->loop);
	free(worker->scratch);
	free(worker->late);
	free(worker->pairs);
	pthread_mutex_destroy(&worker->life);
}
