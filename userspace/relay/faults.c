// SPDX-License-Identifier: Apache-2.0
/* Puts the test build's kernel program in the place of the product's; linked
 * only into programs that ask for it. */
#include "relay/faults.h"

#include "gate_faults.skel.h"
#include "relay/object.h"

static struct relay_faults chosen;

static const void *faulty_bytes(size_t *size)
{
	return gate_faults_bpf__elf_bytes(size);
}

void relay_set_faults(const struct relay_faults *faults)
{
	chosen = *faults;
	gate_image = (struct gate_image){
		.bytes = faulty_bytes,
		.knobs = &chosen.kernel,
		.late_record_every = chosen.late_record_every,
	};
}
