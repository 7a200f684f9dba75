// SPDX-License-Identifier: Apache-2.0
/* The event loop of a data-plane worker.
 *
 * Events name a slot of a table, with the slot's generation in the upper half,
 * so that an event that was fetched before its watch was removed finds nothing:
 * neither the old watch (it may have been freed) nor a new one in the same slot.
 * Timers are a binary heap whose entries carry their own key; a timer knows its
 * position, so moving and cancelling it are logarithmic too. The wait for the
 * next timer is epoll_pwait2's own timeout: no timerfd, no system call to arm.
 * Messages are pushed onto an atomic stack, which the loop takes whole and
 * turns around. One thread runs the loop; see loop.h for what others may call. */
#include "relay/loop.h"

#include "base/instant.h"
#include "base/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_PER_ROUND 64
/* Timers of 50 us are waited for: the default slack of a thread is as long. */
#define TIMER_SLACK_NS 5000UL

struct loop_slot {
	struct loop_watch *watch; /* NULL: free */
	uint32_t generation, next_free;
};

struct loop_heap_entry {
	uint64_t due_ns;
	struct loop_timer *timer;
};

struct loop {
	int epoll_fd;
	uint64_t now_ns;
	struct loop_slot *slots; /* slot 0 is never used */
	uint32_t slot_count, slot_capacity, first_free;
	struct loop_heap_entry *heap; /* from 1 */
	uint32_t heap_count, heap_capacity;
	struct loop_watch wake;
	_Atomic(struct loop_message *) inbox; /* newest first */
	atomic_bool stopping;
	bool lacks_pwait2;
};

static void wake_up(struct loop *loop)
{
	uint64_t one = 1;

	if (write(loop->wake.fd, &one, sizeof one) < 0)
		return; /* EAGAIN: a wake-up is pending anyway */
}

void loop_receive(struct loop *loop)
{
	struct loop_message *taken = atomic_exchange_explicit(&loop->inbox, NULL, memory_order_acquire);
	struct loop_message *first = NULL;

	while (taken) {
		struct loop_message *next = taken->next;

		taken->next = first;
		first = taken;
		taken = next;
	}
	while (first) {
		struct loop_message *next = first->next; /* the receiver may free it */

		first->receive(first);
		first = next;
	}
}

static void on_wake(struct loop_watch *watch, uint32_t events)
{
	struct loop *loop = (struct loop *)((char *)watch - offsetof(struct loop, wake));
	uint64_t count;

	(void)events;
	/* Emptied first: a message pushed after the exchange writes again. */
	if (read(watch->fd, &count, sizeof count) < 0 && errno != EAGAIN)
		return;
	loop_receive(loop);
}

int loop_create(struct loop **result)
{
	struct loop *loop = calloc(1, sizeof *loop);
	int error, fd = -1;

	if (!loop)
		return -ENOMEM;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		error = -errno;
		goto out;
	}
	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0) {
		error = -errno;
		goto out;
	}
	loop->now_ns = clock_now_ns();
	error = loop_watch_add(loop, &loop->wake, fd, EPOLLIN, on_wake);
	if (error)
		goto out;
	*result = loop;
	return 0;
out:
	if (fd >= 0)
		close(fd);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	free(loop->slots);
	free(loop);
	return error;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	close(loop->wake.fd);
	close(loop->epoll_fd);
	free(loop->slots);
	free(loop->heap);
	free(loop);
}

/* ---- watches ---- */

static uint32_t take_slot(struct loop *loop)
{
	uint32_t slot = loop->first_free;

	if (slot) {
		loop->first_free = loop->slots[slot].next_free;
		return slot;
	}
	if (loop->slot_count + 1 >= loop->slot_capacity) {
		uint32_t capacity = loop->slot_capacity ? loop->slot_capacity * 2 : 64;
		struct loop_slot *slots = realloc(loop->slots, capacity * sizeof *slots);

		if (!slots)
			return 0;
		loop->slots = slots;
		loop->slot_capacity = capacity;
	}
	slot = ++loop->slot_count;
	loop->slots[slot] = (struct loop_slot){ 0 };
	return slot;
}

static void give_slot(struct loop *loop, uint32_t slot)
{
	loop->slots[slot].watch = NULL;
	loop->slots[slot].generation++;
	loop->slots[slot].next_free = loop->first_free;
	loop->first_free = slot;
}

static int control(struct loop *loop, int operation, const struct loop_watch *watch, uint32_t events)
{
	struct epoll_event event = {
		.events = events,
		.data.u64 = (uint64_t)loop->slots[watch->slot].generation << 32 | watch->slot,
	};

	return epoll_ctl(loop->epoll_fd, operation, watch->fd, &event) ? -errno : 0;
}

int loop_watch_add(struct loop *loop, struct loop_watch *watch, int fd, uint32_t events,
		   void (*ready)(struct loop_watch *watch, uint32_t events))
{
	uint32_t slot = take_slot(loop);
	int error;

	if (!slot)
		return -ENOMEM;
	*watch = (struct loop_watch){ .fd = fd, .events = events, .slot = slot, .ready = ready };
	loop->slots[slot].watch = watch;
	error = control(loop, EPOLL_CTL_ADD, watch, events);
	if (error) {
		give_slot(loop, slot);
		watch->slot = 0;
	}
	return error;
}

int loop_watch_take(struct loop *loop, struct loop_watch *watch, struct loop_watch *from, uint32_t events,
		    void (*ready)(struct loop_watch *watch, uint32_t events))
{
	*watch = (struct loop_watch){ .fd = from->fd, .events = events, .slot = from->slot, .ready = ready };
	from->slot = 0;
	loop->slots[watch->slot].watch = watch;
	loop->slots[watch->slot].generation++;
	return control(loop, EPOLL_CTL_MOD, watch, events);
}

int loop_watch_change(struct loop *loop, struct loop_watch *watch, uint32_t events)
{
	if (!watch->slot)
		return -ENOENT;
	watch->events = events;
	return control(loop, EPOLL_CTL_MOD, watch, events);
}

void loop_watch_remove(struct loop *loop, struct loop_watch *watch)
{
	if (watch->slot)
		control(loop, EPOLL_CTL_DEL, watch, 0);
	loop_watch_forget(loop, watch);
}

void loop_watch_forget(struct loop *loop, struct loop_watch *watch)
{
	if (!watch->slot)
		return;
	give_slot(loop, watch->slot);
	watch->slot = 0;
}

/* ---- timers ---- */

static void place(struct loop *loop, uint32_t position, struct loop_heap_entry entry)
{
	loop->heap[position] = entry;
	entry.timer->position = position;
}

static void sift(struct loop *loop, uint32_t position, struct loop_heap_entry entry)
{
	while (position > 1 && entry.due_ns < loop->heap[position / 2].due_ns) {
		place(loop, position, loop->heap[position / 2]);
		position /= 2;
	}
	for (;;) {
		uint32_t child = position * 2;

		if (child > loop->heap_count)
			break;
		if (child < loop->heap_count && loop->heap[child + 1].due_ns < loop->heap[child].due_ns)
			child++;
		if (entry.due_ns <= loop->heap[child].due_ns)
			break;
		place(loop, position, loop->heap[child]);
		position = child;
	}
	place(loop, position, entry);
}

void loop_timer_arm(struct loop *loop, struct loop_timer *timer, uint64_t due_ns,
		    void (*fire)(struct loop_timer *timer))
{
	timer->fire = fire;
	if (!timer->position) {
		if (loop->heap_count + 1 >= loop->heap_capacity) {
			uint32_t capacity = loop->heap_capacity ? loop->heap_capacity * 2 : 256;
			struct loop_heap_entry *heap = realloc(loop->heap, capacity * sizeof *heap);

			if (!heap) { /* a lost timer would hang a pair for good */
				log_fatal("no memory for %u timers", capacity);
				abort();
			}
			loop->heap = heap;
			loop->heap_capacity = capacity;
		}
		timer->position = ++loop->heap_count;
		loop->heap[timer->position].due_ns = UINT64_MAX;
		loop->heap[timer->position].timer = timer;
	}
	sift(loop, timer->position, (struct loop_heap_entry){ due_ns, timer });
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
	uint32_t position = timer->position;
	struct loop_heap_entry last;

	if (!position)
		return;
	timer->position = 0;
	last = loop->heap[loop->heap_count--];
	if (last.timer != timer)
		sift(loop, position, last);
}

/* A handler that arms its timer for now again gets its next turn in the next
 * round: events come first. */
static void fire_timers(struct loop *loop)
{
	for (uint32_t turns = loop->heap_count; turns && loop->heap_count; turns--) {
		struct loop_timer *timer = loop->heap[1].timer;

		if (loop->heap[1].due_ns > loop->now_ns)
			return;
		loop_timer_cancel(loop, timer);
		timer->fire(timer);
	}
}

/* ---- running ---- */

static int wait_for_events(struct loop *loop, struct epoll_event *events)
{
	struct timespec timeout = { 0 };
	const struct timespec *limit = NULL;

	if (loop->heap_count) {
		uint64_t due = loop->heap[1].due_ns, now = clock_now_ns();

		if (due > now) {
			timeout.tv_sec = (time_t)((due - now) / 1000000000);
			timeout.tv_nsec = (long)((due - now) % 1000000000);
		}
		limit = &timeout;
	}
	if (!loop->lacks_pwait2) {
		int count = epoll_pwait2(loop->epoll_fd, events, EVENTS_PER_ROUND, limit, NULL);

		if (count >= 0 || (errno != ENOSYS && errno != EPERM))
			return count;
		loop->lacks_pwait2 = true; /* an old system call filter: milliseconds have to do */
	}
	return epoll_wait(loop->epoll_fd, events, EVENTS_PER_ROUND,
			  !limit ? -1 : timeout.tv_sec > 1000 ? 1000000 : (int)(timeout.tv_sec * 1000 + (timeout.tv_nsec + 999999) / 1000000));
}

int loop_run(struct loop *loop)
{
	struct epoll_event events[EVENTS_PER_ROUND];

	prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);
	while (!atomic_load_explicit(&loop->stopping, memory_order_acquire)) {
		int count = wait_for_events(loop, events);

		if (count < 0 && errno != EINTR)
			return -errno;
		loop->now_ns = clock_now_ns();
		for (int i = 0; i < count; i++) {
			uint32_t slot = (uint32_t)events[i].data.u64;
			struct loop_watch *watch = loop->slots[slot].watch;

			if (watch && loop->slots[slot].generation == (uint32_t)(events[i].data.u64 >> 32))
				watch->ready(watch, events[i].events);
		}
		fire_timers(loop);
	}
	atomic_store_explicit(&loop->stopping, false, memory_order_relaxed);
	return 0;
}

void loop_stop(struct loop *loop)
{
	atomic_store_explicit(&loop->stopping, true, memory_order_release);
	wake_up(loop);
}

void loop_post(struct loop *loop, struct loop_message *message)
{
	struct loop_message *head = atomic_load_explicit(&loop->inbox, memory_order_relaxed);

	do
		message->next = head;
	while (!atomic_compare_exchange_weak_explicit(&loop->inbox, &head, message, memory_order_release,
						      memory_order_relaxed));
	if (!head)
		wake_up(loop);
}

uint64_t loop_now_ns(const struct loop *loop)
{
	return loop->now_ns;
}
