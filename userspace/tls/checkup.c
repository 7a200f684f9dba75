// SPDX-License-Identifier: Apache-2.0
/* TLS settings tried without a connection, see checkup.h. */
#include "tls/checkup.h"

#include "base/log.h"
#include "tls/context.h"

static bool judge(SSL_CTX *context, const char *where)
{
	if (!context)
		log_error("%s: these TLS settings cannot be used", where);
	SSL_CTX_free(context);
	return context != NULL;
}

bool tls_check_server(const struct tls_settings *settings, const char *where)
{
	return !settings || judge(tls_context_server(settings, NULL), where);
}

bool tls_check_client(const struct tls_settings *settings, const char *where)
{
	return !settings || judge(tls_context_client(settings, NULL), where);
}
