// SPDX-License-Identifier: Apache-2.0
/* A split address always puts together to the text it came from. */
#include "router/address.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *again = NULL;
	memcpy(text, data, size);
	text[size] = '\0';
	struct address address;
	if (address_parse(text, &address) == 0) {
		if (!*address.operator_name || !*address.method || !*address.id || strpbrk(address.method, ".(") ||
		    strchr(address.id, ')'))
			abort();
		if (asprintf(&again, "%s.%s(%s)", address.operator_name, address.method, address.id) < 0)
			abort();
		if (strcmp(again, text) != 0)
			abort();
		free(again);
		address_clear(&address);
	}
	free(text);
	return 0;
}
