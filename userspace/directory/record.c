// SPDX-License-Identifier: Apache-2.0
/* Forms of change records, see record.h. The forms are tables: a form lists the
 * fields of a map, a field says what its value must be and what stands in for a
 * missing one. `null` and "" of an optional field count as missing. Results
 * share verbatim parts with the input; neither is ever changed afterwards. */
#include "directory/record.h"

#include "base/encoding.h"
#include "base/instant.h"
#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum field_kind {
	FIELD_TEXT,          /* any string */
	FIELD_OPTIONAL_TEXT, /* missing: "" */
	FIELD_MAP,           /* any map, kept as it is */
	FIELD_OPTIONAL_MAP,  /* missing: left out */
	FIELD_MAPS,          /* list of maps of `form`, required */
	FIELD_DEFAULT_MAPS,  /* missing: [] */
	FIELD_OPTIONAL_MAPS, /* missing: left out */
	FIELD_RIGHTS,        /* list of distinct rights; anything but a list: [] */
	FIELD_HASH,          /* 64 hex digits */
	FIELD_PARENT,        /* "" or 64 lower-case hex digits; missing: "" */
	FIELD_DECIMAL,       /* 10 to 100 decimal digits */
	FIELD_TIME,          /* RFC 3339 */
	FIELD_SECTION,       /* one of the sections */
	FIELD_DATA,          /* what the section asks for */
	FIELD_SUBMAP,        /* one map of `form` */
};

struct field {
	const char *name;
	enum field_kind kind;
	const struct field *form; /* ends with name == NULL */
};

/* Where the value under check stands; the names are put together only when there
 * is something to say. */
struct place {
	const struct place *outer;
	const char *key; /* NULL: `index` counts */
	size_t index;
};

static const struct field channel_form[] = { { "type", FIELD_TEXT, NULL }, { "settings", FIELD_OPTIONAL_MAP, NULL }, { 0 } };
static const struct field certificate_form[] = {
	{ "fingerprint", FIELD_TEXT, NULL }, { "key_usage", FIELD_TEXT, NULL }, { 0 }
};
static const struct field validator_form[] = {
	{ "type", FIELD_TEXT, NULL }, { "parameters", FIELD_OPTIONAL_MAP, NULL }, { 0 }
};
static const struct field parameter_form[] = {
	{ "name", FIELD_TEXT, NULL }, { "validators", FIELD_OPTIONAL_MAPS, validator_form }, { 0 }
};
static const struct field permission_form[] = { { "group", FIELD_TEXT, NULL }, { "rights", FIELD_RIGHTS, NULL }, { 0 } };
static const struct field method_form[] = { { "name", FIELD_TEXT, NULL },
					    { "permissions", FIELD_DEFAULT_MAPS, permission_form },
					    { "parameters", FIELD_OPTIONAL_MAPS, parameter_form },
					    { 0 } };
static const struct field service_form[] = { { "name", FIELD_TEXT, NULL },
					     { "permissions", FIELD_DEFAULT_MAPS, permission_form },
					     { "methods", FIELD_DEFAULT_MAPS, method_form },
					     { 0 } };
static const struct field settings_form[] = { { "operator", FIELD_OPTIONAL_TEXT, NULL },
					      { "service", FIELD_OPTIONAL_TEXT, NULL },
					      { "environment", FIELD_OPTIONAL_TEXT, NULL },
					      { "settings", FIELD_MAP, NULL },
					      { 0 } };
static const struct field record_form[] = { { "name", FIELD_TEXT, NULL },
					    { "section", FIELD_SECTION, NULL },
					    { "data", FIELD_DATA, NULL },
					    { "created_at", FIELD_TIME, NULL },
					    { 0 } };
static const struct field signature_form[] = {
	{ "r", FIELD_DECIMAL, NULL }, { "s", FIELD_DECIMAL, NULL }, { "c", FIELD_TEXT, NULL }, { 0 }
};
static const struct field signed_form[] = { { "parent_hash", FIELD_PARENT, NULL },
					    { "hash", FIELD_HASH, NULL },
					    { "signature", FIELD_SUBMAP, signature_form },
					    { "record", FIELD_SUBMAP, record_form },
					    { 0 } };
static const struct field file_form[] = { { "records", FIELD_MAPS, record_form }, { 0 } };

static const struct section {
	const char *name;
	const struct field *form; /* NULL: list of strings */
} sections[] = {
	{ "channels", channel_form },      { "certificates", certificate_form }, { "services", service_form },
	{ "preferences", settings_form },  { "settings", settings_form },        { "groups", NULL },
};

static const struct section *section_find(const char *name)
{
	for (size_t i = 0; name && i < sizeof(sections) / sizeof(*sections); i++)
		if (!strcmp(sections[i].name, name))
			return &sections[i];
	return NULL;
}

static size_t place_write(const struct place *place, char *text, size_t size)
{
	size_t length;
	int added;

	if (!place || size == 0)
		return 0;
	length = place_write(place->outer, text, size);
	if (place->key)
		added = snprintf(text + length, size - length, "%s%s", length ? "." : "", place->key);
	else
		added = snprintf(text + length, size - length, "[%zu]", place->index);
	return added < 0 || length + (size_t)added >= size ? size - 1 : length + (size_t)added;
}

static json_t *refuse(const struct place *place, char *problem, const char *why)
{
	size_t length = place_write(place, problem, RECORD_PROBLEM_SIZE);

	snprintf(problem + length, RECORD_PROBLEM_SIZE - length, "%s%s", length ? ": " : "", why);
	return NULL;
}

static json_t *check_map(const json_t *map, const struct field *form, const struct place *place, char *problem);

static bool is_missing(const json_t *value)
{
	return !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0);
}

static json_t *check_maps(const json_t *list, const struct field *form, const struct place *place, char *problem)
{
	json_t *result;

	if (!json_is_array(list))
		return refuse(place, problem, "must be a list");
	result = json_array();
	for (size_t i = 0; result && i < json_array_size(list); i++) {
		struct place inner = { place, NULL, i };
		json_t *item = check_map(json_array_get(list, i), form, &inner, problem);

		if (!item || json_array_append_new(result, item)) {
			json_decref(result);
			return item ? refuse(place, problem, "out of memory") : NULL;
		}
	}
	return result ? result : refuse(place, problem, "out of memory");
}

static bool are_texts(const json_t *list, const struct place *place, char *problem)
{
	if (!json_is_array(list))
		return refuse(place, problem, "must be a list");
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct place inner = { place, NULL, i };

		if (!json_is_string(json_array_get(list, i)))
			return refuse(&inner, problem, "must be a string");
	}
	return true;
}

static json_t *check_texts(const json_t *list, const struct place *place, char *problem)
{
	return are_texts(list, place, problem) ? json_incref((json_t *)list) : NULL;
}

static json_t *check_rights(const json_t *list, const struct place *place, char *problem)
{
	if (!json_is_array(list))
		return json_array();
	if (!are_texts(list, place, problem))
		return NULL;
	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(json_string_value(json_array_get(list, i)), "call"))
			return refuse(place, problem, "the only right is \"call\"");
	if (json_array_size(list) > 1)
		return refuse(place, problem, "a right is listed twice");
	return json_incref((json_t *)list);
}

static bool is_hex(const char *text, bool lower_only)
{
	size_t length = strlen(text);

	for (size_t i = 0; i < length; i++)
		if (!isxdigit((unsigned char)text[i]) || (lower_only && isupper((unsigned char)text[i])))
			return false;
	return length == 64;
}

static bool is_decimal(const char *text)
{
	size_t length = strlen(text);

	return length >= 10 && length <= 100 && strspn(text, "0123456789") == length;
}

static json_t *check_time(const json_t *value, const struct place *place, char *problem)
{
	struct instant instant;
	char text[INSTANT_TEXT_SIZE];

	if (!json_is_string(value))
		return refuse(place, problem, "must be a string");
	if (instant_parse(json_string_value(value), json_string_length(value), &instant))
		return refuse(place, problem, "must be a time like 2021-05-17T10:00:00Z");
	return json_string(instant_format(instant, text));
}

static json_t *check_data(const json_t *map, const json_t *value, const struct place *place, char *problem)
{
	const struct section *section = section_find(json_text(map, "section"));

	/* The field `section` comes first in the form, so it is valid here. */
	return section->form ? check_maps(value, section->form, place, problem) : check_texts(value, place, problem);
}

static json_t *keep(const json_t *value, bool fits, const char *why, const struct place *place, char *problem)
{
	return fits ? json_incref((json_t *)value) : refuse(place, problem, why);
}

/* New reference; NULL with a problem; or NULL without one: leave the key out. */
static json_t *check_field(const json_t *map, const struct field *field, const struct place *place, char *problem)
{
	const json_t *value = json_object_get(map, field->name);
	const char *text = json_string_value(value);

	switch (field->kind) {
	case FIELD_TEXT:
		return keep(value, text, "must be a string", place, problem);
	case FIELD_OPTIONAL_TEXT:
		return is_missing(value) ? json_string("") : keep(value, text, "must be a string", place, problem);
	case FIELD_OPTIONAL_MAP:
		if (is_missing(value))
			return NULL;
		/* fall through */
	case FIELD_MAP:
		return keep(value, json_is_object(value), "must be a map", place, problem);
	case FIELD_OPTIONAL_MAPS:
		return is_missing(value) ? NULL : check_maps(value, field->form, place, problem);
	case FIELD_DEFAULT_MAPS:
		return is_missing(value) ? json_array() : check_maps(value, field->form, place, problem);
	case FIELD_MAPS:
		return check_maps(value, field->form, place, problem);
	case FIELD_RIGHTS:
		return check_rights(value, place, problem);
	case FIELD_HASH:
		return keep(value, text && is_hex(text, false), "must be 64 hex digits", place, problem);
	case FIELD_PARENT:
		return is_missing(value) ? json_string("")
					 : keep(value, text && is_hex(text, true), "must be 64 lower-case hex digits or empty",
						place, problem);
	case FIELD_DECIMAL:
		return keep(value, text && is_decimal(text), "must be 10 to 100 decimal digits", place, problem);
	case FIELD_TIME:
		return check_time(value, place, problem);
	case FIELD_SECTION:
		return keep(value, section_find(text),
			    "must be channels, certificates, services, preferences, settings or groups", place, problem);
	case FIELD_DATA:
		return check_data(map, value, place, problem);
	case FIELD_SUBMAP:
		return check_map(value, field->form, place, problem);
	}
	return NULL;
}

static json_t *check_map(const json_t *map, const struct field *form, const struct place *place, char *problem)
{
	json_t *result;

	if (!json_is_object(map))
		return refuse(place, problem, "must be a map");
	result = json_object();
	for (const struct field *field = form; result && field->name; field++) {
		struct place inner = { place, field->name, 0 };
		json_t *value = check_field(map, field, &inner, problem);

		if ((!value && *problem) || (value && json_object_set_new(result, field->name, value))) {
			json_decref(result);
			return value ? refuse(place, problem, "out of memory") : NULL;
		}
	}
	return result ? result : refuse(place, problem, "out of memory");
}

json_t *record_normalise(const json_t *record, char problem[RECORD_PROBLEM_SIZE])
{
	*problem = 0;
	return check_map(record, record_form, NULL, problem);
}

json_t *signed_record_normalise(const json_t *signed_record, char problem[RECORD_PROBLEM_SIZE])
{
	*problem = 0;
	return check_map(signed_record, signed_form, NULL, problem);
}

json_t *record_file_normalise(const json_t *file, char problem[RECORD_PROBLEM_SIZE])
{
	json_t *map, *records;

	*problem = 0;
	map = check_map(file, file_form, NULL, problem);
	records = json_incref(json_object_get(map, "records"));
	json_decref(map);
	return records;
}

/* Members in ascending order of their keys, each behind its value. */
static void hash_record(struct structured_hash *hash, const json_t *record)
{
	static const char *const keys[] = { "created_at", "data", "name", "section" };
	const json_t *created = json_object_get(record, "created_at");
	struct instant instant;

	structured_hash_map(hash);
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		const json_t *value = json_object_get(record, keys[i]);

		if (structured_hash_is_null(value))
			continue;
		if (value == created &&
		    !instant_parse(json_string_value(value), json_string_length(value), &instant) && instant_is_zero(instant))
			continue;
		structured_hash_json(hash, value);
		structured_hash_key(hash, keys[i]);
	}
}

int record_hash(const json_t *record, char text[STRUCTURED_HASH_TEXT_SIZE])
{
	uint8_t digest[STRUCTURED_HASH_SIZE];
	struct structured_hash *hash = structured_hash_new();
	int error;

	if (!hash)
		return -ENOMEM;
	hash_record(hash, record);
	error = structured_hash_finish(hash, digest);
	if (!error)
		hex_encode(digest, sizeof(digest), text);
	return error;
}

int signed_record_digest(const json_t *signed_record, uint8_t digest[STRUCTURED_HASH_SIZE])
{
	struct structured_hash *hash = structured_hash_new();

	if (!hash)
		return -ENOMEM;
	structured_hash_map(hash);
	structured_hash_json(hash, json_object_get(signed_record, "hash"));
	structured_hash_key(hash, "hash");
	if (*signed_record_parent(signed_record)) {
		structured_hash_json(hash, json_object_get(signed_record, "parent_hash"));
		structured_hash_key(hash, "parent_hash");
	}
	hash_record(hash, signed_record_inner(signed_record));
	structured_hash_key(hash, "record");
	return structured_hash_finish(hash, digest);
}

const char *signed_record_hash(const json_t *signed_record) { return json_text(signed_record, "hash"); }
const char *signed_record_parent(const json_t *signed_record) { return json_text(signed_record, "parent_hash"); }
const json_t *signed_record_inner(const json_t *signed_record) { return json_object_get(signed_record, "record"); }
const char *record_name(const json_t *record) { return json_text(record, "name"); }
const char *record_section(const json_t *record) { return json_text(record, "section"); }
