// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The one log line of a pair that ended. */
#include "relay/relay.h"

#include <stddef.h>

#define ENDING_LINE_SIZE 768

/* Pure. Returns `line`. */
char *ending_format(const struct pair_report *report, char line[ENDING_LINE_SIZE]);
