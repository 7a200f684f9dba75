// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The list of all workloads. */
#include "workload.h"

enum suite { SUITE_QUICK = 1, SUITE_FULL = 2 };

extern const struct workload workloads[];
extern const size_t workload_count;
