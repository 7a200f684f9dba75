// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The client's half of a TLS party: handshake, hello, answer, and then either TLS goes
 * on or the connection is handed off. Without blocking; the engine asks what it waits
 * for. Calls answer as send and recv do, with errno. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct secure;

/* Over `fd`, which stays the caller's. `kind`: H, K or U (relay_host/lobby.h). `variety` chooses version and cipher
 * suite; handed-off parties always speak TLS 1.3. */
struct secure *secure_start(int fd, char kind, const uint8_t name[32], unsigned variety);
void secure_free(struct secure *secure); /* NULL is allowed */

/* Does what can be done now. 0, or a positive errno when the connection has failed. */
int secure_step(struct secure *secure);
/* What secure_step() waits for; both false: it is done. */
bool secure_wants_read(const struct secure *secure);
bool secure_wants_write(const struct secure *secure);
/* The stream may begin: behind the hello (or the close_notify of a hand-off), without waiting for the answer. */
bool secure_may_send(const struct secure *secure);
bool secure_may_receive(const struct secure *secure);
bool secure_is_open(const struct secure *secure); /* both */

/* A call that did not go through has begun to send `secure_begun()` bytes: the next one must bring them. */
ssize_t secure_send(struct secure *secure, const void *bytes, size_t size);
size_t secure_begun(const struct secure *secure);
/* 0: close_notify. */
ssize_t secure_receive(struct secure *secure, void *bytes, size_t size);
/* Bytes that have been decrypted and not received: no event tells of them. */
bool secure_has_bytes(const struct secure *secure);
/* close_notify. 0, or -1 with errno. */
int secure_close(struct secure *secure);

/* Changes the keys of this direction, and asks for the other's too. Sent before the next bytes. */
bool secure_update_keys(struct secure *secure, bool asks);
