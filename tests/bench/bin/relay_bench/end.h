// SPDX-License-Identifier: Apache-2.0
#pragma once
/* An end of a pair: a socket, with or without TLS. Sending and receiving answer as send()
 * and recv() do; one thread at a time uses an end that has TLS. */
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct end {
	int fd; /* -1: none */
	SSL *tls; /* NULL: bare TCP */
};
#define END_NONE ((struct end){ .fd = -1 })

ssize_t end_send(struct end *end, const void *bytes, size_t size);
ssize_t end_receive(struct end *end, void *bytes, size_t size);
/* Bytes that have been decrypted and not received: no event tells of them. */
bool end_has_bytes(const struct end *end);
/* All of it, on a blocking socket. */
bool end_send_all(struct end *end, const void *bytes, size_t size);
bool end_receive_all(struct end *end, void *bytes, size_t size);
void end_set_blocking(struct end *end, bool blocks);

/* Closes both ends of a pair through which nothing is under way. With TLS both are told
 * the end of the other first. */
void ends_close(struct end ends[2]);
