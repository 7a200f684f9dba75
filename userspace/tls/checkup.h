// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Do TLS settings work? Loads what they name and forgets it again. False after
 * the reason, and `where` in the settings that is, were logged. */
#include "settings/settings.h"

/* `settings` NULL: nothing to load. */
bool tls_check_server(const struct tls_settings *settings, const char *where);
bool tls_check_client(const struct tls_settings *settings, const char *where);
