// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "settings/settings.h"

/* For --check: loads what the settings of the message server name. Logs every
 * problem; returns whether it could run. */
bool hyper_check(const struct hyper_settings *settings);
