// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Values that are no maps, on their way between operators, where only maps
 * travel (protocol page 4.5). Pure. */
#include <jansson.h>

/* NULL and JSON null give NULL; an object itself; any other value v {"_": v}.
 * New reference; NULL also without memory. */
json_t *value_wrap(json_t *value);

/* A map with exactly one key "_" gives what is in it, anything else itself.
 * New reference; NULL stays NULL. */
json_t *value_unwrap(json_t *value);
