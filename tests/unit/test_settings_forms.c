// SPDX-License-Identifier: Apache-2.0
/* Typed settings of the daemons: defaults, values, and every kind of fault
 * (protocol page 2.3 to 2.8). */
#include "settings_files.h"

#include "settings/settings.h"

#define TLS "tls: {ca_certificate_files: [root.crt], certificate_file: a.crt, key_file: a.key}"
#define API_DIRECTORY \
	"directory:\n  type: api\n  settings:\n    endpoints: ['https://sd:1/jsonrpc']\n    server_names: [sd-1]\n" \
	"    jsonrpc_client: {" TLS "}\n    ca_certificate_files: [root.crt]\n"
#define JSON_DIRECTORY "directory: {type: json, settings: {path: /records}}\n"
#define HYPER "name: hd-1\n" JSON_DIRECTORY "channels: []\n"
#define PUBLIC_REQUIRED \
	"  name: p\n  datastore: {type: file, settings: {filename: /data}}\n" \
	"  jsonrpc_client: {endpoint: 'http://localhost:1/jsonrpc'}\n  jsonrpc_server: {bind_address: 'localhost:2'}\n"
#define SD_DIRECTORY "directory:\n  datastore: {type: file, settings: {filename: /data}}\n  ca_certificate_files: [root.crt]\n"

static struct hyper_settings *load_hyper(const char *text)
{
	reports[0] = 0;
	put_file("x.yml", text);
	return hyper_settings_load(in_folder("x.yml"), collect_report, NULL);
}

static struct proxy_settings *load_proxy(const char *text)
{
	reports[0] = 0;
	put_file("x.yml", text);
	return proxy_settings_load(in_folder("x.yml"), collect_report, NULL);
}

static struct sd_settings *load_sd(const char *text)
{
	reports[0] = 0;
	put_file("x.yml", text);
	return sd_settings_load(in_folder("x.yml"), collect_report, NULL);
}

static void hyper_fails(const char *text, const char *report)
{
	assert_null(load_hyper(text));
	assert_reported(report);
}

static void proxy_fails(const char *text, const char *report)
{
	assert_null(load_proxy(text));
	assert_reported(report);
}

static void sd_fails(const char *text, const char *report)
{
	assert_null(load_sd(text));
	assert_reported(report);
}

static void hyper_has_defaults(void **state)
{
	struct hyper_settings *settings = load_hyper("name: hd-1\n" API_DIRECTORY
		"channels:\n"
		"- {name: a, type: jsonrpc_client}\n"
		"- {name: b, type: jsonrpc_server, settings: {bind_address: 'localhost:1', services: 1, cors: {}}}\n"
		"- {name: c, type: grpc_client, settings: {" TLS "}}\n"
		"- {name: d, type: grpc_server, settings: {" TLS "}}\n"
		"- {name: e, type: stdout, services: [x]}\n");

	(void)state;
	assert_non_null(settings);
	assert_string_equal(settings->name, "hd-1");
	assert_int_equal(settings->directory.type, DIRECTORY_API);
	assert_int_equal(settings->directory.cache_entries_for_s, 5);
	assert_string_equal(settings->directory.endpoints.items[0], "https://sd:1/jsonrpc");
	assert_int_equal(settings->directory.ca_intermediate_certificate_files.count, 0);
	assert_int_equal(settings->channel_count, 5);
	assert_int_equal(settings->channels[0].type, CHANNEL_JSONRPC_CLIENT);
	assert_null(settings->channels[0].jsonrpc_client->endpoint);
	assert_null(settings->channels[0].jsonrpc_client->tls);
	assert_true(settings->channels[0].jsonrpc_client->local);
	assert_int_equal(settings->channels[0].jsonrpc_client->timeout_ms, 30000);
	assert_string_equal(settings->channels[1].jsonrpc_server->path, "/jsonrpc");
	assert_int_equal(settings->channels[1].jsonrpc_server->max_body_bytes, 4 << 20);
	assert_int_equal(settings->channels[1].jsonrpc_server->limits.count, 0);
	assert_false(settings->channels[1].jsonrpc_server->limits.exempt_loopback);
	assert_null(settings->channels[1].jsonrpc_server->tls);
	assert_int_equal(settings->channels[1].jsonrpc_server->cors->allowed_methods.count, 6);
	assert_string_equal(settings->channels[1].jsonrpc_server->cors->allowed_methods.items[5], "OPTIONS");
	assert_true(settings->channels[2].grpc_client->use_proxy);
	assert_int_equal(settings->channels[2].grpc_client->call_timeout_ms, 30000);
	assert_int_equal(settings->channels[2].grpc_client->idle_timeout_ms, 30000);
	assert_int_equal(settings->channels[2].grpc_client->allowed_relay_endpoints.count, 0);
	assert_string_equal(settings->channels[3].grpc_server->bind_address, "localhost:4444");
	assert_true(settings->channels[3].grpc_server->tls->verify_client);
	assert_false(settings->channels[3].grpc_server->tls->request_client_cert);
	assert_false(settings->channels[3].grpc_server->tls->insecure_skip_verify);
	assert_int_equal(settings->channels[4].type, CHANNEL_STDOUT);
	assert_null(settings->metrics);
	assert_null(settings->signing);
	assert_string_equal(reports, "warning x.yml:11: channels[1].settings: the key 'services' is not known\n");
	hyper_settings_free(settings);
}

static void hyper_takes_what_is_set(void **state)
{
	struct hyper_settings *settings = load_hyper(
		"name: hd-1\ndirectory: {type: json, settings: {path: /records}}\n"
		"channels:\n"
		"- name: a\n  type: jsonrpc_server\n  settings:\n"
		"    bind_address: '[::1]:5'\n    path: /rpc\n    max_body: 16MiB\n    rate_limit_loopback: false\n"
		"    cors: {allowed_hosts: ['^https://x$'], allowed_headers: [X-A], allowed_methods: [GET]}\n"
		"    tcp_rate_limits: [{type: second, limit: 10}, {type: minute, limit: 1000}, {type: hour, limit: 5}]\n"
		"    tls: {ca_certificate_files: [r, s], verify_client: no, request_client_cert: yes, server_name: sn}\n"
		"- name: b\n  type: grpc_client\n  settings:\n    useProxy: false\n    call_timeout: 1.5\n    idle_timeout: 2\n"
		"    allowed_relay_endpoints: ['a:1', 'b:2']\n    tls: {ca_certificate_files: [r], insecure_skip_verify: on}\n"
		"- {name: c, type: jsonrpc_client, settings: {endpoint: 'http://x/', proxy_url: 'http://p/', local: false, timeout: 0.25}}\n"
		"metrics: {bind_address: ':2112'}\n"
		"signing: {name: x, ca_certificate_file: r, ca_intermediate_certificate_files: [i], certificate_file: c, key_file: k}\n");
	struct jsonrpc_server_settings *server;

	(void)state;
	if (!settings)
		fail_msg("%s", reports);
	assert_string_equal(reports, "");
	assert_int_equal(settings->directory.type, DIRECTORY_JSON);
	assert_string_equal(settings->directory.path, "/records");
	server = settings->channels[0].jsonrpc_server;
	assert_string_equal(server->bind_address, "[::1]:5");
	assert_int_equal(server->max_body_bytes, 16 << 20);
	assert_true(server->limits.exempt_loopback);
	assert_int_equal(server->limits.count, 3);
	assert_int_equal(server->limits.rules[1].window, RATE_WINDOW_MINUTE);
	assert_int_equal(server->limits.rules[1].limit, 1000);
	assert_int_equal(server->limits.rules[2].window, RATE_WINDOW_HOUR);
	assert_int_equal(server->cors->allowed_methods.count, 1);
	assert_string_equal(server->cors->allowed_headers.items[0], "X-A");
	assert_int_equal(server->tls->ca_certificate_files.count, 2);
	assert_false(server->tls->verify_client);
	assert_true(server->tls->request_client_cert);
	assert_string_equal(server->tls->server_name, "sn");
	assert_false(settings->channels[1].grpc_client->use_proxy);
	assert_int_equal(settings->channels[1].grpc_client->call_timeout_ms, 1500);
	assert_int_equal(settings->channels[1].grpc_client->idle_timeout_ms, 2000);
	assert_string_equal(settings->channels[1].grpc_client->allowed_relay_endpoints.items[1], "b:2");
	assert_true(settings->channels[1].grpc_client->tls->insecure_skip_verify);
	assert_int_equal(settings->channels[2].jsonrpc_client->timeout_ms, 250);
	assert_false(settings->channels[2].jsonrpc_client->local);
	assert_string_equal(settings->metrics->bind_address, ":2112");
	assert_string_equal(settings->signing->ca_intermediate_certificate_files.items[0], "i");
	hyper_settings_free(settings);
}

static void a_path_begins_with_a_slash(void **state)
{
	(void)state;
	sd_fails("jsonrpc_server:\n  bind_address: 'localhost:1'\n  path: jsonrpc\n" SD_DIRECTORY,
		 "error x.yml:3: jsonrpc_server: path must begin with a slash: write '/jsonrpc'\n");
	sd_fails("jsonrpc_server:\n  bind_address: 'localhost:1'\n  path: 7\n" SD_DIRECTORY,
		 "error x.yml:3: jsonrpc_server.path: must be text, not a whole number\n");
}

static void missing_keys_name_the_map(void **state)
{
	(void)state;
	hyper_fails("directory: {}\n", "error x.yml:1: the key 'name' is missing\n");
	assert_reported("error x.yml:1: the key 'channels' is missing\n");
	assert_reported("error x.yml:1: directory: the key 'type' is missing\n");
	hyper_fails("", "error x.yml:1: the key 'name' is missing\n");
	reports[0] = 0;
	assert_null(hyper_settings_load("", collect_report, NULL));
	assert_reported("error -:0: the key 'name' is missing\n");
	hyper_fails("name: ''\n", "x.yml:1: the key 'name' is missing\n");
	hyper_fails("name: ~\n", "x.yml:1: the key 'name' is missing\n");
	hyper_fails("\nname: a\nchannels: []\ndirectory:\n  type: api\n",
		    "error x.yml:5: directory.settings: the key 'endpoints' is missing\n");
	assert_reported("directory.settings: the key 'server_names' is missing\n");
	assert_reported("directory.settings: the key 'jsonrpc_client' is missing\n");
	assert_reported("directory.settings: the key 'ca_certificate_files' is missing\n");
	hyper_fails("name: a\nchannels: []\ndirectory:\n  type: json\n  settings:\n    x: 1\n",
		    "error x.yml:6: directory.settings: the key 'path' is missing\n");
	hyper_fails("name: a\nchannels: []\ndirectory:\n  type: api\n  settings:\n    jsonrpc_client:\n      local: true\n",
		    "error x.yml:7: directory.settings: jsonrpc_client: the key 'tls' is missing\n");
	hyper_fails("name: a\n" JSON_DIRECTORY "channels:\n- type: grpc_server\n  name: b\n",
		    "error x.yml:4: channels[0].settings: the key 'tls' is missing\n");
	hyper_fails("name: a\n" JSON_DIRECTORY "channels:\n- settings: {}\n",
		    "error x.yml:4: channels[0]: the key 'name' is missing\n");
	assert_reported("error x.yml:4: channels[0]: the key 'type' is missing\n");
	hyper_fails(HYPER "signing:\n  name: x\n", "error x.yml:5: signing: the key 'certificate_file' is missing\n");
	assert_reported("signing: the key 'ca_certificate_file' is missing\n");
	assert_reported("signing: the key 'key_file' is missing\n");
	hyper_fails(HYPER "metrics: {x: 1}\n", "error x.yml:4: metrics: the key 'bind_address' is missing\n");
}

static void wrong_types_are_named(void **state)
{
	(void)state;
	hyper_fails("name: 5\n", "error x.yml:1: name: must be text, not a whole number\n");
	hyper_fails("name: [a]\n", "name: must be text, not a list\n");
	hyper_fails("name: yes\n", "name: must be text, not true or false\n");
	hyper_fails("channels: {}\n", "error x.yml:1: channels: must be a list, not a map\n");
	hyper_fails("channels: [5]\n", "channels[0]: must be a map, not a whole number\n");
	hyper_fails("directory: x\n", "directory: must be a map, not text\n");
	hyper_fails("directory: {type: [x]}\n", "directory.type: must be text, not a list\n");
	hyper_fails("directory: {type: redis}\n", "directory: type must be json or api, not 'redis'\n");
	hyper_fails("directory: {type: json, settings: 5}\n", "directory.settings: must be a map, not a whole number\n");
	hyper_fails(HYPER "metrics: [x]\n", "error x.yml:4: metrics: must be a map, not a list\n");
	hyper_fails(HYPER "metrics:\n  bind_address: localhost\n",
		    "error x.yml:5: metrics.bind_address: must be host:port, not 'localhost'\n");
	hyper_fails("name: a\n" JSON_DIRECTORY "channels:\n- {name: a, type: smtp}\n",
		    "error x.yml:4: channels[0]: there is no channel of type 'smtp'\n");
	hyper_fails("name: a\n" JSON_DIRECTORY "channels:\n- name: a\n  type: quic\n",
		    "error x.yml:5: channels[0]: a channel of type 'quic' is not in this version: leave it out\n");
	hyper_fails("name: a\n" JSON_DIRECTORY "channels:\n- {name: a, type: stdout}\n- {name: b, type: stdout}\n",
		    "error x.yml:5: channels[1]: a second channel of type 'stdout', the first is at ");
}

/* One channel with these settings. */
static void server_fails(const char *settings, const char *report)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "name: a\n" JSON_DIRECTORY "channels:\n- name: b\n  type: jsonrpc_server\n  settings:\n"
		 "    bind_address: 'localhost:1'\n    %s\n", settings);
	hyper_fails(text, report);
}

static void values_out_of_range_are_named(void **state)
{
	(void)state;
	server_fails("max_body: 12", "error x.yml:8: channels[0].settings.max_body: must be 1024 to 1073741824\n");
	server_fails("max_body: 2000.5", "max_body: must be a whole number, not 2000.5\n");
	server_fails("max_body: 5MB", "max_body: must be a number of bytes or a text such as 32MiB, not '5MB'\n");
	server_fails("max_body: MiB", "such as 32MiB, not 'MiB'\n");
	server_fails("max_body: '-5MiB'", "such as 32MiB, not '-5MiB'\n");
	server_fails("max_body: [1]", "max_body: must be a whole number, not a list\n");
	server_fails("max_body: .nan", "max_body: must be");
	server_fails("max_body: .inf", "max_body: must be");
	server_fails("tcp_rate_limits: 5", "tcp_rate_limits: must be a list, not a whole number\n");
	server_fails("tcp_rate_limits: [5]", "tcp_rate_limits[0]: must be a map, not a whole number\n");
	server_fails("tcp_rate_limits: [{type: day, limit: 1}]",
		     "tcp_rate_limits[0]: type must be second, minute or hour, not 'day'\n");
	server_fails("tcp_rate_limits: [{type: hour, limit: 0}]", "tcp_rate_limits[0].limit: must be 1 to 4294967295\n");
	server_fails("tcp_rate_limits: [{type: hour}]", "tcp_rate_limits[0]: the key 'limit' is missing\n");
	server_fails("tcp_rate_limits: [{limit: 1}]", "tcp_rate_limits[0]: the key 'type' is missing\n");
	server_fails("rate_limit_loopback: 1", "rate_limit_loopback: must be true or false, not a whole number\n");
	server_fails("cors: {allowed_hosts: ['(']}", "cors.allowed_hosts: '(' is no regular expression: ");
	server_fails("cors: {allowed_methods: [HEAD]}", "cors.allowed_methods: must be of GET, POST, ");
	server_fails("cors: {allowed_headers: [1]}", "cors.allowed_headers[0]: must be text, not a whole number\n");
	server_fails("tls: {ca_certificate_files: root.crt}",
		     "tls.ca_certificate_files: must be a list of texts, not text\n");
	server_fails("tls: {verify_client: 'no'}", "tls.verify_client: must be true or false, not text\n");
	server_fails("tls: {}", "tls: the key 'ca_certificate_files' is missing\n");
	server_fails("path: 5", "path: must be text, not a whole number\n");
	hyper_fails("directory:\n  type: api\n  settings:\n    cache_entries_for: 3601\n",
		    "error x.yml:4: directory.settings.cache_entries_for: must be 0 to 3600\n");
	hyper_fails("directory:\n  type: api\n  settings:\n    cache_entries_for: -1\n", "must be 0 to 3600\n");
	hyper_fails("directory:\n  type: api\n  settings:\n    endpoints: []\n",
		    "directory.settings.endpoints: must have at least 1 item\n");
	proxy_fails("public:\n  accept_timeout: 3000.5\n", "error x.yml:2: public.accept_timeout: must be 0 to 3000\n");
	proxy_fails("public:\n  accept_timeout: 0\n", "warning x.yml:2: public.accept_timeout: is 0, so nobody");
	proxy_fails("public:\n  accept_timeout: 0.0\n", "warning x.yml:2: public.accept_timeout: is 0, so nobody");
	proxy_fails("public:\n  accept_timeout: x\n", "public.accept_timeout: must be a number, not text\n");
	proxy_fails("relay: {planes: [local]}\n", "relay.planes: must be of sockmap, ktls-splice, splice and copy, not 'local'\n");
	proxy_fails("relay: {planes: []}\n", "relay.planes: must have at least 1 item\n");
	proxy_fails("relay: {workers: -1}\n", "relay.workers: must be 0 to 1024\n");
	proxy_fails("relay: {max_pairs: 0}\n", "relay.max_pairs: must be 1 to 4194304\n");
}

static void unusable_urls_have_a_line(void **state)
{
	static const char *const unusable[] = { "x", "localhost:5544", "ftp://x", "https://", "http://x:0/",
						"https://user:secret@x/" };

	(void)state;
	for (size_t i = 0; i < sizeof(unusable) / sizeof(unusable[0]); i++) {
		char text[128];

		snprintf(text, sizeof(text), "public:\n  jsonrpc_client:\n    endpoint: '%s'\n", unusable[i]);
		proxy_fails(text, "error x.yml:3: public.jsonrpc_client.endpoint: must be a URL such as ");
		assert_null(strstr(reports, "secret"));
	}
	proxy_fails("public:\n  jsonrpc_client:\n    endpoint: http://x/\n    proxy_url: https://user:secret@p/\n",
		    "error x.yml:4: public.jsonrpc_client.proxy_url: must be a URL such as http://host:port, without TLS\n");
	assert_null(strstr(reports, "secret"));
	hyper_fails("directory:\n  type: api\n  settings:\n    endpoints:\n    - https://sd:1/jsonrpc\n    - sd:1\n",
		    "error x.yml:6: directory.settings.endpoints[1]: must be a URL such as ");
}

static void unknown_keys_are_warnings(void **state)
{
	struct hyper_settings *settings = load_hyper(HYPER "nonsense: 1\n_vars: {}\nmetrics:\n  bind_address: ':1'\n  x: 1\n");

	(void)state;
	assert_non_null(settings);
	assert_string_equal(reports, "warning x.yml:4: the key 'nonsense' is not known\n"
				     "warning x.yml:8: metrics: the key 'x' is not known\n");
	hyper_settings_free(settings);
	settings = load_hyper(HYPER "metrics!: {bind_address: ':1'}\n");
	assert_non_null(settings->metrics);
	assert_string_equal(reports, "");
	hyper_settings_free(settings);
}

static void half_a_certificate_is_a_warning(void **state)
{
	struct proxy_settings *settings = load_proxy("public:\n" PUBLIC_REQUIRED
		"  jsonrpc_client!:\n    endpoint: http://x/\n    tls: {ca_certificate_files: [r], certificate_file: c}\n");

	(void)state;
	assert_non_null(settings); /* the marker means nothing where nothing is merged */
	assert_reported("warning x.yml:7: public: the key 'jsonrpc_client!' is not known\n");
	assert_null(settings->public_proxy->jsonrpc_client->tls);
	proxy_settings_free(settings);
	settings = load_proxy("public:\n  name: p\n  datastore: {type: file, settings: {filename: /data}}\n"
			      "  jsonrpc_server: {bind_address: 'localhost:2'}\n"
			      "  jsonrpc_client:\n    endpoint: http://x/\n    tls: {ca_certificate_files: [r], certificate_file: c}\n");
	assert_non_null(settings);
	assert_reported("warning x.yml:7: public.jsonrpc_client.tls: only one of certificate_file and key_file is set");
	proxy_settings_free(settings);
}

static void proxy_has_defaults(void **state)
{
	struct proxy_settings *settings = load_proxy("");

	(void)state;
	assert_non_null(settings);
	assert_null(settings->public_proxy);
	assert_null(settings->metrics);
	assert_false(settings->has_private);
	assert_int_equal(settings->relay.workers, 0);
	assert_int_equal(settings->relay.planes, PLANE_MASK_ALL);
	assert_int_equal(settings->relay.pair_memory_bytes, 32 << 20);
	assert_int_equal(settings->relay.credit_budget_bytes, 0);
	assert_int_equal(settings->relay.buffer_budget_bytes, 0);
	assert_int_equal(settings->relay.max_pairs, 4096);
	assert_int_equal(settings->relay.stall_limit_ms, 0);
	assert_int_equal(settings->relay.stop_deadline_ms, 5000);
	assert_string_equal(settings->control.path, "/run/p2p-proxy/control.sock");
	assert_null(settings->control.group);
	proxy_settings_free(settings);

	settings = load_proxy("public:\n" PUBLIC_REQUIRED);
	assert_non_null(settings);
	assert_string_equal(reports, "");
	assert_string_equal(settings->public_proxy->tls_bind_address, "localhost:443");
	assert_string_equal(settings->public_proxy->internal_bind_address, "localhost:9999");
	assert_string_equal(settings->public_proxy->internal_endpoint, "localhost:9999");
	assert_int_equal(settings->public_proxy->accept_timeout_ms, 10000);
	assert_int_equal(settings->public_proxy->token_timeout_ms, 5000);
	assert_int_equal(settings->public_proxy->max_tickets, 65536);
	assert_int_equal(settings->public_proxy->max_tickets_per_operator, 1024);
	assert_string_equal(settings->public_proxy->datastore.filename, "/data");
	proxy_settings_free(settings);
}

static void proxy_takes_what_is_set(void **state)
{
	struct proxy_settings *settings = load_proxy("public:\n" PUBLIC_REQUIRED
		"  accept_timeout: 0.5\n  token_timeout: 1\n  internal_endpoint: proxy.example:9\n  max_tickets: 2\n"
		"  tcp_rate_limits: [{type: minute, limit: 1}]\n  rate_limit_loopback: false\n"
		"private: {name: anything at all}\nmetrics: {bind_address: ':1'}\n"
		"relay:\n  workers: 2\n  planes: [copy, splice]\n  pair_memory: 1 MiB\n  credit_budget: 67108864\n"
		"  buffer_budget: 8 MiB\n  max_pairs: 10\n  stall_limit: 0.0001\n  stop_deadline: 0\ncontrol: {path: /tmp/x, group: adm}\n");

	(void)state;
	if (!settings)
		fail_msg("%s", reports);
	assert_string_equal(reports, "");
	assert_true(settings->has_private);
	assert_int_equal(settings->public_proxy->accept_timeout_ms, 500);
	assert_int_equal(settings->public_proxy->token_timeout_ms, 1000);
	assert_int_equal(settings->public_proxy->max_tickets, 2);
	assert_string_equal(settings->public_proxy->internal_endpoint, "proxy.example:9");
	assert_true(settings->public_proxy->limits.exempt_loopback);
	assert_int_equal(settings->public_proxy->limits.count, 1);
	assert_int_equal(settings->relay.workers, 2);
	assert_int_equal(settings->relay.planes, PLANE_MASK_COPY | PLANE_MASK_SPLICE);
	assert_int_equal(settings->relay.pair_memory_bytes, 1 << 20);
	assert_int_equal(settings->relay.credit_budget_bytes, 64 << 20);
	assert_int_equal(settings->relay.buffer_budget_bytes, 8 << 20);
	assert_int_equal(settings->relay.stall_limit_ms, 1); /* not off */
	assert_int_equal(settings->relay.stop_deadline_ms, 0);
	assert_string_equal(settings->control.group, "adm");
	proxy_settings_free(settings);
}

static void datastores_are_files(void **state)
{
	struct sd_settings *settings;

	(void)state;
	settings = load_sd("jsonrpc_server: {bind_address: 'localhost:1'}\n"
			   "directory:\n  ca_certificate_files: [r]\n  ca_intermediate_certificate_files: [i]\n"
			   "  metrics: {bind_address: ':1'}\n  datastore: {type: file, settings: {filename: /data}}\n"
			   "metrics: {bind_address: ':2'}\n");
	if (!settings)
		fail_msg("%s", reports);
	assert_string_equal(reports, "");
	assert_string_equal(settings->datastore.filename, "/data");
	assert_string_equal(settings->metrics->bind_address, ":2");
	assert_string_equal(settings->ca_intermediate_certificate_files.items[0], "i");
	sd_settings_free(settings);
	sd_fails("directory:\n  datastore:\n    type: redis\n    settings: {addresses: ['a:1']}\n",
		 "error x.yml:3: directory.datastore: type redis is not in this version: write file\n");
	sd_fails("directory:\n  datastore:\n    type: sql\n    settings: {}\n",
		 "error x.yml:3: directory.datastore: type must be file, not 'sql'\n");
	sd_fails("directory:\n  datastore:\n    type: file\n    settings: {}\n",
		 "directory.datastore.settings: the key 'filename' is missing\n");
	sd_fails("directory:\n  datastore:\n    type: file\n", "directory.datastore: the key 'settings' is missing\n");
	sd_fails("directory:\n  datastore:\n    settings: {}\n", "directory.datastore: the key 'type' is missing\n");
	sd_fails("directory:\n  datastore:\n    type: 5\n    settings: x\n", "directory.datastore.type: must be text");
	sd_fails("directory: {}\n", "the key 'jsonrpc_server' is missing\n");
	assert_reported("directory: the key 'datastore' is missing\n");
	assert_reported("directory: the key 'ca_certificate_files' is missing\n");
}

static void numbers_of_json_files_may_be_whole(void **state)
{
	struct proxy_settings *settings;

	(void)state;
	reports[0] = 0;
	put_file("x.json", "{\"relay\": {\"workers\": 3, \"max_pairs\": 5.0, \"pair_memory\": 1e6}}");
	settings = proxy_settings_load(in_folder("x.json"), collect_report, NULL);
	assert_non_null(settings);
	assert_int_equal(settings->relay.workers, 3);
	assert_int_equal(settings->relay.max_pairs, 5);
	assert_int_equal(settings->relay.pair_memory_bytes, 1000000);
	proxy_settings_free(settings);
	put_file("y.json", "{\"relay\":\n{\"workers\": 3.5}}");
	assert_null(proxy_settings_load(in_folder("y.json"), collect_report, NULL));
	assert_reported("error y.json:2: relay.workers: must be a whole number, not 3.5\n");
}

static void every_fault_is_told_at_once(void **state)
{
	(void)state;
	proxy_fails("public:\n  accept_timeout: -1\n  name: [x]\nrelay: {workers: x}\ncontrol: 5\n",
		    "error x.yml:2: public.accept_timeout: must be 0 to 3000\n");
	assert_null(strstr(reports, "accept_timeout: is 0"));
	assert_reported("error x.yml:3: public.name: must be text, not a list\n");
	assert_reported("error x.yml:4: relay.workers: must be a whole number, not text\n");
	assert_reported("error x.yml:5: control: must be a map, not a whole number\n");
	assert_reported("error x.yml:2: public: the key 'jsonrpc_client' is missing\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(hyper_has_defaults),
		TEST(hyper_takes_what_is_set),
		TEST(a_path_begins_with_a_slash),
		TEST(missing_keys_name_the_map),
		TEST(wrong_types_are_named),
		TEST(values_out_of_range_are_named),
		TEST(unusable_urls_have_a_line),
		TEST(unknown_keys_are_warnings),
		TEST(half_a_certificate_is_a_warning),
		TEST(proxy_has_defaults),
		TEST(proxy_takes_what_is_set),
		TEST(datastores_are_files),
		TEST(numbers_of_json_files_may_be_whole),
		TEST(every_fault_is_told_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
