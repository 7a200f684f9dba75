// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Typed settings of the three daemons (protocol page 2.3 to 2.8), filled from a
 * settings tree by one schema. A wrong type or a missing key is an error, an
 * unknown key a warning, each with file and line. Absent optional strings are
 * NULL; defaults are filled in. In the files durations are seconds, fractions
 * allowed, and sizes are bytes or texts such as "32MiB". Everything lives as long as the object that
 * *_settings_load() returned. */
#include "base/rate_limit.h"
#include "settings/loader.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct string_list {
	char **items;
	size_t count;
};

struct tls_settings {
	struct string_list ca_certificate_files;
	char *certificate_file, *key_file; /* NULL: none */
	char *server_name;
	bool verify_client;       /* default true */
	bool request_client_cert; /* default false */
	bool insecure_skip_verify;
};

struct cors_settings {
	struct string_list allowed_hosts; /* POSIX extended regular expressions */
	struct string_list allowed_headers;
	struct string_list allowed_methods;
};

struct rate_limit_settings {
	struct rate_rule *rules;
	size_t count;
	bool exempt_loopback; /* ours: `rate_limit_loopback: false` beside the list; default: loopback is limited too */
};

struct jsonrpc_server_settings {
	char *bind_address;
	char *path; /* default "/jsonrpc" */
	struct cors_settings *cors; /* NULL: none */
	struct rate_limit_settings limits;
	struct tls_settings *tls; /* NULL: plain HTTP */
	uint64_t max_body_bytes;  /* ours, `max_body`; default 4 MiB, which is also the least that is advised */
};

struct jsonrpc_client_settings {
	char *endpoint;  /* URL; may be NULL where it is overwritten */
	char *proxy_url; /* NULL: none */
	bool local;      /* accepted, unused */
	struct tls_settings *tls; /* NULL: system CAs */
	unsigned timeout_ms;      /* ours, `timeout` in seconds; whole call; default 30 s */
};

struct grpc_server_settings {
	char *bind_address; /* default "localhost:4444" */
	struct rate_limit_settings limits;
	struct tls_settings *tls;
};

/* TLS to the relay: when it is offered (default), always, or never. */
enum relay_tls_use { RELAY_TLS_PREFER, RELAY_TLS_REQUIRE, RELAY_TLS_OFF };

struct grpc_client_settings {
	struct tls_settings *tls;
	bool use_proxy;                /* key `useProxy`, default true */
	unsigned call_timeout_ms;      /* ours, `call_timeout` in seconds; default 30 s */
	unsigned idle_timeout_ms;      /* ours, `idle_timeout`; kept connections without calls; default 30 s */
	struct string_list allowed_relay_endpoints; /* ours; "host:port" the callee may dial for a
						     * `_connectionRequest`; empty: any */
	enum relay_tls_use relay_tls;  /* ours; for both sides of a relayed connection */
};

/* Of type file, the only one in this version. */
struct datastore_settings {
	char *filename;
};

enum directory_type { DIRECTORY_JSON, DIRECTORY_API };

struct directory_settings {
	enum directory_type type;
	char *path; /* json */
	/* api */
	struct string_list endpoints;
	struct string_list server_names;
	unsigned cache_entries_for_s; /* 0 to 3600, default 5 */
	struct jsonrpc_client_settings *jsonrpc_client;
	struct string_list ca_certificate_files;
	struct string_list ca_intermediate_certificate_files;
};

struct signing_settings {
	char *ca_certificate_file;
	struct string_list ca_intermediate_certificate_files;
	char *certificate_file, *key_file;
};

enum channel_type {
	CHANNEL_STDOUT,
	CHANNEL_JSONRPC_CLIENT,
	CHANNEL_JSONRPC_SERVER,
	CHANNEL_GRPC_CLIENT,
	CHANNEL_GRPC_SERVER,
};

struct channel_settings {
	char *name;
	enum channel_type type;
	union {
		struct jsonrpc_client_settings *jsonrpc_client;
		struct jsonrpc_server_settings *jsonrpc_server;
		struct grpc_client_settings *grpc_client;
		struct grpc_server_settings *grpc_server;
	};
};

struct metrics_settings {
	char *bind_address;
};

struct hyper_settings {
	char *name;
	struct directory_settings directory;
	struct channel_settings *channels;
	size_t channel_count;
	struct metrics_settings *metrics; /* accepted; served in a later version (one info line) */
	struct signing_settings *signing; /* NULL: none */
};

enum plane_mask { PLANE_MASK_SOCKMAP = 1, PLANE_MASK_SPLICE = 2, PLANE_MASK_COPY = 4, PLANE_MASK_KTLS_SPLICE = 8, PLANE_MASK_ALL = 15 };

/* Ours, `relay:` at the top level of proxy settings; every key optional. */
struct relay_settings {
	unsigned workers;            /* default 0: one per online processor */
	unsigned planes;             /* `planes: [sockmap, ktls-splice, splice, copy]`, enum plane_mask; default all */
	uint64_t pair_memory_bytes;  /* `pair_memory`: all buffers of one pair; default 32 MiB */
	uint64_t credit_budget_bytes; /* `credit_budget`: lent credit of all pairs; 0 (default): half of the pressure value of net.ipv4.tcp_mem */
	uint64_t max_pairs;          /* default 4096 */
	uint64_t buffer_budget_bytes; /* `buffer_budget`: socket buffers of all pairs; 0 (default): a quarter of that value */
	unsigned stall_limit_ms;     /* `stall_limit` in seconds; 0 (default): off */
	unsigned stop_deadline_ms;   /* `stop_deadline` in seconds; graceful stop; default 5 s */
};

/* Ours, `control:`: the unix socket for p2pctl. */
struct control_settings {
	char *path;  /* default "/run/p2p-proxy/control.sock" */
	char *group; /* NULL: root's */
};

struct public_proxy_settings {
	char *name;
	struct datastore_settings datastore;
	char *tls_bind_address;      /* default "localhost:443"; not bound in this version */
	char *internal_bind_address; /* default "localhost:9999" */
	char *internal_endpoint;     /* default "localhost:9999" */
	char *relay_tls_bind_address; /* ours; NULL: no TLS endpoint for parties */
	char *relay_tls_endpoint;     /* ours; what peers are told; there if the address is */
	struct tls_settings *relay_tls; /* ours; default: those of jsonrpc_server */
	struct directory_settings *directory; /* ours; NULL: the own hyper is asked */
	unsigned accept_timeout_ms;  /* default 10,000; fractions of a second count */
	unsigned token_timeout_ms;   /* ours, `token_timeout` in seconds; default 5,000 */
	struct rate_limit_settings limits;
	struct jsonrpc_client_settings *jsonrpc_client;
	struct jsonrpc_server_settings *jsonrpc_server;
	unsigned max_tickets;              /* ours; open tickets in all; default 65,536 */
	unsigned max_tickets_per_operator; /* ours; default 1,024 */
	unsigned max_pairs_per_operator;   /* ours; of one requester at once, open tickets included; default 1,024 */
};

struct proxy_settings {
	struct metrics_settings *metrics;
	struct public_proxy_settings *public_proxy; /* NULL: no `public` section */
	bool has_private;                           /* `private` is known, but "not in this version" */
	struct relay_settings relay;
	struct control_settings control;
};

struct sd_settings {
	struct jsonrpc_server_settings *jsonrpc_server;
	struct datastore_settings datastore;                 /* directory.datastore */
	struct string_list ca_certificate_files;             /* directory.… */
	struct string_list ca_intermediate_certificate_files;
	struct metrics_settings *metrics;
};

/* NULL after every problem was reported through `report`. */
struct hyper_settings *hyper_settings_load(const char *search_path, settings_report report, void *context);
struct proxy_settings *proxy_settings_load(const char *search_path, settings_report report, void *context);
struct sd_settings *sd_settings_load(const char *search_path, settings_report report, void *context);
void hyper_settings_free(struct hyper_settings *settings);
void proxy_settings_free(struct proxy_settings *settings);
void sd_settings_free(struct sd_settings *settings);
