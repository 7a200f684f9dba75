// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What the machine under the tests must be able to do. The relay decides by trying and
 * never by a version; the tests know better what a failed try means. */
#include <stdbool.h>
#include <stddef.h>

/* True: this kernel has all that the sockmap plane needs (6.1 or newer, BTF, socket maps
 * and their programs) and this process has the rights, so that a probe that says no is a
 * defect. False: `lack` names the first thing that is missing. */
bool kernel_owes_sockmap(char *lack, size_t size);
