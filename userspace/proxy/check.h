// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "settings/settings.h"

/* For --check: loads what the settings of the public proxy name. Logs every
 * problem; returns whether it could run. */
bool public_proxy_check_named(const struct proxy_settings *settings);
