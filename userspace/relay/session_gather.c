// SPDX-License-Identifier: Apache-2.0
/* Gathering: how a stream of small records is read from the kernel's TLS.
 *
 * What a turn costs (a wake-up, the calls, a record of the target's that is not full, and its way through TCP) is
 * shared by the records that it moves. So after a turn the direction waits a moment, in which about as many bytes
 * come as fill some records of the target's; what was read before has been sent on. When nothing came in it, the
 * next record wakes the direction at once. That is for streams: many small records, and nothing the other way,
 * which is looked at every LOOK_NS.
 *
 * A queue of records that is no longer than a turn takes is also the cheapest to open, because TCP joins what waits
 * longer into large packets, through which each record is searched for. So the window of a sender that is near is
 * limited meanwhile.
 *
 * Worker's thread only. */
#include "base/instant.h"
#include "relay/session.h"
#include "relay/worker.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define LOOK_NS 10000000u
#define RECORDS_LEAST 64 /* of a look */
/* Larger ones gain nothing. */
#define RECORD_BYTES_MOST 4096
#define BYTES_TOGETHER (64u << 10)
#define DELAY_MOST_NS 400000u
#define WINDOW_BYTES (128u << 10)
#define IDLE_LOOKS 10 /* in a row: the stream is another one now */

uint32_t session_gather_delay(uint64_t bytes, uint64_t records)
{
	uint64_t delay_ns = LOOK_NS / (bytes / BYTES_TOGETHER + 1);

	if (records < RECORDS_LEAST || bytes > records * RECORD_BYTES_MOST)
		return 0;
	return delay_ns < DELAY_MOST_NS ? (uint32_t)delay_ns : DELAY_MOST_NS;
}

/* Every time, because the kernel's tuning and ours set the limit too. */
static void fit_window(struct side *side)
{
	struct session *session = side->session;
	bool is_wanted = session->gather_delay_ns || (session->is_narrow && session->idle_looks < IDLE_LOOKS);
	int bytes = is_wanted ? (int)WINDOW_BYTES : (int)(side_pair(side)->worker->relay->receive_buffer_bytes / 2);
	struct tcp_facts facts;

	if (!is_wanted && !session->is_narrow)
		return;
	if (is_wanted && !session->is_narrow) {
		tcp_facts_read(side->watch.fd, &facts);
		if (facts.least_rtt_us > FAR_RTT_US)
			return;
	}
	setsockopt(side->watch.fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &bytes, sizeof bytes);
	session->is_narrow = is_wanted;
}

static void look(struct side *side, uint64_t now_ns)
{
	struct session *session = side->session;
	int64_t beyond = session_beyond_payload(side, KTLS_RECEIVE);
	int64_t records = (beyond - session->look_beyond) / SESSION_RECORD_OVERHEAD;
	/* The stream stood still, or this is the first look. */
	bool is_late = now_ns >= session->look_until_ns + LOOK_NS;

	session->gather_delay_ns =
		is_late || records < 0 ? 0 : session_gather_delay(side->read - session->look_read, (uint64_t)records);
	session->idle_looks = session->gather_delay_ns ? 0 : session->idle_looks + 1;
	session->look_beyond = beyond;
	session->look_read = side->read;
	session->look_until_ns = now_ns + LOOK_NS;
}

bool session_gathers(struct side *side)
{
	struct session *session = side->session;
	uint64_t now_ns = loop_now_ns(side_pair(side)->worker->loop), other_read = side_other(side)->read;

	if (!session->is_direct)
		return false;
	if (other_read != session->other_read) {
		session->other_read = other_read;
		session->gather_delay_ns = 0;
		session->look_until_ns = 0;
	}
	if (now_ns >= session->look_until_ns)
		look(side, now_ns);
	fit_window(side);
	if (session->gather_delay_ns)
		side_wait_for(side, WAIT_TIMER, clock_now_ns() + session->gather_delay_ns);
	return session->gather_delay_ns;
}

bool session_is_gathering(const struct side *side)
{
	return side->session && side->session->gather_delay_ns && side->waits == WAIT_TIMER;
}
