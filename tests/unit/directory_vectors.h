// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The recorded directory (tests/vectors) for the tests of directory/ and sd/. */
#include "base/cleanup.h"
#include "base/instant.h"
#include "base/json.h"
#include "directory/record.h"
#include "directory/verifier.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Malloc'd "tests/vectors/NAME". */
static inline char *vector_path(const char *name)
{
	const char *folder = getenv("TEST_VECTORS");
	char *path;

	assert_true(asprintf(&path, "%s/%s", folder ? folder : "tests/vectors", name) > 0);
	return path;
}

static inline char *vector_read(const char *name, size_t *length)
{
	_free_ char *path = vector_path(name);
	_fclose_ FILE *file = fopen(path, "rb");
	char *text;

	if (!file)
		fail_msg("%s is missing", path);
	fseek(file, 0, SEEK_END);
	*length = (size_t)ftell(file);
	rewind(file);
	text = malloc(*length + 1);
	assert_non_null(text);
	assert_int_equal(fread(text, 1, *length, file), *length);
	text[*length] = 0;
	return text;
}

static inline json_t *vector_json(const char *name)
{
	size_t length;
	_free_ char *text = vector_read(name, &length);
	json_error_t error;
	json_t *json = json_read(text, length, &error);

	assert_non_null(json);
	return json;
}

static inline json_t *json_of(const char *text)
{
	json_error_t error;
	json_t *json = json_read(text, strlen(text), &error);

	if (!json)
		fail_msg("bad JSON in a test: %s in %s", error.text, text);
	return json;
}

/* The 28 recorded records, normalised. */
static inline json_t *vector_records(void)
{
	json_t *answer = vector_json("records.json"), *result = json_array(), *record;
	char problem[RECORD_PROBLEM_SIZE];
	size_t i;

	json_array_foreach(json_object_get(answer, "result"), i, record)
	{
		json_t *normalised = signed_record_normalise(record, problem);

		if (!normalised)
			fail_msg("record %zu: %s", i, problem);
		json_array_append_new(result, normalised);
	}
	json_decref(answer);
	assert_int_equal(json_array_size(result), 28);
	return result;
}

static inline int64_t record_seconds(const json_t *signed_record)
{
	const char *text = json_text(signed_record_inner(signed_record), "created_at");
	struct instant instant;

	assert_int_equal(instant_parse(text, strlen(text), &instant), 0);
	return instant.seconds;
}

static inline struct string_list file_list(char **path)
{
	return (struct string_list){ path, 1 };
}

static inline struct verifier *vector_verifier(void)
{
	char *root = vector_path("root.crt"), *intermediate = vector_path("intermediate.crt");
	struct string_list roots = file_list(&root), intermediates = file_list(&intermediate);
	char reason[SIGNATURE_REASON_SIZE];
	struct verifier *verifier = verifier_create(&roots, &intermediates, reason);

	if (!verifier)
		fail_msg("%s", reason);
	free(root);
	free(intermediate);
	return verifier;
}
