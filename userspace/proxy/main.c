// SPDX-License-Identifier: Apache-2.0
/* The `proxy` program: its command line and settings. */
#include "base/program.h"
#include "proxy/check.h"
#include "proxy/public.h"

#include <stddef.h>

static int run_public(int argc, char **argv, void *settings)
{
	(void)argv;
	if (argc > 0) {
		log_error("`run public` takes no arguments");
		return 2;
	}
	return public_proxy_run(settings);
}

static int run_private(int argc, char **argv, void *settings)
{
	(void)argc, (void)argv, (void)settings;
	log_fatal("the private proxy is not in this version");
	return 1;
}

static void *load(const char *search_path)
{
	struct proxy_settings *settings = proxy_settings_load(search_path, settings_report_to_log, NULL);

	if (settings && !public_proxy_check(settings)) {
		proxy_settings_free(settings);
		return NULL;
	}
	return settings;
}

static void unload(void *settings)
{
	proxy_settings_free(settings);
}

static bool check(const void *settings)
{
	return public_proxy_check_named(settings);
}

static const struct program_command commands[] = {
	{"run public", "[--check]", "joins pairs of servers that cannot reach each other", true, run_public},
	{"run private", "", "forwards to an internal service (not in this version)", false, run_private},
	{0},
};

static const struct program program = {
	.name = "proxy",
	.service = "PRO",
	.settings_env = "PROXY_SETTINGS",
	.about = "The public proxy of an operator: two servers that only reach the proxy show the same\n"
		 "one-time token, and the kernel relays between their connections. Look inside with p2pctl.",
	.commands = commands,
	.load_settings = load,
	.free_settings = unload,
	.check_settings = check,
};

int main(int argc, char **argv)
{
	return program_main(&program, argc, argv);
}
