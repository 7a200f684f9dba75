// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Our relay as a contender: one relay_host process on one plane. contender.h has the rest
 * of what it can do. */
#include "contender.h"

bool host_start(struct contender *contender);
void host_stop(struct contender *contender);
