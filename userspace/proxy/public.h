// SPDX-License-Identifier: Apache-2.0
#pragma once
/* `proxy run public`: the parts put together, run and stopped. */
#include "settings/settings.h"

/* Logs everything that is wrong with otherwise valid settings of the public
 * proxy. Returns whether it can run with them. */
bool public_proxy_check(const struct proxy_settings *settings);

/* Runs until it is told to stop. Returns the exit status. */
int public_proxy_run(const struct proxy_settings *settings);
