// SPDX-License-Identifier: Apache-2.0
#include "base/source.h"

#include <netinet/in.h>
#include <string.h>

#define NETWORK_BYTES 8

/* As IPv6, IPv4 mapped. False for peers without an IP address. */
static bool address_of(const struct sockaddr *peer, struct in6_addr *address)
{
	memset(address, 0, sizeof(*address));
	if (peer->sa_family == AF_INET) {
		memset(address->s6_addr + 10, 0xff, 2);
		memcpy(address->s6_addr + 12, &((const struct sockaddr_in *)(const void *)peer)->sin_addr, 4);
		return true;
	}
	if (peer->sa_family != AF_INET6)
		return false;
	*address = ((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr;
	return true;
}

bool source_of(const struct sockaddr *peer, struct source *source)
{
	struct in6_addr address;
	bool is_known = address_of(peer, &address);

	if (!IN6_IS_ADDR_V4MAPPED(&address))
		memset(address.s6_addr + NETWORK_BYTES, 0, sizeof(address.s6_addr) - NETWORK_BYTES);
	memcpy(source->bytes, address.s6_addr, sizeof(source->bytes));
	return is_known;
}

bool source_is_loopback(const struct sockaddr *peer)
{
	struct in6_addr address;

	return address_of(peer, &address) && (IN6_IS_ADDR_LOOPBACK(&address) ||
					      (IN6_IS_ADDR_V4MAPPED(&address) && address.s6_addr[12] == 127));
}

bool source_equals(const struct source *one, const struct source *other)
{
	return memcmp(one->bytes, other->bytes, sizeof(one->bytes)) == 0;
}

/* Every bit of the result depends on every bit of `value`. */
static uint64_t mix(uint64_t value)
{
	value = (value ^ value >> 33) * 0xff51afd7ed558ccdULL;
	value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return value ^ value >> 33;
}

uint64_t source_hash(const struct source *source, uint64_t seed)
{
	uint64_t network, host;

	memcpy(&network, source->bytes, sizeof(network));
	memcpy(&host, source->bytes + sizeof(network), sizeof(host));
	return mix(mix(network ^ seed) ^ host);
}
