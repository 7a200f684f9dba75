// SPDX-License-Identifier: Apache-2.0
/* Settings of TLS at the relay: the proxy's endpoint and directory, and whether a
 * hyper uses it. */
#include "settings_files.h"

#include "settings/settings.h"

#define REQUIRED \
	"public:\n  name: p\n  datastore: {type: file, settings: {filename: /data}}\n" \
	"  jsonrpc_client: {endpoint: 'https://localhost:1/jsonrpc'}\n"
#define SERVER "  jsonrpc_server: {bind_address: 'localhost:2'}\n"
#define TLS_SERVER "  jsonrpc_server: {bind_address: 'localhost:2', tls: {ca_certificate_files: [root]}}\n"
#define HYPER \
	"name: hd-1\ndirectory: {type: json, settings: {path: /d}}\nchannels:\n- name: c\n  type: grpc_client\n" \
	"  settings:\n    tls: {ca_certificate_files: [root]}\n"

static struct proxy_settings *load_proxy(const char *text)
{
	reports[0] = 0;
	put_file("x.yml", text);
	return proxy_settings_load(in_folder("x.yml"), collect_report, NULL);
}

static void proxy_fails(const char *text, const char *report)
{
	assert_null(load_proxy(text));
	assert_reported(report);
}

static void without_the_address_there_is_no_endpoint(void **state)
{
	struct proxy_settings *settings = load_proxy(REQUIRED SERVER);

	(void)state;
	assert_non_null(settings);
	assert_null(settings->public_proxy->relay_tls_bind_address);
	assert_null(settings->public_proxy->directory);
	proxy_settings_free(settings);
	settings = load_proxy(REQUIRED SERVER "  relay_tls_bind_address: \"\"\n"); /* an overlay takes it away */
	assert_non_null(settings);
	assert_null(settings->public_proxy->relay_tls_bind_address);
	proxy_settings_free(settings);
}

static void the_certificate_is_that_of_the_json_rpc_server(void **state)
{
	struct proxy_settings *settings = load_proxy(
		REQUIRED TLS_SERVER "  relay_tls_bind_address: ':3'\n  relay_tls_endpoint: relay.example:3\n");

	(void)state;
	assert_non_null(settings);
	assert_string_equal(settings->public_proxy->relay_tls_bind_address, ":3");
	assert_string_equal(settings->public_proxy->relay_tls_endpoint, "relay.example:3");
	assert_ptr_equal(settings->public_proxy->relay_tls, settings->public_proxy->jsonrpc_server->tls);
	proxy_settings_free(settings);

	settings = load_proxy(REQUIRED SERVER "  relay_tls_bind_address: ':3'\n  relay_tls_endpoint: r:3\n"
			      "  relay_tls: {ca_certificate_files: [other]}\n");
	assert_non_null(settings);
	assert_string_equal(settings->public_proxy->relay_tls->ca_certificate_files.items[0], "other");
	proxy_settings_free(settings);
}

static void what_is_missing_is_an_error(void **state)
{
	(void)state;
	proxy_fails(REQUIRED TLS_SERVER "  relay_tls_bind_address: ':3'\n",
		    "the key 'relay_tls_endpoint' is missing: what peers are told");
	proxy_fails(REQUIRED SERVER "  relay_tls_bind_address: ':3'\n  relay_tls_endpoint: r:3\n",
		    "needs certificates: relay_tls, or jsonrpc_server.tls");
	proxy_fails(REQUIRED TLS_SERVER "  relay_tls_bind_address: 3\n", "relay_tls_bind_address: must be text");
	proxy_fails(REQUIRED TLS_SERVER "  relay_tls_endpoint: nowhere\n", "relay_tls_endpoint");
}

static void the_proxy_may_have_a_directory(void **state)
{
	struct proxy_settings *settings =
		load_proxy(REQUIRED SERVER "  directory: {type: json, settings: {path: /records}}\n");

	(void)state;
	assert_non_null(settings);
	assert_int_equal(settings->public_proxy->directory->type, DIRECTORY_JSON);
	assert_string_equal(settings->public_proxy->directory->path, "/records");
	proxy_settings_free(settings);
	proxy_fails(REQUIRED SERVER "  directory: {type: dns}\n", "public.directory: type must be json or api, not 'dns'");
	proxy_fails(REQUIRED SERVER "  directory: {type: json}\n", "the key 'path' is missing");
}

static void a_hyper_prefers_requires_or_does_without(void **state)
{
	static const struct {
		const char *text;
		enum relay_tls_use use;
	} cases[] = {
		{HYPER, RELAY_TLS_PREFER},
		{HYPER "    relay_tls: prefer\n", RELAY_TLS_PREFER},
		{HYPER "    relay_tls: require\n", RELAY_TLS_REQUIRE},
		{HYPER "    relay_tls: off\n", RELAY_TLS_OFF}, /* YAML reads false */
		{HYPER "    relay_tls: 'off'\n", RELAY_TLS_OFF},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		reports[0] = 0;
		put_file("x.yml", cases[i].text);
		struct hyper_settings *settings = hyper_settings_load(in_folder("x.yml"), collect_report, NULL);
		if (!settings)
			fail_msg("%s", reports);
		assert_string_equal(reports, "");
		assert_int_equal(settings->channels[0].grpc_client->relay_tls, cases[i].use);
		hyper_settings_free(settings);
	}
	put_file("x.yml", HYPER "    relay_tls: maybe\n");
	assert_null(hyper_settings_load(in_folder("x.yml"), collect_report, NULL));
	assert_reported("relay_tls: must be prefer, require or off, not 'maybe'");
	reports[0] = 0;
	put_file("x.yml", HYPER "    relay_tls: on\n");
	assert_null(hyper_settings_load(in_folder("x.yml"), collect_report, NULL));
	assert_reported("relay_tls: must be text");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_the_address_there_is_no_endpoint),
		TEST(the_certificate_is_that_of_the_json_rpc_server),
		TEST(what_is_missing_is_an_error),
		TEST(the_proxy_may_have_a_directory),
		TEST(a_hyper_prefers_requires_or_does_without),
	};
	return cmocka_run_group_tests_name("settings of relay TLS", tests, NULL, NULL);
}
