// SPDX-License-Identifier: Apache-2.0
/* The event loop of a worker: timers in order, messages from other threads, and
 * watches that go while their events are being handled. */
#include "relay/loop.h"

#include "base/instant.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define TIMERS 500

static struct loop *loop;

static int make_loop(void **state)
{
	(void)state;
	return loop_create(&loop);
}

static int drop_loop(void **state)
{
	(void)state;
	loop_free(loop);
	return 0;
}

/* ---- timers ---- */

struct numbered_timer {
	uint64_t due_ns;
	struct loop_timer timer;
	unsigned number;
};

static struct numbered_timer timers[TIMERS];
static unsigned fired[TIMERS * 2], fired_count, fire_limit;

static void on_fire(struct loop_timer *timer)
{
	struct numbered_timer *numbered = (struct numbered_timer *)((char *)timer - offsetof(struct numbered_timer, timer));

	assert_false(loop_timer_is_armed(timer));
	assert_true(numbered->due_ns <= loop_now_ns(loop));
	fired[fired_count++] = numbered->number;
	if (fired_count == fire_limit)
		loop_stop(loop);
}

static void arm(struct numbered_timer *timer, uint64_t due_ns)
{
	timer->due_ns = due_ns;
	loop_timer_arm(loop, &timer->timer, due_ns, on_fire);
}

static void timers_fire_in_order_of_their_time(void **state)
{
	uint64_t now = clock_now_ns();
	unsigned seed = 1, armed = 0;

	(void)state;
	memset(timers, 0, sizeof timers);
	fired_count = 0;
	for (unsigned i = 0; i < TIMERS; i++) {
		timers[i].number = i;
		arm(&timers[i], now + (uint64_t)rand_r(&seed) % 20000000);
	}
	/* Half of them move, a third goes. */
	for (unsigned i = 0; i < TIMERS; i += 2)
		arm(&timers[i], now + (uint64_t)rand_r(&seed) % 20000000);
	for (unsigned i = 0; i < TIMERS; i += 3)
		loop_timer_cancel(loop, &timers[i].timer);
	for (unsigned i = 0; i < TIMERS; i++)
		armed += loop_timer_is_armed(&timers[i].timer);
	assert_int_equal(armed, TIMERS - (TIMERS + 2) / 3);
	fire_limit = armed;
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(fired_count, armed);
	for (unsigned i = 1; i < fired_count; i++)
		assert_true(timers[fired[i - 1]].due_ns <= timers[fired[i]].due_ns);
	loop_timer_cancel(loop, &timers[0].timer); /* not armed: nothing happens */
}

static void a_short_timer_is_not_a_millisecond_late(void **state)
{
	uint64_t best = UINT64_MAX;

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		uint64_t due = clock_now_ns() + 100000;

		fired_count = 0;
		fire_limit = 1;
		arm(&timers[0], due);
		assert_int_equal(loop_run(loop), 0);
		assert_true(clock_now_ns() >= due);
		if (clock_now_ns() - due < best)
			best = clock_now_ns() - due;
	}
	assert_true(best < 1000000);
}

static void rearm_now(struct loop_timer *timer)
{
	if (++fired_count == 3)
		loop_stop(loop);
	loop_timer_arm(loop, timer, loop_now_ns(loop), rearm_now);
}

static unsigned ready_count;
static void on_ready_count(struct loop_watch *watch, uint32_t events)
{
	uint64_t value;

	assert_true(events & EPOLLIN);
	assert_int_equal(read(watch->fd, &value, sizeof value), sizeof value);
	ready_count++;
}

static void a_timer_that_rearms_itself_does_not_starve_events(void **state)
{
	struct loop_watch watch = { 0 };
	struct loop_timer timer = { 0 };
	int fd = eventfd(1, EFD_NONBLOCK);

	(void)state;
	fired_count = ready_count = 0;
	assert_int_equal(loop_watch_add(loop, &watch, fd, EPOLLIN, on_ready_count), 0);
	loop_timer_arm(loop, &timer, clock_now_ns(), rearm_now);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(ready_count, 1);
	assert_int_equal(fired_count, 3);
	loop_timer_cancel(loop, &timer);
	loop_watch_remove(loop, &watch);
	close(fd);
}

/* ---- watches ---- */

#define WATCHES 20
static struct loop_watch *watches[WATCHES];

static void remove_the_others(struct loop_watch *watch, uint32_t events)
{
	(void)events;
	ready_count++;
	for (unsigned i = 0; i < WATCHES; i++) {
		if (watches[i] == watch)
			continue;
		loop_watch_remove(loop, watches[i]);
		close(watches[i]->fd);
		free(watches[i]); /* its event has been fetched already */
		watches[i] = NULL;
	}
	loop_stop(loop);
}

static void a_removed_watch_is_not_called_in_the_same_round(void **state)
{
	struct loop_watch *left = NULL;

	(void)state;
	ready_count = 0;
	for (unsigned i = 0; i < WATCHES; i++) {
		watches[i] = malloc(sizeof *watches[i]);
		assert_int_equal(loop_watch_add(loop, watches[i], eventfd(1, 0), EPOLLIN, remove_the_others), 0);
	}
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(ready_count, 1);
	for (unsigned i = 0; i < WATCHES; i++)
		if (watches[i])
			left = watches[i];
	assert_non_null(left);
	loop_watch_remove(loop, left);
	loop_watch_remove(loop, left); /* not watched: nothing happens */
	close(left->fd);
	free(left);
}

static struct loop_watch fresh;
static void on_fresh(struct loop_watch *watch, uint32_t events)
{
	(void)watch;
	(void)events;
	fail_msg("an event of an old watch reached a new one in its slot");
}
static void replace_the_other(struct loop_watch *watch, uint32_t events)
{
	(void)events;
	for (unsigned i = 0; i < 2; i++) {
		if (watches[i] == watch)
			continue;
		uint32_t slot = watches[i]->slot;

		loop_watch_remove(loop, watches[i]);
		assert_int_equal(loop_watch_add(loop, &fresh, eventfd(0, 0), EPOLLIN, on_fresh), 0);
		assert_int_equal(fresh.slot, slot);
	}
	loop_stop(loop);
}

static void a_slot_that_is_used_again_gets_no_old_event(void **state)
{
	struct loop_watch pair[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		watches[i] = &pair[i];
		assert_int_equal(loop_watch_add(loop, &pair[i], eventfd(1, 0), EPOLLIN, replace_the_other), 0);
	}
	assert_int_equal(loop_run(loop), 0);
	for (unsigned i = 0; i < 2; i++) {
		loop_watch_remove(loop, &pair[i]);
		close(pair[i].fd);
	}
	loop_watch_remove(loop, &fresh);
	close(fresh.fd);
}

/* ---- messages ---- */

#define SENDERS 4
#define MESSAGES 5000

struct numbered_message {
	struct loop_message message; /* first */
	unsigned sender, number;
};

static struct numbered_message messages[SENDERS][MESSAGES];
static unsigned next_number[SENDERS], received;

static void on_message(struct loop_message *message)
{
	struct numbered_message *numbered = (struct numbered_message *)message;

	assert_int_equal(numbered->number, next_number[numbered->sender]);
	next_number[numbered->sender]++;
	if (++received == SENDERS * MESSAGES)
		loop_stop(loop);
}

static void *send_messages(void *argument)
{
	unsigned sender = (unsigned)(uintptr_t)argument;

	for (unsigned i = 0; i < MESSAGES; i++) {
		messages[sender][i] = (struct numbered_message){ { NULL, on_message }, sender, i };
		loop_post(loop, &messages[sender][i].message);
	}
	return NULL;
}

static void messages_of_each_thread_arrive_in_order(void **state)
{
	pthread_t threads[SENDERS];

	(void)state;
	received = 0;
	memset(next_number, 0, sizeof next_number);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_create(&threads[i], NULL, send_messages, (void *)(uintptr_t)i);
	assert_int_equal(loop_run(loop), 0);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(received, SENDERS * MESSAGES);
}

static void *stop_it(void *argument)
{
	(void)argument;
	loop_stop(loop);
	return NULL;
}

static void another_thread_stops_a_loop_that_waits(void **state)
{
	pthread_t thread;

	(void)state;
	pthread_create(&thread, NULL, stop_it, NULL);
	assert_int_equal(loop_run(loop), 0);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(timers_fire_in_order_of_their_time, make_loop, drop_loop),
		cmocka_unit_test_setup_teardown(a_short_timer_is_not_a_millisecond_late, make_loop, drop_loop),
		cmocka_unit_test_setup_teardown(a_timer_that_rearms_itself_does_not_starve_events, make_loop, drop_loop),
		cmocka_unit_test_setup_teardown(a_removed_watch_is_not_called_in_the_same_round, make_loop, drop_loop),
		cmocka_unit_test_setup_teardown(a_slot_that_is_used_again_gets_no_old_event, make_loop, drop_loop),
		cmocka_unit_test_setup_teardown(messages_of_each_thread_arrive_in_order, make_loop, drop_loop),
		cmocka_unit_test_setup_teardown(another_thread_stops_a_loop_that_waits, make_loop, drop_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
