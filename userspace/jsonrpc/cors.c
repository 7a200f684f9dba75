// SPDX-License-Identifier: Apache-2.0
/* Compiled origin patterns, and the headers that an allowed origin gets. Made
 * when a server starts and not changed afterwards. */
#include "jsonrpc/cors.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

struct cors {
	regex_t *origins;
	size_t origin_count;
	char *methods, *headers; /* joined by ", "; headers in lower case */
};

static char *join_list(const struct string_list *list)
{
	size_t size = 1;
	char *text, *at;

	for (size_t i = 0; i < list->count; i++)
		size += strlen(list->items[i]) + 2;
	at = text = malloc(size);
	if (!text)
		return NULL;
	*at = '\0';
	for (size_t i = 0; i < list->count; i++)
		at = stpcpy(stpcpy(at, i ? ", " : ""), list->items[i]);
	return text;
}

static void to_lower(char *text)
{
	for (; *text; text++)
		*text = (char)tolower((unsigned char)*text);
}

int cors_create(const struct cors_settings *settings, struct cors **result)
{
	struct cors *cors = calloc(1, sizeof(*cors));

	*result = NULL;
	if (!cors)
		return -ENOMEM;
	cors->methods = join_list(&settings->allowed_methods);
	cors->headers = join_list(&settings->allowed_headers);
	cors->origins = calloc(settings->allowed_hosts.count + 1, sizeof(*cors->origins));
	if (!cors->methods || !cors->headers || !cors->origins) {
		cors_free(cors);
		return -ENOMEM;
	}
	to_lower(cors->headers);
	for (size_t i = 0; i < settings->allowed_hosts.count; i++) {
		const char *pattern = settings->allowed_hosts.items[i];
		int error = regcomp(&cors->origins[i], pattern, REG_EXTENDED | REG_NOSUB);
		char reason[128];

		if (error) {
			regerror(error, &cors->origins[i], reason, sizeof(reason));
			log_error("cors: bad expression in allowed_hosts: %s: %s", pattern, reason);
			cors_free(cors);
			return -EINVAL;
		}
		cors->origin_count++;
	}
	*result = cors;
	return 0;
}

void cors_free(struct cors *cors)
{
	if (!cors)
		return;
	for (size_t i = 0; i < cors->origin_count; i++)
		regfree(&cors->origins[i]);
	free(cors->origins);
	free(cors->methods);
	free(cors->headers);
	free(cors);
}

static bool is_allowed(const struct cors *cors, const char *origin)
{
	for (size_t i = 0; i < cors->origin_count; i++) {
		if (regexec(&cors->origins[i], origin, 0, NULL, 0) == 0)
			return true;
	}
	return false;
}

bool cors_apply(const struct cors *cors, struct http_request *request)
{
	const char *origin = http_request_header(request, "Origin");
	const char *asked = http_request_header(request, "Access-Control-Request-Headers");
	_free_ char *headers = NULL;

	if (!origin || !is_allowed(cors, origin))
		return false;
	headers = malloc((asked ? strlen(asked) : 0) + strlen(cors->headers) + 3);
	if (!headers)
		return false;
	stpcpy(headers, asked ? asked : "");
	to_lower(headers);
	if (*headers && *cors->headers)
		strcat(headers, ", ");
	strcat(headers, cors->headers);
	http_request_add_header(request, "Access-Control-Allow-Origin", origin);
	http_request_add_header(request, "Access-Control-Max-Age", "60");
	http_request_add_header(request, "Access-Control-Allow-Headers", headers);
	http_request_add_header(request, "Access-Control-Allow-Methods", cors->methods);
	return true;
}
