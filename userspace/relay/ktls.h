// SPDX-License-Identifier: Apache-2.0
#pragma once
/* TLS in the kernel (kTLS): what has to be prepared on the TLS listener, and how the
 * keys of an established session get from OpenSSL into a socket. How it works is
 * told in ktls.c.
 *
 * The endpoint calls relay_tls_context_prepare() once for its SSL_CTX and
 * ktls_secrets_take() for each session that it gives to relay_join(); the rest is
 * internal to relay/. */
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

struct ktls_secrets;

/* Makes the sessions of a server context fit for the relay: no tickets, no session
 * cache, no renegotiation, no early data, no read-ahead, no kTLS of OpenSSL's own,
 * and callbacks that keep the traffic secrets and count records. Versions, suites,
 * certificates and verification stay as the caller has set them. 0 or -ENOMEM. */
int relay_tls_context_prepare(SSL_CTX *context);

/* The traffic secrets of an established server session whose context was prepared,
 * owned by the caller (ktls_secrets_free), for struct relay_party. They go on
 * counting the session's records, so it may be used until the join and after it.
 * NULL: the session's suite is none that a kernel knows, or no memory was left;
 * then the session is served in userspace. */
struct ktls_secrets *ktls_secrets_take(SSL *tls);

/* Wipes. NULL is allowed; before or after SSL_free. */
void ktls_secrets_free(struct ktls_secrets *secrets);

/* ---- internal to relay/ ---- */

enum ktls_version { KTLS_TLS_1_2, KTLS_TLS_1_3, KTLS_VERSION_COUNT };
enum ktls_cipher { KTLS_AES_128_GCM, KTLS_AES_256_GCM, KTLS_CHACHA20_POLY1305, KTLS_CIPHER_COUNT };
enum ktls_direction { KTLS_SEND, KTLS_RECEIVE, KTLS_DIRECTION_COUNT };

enum ktls_version ktls_secrets_version(const struct ktls_secrets *secrets);
enum ktls_cipher ktls_secrets_cipher(const struct ktls_secrets *secrets);

/* Attaches the kernel's TLS to a connected socket; nothing is encrypted yet. 0 or a
 * negative errno: -ENOENT the module is not loaded, -ENOTCONN the peer has sent FIN
 * already, -EEXIST something is attached. */
int ktls_attach(int fd);

/* Gives one direction's present key and sequence number to the kernel. From then on
 * the session must not be used in that direction. 0 or a negative errno, with the
 * direction as it was. */
int ktls_arm(int fd, const struct ktls_secrets *secrets, enum ktls_direction direction);

/* Goes on to the direction's next secret (TLS 1.3 KeyUpdate), sequence number 0, and
 * gives its key to a socket that is armed. -EBUSY or another negative errno: this kernel
 * takes no new keys. */
int ktls_rearm(int fd, struct ktls_secrets *secrets, enum ktls_direction direction);

/* Records of TLS 1.3 are opened straight into the reader's memory, as those of 1.2 always are: the
 * kernel is told to expect no padding, and opens a padded record once more. On a socket that is armed
 * to receive. 0 or a negative errno. */
int ktls_expect_no_padding(int fd);

/* ---- records on an armed socket ---- */

#define TLS_RECORD_ALERT 21
#define TLS_RECORD_HANDSHAKE 22
#define TLS_RECORD_DATA 23

/* Reads what stands at the head of the queue: payload, as much as fits, or one control
 * record. Returns the number of bytes and sets `type`; 0: no more bytes come, or an
 * empty record; -1 with errno. */
ssize_t ktls_receive(int fd, void *bytes, size_t size, uint8_t *type);

/* Sends payload as records that are as full as can be. As send(); nothing that was taken waits for a next call. */
ssize_t ktls_send(int fd, const void *bytes, size_t size);

/* Sends a control record. 0 or a negative errno; -EAGAIN: nothing was sent. */
int ktls_send_control(int fd, uint8_t type, const void *bytes, size_t size);
