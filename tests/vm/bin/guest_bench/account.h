// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Who used the processor. In a guest that counts instructions as nanoseconds (qemu's
 * -icount) these are instructions. */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct account {
	uint64_t now_ns;
	uint64_t busy_ns;    /* the whole machine: not idle, interrupts included */
	uint64_t relay_ns;   /* the process that is measured, system calls and what interrupts took from it included */
	uint64_t client_ns;  /* this process, likewise */
	uint64_t kernel_ns;  /* threads of the kernel: workers, ksoftirqd */
};

/* `relay`: 0, or the process that is measured. */
void account_take(struct account *account, pid_t relay);
/* `to` becomes what was used since `from`. */
void account_subtract(struct account *to, const struct account *from);
