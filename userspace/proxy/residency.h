// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Gives memory back that is not in use. */

/* For the end of the start, and for the end of work. Takes about a millisecond. */
void residency_trim(void);
