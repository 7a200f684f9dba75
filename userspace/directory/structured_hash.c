// SPDX-License-Identifier: Apache-2.0
/* Structured hash, see structured_hash.h. Numbers of JSON are doubles, whether
 * jansson holds them as integers or reals. Whether a value is Null is known
 * from the value alone (maps never are, lists only when empty), which is why
 * the stream can be written in one pass. */
#include "directory/structured_hash.h"

#include "base/encoding.h"

#include <errno.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct structured_hash {
	EVP_MD_CTX *sha;
	size_t length;
	bool failed;
};

static void put(struct structured_hash *hash, const void *bytes, size_t size)
{
	if (!hash->failed && EVP_DigestUpdate(hash->sha, bytes, size) != 1)
		hash->failed = true;
	hash->length += size;
}

static void put_text(struct structured_hash *hash, const char *text) { put(hash, text, strlen(text)); }

struct structured_hash *structured_hash_new(void)
{
	struct structured_hash *hash = calloc(1, sizeof(*hash));

	if (!hash)
		return NULL;
	hash->sha = EVP_MD_CTX_new();
	if (!hash->sha || EVP_DigestInit_ex(hash->sha, EVP_sha256(), NULL) != 1) {
		EVP_MD_CTX_free(hash->sha);
		free(hash);
		return NULL;
	}
	return hash;
}

bool structured_hash_is_null(const json_t *value)
{
	switch (value ? json_typeof(value) : JSON_NULL) {
	case JSON_NULL:
	case JSON_FALSE:
		return true;
	case JSON_STRING:
		return json_string_length(value) == 0;
	case JSON_INTEGER:
		return json_integer_value(value) == 0;
	case JSON_REAL:
		return json_real_value(value) == 0.0 && !signbit(json_real_value(value));
	case JSON_ARRAY:
		return json_array_size(value) == 0;
	default:
		return false;
	}
}

static void put_number(struct structured_hash *hash, double value)
{
	uint8_t bytes[10] = { 0 };
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(bits >> (8 * i));
	put_text(hash, "stringfloat");
	put(hash, bytes, sizeof(bytes));
}

static int compare_keys(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void put_object(struct structured_hash *hash, const json_t *object)
{
	size_t count = 0;
	const char **keys = calloc(json_object_size(object) + 1, sizeof(*keys));

	if (!keys) {
		hash->failed = true;
		return;
	}
	for (void *at = json_object_iter((json_t *)object); at; at = json_object_iter_next((json_t *)object, at))
		keys[count++] = json_object_iter_key(at);
	/* strcmp compares as unsigned bytes, and jansson's keys hold no NUL. */
	qsort(keys, count, sizeof(*keys), compare_keys);
	structured_hash_map(hash);
	for (size_t i = 0; i < count; i++) {
		const json_t *value = json_object_get(object, keys[i]);

		if (structured_hash_is_null(value))
			continue;
		structured_hash_json(hash, value);
		structured_hash_key(hash, keys[i]);
	}
	free(keys);
}

void structured_hash_json(struct structured_hash *hash, const json_t *value)
{
	static const uint8_t true_bytes[10] = { 2 }; /* zig-zag varint of 1 in a field of ten */

	if (structured_hash_is_null(value))
		return;
	switch (json_typeof(value)) {
	case JSON_STRING:
		put_text(hash, "string");
		put(hash, json_string_value(value), json_string_length(value));
		break;
	case JSON_INTEGER:
	case JSON_REAL:
		put_number(hash, json_number_value(value));
		break;
	case JSON_TRUE:
		put_text(hash, "stringbool");
		put(hash, true_bytes, sizeof(true_bytes));
		break;
	case JSON_ARRAY:
		structured_hash_list(hash);
		for (size_t i = 0; i < json_array_size(value); i++) {
			structured_hash_index(hash, i);
			structured_hash_json(hash, json_array_get(value, i));
		}
		break;
	case JSON_OBJECT:
		put_object(hash, value);
		break;
	default:
		break;
	}
}

void structured_hash_map(struct structured_hash *hash) { put_text(hash, "stringmap"); }

void structured_hash_key(struct structured_hash *hash, const char *key)
{
	if (!*key) /* an empty string is Null */
		return;
	put_text(hash, "string");
	put_text(hash, key);
}

void structured_hash_list(struct structured_hash *hash) { put_text(hash, "stringlist"); }

void structured_hash_index(struct structured_hash *hash, size_t index)
{
	char text[32];

	snprintf(text, sizeof(text), "string%zu", index);
	put_text(hash, text);
}

void structured_hash_bytes(struct structured_hash *hash, const void *bytes, size_t size)
{
	put_text(hash, "stringbytes");
	put(hash, bytes, size);
}

size_t structured_hash_length(const struct structured_hash *hash) { return hash->length; }

int structured_hash_finish(struct structured_hash *hash, uint8_t digest[STRUCTURED_HASH_SIZE])
{
	unsigned size = 0;
	bool fine = !hash->failed && EVP_DigestFinal_ex(hash->sha, digest, &size) == 1 && size == STRUCTURED_HASH_SIZE;

	EVP_MD_CTX_free(hash->sha);
	free(hash);
	return fine ? 0 : -ENOMEM;
}

int structured_hash_of(const json_t *value, uint8_t digest[STRUCTURED_HASH_SIZE])
{
	struct structured_hash *hash = structured_hash_new();

	if (!hash)
		return -ENOMEM;
	structured_hash_json(hash, value);
	return structured_hash_finish(hash, digest);
}

int structured_hash_text_of(const json_t *value, char text[STRUCTURED_HASH_TEXT_SIZE])
{
	uint8_t digest[STRUCTURED_HASH_SIZE];
	int error = structured_hash_of(value, digest);

	if (!error)
		hex_encode(digest, sizeof(digest), text);
	return error;
}
