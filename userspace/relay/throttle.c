// SPDX-License-Identifier: Apache-2.0
/* The throttle: how a sender that is far away and faster than its reader stays in the
 * kernel (architecture.md, "The hold").
 *
 * On a long way a window of two segments, which hold.c gives, would be too small, and a
 * larger one is handed up whole at each closing. But there a window is a rate, of one
 * window a round trip. So it is fitted to the pace of the reader, and the gate stays
 * open: every half of the sender's round trip this file looks at what the reader has
 * acknowledged, and sets the window to what the reader takes within a round trip, more or
 * less of it as fewer or more bytes wait than shall.
 *
 * The window is limited by TCP_WINDOW_CLAMP alone. It takes back nothing that was
 * announced, so the kernel never drops a byte for it; that it works a round trip later is
 * what the waiting bytes are for. A smaller receive buffer would be seen at once, and would
 * cost what is under way.
 *
 * When the reader stops, the gate closes as ever, and what is handed up is a window. A
 * reader that is not slower gets all of the window, and after some time no looks any more.
 * Nobody looks either while nothing moves. Worker's thread only. */
#include "relay/throttle.h"

#include "base/instant.h"
#include "relay/worker.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* A reader with a full buffer acknowledges in leaps: its pace is seen over so long, and so many round trips. */
#define PACE_NS 100000000u
#define PACE_TRIPS 4
#define PACE_FIRST_NS 25000000u
#define LOOK_LEAST_NS 1000000u
#define SEGMENTS_LEAST 4
#define LOOKS_IDLE 4   /* without a byte: nobody looks any more */
#define LOOKS_FREE 100 /* with all of the window: it is left alone */

uint64_t throttle_goal(uint64_t credit, uint64_t path_bytes)
{
	uint64_t goal = path_bytes + path_bytes / 2, most = credit / 4 * 3;

	return goal < credit / 4 ? credit / 4 : goal < most ? goal : most;
}

static uint64_t goal_of(const struct throttle *throttle, const struct throttle_sample *sample)
{
	return throttle_goal(sample->credit, (uint64_t)(throttle->pace * (double)sample->reader_rtt_ns));
}

static void note_pace(struct throttle *throttle, const struct throttle_sample *sample)
{
	uint64_t passed_ns = sample->now_ns - throttle->at_ns, long_ns = PACE_TRIPS * throttle->rtt_ns;
	double seen = (double)(sample->acked - throttle->acked) / (double)passed_ns, part;
	int64_t some = (int64_t)(goal_of(throttle, sample) / 8);

	long_ns = long_ns > PACE_NS ? long_ns : PACE_NS;
	part = passed_ns < long_ns ? (double)passed_ns / (double)long_ns : 1;
	if (throttle->idle >= LOOKS_IDLE)
		part = 0; /* a pause says nothing */
	else if (passed_ns < (throttle->pace > 0 ? LOOK_LEAST_NS / 2 : PACE_FIRST_NS))
		return; /* nor does a short time: the next look is for all of it */
	if (throttle->pace == 0 && part > 0)
		throttle->pace = seen;
	/* What a reader takes that waits for more says only that it is not slower. */
	else if (seen > throttle->pace || (sample->waiting > some && throttle->waiting > some))
		throttle->pace += (seen - throttle->pace) * part;
	throttle->at_ns = sample->now_ns;
	throttle->acked = sample->acked;
}

static uint32_t window_for(const struct throttle *throttle, const struct throttle_sample *sample)
{
	/* What comes may come in one burst in each round trip. */
	double waiting = (double)(sample->waiting < throttle->waiting ? sample->waiting : throttle->waiting);
	double goal = (double)goal_of(throttle, sample);
	double path = throttle->pace * (double)throttle->rtt_ns, wanted = path + (goal - waiting) / 2;
	double used = (double)(sample->came - throttle->came[1]);

	if (throttle->pace == 0)
		return throttle->window;
	if (!sample->is_open) {
		/* Less than is moved, until all of it has been: then the gate opens. */
		wanted = path / 4 * 3 - waiting / 2;
	} else if (waiting < goal / 2) {
		/* The reader may be able to take more than it was given. Not a part of the window: whether more
		 * comes is seen only a round trip later. */
		double more = 1.25 * (used < throttle->window ? used : throttle->window);

		wanted = wanted > more ? wanted : more;
	}
	/* A window is taken away within one round trip, but grows back as in slow start. */
	if (wanted < path / 4)
		wanted = path / 4;
	return wanted < throttle->least ? throttle->least : wanted > throttle->most ? throttle->most : (uint32_t)wanted;
}

uint32_t throttle_step(struct throttle *throttle, const struct throttle_sample *sample)
{
	uint64_t wait_ns = throttle->rtt_ns / 2;

	note_pace(throttle, sample);
	throttle->window = window_for(throttle, sample);
	throttle->free = throttle->window == throttle->most ? throttle->free + 1 : 0;
	throttle->idle = throttle->came[0] == sample->came ? throttle->idle + 1 : 0;
	throttle->due_ns = sample->now_ns + (wait_ns < LOOK_LEAST_NS ? LOOK_LEAST_NS : wait_ns);
	throttle->waiting = sample->waiting;
	throttle->came[1] = throttle->came[0];
	throttle->came[0] = sample->came;
	return throttle->window;
}

bool throttle_is_on(const struct side *side)
{
	return side->bulk && side->bulk->throttle.rtt_ns;
}

static uint64_t count_came(const struct side *side)
{
	return __atomic_load_n(&side->gate->redirected, __ATOMIC_RELAXED) +
	       GATE_HANDED_UP(__atomic_load_n(&side->gate->gate, __ATOMIC_ACQUIRE));
}

static void limit_window(struct side *side, uint32_t bytes)
{
	int limit = (int)bytes, was = 0;
	socklen_t size = sizeof was;

	/* The tuning of receive buffers, the kernel's and ours, sets it too. */
	if (getsockopt(side->watch.fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &was, &size) || was != limit)
		setsockopt(side->watch.fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &limit, sizeof limit);
}

void throttle_begin(struct side *side, const struct tcp_facts *facts)
{
	uint32_t most = (uint32_t)(side_pair(side)->worker->relay->receive_buffer_bytes / 2);
	uint64_t now = clock_now_ns(), came = count_came(side);

	side->bulk->throttle = (struct throttle){
		.rtt_ns = 1000ull * facts->least_rtt_us,
		.least = SEGMENTS_LEAST * facts->most_segment_bytes,
		.most = most,
		.window = most,
		.small_most = side->gate->small_most,
		.at_ns = now,
		.due_ns = now,
		.acked = tcp_acked(side_other(side)->watch.fd),
		.came = { came, came },
	};
	/* A sender that is short of window sends small segments, too. */
	__atomic_store_n(&side->gate->small_most, 0, __ATOMIC_RELAXED);
}

void throttle_leave(struct side *side)
{
	if (!throttle_is_on(side))
		return;
	limit_window(side, side->bulk->throttle.most);
	__atomic_store_n(&side->gate->small_most, side->bulk->throttle.small_most, __ATOMIC_RELAXED);
	side->bulk->throttle.rtt_ns = 0;
}

void throttle_look(struct side *side, bool at_once)
{
	struct throttle_sample sample = { .now_ns = clock_now_ns() };
	uint32_t window;

	if (!throttle_is_on(side) || (sample.now_ns < side->bulk->throttle.due_ns && !at_once))
		return;
	sample.reader_rtt_ns = 1000ull * side->rtt_us;
	sample.acked = tcp_acked(side_other(side)->watch.fd);
	sample.came = count_came(side);
	sample.waiting = (int64_t)(sample.came - side->read + side->base + side->hold_length - sample.acked);
	sample.credit = side->lent;
	sample.is_open = !(__atomic_load_n(&side->gate->gate, __ATOMIC_ACQUIRE) & GATE_CLOSED);
	window = throttle_step(&side->bulk->throttle, &sample);
	/* The budget of buffers goes first. */
	if (side->receive_bytes && window > side->receive_bytes / 2)
		window = side->receive_bytes / 2;
	limit_window(side, window);
	if (side->bulk->throttle.free >= LOOKS_FREE)
		throttle_leave(side);
}

uint64_t throttle_due_ns(const struct side *side)
{
	return throttle_is_on(side) && side->bulk->throttle.idle < LOOKS_IDLE ? side->bulk->throttle.due_ns : 0;
}

bool throttle_is_asleep(const struct side *side)
{
	return throttle_is_on(side) && side->bulk->throttle.idle >= LOOKS_IDLE &&
	       side->bulk->throttle.came[0] != count_came(side);
}
