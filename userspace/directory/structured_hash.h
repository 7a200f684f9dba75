// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The structured hash of protocol page 3.3: SHA-256 over one byte stream
 * without lengths or separators. Pure; streams into SHA-256, so nothing is
 * assembled in memory.
 *
 * structured_hash_json() covers everything that comes from JSON. The other
 * calls build a stream piece by piece, for values that JSON does not have: a
 * map is structured_hash_map(), then for each key in ascending byte order its
 * value and *behind it* structured_hash_key(); a key whose value is Null is
 * left out. A list is structured_hash_list(), then for each element
 * structured_hash_index() and the value, if it is not Null. */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STRUCTURED_HASH_SIZE 32
#define STRUCTURED_HASH_TEXT_SIZE (2 * STRUCTURED_HASH_SIZE + 1)

/* Digest of a whole JSON value. 0, or -ENOMEM. */
int structured_hash_of(const json_t *value, uint8_t digest[STRUCTURED_HASH_SIZE]);
/* Same, as lower-case hex. */
int structured_hash_text_of(const json_t *value, char text[STRUCTURED_HASH_TEXT_SIZE]);

/* Does the value contribute nothing (null, "", 0, false, empty list)? */
bool structured_hash_is_null(const json_t *value);

struct structured_hash;

struct structured_hash *structured_hash_new(void);
void structured_hash_json(struct structured_hash *hash, const json_t *value);
void structured_hash_map(struct structured_hash *hash);
void structured_hash_key(struct structured_hash *hash, const char *key);
void structured_hash_list(struct structured_hash *hash);
void structured_hash_index(struct structured_hash *hash, size_t index);
void structured_hash_bytes(struct structured_hash *hash, const void *bytes, size_t size);
/* Number of bytes that went into the stream so far. */
size_t structured_hash_length(const struct structured_hash *hash);
/* Writes the digest and frees the hash. 0, or -ENOMEM if any step failed. */
int structured_hash_finish(struct structured_hash *hash, uint8_t digest[STRUCTURED_HASH_SIZE]);
