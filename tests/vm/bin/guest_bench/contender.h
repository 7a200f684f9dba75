// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What is measured: our relay with two parties of some transport on some plane, HAProxy
 * that terminates TLS and encrypts again, or nothing in between (the client's own cost). One at a time,
 * in a process of its own; the client holds both ends of a pair. */
#include "../../../integration/bin/relay_contract/host.h"
#include "end.h"

enum contender_kind { CONTENDER_DIRECT, CONTENDER_RELAY, CONTENDER_HAPROXY };

struct contender {
	const char *name;
	enum contender_kind kind;
	bool speaks_tls;      /* the client's ends */
	const char *parties;  /* of the relay: letters of the lobby */
	enum plane plane;     /* that must have moved the bytes */
	bool no_pipes;

	pid_t pid; /* 0: no process */
	struct host host;
	int listener; /* where the second end arrives; -1: it dials too */
	uint16_t port;
	char error[240]; /* "" fine */
};

/* Known names, up to one that is NULL. */
extern struct contender contenders[];

bool contender_fail(struct contender *contender, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool contender_start(struct contender *contender);
void contender_stop(struct contender *contender);

/* Two ends that reach each other through the plane that the contender is to be measured on; two bytes have
 * gone each way. */
bool contender_open_pair(struct contender *contender, struct end ends[2]);

/* Closes both ends in order. Ours: the relay's last report names the plane and counts `bytes` in both
 * directions, those of the opening included. `redirected`: share that the kernel moved by itself. */
bool contender_close_pair(struct contender *contender, struct end ends[2], uint64_t bytes, double *redirected);
