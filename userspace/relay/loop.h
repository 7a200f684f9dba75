// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Event loop of one data-plane worker: epoll, a heap of timers, and messages
 * from other threads. Everything but loop_post() and loop_stop() belongs to the
 * thread that runs loop_run().
 *
 * Watches, timers and messages are embedded in their owner's object, so nothing
 * is allocated while bytes move. Handlers may remove any watch, also of
 * descriptors whose events have been fetched but not handled yet. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

/* There are many of both, so they have no holes. */
#define LOOP_DENSE __attribute__((packed, aligned(4)))

struct loop_watch {
	int fd;
	uint32_t events; /* as armed */
	uint32_t slot;   /* of the loop; 0: not watched */
	void (*ready)(struct loop_watch *watch, uint32_t events);
} LOOP_DENSE;

struct loop_timer {
	uint32_t position; /* in the heap, from 1; 0: not armed */
	void (*fire)(struct loop_timer *timer);
} LOOP_DENSE;

struct loop_message {
	struct loop_message *next;
	void (*receive)(struct loop_message *message);
};

int loop_create(struct loop **result);
void loop_free(struct loop *loop);
int loop_run(struct loop *loop); /* until loop_stop() */
void loop_stop(struct loop *loop);

/* `events`: EPOLL* bits as for epoll_ctl (EPOLLET included if wanted).
 * 0 or a negative errno. */
int loop_watch_add(struct loop *loop, struct loop_watch *watch, int fd, uint32_t events,
		   void (*ready)(struct loop_watch *watch, uint32_t events));
/* Takes the descriptor of `from` over, a watch of this loop, which is not watched any more. */
int loop_watch_take(struct loop *loop, struct loop_watch *watch, struct loop_watch *from, uint32_t events,
		    void (*ready)(struct loop_watch *watch, uint32_t events));
int loop_watch_change(struct loop *loop, struct loop_watch *watch, uint32_t events);
void loop_watch_remove(struct loop *loop, struct loop_watch *watch); /* before close(fd); no-op if not watched */
/* Same, where the caller closes the descriptor at once and nobody has another one for it: the kernel does the rest. */
void loop_watch_forget(struct loop *loop, struct loop_watch *watch);

/* `due_ns`: CLOCK_MONOTONIC. Re-arming moves the timer. */
void loop_timer_arm(struct loop *loop, struct loop_timer *timer, uint64_t due_ns,
		    void (*fire)(struct loop_timer *timer));
void loop_timer_cancel(struct loop *loop, struct loop_timer *timer); /* no-op if not armed */
static inline bool loop_timer_is_armed(const struct loop_timer *timer) { return timer->position != 0; }

/* From any thread; received in order by the loop's thread, which owns the
 * message from then on. */
void loop_post(struct loop *loop, struct loop_message *message);

/* Time at which the present round of events was fetched. */
uint64_t loop_now_ns(const struct loop *loop);

/* Receives what has been posted, now; for the owner of a loop that has ended. */
void loop_receive(struct loop *loop);
