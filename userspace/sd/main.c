// SPDX-License-Identifier: Apache-2.0
/* sd, the service directory: a JSON-RPC server over an append-only file of signed
 * records (protocol page 2.7, 3.9, 3.10). One thread, one event loop. Stopping
 * closes the listener, then waits a few seconds for open calls. */
#include "base/daemon.h"
#include "base/log.h"
#include "base/program.h"
#include "directory/file_store.h"
#include "directory/verifier.h"
#include "sd/service.h"
#include "tls/checkup.h"

#include <string.h>
#include <time.h>

#define STOP_DEADLINE_MS 5000
#define STOP_LOOK_MS 20

struct directory_server {
	struct event_base *base;
	struct jsonrpc_server *server;
	struct event *stop_timer;
	int looks_left;
};

static void look_for_open_calls(evutil_socket_t fd, short what, void *context)
{
	static const struct timeval pause = { 0, STOP_LOOK_MS * 1000 };
	struct directory_server *sd = context;

	(void)fd, (void)what;
	if (jsonrpc_server_open_calls(sd->server) == 0 || sd->looks_left-- == 0)
		event_base_loopbreak(sd->base);
	else
		evtimer_add(sd->stop_timer, &pause);
}

static void stop(void *context)
{
	struct directory_server *sd = context;

	jsonrpc_server_stop(sd->server);
	look_for_open_calls(-1, 0, sd);
}

static int serve(const struct sd_settings *settings, struct ledger *ledger)
{
	struct service *service = NULL;
	struct directory_server sd = { .looks_left = STOP_DEADLINE_MS / STOP_LOOK_MS };
	struct daemon_signals *signals = NULL;
	int status = 1;

	sd.base = event_base_new();
	sd.stop_timer = sd.base ? evtimer_new(sd.base, look_for_open_calls, &sd) : NULL;
	signals = sd.stop_timer ? daemon_watch_signals(sd.base, stop, &sd) : NULL;
	if (!signals || service_create(sd.base, ledger, &service))
		log_error("cannot set up the event loop");
	else if (!jsonrpc_server_start(sd.base, "sd", settings->jsonrpc_server, service_handle_call, service, &sd.server)) {
		log_info("listening at %s, %s, path %s", settings->jsonrpc_server->bind_address,
			 settings->jsonrpc_server->tls ? "TLS" : "plain HTTP", settings->jsonrpc_server->path);
		status = event_base_dispatch(sd.base) < 0;
	}
	service_free(service);
	jsonrpc_server_free(sd.server);
	daemon_signals_free(signals);
	if (sd.stop_timer)
		event_free(sd.stop_timer);
	if (sd.base)
		event_base_free(sd.base);
	return status;
}

static int run(int argc, char **argv, void *context)
{
	const struct sd_settings *settings = context;
	struct ledger *ledger;
	int status;

	if (argc) {
		fprintf(stderr, "sd run: unexpected argument '%s'\n", argv[0]);
		return 2;
	}
	daemon_prepare_process();
	if (settings->metrics)
		log_info("metrics are not in this version");
	if (ledger_open(settings->datastore.filename, &settings->ca_certificate_files,
			&settings->ca_intermediate_certificate_files, (int64_t)time(NULL), &ledger))
		return 1;
	status = serve(settings, ledger);
	log_info("stopped with %zu records in the directory's chain", json_array_size(ledger_records(ledger)));
	ledger_close(ledger);
	return status;
}

static void *load_settings(const char *search_path)
{
	return sd_settings_load(search_path, settings_report_to_log, NULL);
}

static bool check_settings(const void *context)
{
	const struct sd_settings *settings = context;
	bool fine = tls_check_server(settings->jsonrpc_server->tls, "jsonrpc_server");
	char reason[SIGNATURE_REASON_SIZE];
	struct verifier *verifier = verifier_create(&settings->ca_certificate_files,
						    &settings->ca_intermediate_certificate_files, reason);
	int error = file_store_check(settings->datastore.filename);

	if (!verifier)
		log_error("certificates for record signatures: %s", reason);
	if (error)
		log_error("%s: cannot be the data file: %s", settings->datastore.filename, strerror(-error));
	verifier_free(verifier);
	return fine && verifier && !error;
}

static void free_settings(void *settings) { sd_settings_free(settings); }

static const struct program_command commands[] = {
	{ "run", "[--check]", "run the service directory", true, run },
	{ 0 },
};

static const struct program program = {
	.name = "sd",
	.service = "SD_",
	.settings_env = "SD_SETTINGS",
	.about = "The service directory: keeps the signed records of all operators and hands them out over JSON-RPC. "
		 "Only an operator in the group sd-admin can add records.",
	.commands = commands,
	.load_settings = load_settings,
	.free_settings = free_settings,
	.check_settings = check_settings,
};

int main(int argc, char **argv) { return program_main(&program, argc, argv); }
