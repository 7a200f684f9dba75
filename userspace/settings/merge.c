// SPDX-License-Identifier: Apache-2.0
/* Merging of two values, later into earlier (protocol page 2.1): maps member
 * by member, lists one behind the other, anything else replaces; nothing never
 * replaces something. A member spelled `name!` replaces `name` as a whole, on
 * levels that are merged; elsewhere it stays as it is spelled. */
#include "settings/reading.h"

#include <string.h>

static void merge_member(struct reading *reading, struct setting *map, const char *key, struct setting *value)
{
	size_t length = strlen(key);
	long index;

	if (length > 1 && key[length - 1] == '!') {
		setting_put(reading, map, arena_copy(&reading->tree->arena, key, length - 1), value);
		return;
	}
	index = setting_find(map, key);
	if (index < 0)
		setting_append(reading, map, key, value);
	else
		map->items[index] = settings_merge(reading, map->items[index], value);
}

struct setting *settings_merge(struct reading *reading, struct setting *earlier, struct setting *later)
{
	if (later->type == SETTING_NULL)
		return earlier;
	if (earlier->type != later->type)
		return later;
	if (earlier->type == SETTING_MAP) {
		for (size_t i = 0; i < later->count; i++)
			merge_member(reading, earlier, later->keys[i], later->items[i]);
		return earlier;
	}
	if (earlier->type == SETTING_LIST) {
		for (size_t i = 0; i < later->count; i++)
			setting_append(reading, earlier, NULL, later->items[i]);
		return earlier;
	}
	return later;
}
