// SPDX-License-Identifier: Apache-2.0
/* Conversion between jansson values and the structs that protoc-c generated
 * for google.protobuf.Struct. On the hot path of every call (10 to 20 KB maps),
 * so nothing is copied on the way out, and one allocation serves all entries of
 * an object. Recursion is bounded by WIRE_DEPTH_MAX. */
#include "grpc/struct_json.h"

#include "grpc/wire_check.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* A tag of one byte, and the longest length of a field. */
#define LENGTH_PREFIX 6

struct filler {
	struct arena *arena;
	struct wire_need need; /* so far */
};

static int fill_struct(struct filler *filler, const json_t *object, unsigned depth, Google__Protobuf__Struct *result);

static int fill_list(struct filler *filler, const json_t *array, unsigned depth, Google__Protobuf__ListValue *result);

static int fill_value(struct filler *filler, const json_t *json, unsigned depth, Google__Protobuf__Value *value)
{
	google__protobuf__value__init(value);
	filler->need.fields++;
	filler->need.bytes += 1 + sizeof(double); /* the largest scalar; a LENGTH_PREFIX is shorter */
	switch (json_typeof(json)) {
	case JSON_NULL:
		value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE;
		return 0;
	case JSON_TRUE:
	case JSON_FALSE:
		value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
		value->bool_value = json_is_true(json);
		return 0;
	case JSON_INTEGER:
	case JSON_REAL:
		value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
		value->number_value = json_number_value(json);
		return 0;
	case JSON_STRING:
		value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
		value->string_value = (char *)json_string_value(json);
		filler->need.bytes += json_string_length(json);
		return utf8_is_valid((const uint8_t *)value->string_value, json_string_length(json)) ? 0 : -EILSEQ;
	case JSON_OBJECT:
		value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
		value->struct_value = arena_allocate(filler->arena, sizeof(*value->struct_value));
		return value->struct_value ? fill_struct(filler, json, depth + 1, value->struct_value) : -ENOMEM;
	case JSON_ARRAY:
		value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
		value->list_value = arena_allocate(filler->arena, sizeof(*value->list_value));
		return value->list_value ? fill_list(filler, json, depth + 1, value->list_value) : -ENOMEM;
	}
	return -EILSEQ;
}

static int fill_list(struct filler *filler, const json_t *array, unsigned depth, Google__Protobuf__ListValue *result)
{
	size_t count = json_array_size(array);
	Google__Protobuf__Value *values;

	google__protobuf__list_value__init(result);
	if (depth > WIRE_DEPTH_MAX)
		return -ELOOP;
	if (!count)
		return 0;
	filler->need.fields += count;
	filler->need.bytes += count * LENGTH_PREFIX;
	values = arena_allocate(filler->arena, count * sizeof(*values));
	result->values = arena_allocate(filler->arena, count * sizeof(*result->values));
	if (!values || !result->values)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		int error = fill_value(filler, json_array_get(array, i), depth, &values[i]);

		if (error)
			return error;
		result->values[i] = &values[i];
	}
	result->n_values = count;
	return 0;
}

struct entry {
	Google__Protobuf__Struct__FieldsEntry field;
	Google__Protobuf__Value value;
};

static int fill_struct(struct filler *filler, const json_t *object, unsigned depth, Google__Protobuf__Struct *result)
{
	size_t count = json_object_size(object), i = 0, key_length;
	struct entry *entries;
	const char *key;
	json_t *member;

	google__protobuf__struct__init(result);
	if (depth > WIRE_DEPTH_MAX)
		return -ELOOP;
	if (!count)
		return 0;
	filler->need.fields += count * 2; /* entry, value; keys below, as empty ones are left out */
	filler->need.bytes += count * 3 * LENGTH_PREFIX; /* entry, key, value */
	entries = arena_allocate(filler->arena, count * sizeof(*entries));
	result->fields = arena_allocate(filler->arena, count * sizeof(*result->fields));
	if (!entries || !result->fields)
		return -ENOMEM;
	json_object_keylen_foreach((json_t *)object, key, key_length, member) {
		int error = fill_value(filler, member, depth, &entries[i].value);

		if (error)
			return error;
		if (!utf8_is_valid((const uint8_t *)key, key_length))
			return -EILSEQ;
		filler->need.fields += key_length > 0;
		filler->need.bytes += key_length;
		google__protobuf__struct__fields_entry__init(&entries[i].field);
		entries[i].field.key = (char *)key;
		entries[i].field.value = &entries[i].value;
		result->fields[i] = &entries[i].field;
		i++;
	}
	result->n_fields = i;
	return 0;
}

int struct_from_json(struct arena *arena, const json_t *object, Google__Protobuf__Struct **result,
		     struct wire_need *need)
{
	struct filler filler = { arena, *need };
	int error = -ENOMEM;

	*result = arena_allocate(arena, sizeof(**result));
	if (*result)
		error = fill_struct(&filler, object, 1, *result);
	*need = filler.need;
	return error;
}

static int value_to_json(const Google__Protobuf__Value *value, json_t **result)
{
	switch (value->kind_case) {
	case GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE:
		*result = json_null();
		return 0;
	case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
		*result = json_boolean(value->bool_value);
		return 0;
	case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
		if (!isfinite(value->number_value))
			return -EBADMSG;
		*result = json_real(value->number_value);
		return *result ? 0 : -ENOMEM;
	case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
		*result = json_string_nocheck(value->string_value);
		return *result ? 0 : -ENOMEM;
	case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
		return struct_to_json(value->struct_value, result);
	case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
		*result = json_array();
		if (!*result)
			return -ENOMEM;
		for (size_t i = 0; i < value->list_value->n_values; i++) {
			json_t *item = NULL;
			int error = value_to_json(value->list_value->values[i], &item);

			if (!error && json_array_append_new(*result, item))
				error = -ENOMEM;
			if (error) {
				json_decref(*result);
				return error;
			}
		}
		return 0;
	default:
		return -EBADMSG;
	}
}

int struct_to_json(const Google__Protobuf__Struct *message, json_t **result)
{
	json_t *object = json_object();

	if (!object)
		return -ENOMEM;
	for (size_t i = 0; i < message->n_fields; i++) {
		const Google__Protobuf__Struct__FieldsEntry *entry = message->fields[i];
		json_t *member = NULL;
		/* A map entry without a value stands for the default value, which has no kind. */
		int error = entry->value ? value_to_json(entry->value, &member) : -EBADMSG;

		if (!error && json_object_set_new_nocheck(object, entry->key, member))
			error = -ENOMEM;
		if (error) {
			json_decref(object);
			return error;
		}
	}
	*result = object;
	return 0;
}
