// SPDX-License-Identifier: Apache-2.0
/* Relays that listen in front and dial behind: HAProxy, nginx, socat, stunnel. */
#include "daemon.h"
#include "identity.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TRIAL_TIMEOUT_MS 2000

static bool front_start(struct contender *contender)
{
	uint16_t back;

	contender->listener = place_listen(PLACE_SECOND, &back);
	if (contender->listener < 0)
		return contender_fail(contender, "cannot listen: %s", strerror(errno));
	if (!daemon_start(contender, back))
		return false;
	/* The trial connection arrives behind, maybe only to be seen closed; with TLS it failed in front. */
	struct pollfd arrived = { .fd = contender->listener, .events = POLLIN };
	if (contender->tls == TLS_NONE && poll(&arrived, 1, TRIAL_TIMEOUT_MS) == 1)
		close(accept(contender->listener, NULL, NULL));
	return true;
}

static bool front_open_pair(struct contender *contender, struct end ends[2])
{
	ends[0].fd = contender_dial(contender, 0, 0);
	if (ends[0].fd < 0 || (contender->tls == TLS_HOPS && !(ends[0].tls = identity_connect(ends[0].fd, NULL))))
		return false;
	ends[1].fd = place_accept(contender->listener);
	return ends[1].fd >= 0 && (contender->tls != TLS_HOPS || (ends[1].tls = identity_accept(ends[1].fd)));
}

const struct contender_kind kind_front = { .start = front_start, .stop = daemon_stop, .open_pair = front_open_pair };
