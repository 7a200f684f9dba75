// SPDX-License-Identifier: Apache-2.0
/* Wrapping at the edges: `jsonrpc_client` wraps what a local service answered,
 * `jsonrpc_server` unwraps what it gives to a local program. Pure. */
#include "router/wrapping.h"

json_t *value_wrap(json_t *value)
{
	if (!value || json_is_null(value))
		return NULL;
	if (json_is_object(value))
		return json_incref(value);
	return json_pack("{s:O}", "_", value);
}

json_t *value_unwrap(json_t *value)
{
	if (json_object_size(value) == 1) {
		json_t *inner = json_object_get(value, "_");
		if (inner)
			return json_incref(inner);
	}
	return json_incref(value);
}
