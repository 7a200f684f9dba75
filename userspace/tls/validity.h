// SPDX-License-Identifier: Apache-2.0
#pragma once
/* For how long the own certificate of a context is good. */
#include <openssl/ssl.h>
#include <stdbool.h>

/* False after an error was logged: the leaf has expired. A leaf that is not valid
 * yet, what expires in less than 30 days, and certificates behind the leaf that have
 * expired, are warnings, one per file however many contexts use it. Any thread. */
bool validity_check_own(SSL_CTX *context, const char *file);
