// SPDX-License-Identifier: Apache-2.0
/* Params of requestConnection: any JSON at all. What passes the form must give
 * params that pass it again as the callee's client info. */
#include "base/json.h"
#include "proxy/request_form.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_twice(const struct connection_request *form)
{
	struct connection_request again;
	json_t *problems = NULL;
	struct told_endpoints endpoints = {"localhost:9999", "localhost:9998", "proxy"};
	json_t *params = connection_request_params(form, &endpoints, "token");
	json_t *second = json_pack("{s:s, s:s, s:O}", "to", form->to, "channel", form->channel, "_client",
				   json_object_get(params, "client"));

	if (!params || !second || connection_request_read(second, &again, &problems))
		abort();
	if (!json_equal(form->client, again.client))
		abort();
	connection_request_clear(&again);
	json_decref(second);
	json_decref(params);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct connection_request form;
	json_error_t error;
	json_t *problems = NULL;
	json_t *params = json_read((const char *)data, size, &error);

	if (!params)
		return 0;
	int result = connection_request_read(params, &form, &problems);
	if (result == 0)
		check_twice(&form);
	else if (result != -EINVAL || json_object_size(problems) == 0)
		abort();
	json_decref(problems);
	connection_request_clear(&form);
	json_decref(params);
	return 0;
}
