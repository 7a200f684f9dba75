// SPDX-License-Identifier: Apache-2.0
/* What `proxy … --check` looks at beyond the form of the settings: certificates,
 * the directory's too, and path and group of the control socket. Nothing is bound and
 * nobody is called. */
#include "proxy/check.h"

#include "base/log.h"
#include "directory/directory.h"
#include "jsonrpc/control.h"
#include "tls/checkup.h"

#include <grp.h>

bool public_proxy_check_named(const struct proxy_settings *settings)
{
	const struct public_proxy_settings *public = settings->public_proxy;
	bool fine = tls_check_server(public->jsonrpc_server->tls, "public.jsonrpc_server");

	fine = tls_check_client(public->jsonrpc_client->tls, "public.jsonrpc_client") && fine;
	if (public->relay_tls_bind_address) {
		struct tls_settings tls = *public->relay_tls;

		tls.verify_client = true; /* as the endpoint has it */
		fine = tls_check_server(&tls, "public.relay_tls") && fine;
	}
	if (public->directory)
		fine = directory_check(public->directory) && fine;
	fine = !control_path_check(settings->control.path) && fine;
	if (settings->control.group && !getgrnam(settings->control.group)) {
		log_error("control: there is no group %s", settings->control.group);
		fine = false;
	}
	return fine;
}
