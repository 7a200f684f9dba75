// SPDX-License-Identifier: Apache-2.0
#pragma once
/* One end of a pair as a client has it: a blocking socket, bare or with TLS 1.3 on it.
 * Calls return false, or less than was asked for, when the stream has failed; end_error()
 * says how. */
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct end {
	int fd;
	SSL *tls; /* NULL: bare TCP */
};

/* AES-128-GCM, the cheapest suite on these processors, so that what is not cryptography shows most. */
#define END_SUITE "TLS_AES_128_GCM_SHA256"

/* TCP, with a limit on each blocking call, TCP_NODELAY. `address` is IPv4 in network order; -1 with errno. */
int end_dial(uint32_t address, uint16_t port);
int end_listen(uint32_t address, uint16_t *port);
int end_accept(int listener);

/* The handshake; on failure the end is closed. */
bool end_connect_tls(struct end *end);
bool end_accept_tls(struct end *end);

/* Says to the relay's lobby (relay_host/lobby.h) who this is, as `kind` (P, H, K, U). */
bool end_introduce(struct end *end, char kind, const uint8_t name[32]);

/* One write is one record. */
bool end_send(struct end *end, const void *bytes, size_t size);
/* What there is, at most `size`; 0 at the end of the stream. */
ssize_t end_receive(struct end *end, void *bytes, size_t size);
bool end_receive_all(struct end *end, void *bytes, size_t size);

/* close_notify, FIN. */
void end_finish(struct end *end);
void end_close(struct end *end);

const char *end_error(void);
