// SPDX-License-Identifier: Apache-2.0
/* The development roles of the tree: ports, channels and certificates of the
 * protocol page 10.3, and not a single warning. Runs from the top folder. */
#include "settings_files.h"

#include "settings/settings.h"

#define ROLES "settings/dev/roles/"

static bool ends_with(const char *text, const char *ending)
{
	size_t length = strlen(text), size = strlen(ending);

	return length >= size && !strcmp(text + length - size, ending);
}

static void assert_certificate(const struct tls_settings *tls, const char *name)
{
	char certificate[128], key[128];

	assert_non_null(tls);
	snprintf(certificate, sizeof(certificate), "/certs/%s.crt", name);
	snprintf(key, sizeof(key), "/certs/%s.key", name);
	assert_true(ends_with(tls->certificate_file, certificate));
	assert_true(ends_with(tls->key_file, key));
	assert_int_equal(tls->ca_certificate_files.count, 1);
	assert_true(ends_with(tls->ca_certificate_files.items[0], "/certs/root.crt"));
	assert_true(tls->certificate_file[0] == '/' && tls->certificate_file[1] != '/');
}

static void assert_limit(const struct rate_limit_settings *limits, size_t index, enum rate_window window, unsigned limit)
{
	assert_true(index < limits->count);
	assert_int_equal(limits->rules[index].window, window);
	assert_int_equal(limits->rules[index].limit, limit);
	assert_true(limits->exempt_loopback);
}

static struct hyper_settings *load_hyper(const char *path, const char *name, const char *caller)
{
	struct hyper_settings *settings;

	reports[0] = 0;
	if (access(path, R_OK))
		skip();
	settings = hyper_settings_load(path, collect_report, NULL);
	if (!settings)
		fail_msg("%s", reports);
	assert_string_equal(reports, "");
	assert_string_equal(settings->name, name);
	assert_int_equal(settings->directory.type, DIRECTORY_API);
	assert_string_equal(settings->directory.endpoints.items[0], "https://localhost:3322/jsonrpc");
	assert_string_equal(settings->directory.server_names.items[0], "sd-1");
	assert_certificate(settings->directory.jsonrpc_client->tls, caller);
	assert_true(ends_with(settings->directory.ca_certificate_files.items[0], "/certs/root.crt"));
	assert_true(ends_with(settings->directory.ca_intermediate_certificate_files.items[0], "/certs/intermediate.crt"));
	assert_int_equal(settings->channel_count, 4);
	return settings;
}

static void check_server_role(const char *path, const char *name, const char *grpc, const char *jsonrpc, bool verifies,
			      const char *metrics)
{
	struct hyper_settings *settings = load_hyper(path, name, name);

	assert_int_equal(settings->channels[0].type, CHANNEL_JSONRPC_CLIENT);
	assert_int_equal(settings->channels[1].type, CHANNEL_GRPC_SERVER);
	assert_int_equal(settings->channels[2].type, CHANNEL_GRPC_CLIENT);
	assert_int_equal(settings->channels[3].type, CHANNEL_JSONRPC_SERVER);
	assert_string_equal(settings->channels[1].grpc_server->bind_address, grpc);
	assert_string_equal(settings->channels[3].jsonrpc_server->bind_address, jsonrpc);
	assert_int_equal(settings->channels[3].jsonrpc_server->tls->verify_client, verifies);
	for (int i = 1; i < 4; i++)
		assert_certificate(i == 1 ? settings->channels[i].grpc_server->tls :
				   i == 2 ? settings->channels[i].grpc_client->tls :
					    settings->channels[i].jsonrpc_server->tls, name);
	assert_string_equal(settings->metrics->bind_address, metrics);
	assert_non_null(settings->signing);
	assert_non_null(strstr(settings->signing->certificate_file, "-sign.crt"));
	hyper_settings_free(settings);
}

static void hd_1_and_hd_2(void **state)
{
	(void)state;
	check_server_role(ROLES "hd-1", "hd-1", "localhost:8888", "localhost:5555", false, "localhost:2112");
	check_server_role(ROLES "hd-2", "hd-2", "localhost:8889", "localhost:3334", true, "localhost:2113");
}

static void public_proxy_hyper_1(void **state)
{
	struct hyper_settings *settings = load_hyper(ROLES "public-proxy-hyper-1", "public-proxy-1.ga", "hd-1");
	struct jsonrpc_client_settings *client;

	(void)state;
	assert_int_equal(settings->channels[0].type, CHANNEL_GRPC_SERVER);
	assert_int_equal(settings->channels[1].type, CHANNEL_GRPC_CLIENT);
	assert_int_equal(settings->channels[2].type, CHANNEL_JSONRPC_SERVER);
	assert_int_equal(settings->channels[3].type, CHANNEL_JSONRPC_CLIENT);
	assert_string_equal(settings->channels[0].grpc_server->bind_address, "localhost:5556");
	assert_limit(&settings->channels[0].grpc_server->limits, 0, RATE_WINDOW_MINUTE, 1000);
	assert_string_equal(settings->channels[2].jsonrpc_server->bind_address, "localhost:5544");
	assert_true(settings->channels[2].jsonrpc_server->tls->verify_client);
	client = settings->channels[3].jsonrpc_client;
	assert_string_equal(client->endpoint, "https://localhost:6655/jsonrpc");
	assert_string_equal(client->tls->server_name, "public-proxy-1.ga");
	assert_certificate(client->tls, "public-proxy-1.ga");
	hyper_settings_free(settings);
}

static void public_proxy_1(void **state)
{
	struct proxy_settings *settings;
	struct public_proxy_settings *public;

	(void)state;
	reports[0] = 0;
	if (access(ROLES "public-proxy-1", R_OK))
		skip();
	settings = proxy_settings_load(ROLES "public-proxy-1", collect_report, NULL);
	if (!settings)
		fail_msg("%s", reports);
	assert_string_equal(reports, "");
	public = settings->public_proxy;
	assert_string_equal(public->name, "public-proxy-1.ga");
	assert_string_equal(public->internal_bind_address, "localhost:9999");
	assert_string_equal(public->internal_endpoint, "localhost:9999");
	assert_string_equal(public->tls_bind_address, "localhost:4433");
	assert_limit(&public->limits, 0, RATE_WINDOW_MINUTE, 1000);
	assert_string_equal(public->jsonrpc_client->endpoint, "https://localhost:5544/jsonrpc");
	assert_certificate(public->jsonrpc_client->tls, "public-proxy-1.ga");
	assert_string_equal(public->jsonrpc_server->bind_address, "localhost:6655");
	assert_certificate(public->jsonrpc_server->tls, "public-proxy-1.ga");
	assert_true(ends_with(public->datastore.filename, "/data/public-proxy-1.records"));
	proxy_settings_free(settings);
}

static void sd_1(void **state)
{
	struct sd_settings *settings;

	(void)state;
	reports[0] = 0;
	if (access(ROLES "sd-1", R_OK))
		skip();
	settings = sd_settings_load(ROLES "sd-1", collect_report, NULL);
	if (!settings)
		fail_msg("%s", reports);
	assert_string_equal(reports, "");
	assert_string_equal(settings->jsonrpc_server->bind_address, "localhost:3322");
	assert_limit(&settings->jsonrpc_server->limits, 0, RATE_WINDOW_SECOND, 10);
	assert_limit(&settings->jsonrpc_server->limits, 1, RATE_WINDOW_MINUTE, 1000);
	assert_certificate(settings->jsonrpc_server->tls, "sd-1");
	assert_true(ends_with(settings->datastore.filename, "/data/sd-1.records"));
	assert_true(ends_with(settings->ca_certificate_files.items[0], "/certs/root.crt"));
	sd_settings_free(settings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hd_1_and_hd_2),
		cmocka_unit_test(public_proxy_hyper_1),
		cmocka_unit_test(public_proxy_1),
		cmocka_unit_test(sd_1),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
