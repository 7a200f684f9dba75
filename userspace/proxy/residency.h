// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Gives memory back that only the start needed. */

/* Call it once, when everything has been loaded and started. */
void residency_trim(void);
