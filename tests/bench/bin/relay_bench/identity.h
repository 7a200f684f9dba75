// SPDX-License-Identifier: Apache-2.0
#pragma once
/* A key and a certificate made for the run, in a folder for the daemons that read them from
 * there; and TLS as every end of the client speaks it: version 1.3 with AES-128-GCM,
 * certificates unchecked. */
#include "end.h"

#include <stdint.h>

#define IDENTITY_CERTIFICATE "cert.pem"
#define IDENTITY_KEY "key.pem"
#define IDENTITY_BOTH "both.pem" /* certificate and key, as HAProxy wants them */

/* Makes the files in `folder`, and the contexts. Before any other call. */
bool identity_make(const char *folder);
const char *identity_folder(void);
/* SHA-256 of the certificate: a device's ID for syncthing. */
const uint8_t *identity_fingerprint(void);

/* TLS over a connected, blocking socket. NULL: the handshake failed. */
SSL *identity_connect(int fd, const char *alpn /* may be NULL */);
SSL *identity_accept(int fd);
/* TLS between two connected ends that one thread holds. */
bool identity_between(struct end ends[2]);
