// SPDX-License-Identifier: Apache-2.0
/* What a proxy tells its two parties, from anybody: params of `_connectionRequest` and
 * the offer of a TLS endpoint in them. What is accepted is complete. */
#include "base/json.h"
#include "router/internal.h"
#include "router/relay_tls.h"
#include "router/wrapping.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_offer(enum relay_tls_use use, const json_t *message)
{
	struct relay_offer offer;
	const char *reason = NULL;
	int error = relay_offer_choose(use, message, "public-proxy-1.ga", &offer, &reason);

	if (error && (!reason || !*reason || offer.endpoint))
		abort();
	if (use == RELAY_TLS_OFF && (error || offer.endpoint))
		abort();
	if (use == RELAY_TLS_REQUIRE && !error && !offer.endpoint)
		abort();
	if (offer.endpoint && (!*offer.endpoint || strcmp(offer.server_name, "public-proxy-1.ga")))
		abort();
}

static void check_wrapping(json_t *value)
{
	json_t *wrapped = value_wrap(value), *back = value_unwrap(wrapped);

	if (wrapped && !json_is_object(wrapped))
		abort();
	/* What is no object comes back as it was. */
	if (!json_is_object(value) && !json_is_null(value) && !json_equal(back, value))
		abort();
	json_decref(wrapped);
	json_decref(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *message = json_read((const char *)data, size, NULL);
	struct connection_request request;
	const char *detail = NULL;

	if (!message)
		return 0;
	int error = connection_request_parse(message, &request, &detail);
	if (error ? !detail || !*detail : !request.endpoint || !*request.endpoint || !request.channel || !*request.channel)
		abort();
	check_offer(RELAY_TLS_OFF, message);
	check_offer(RELAY_TLS_PREFER, message);
	check_offer(RELAY_TLS_REQUIRE, message);
	check_wrapping(message);
	json_decref(message);
	return 0;
}
