// SPDX-License-Identifier: Apache-2.0
/* What a running proxy may do, found out by trying: entries of maps on existing
 * descriptors, socket options of accepted connections and kTLS need nothing, also
 * with kernel.unprivileged_bpf_disabled=2. Raising the send buffer beyond
 * net.core.wmem_max needs CAP_NET_ADMIN, but accepted sockets have theirs from the
 * listener. What is left is CAP_SYS_RESOURCE, for pipes.
 *
 * Any thread, for itself; libcap-ng keeps its state for each thread. */
#include "proxy/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

int privileges_drop(void)
{
	if (capng_get_caps_process())
		return -EIO;
	bool keeps = capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_RESOURCE);

	capng_clear(CAPNG_SELECT_CAPS);
	if (keeps && capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_SYS_RESOURCE))
		return -EINVAL;
	if (capng_apply(CAPNG_SELECT_CAPS))
		return -EPERM;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
}

char *privileges_describe(char text[PRIVILEGES_TEXT_SIZE])
{
	bool has_resource = !capng_get_caps_process() && capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_RESOURCE);

	snprintf(text, PRIVILEGES_TEXT_SIZE, "user %u, %s, no_new_privs %s", (unsigned)geteuid(),
		 has_resource ? "no capability but CAP_SYS_RESOURCE (pipes beyond fs.pipe-user-pages-soft)"
			      : "no capabilities",
		 prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? "set" : "not set");
	return text;
}
