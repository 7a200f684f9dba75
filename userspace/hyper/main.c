// SPDX-License-Identifier: Apache-2.0
/* `hyper`: the message server of one operator, and the commands that write to
 * the service directory. */
#include "base/program.h"
#include "hyper/check.h"
#include "hyper/sd_commands.h"
#include "hyper/server.h"
#include "settings/settings.h"

static void *load_settings(const char *search_path)
{
	return hyper_settings_load(search_path, settings_report_to_log, NULL);
}

static void free_settings(void *settings)
{
	hyper_settings_free(settings);
}

static bool check_settings(const void *settings)
{
	return hyper_check(settings);
}

static const struct program_command commands[] = {
	{ "server|s run", "[--check]", "run the message server", true, hyper_server_run },
	{ "sd submit-records", "[--reset] [--wait SECONDS] FILE", "sign records and submit them to the directory", true,
	  sd_command_submit_records },
	{ "sd get-entries", "[--name NAME] [--wait SECONDS]", "print the directory's entries as JSON", true,
	  sd_command_get_entries },
	{ "sd sign", "FILE", "sign a JSON object", true, sd_command_sign },
	{ "sd verify", "FILE NAME", "check a signed JSON object", true, sd_command_verify },
	{ 0 },
};

static const struct program program = {
	.name = "hyper",
	.service = "Hyper",
	.settings_env = "HYPER_SETTINGS",
	.about = "Message server of one operator: takes requests from local programs over JSON-RPC and from other\n"
		 "operators over gRPC, and delivers them. Also writes to the service directory.",
	.commands = commands,
	.load_settings = load_settings,
	.free_settings = free_settings,
	.check_settings = check_settings,
	.accepts = sd_command_accepts,
};

int main(int argc, char **argv)
{
	return program_main(&program, argc, argv);
}
