// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The list of all contenders, with their command lines. */
#include "contender.h"

#define CONTENDERS_MAX 24

extern struct contender contenders[];
extern const size_t contender_count;
