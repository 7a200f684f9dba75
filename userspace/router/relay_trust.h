// SPDX-License-Identifier: Apache-2.0
#pragma once
/* May a relayed connection of this age still get calls?
 *
 * Some proxies in service cut every relayed connection 5 s after they accepted
 * its first socket (protocol page 7.8, 1), which kills the calls on it. The
 * others should not cost a new handshake every few seconds. So each proxy
 * operator is watched: a connection through it gets no new calls after 3 s, but
 * stays open; if it is alive at 6 s the proxy is trusted from then on, and
 * forgotten again if a connection through it is cut around 5 s later.
 *
 * Ages are in milliseconds since `requestConnection` was sent, which is before
 * the proxy accepted anything. Pure: no clock, no I/O. One thread. */
#include <stdbool.h>
#include <stdint.h>

#define RELAY_CALLS_UNTIL_MS 3000  /* without trust */
#define RELAY_PROVEN_AT_MS 6000    /* alive at this age: the proxy does not cut */
#define RELAY_CUT_FROM_MS 4500     /* ended between this ... */
#define RELAY_CUT_UNTIL_MS 7500    /* ... and that age by the other side: cut (brokering comes on top of the 5 s) */

struct relay_trust;
int relay_trust_create(struct relay_trust **result);
void relay_trust_free(struct relay_trust *trust);

bool relay_trust_has(const struct relay_trust *trust, const char *proxy);

/* May a connection through `proxy` that is `age_ms` old get another call? */
bool relay_trust_admits(const struct relay_trust *trust, const char *proxy, uint64_t age_ms);

/* Must a connection of that age be kept open although nobody uses it? */
bool relay_trust_is_learning(const struct relay_trust *trust, const char *proxy, uint64_t age_ms);

enum relay_lesson { RELAY_LESSON_NONE, RELAY_LESSON_TRUSTED, RELAY_LESSON_DISTRUSTED };

/* A connection is alive at that age. Says whether that was news. */
enum relay_lesson relay_trust_note_alive(struct relay_trust *trust, const char *proxy, uint64_t age_ms);

/* The other side ended a connection at that age, without announcing it. */
enum relay_lesson relay_trust_note_cut(struct relay_trust *trust, const char *proxy, uint64_t age_ms);
