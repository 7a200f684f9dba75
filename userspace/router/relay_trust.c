// SPDX-License-Identifier: Apache-2.0
/* The set of proxy operators that were seen to keep relayed connections open.
 * There are few of them, so it is a plain list. */
#include "router/relay_trust.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct relay_trust {
	char **names;
	size_t count;
};

int relay_trust_create(struct relay_trust **result)
{
	*result = calloc(1, sizeof(**result));
	return *result ? 0 : -ENOMEM;
}

void relay_trust_free(struct relay_trust *trust)
{
	if (!trust)
		return;
	for (size_t i = 0; i < trust->count; i++)
		free(trust->names[i]);
	free(trust->names);
	free(trust);
}

static size_t trust_find(const struct relay_trust *trust, const char *proxy)
{
	size_t i = 0;
	while (i < trust->count && strcmp(trust->names[i], proxy) != 0)
		i++;
	return i;
}

bool relay_trust_has(const struct relay_trust *trust, const char *proxy)
{
	return trust_find(trust, proxy) < trust->count;
}

bool relay_trust_admits(const struct relay_trust *trust, const char *proxy, uint64_t age_ms)
{
	return age_ms < RELAY_CALLS_UNTIL_MS || relay_trust_has(trust, proxy);
}

bool relay_trust_is_learning(const struct relay_trust *trust, const char *proxy, uint64_t age_ms)
{
	return age_ms < RELAY_PROVEN_AT_MS && !relay_trust_has(trust, proxy);
}

enum relay_lesson relay_trust_note_alive(struct relay_trust *trust, const char *proxy, uint64_t age_ms)
{
	if (age_ms < RELAY_PROVEN_AT_MS || relay_trust_has(trust, proxy))
		return RELAY_LESSON_NONE;
	char *name = strdup(proxy), **grown = realloc(trust->names, (trust->count + 1) * sizeof(char *));
	if (grown)
		trust->names = grown;
	if (!name || !grown) {
		free(name);
		return RELAY_LESSON_NONE;
	}
	trust->names[trust->count++] = name;
	return RELAY_LESSON_TRUSTED;
}

enum relay_lesson relay_trust_note_cut(struct relay_trust *trust, const char *proxy, uint64_t age_ms)
{
	size_t at = trust_find(trust, proxy);
	if (at == trust->count || age_ms < RELAY_CUT_FROM_MS || age_ms > RELAY_CUT_UNTIL_MS)
		return RELAY_LESSON_NONE;
	free(trust->names[at]);
	trust->names[at] = trust->names[--trust->count];
	return RELAY_LESSON_DISTRUSTED;
}
