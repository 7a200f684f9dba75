// SPDX-License-Identifier: Apache-2.0
#include "contenders.h"

/* syncthing-relaysrv: no pool, no status page, no pings to answer; its buffer is the default. Each ticket costs a TLS
 * handshake, so a round of joins has fewer. */
struct contender contenders[] = {
	{ .name = "direct", .kind = &kind_direct, .in_quick = true },
	{ .name = "sockmap", .kind = &kind_ours, .plane = PLANE_SOCKMAP, .in_quick = true },
	{ .name = "bare", .kind = &kind_ours, .plane = PLANE_SOCKMAP, .in_quick = true, .is_bare = true, .only = "chat" },
	{ .name = "splice", .kind = &kind_ours, .plane = PLANE_SPLICE, .in_quick = true },
	{ .name = "copy", .kind = &kind_ours, .plane = PLANE_COPY, .in_quick = true },
	{ .name = "haproxy", .kind = &kind_front, .in_quick = true, .settings = "haproxy.cfg",
	  .command = { "haproxy", "-db", "-q", "-f", "@SETTINGS@" } },
	{ .name = "nginx", .kind = &kind_front, .settings = "nginx.conf", .command = { "nginx", "-p", "@FOLDER@", "-c", "@SETTINGS@" } },
	/* A process for each pair. */
	{ .name = "socat", .kind = &kind_front, .in_quick = true, .most_pairs = 200,
	  .command = { "socat", "-b", "131072", "TCP-LISTEN:@FRONT@,bind=@ADDRESS@,reuseaddr,fork,nodelay,backlog=4096",
		       "TCP:@SECOND@:@BACK@,nodelay" } },
	{ .name = "strelaysrv", .kind = &kind_strelay, .most_tickets = 2000,
	  .command = { "strelaysrv", "-listen", "@ADDRESS@:@FRONT@", "-keys", "@FOLDER@", "-pools=", "-status-srv=", "-ping-interval=24h",
		       "-network-timeout=24h", "-message-timeout=10m" } },
	/* It drops what it cannot pass on at once, of TCP streams too (its issues 51 and 58). */
	{ .name = "coturn", .kind = &kind_turn, .loses_bytes = true, .settings = "turnserver.conf",
	  .command = { "turnserver", "-c", "@SETTINGS@" } },

	{ .name = "direct-tls", .kind = &kind_direct, .tls = TLS_BETWEEN },
	{ .name = "handed-off", .kind = &kind_ours_tls, .plane = PLANE_SOCKMAP, .tls = TLS_BETWEEN },
	{ .name = "userspace-tls", .kind = &kind_ours_tls, .plane = PLANE_COPY, .tls = TLS_HOPS },
	{ .name = "haproxy-tls", .kind = &kind_front, .tls = TLS_HOPS, .settings = "haproxy-tls.cfg",
	  .command = { "haproxy", "-db", "-q", "-f", "@SETTINGS@" } },
	{ .name = "nginx-tls", .kind = &kind_front, .tls = TLS_HOPS, .settings = "nginx-tls.conf",
	  .command = { "nginx", "-p", "@FOLDER@", "-c", "@SETTINGS@" } },
	{ .name = "stunnel", .kind = &kind_front, .tls = TLS_HOPS, .settings = "stunnel.conf", .command = { "stunnel", "@SETTINGS@" } },
};
const size_t contender_count = sizeof contenders / sizeof *contenders;
_Static_assert(sizeof contenders / sizeof *contenders <= CONTENDERS_MAX, "CONTENDERS_MAX");
