// SPDX-License-Identifier: Apache-2.0
/* What `hyper … --check` looks at beyond the form of the settings: certificates
 * of channels, directory and signing. Nothing is bound and nobody is called. */
#include "hyper/check.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "directory/directory.h"
#include "hyper/signing.h"
#include "tls/checkup.h"

#include <stdio.h>

static bool check_channel(const struct channel_settings *channel)
{
	_free_ char *where = NULL;

	if (asprintf(&where, "channel %s", channel->name) < 0)
		where = NULL;
	switch (channel->type) {
	case CHANNEL_STDOUT:
		return true;
	case CHANNEL_JSONRPC_CLIENT:
		return tls_check_client(channel->jsonrpc_client->tls, where ? where : channel->name);
	case CHANNEL_JSONRPC_SERVER:
		return tls_check_server(channel->jsonrpc_server->tls, where ? where : channel->name);
	case CHANNEL_GRPC_CLIENT:
		return tls_check_client(channel->grpc_client->tls, where ? where : channel->name);
	case CHANNEL_GRPC_SERVER:
		return tls_check_server(channel->grpc_server->tls, where ? where : channel->name);
	}
	return false;
}

bool hyper_check(const struct hyper_settings *settings)
{
	bool fine = directory_check(&settings->directory);
	struct signing signing;

	for (size_t i = 0; i < settings->channel_count; i++)
		fine = check_channel(&settings->channels[i]) && fine;
	if (settings->signing) {
		if (signing_load(settings, &signing))
			signing_clear(&signing);
		else
			fine = false;
	}
	return fine;
}
