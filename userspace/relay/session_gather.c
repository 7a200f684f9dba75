// SPDX-License-Identifier: Apache-2.0
/* Gathering: how a stream of small records is read from the kernel's TLS.
 *
 * What a turn costs (a wake-up, the calls, a record of the target's that is not full, and its way through TCP) is
 * shared by the records that it moves. So after a turn the direction waits a moment, in which about as many bytes
 * come as fill some records of the target's; what was read before has been sent on. When nothing came in it, the
 * next record wakes the direction at once. That is for streams: many small records, and nothing the other way,
 * which is looked at every LOOK_NS.
 *
 * Worker's thread only. */
#include "base/instant.h"
#include "relay/session.h"
#include "relay/worker.h"

#define LOOK_NS 10000000u
#define RECORDS_LEAST 64 /* of a look */
/* Larger ones gain nothing. */
#define RECORD_BYTES_MOST 4096
#define BYTES_TOGETHER (64u << 10)
#define DELAY_MOST_NS 400000u

uint32_t session_gather_delay(uint64_t bytes, uint64_t records)
{
	uint64_t delay_ns = LOOK_NS / (bytes / BYTES_TOGETHER + 1);

	if (records < RECORDS_LEAST || bytes > records * RECORD_BYTES_MOST)
		return 0;
	return delay_ns < DELAY_MOST_NS ? (uint32_t)delay_ns : DELAY_MOST_NS;
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
	if (session->gather_delay_ns)
		side_wait_for(side, WAIT_TIMER, clock_now_ns() + session->gather_delay_ns);
	return session->gather_delay_ns;
}

bool session_is_gathering(const struct side *side)
{
	return side->session && side->session->gather_delay_ns && side->waits == WAIT_TIMER;
}
