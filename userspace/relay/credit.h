// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Internal to relay/: lent credit (architecture.md 4.3).
 *
 * Credit is how many bytes may be in flight to a target. A direction begins with
 * little; it is lent more while its target takes what it is given, out of one
 * budget of the daemon, and gives it back when it is idle or over. The budget is
 * atomic; what one direction has is its worker's own. The first loan of a
 * direction is never refused, so the sum may pass the budget by that much. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Parts of the pressure value of net.ipv4.tcp_mem that the budgets are by default. */
#define CREDIT_PART 2
#define BUFFERS_PART 4
/* Every socket buffer may have so much, lent or not: what the kernel gives a receive buffer at first. */
#define BUFFER_FIRST_BYTES (128ull << 10)
#define CREDIT_FIRST_BYTES (64ull << 10)
/* Half of the credit taken within this time: the target deserves more. */
#define CREDIT_BRISK_NS 250000000ull
/* Packets that may wait on the target's psock queue whatever the credit. */
#define CREDIT_PACKETS_LEAST 256u

struct credit_budget {
	uint64_t total; /* bytes */
	_Atomic uint64_t lent;
};

/* `total` 0: this part of the pressure value of net.ipv4.tcp_mem. */
void credit_budget_init(struct credit_budget *budget, uint64_t total, unsigned part);
/* Limits of a direction: a quarter of its target's real send buffer where the path needs
 * it, which is asked by credit_most(), and before that a quarter of the share of
 * pair_memory that is for one send buffer. */
uint64_t credit_most_near(uint64_t far_most, uint64_t share);
/* Credit that a target far away deserves: twice what the path holds, so that the sender can
 * find out whether it holds more. */
uint64_t credit_most(uint64_t near_most, uint64_t far_most, uint64_t path_bytes);
/* Part of the credit was taken within this time: does the target deserve more? On a long
 * way acknowledgements come in bursts, a round trip apart. */
bool credit_is_brisk(uint64_t passed_ns, uint32_t rtt_us);
/* Size of a direction's first loan, which is booked. `most`: the limit of the direction. */
uint64_t credit_lend_first(struct credit_budget *budget, uint64_t most);
/* The new size of a loan that was `now`: twice as much if the budget has it, at
 * most `most`. */
uint64_t credit_lend_more(struct credit_budget *budget, uint64_t now, uint64_t most);
/* Takes a loan back to its first size. */
uint64_t credit_take_back(struct credit_budget *budget, uint64_t now);
void credit_return(struct credit_budget *budget, uint64_t now);
uint32_t credit_packets(uint64_t credit_bytes);

/* ---- memory of socket buffers, out of a budget of its own (buffers.c) ---- */

/* How large a buffer may be now: its first size and half of what the budget has left, so
 * that there is always something for the next one. */
uint64_t credit_buffer_most(const struct credit_budget *budget);
/* A buffer that was booked with `booked` (beyond its first size) has `bytes` now. Never
 * refused: it is what the kernel has promised already. Returns the new booking. */
uint32_t credit_book_buffer(struct credit_budget *budget, uint32_t booked, uint64_t bytes);
