// SPDX-License-Identifier: Apache-2.0
#pragma once
/* For tests only: faults of the sockmap plane. A daemon that does not call
 * relay_set_faults() does not contain the faulty kernel program. */
#include "gate.h"

struct relay_faults {
	struct gate_faults kernel;
	unsigned late_record_every; /* this many-th ring record is handled a second late; 0: none */
};

/* Before relay_create() and relay_probe(). The faults are copied and hold for
 * every relay of the process that is created afterwards. */
void relay_set_faults(const struct relay_faults *faults);
