// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Internal to relay/: what the probes share. */
#include "relay/relay.h"

#define PROBE_WAIT_MS 250

/* Two clients and the relay's ends of their connections. */
struct probe_sockets {
	int client[2], relay[2];
};

int probe_open_sockets(struct probe_sockets *sockets); /* 0 or -1 */
void probe_close_sockets(struct probe_sockets *sockets);

void probe_add(struct probe_report *report, const char *name, enum probe_state state, const char *sentence, ...)
	__attribute__((format(printf, 4, 5)));

/* probe_ktls.c: kTLS by version, suite and direction, splice on it, new keys. Fills report->ktls* and the plane. */
void probe_ktls(struct probe_report *report);
