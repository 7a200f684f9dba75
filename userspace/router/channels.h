// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Constructors of the channels (protocol page 2.5). Each checks and loads what
 * its settings name (certificates too) without binding or dialling anything.
 * 0 or a negative errno, logged. The settings must outlive the channel. */
#include "router/channel.h"
#include "settings/settings.h"

int channel_stdout_create(struct channel **result);
int channel_jsonrpc_client_create(struct event_base *base, const struct jsonrpc_client_settings *settings,
				  struct channel **result);
int channel_jsonrpc_server_create(const char *name, const struct jsonrpc_server_settings *settings,
				  struct channel **result);
int channel_grpc_client_create(const struct grpc_client_settings *settings, struct channel **result);
/* `client`: how this operator dials relays, and where a `_connectionRequest` may send it;
 * NULL: anywhere, with this channel's certificate. */
int channel_grpc_server_create(const struct grpc_server_settings *settings, const struct grpc_client_settings *client,
			       struct channel **result);
