// SPDX-License-Identifier: Apache-2.0
/* The budget of lent credit; the rules of lending are in credit.h. */
#include "relay/credit.h"

#include <stdio.h>
#include <unistd.h>

/* The file is only there in the first network namespace. By default the kernel's value is a sixteenth of
 * what it had left at its start. */
#define PRESSURE_PART 18

static uint64_t tcp_pressure(void)
{
	unsigned long long low, pressure = 0, high;
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_mem", "re");

	if (!file || fscanf(file, "%llu %llu %llu", &low, &pressure, &high) != 3)
		pressure = 0;
	if (file)
		fclose(file);
	return (pressure ? pressure : (uint64_t)sysconf(_SC_PHYS_PAGES) / PRESSURE_PART) * (uint64_t)sysconf(_SC_PAGESIZE);
}

void credit_budget_init(struct credit_budget *budget, uint64_t total, unsigned part)
{
	budget->total = total ? total : tcp_pressure() / part;
	atomic_init(&budget->lent, 0);
}

uint64_t credit_most_near(uint64_t far_most, uint64_t share)
{
	return far_most < share / 4 ? far_most : share / 4;
}

uint64_t credit_most(uint64_t near_most, uint64_t far_most, uint64_t path_bytes)
{
	uint64_t wanted = 2 * path_bytes;

	return wanted < near_most ? near_most : wanted > far_most ? far_most : wanted;
}

bool credit_is_brisk(uint64_t passed_ns, uint32_t rtt_us)
{
	uint64_t trips_ns = 2000ull * rtt_us;

	return passed_ns <= (trips_ns > CREDIT_BRISK_NS ? trips_ns : CREDIT_BRISK_NS);
}

uint64_t credit_lend_first(struct credit_budget *budget, uint64_t most)
{
	uint64_t loan = most < CREDIT_FIRST_BYTES ? most : CREDIT_FIRST_BYTES;

	atomic_fetch_add_explicit(&budget->lent, loan, memory_order_relaxed);
	return loan;
}

uint64_t credit_lend_more(struct credit_budget *budget, uint64_t now, uint64_t most)
{
	uint64_t wanted = now * 2 < most ? now * 2 : most;
	uint64_t lent = atomic_load_explicit(&budget->lent, memory_order_relaxed);

	if (wanted <= now)
		return now;
	do {
		if (lent + (wanted - now) > budget->total)
			return now;
	} while (!atomic_compare_exchange_weak_explicit(&budget->lent, &lent, lent + (wanted - now),
							memory_order_relaxed, memory_order_relaxed));
	return wanted;
}

uint64_t credit_take_back(struct credit_budget *budget, uint64_t now)
{
	if (now <= CREDIT_FIRST_BYTES)
		return now;
	atomic_fetch_sub_explicit(&budget->lent, now - CREDIT_FIRST_BYTES, memory_order_relaxed);
	return CREDIT_FIRST_BYTES;
}

void credit_return(struct credit_budget *budget, uint64_t now)
{
	atomic_fetch_sub_explicit(&budget->lent, now, memory_order_relaxed);
}

uint32_t credit_packets(uint64_t credit_bytes)
{
	uint64_t packets = credit_bytes >> 10;

	return packets < CREDIT_PACKETS_LEAST ? CREDIT_PACKETS_LEAST : (uint32_t)packets;
}

uint64_t credit_buffer_most(const struct credit_budget *budget)
{
	uint64_t lent = atomic_load_explicit(&budget->lent, memory_order_relaxed);

	return BUFFER_FIRST_BYTES + (lent < budget->total ? (budget->total - lent) / 2 : 0);
}

uint32_t credit_book_buffer(struct credit_budget *budget, uint32_t booked, uint64_t bytes)
{
	uint32_t beyond = bytes > BUFFER_FIRST_BYTES ? (uint32_t)(bytes - BUFFER_FIRST_BYTES) : 0;

	if (beyond != booked) /* wraps where it falls */
		atomic_fetch_add_explicit(&budget->lent, (uint64_t)beyond - booked, memory_order_relaxed);
	return beyond;
}
