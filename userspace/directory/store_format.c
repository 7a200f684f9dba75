// SPDX-License-Identifier: Apache-2.0
/* Data file format, see store_format.h. Reading goes over the file once: every
 * chunk is added to the set with its id. Sets that are incomplete at the end are
 * held back; one that somebody else left in the middle stays where it is. */
#include "directory/store_format.h"

#include "base/cleanup.h"
#include "base/encoding.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 1
#define CHUNK_HEADER_SIZE (1 + 2 + 2 + 2 + STORE_ID_SIZE + 2)
#define ID_OFFSET 7
#define DATA_SIZE_OFFSET (ID_OFFSET + STORE_ID_SIZE)

/* Chunks of one entry, while they are collected. */
struct chunk_set {
	uint8_t *bytes;
	size_t size, capacity;
	size_t offset; /* of the first chunk */
	unsigned wanted, present;
};

struct reader {
	struct chunk_set *sets; /* ordered by first chunk */
	size_t count, capacity;
	json_t *open; /* hex id -> place in `sets`, of sets that want more chunks */
};

static unsigned read_u16(const uint8_t *bytes) { return bytes[0] | (unsigned)bytes[1] << 8; }

static void write_u16(uint8_t *bytes, unsigned value)
{
	bytes[0] = (uint8_t)value;
	bytes[1] = (uint8_t)(value >> 8);
}

/* Could these bytes, as many as there are, begin a chunk? (None is empty: an entry
 * has a header, and a piece has at least a byte.) */
static bool is_plausible(const uint8_t *bytes, size_t size)
{
	return (size < 1 || bytes[0] == VERSION) && (size < 3 || read_u16(bytes + 1) > 0) &&
	       (size < 5 || read_u16(bytes + 3) < read_u16(bytes + 1)) && (size < 7 || read_u16(bytes + 5) == STORE_ID_SIZE) &&
	       (size < CHUNK_HEADER_SIZE || (read_u16(bytes + DATA_SIZE_OFFSET) <= STORE_CHUNK_DATA_MAX &&
					     read_u16(bytes + DATA_SIZE_OFFSET) > 0));
}

/* Is this the beginning of a chunk, or nothing, and then zeros to the end? */
static bool is_unwritten(const uint8_t *bytes, size_t size)
{
	size_t written = size;

	while (written > 0 && !bytes[written - 1])
		written--;
	return written < size && is_plausible(bytes, written);
}

static struct chunk_set *find_set(struct reader *reader, const uint8_t *chunk, size_t offset, bool *no_memory)
{
	char id[2 * STORE_ID_SIZE + 1];
	const json_t *place;
	struct chunk_set *set;

	hex_encode(chunk + ID_OFFSET, STORE_ID_SIZE, id);
	place = json_object_get(reader->open, id);
	if (place)
		return &reader->sets[json_integer_value(place)];
	if (read_u16(chunk + 3) != 0)
		return NULL; /* the middle of a set whose beginning is not there */
	if (reader->count == reader->capacity) {
		size_t capacity = reader->capacity ? 2 * reader->capacity : 64;
		struct chunk_set *sets = reallocarray(reader->sets, capacity, sizeof(*sets));

		if (!sets) {
			*no_memory = true;
			return NULL;
		}
		reader->sets = sets;
		reader->capacity = capacity;
	}
	if (json_object_set_new(reader->open, id, json_integer((json_int_t)reader->count))) {
		*no_memory = true;
		return NULL;
	}
	set = &reader->sets[reader->count++];
	*set = (struct chunk_set){ .offset = offset, .wanted = read_u16(chunk + 1) };
	return set;
}

static int add_chunk(struct reader *reader, const uint8_t *chunk, size_t offset, bool *completed)
{
	bool no_memory = false;
	struct chunk_set *set = find_set(reader, chunk, offset, &no_memory);
	size_t data_size = read_u16(chunk + DATA_SIZE_OFFSET);
	char id[2 * STORE_ID_SIZE + 1];

	*completed = false;
	if (!set)
		return no_memory ? -ENOMEM : -EBADMSG;
	if (read_u16(chunk + 1) != set->wanted || read_u16(chunk + 3) != set->present)
		return -EBADMSG;
	if (set->size + data_size > set->capacity) {
		size_t capacity = 2 * set->capacity + STORE_CHUNK_DATA_MAX * (set->wanted < 16 ? set->wanted : 16);
		uint8_t *bytes = realloc(set->bytes, capacity);

		if (!bytes)
			return -ENOMEM;
		set->bytes = bytes;
		set->capacity = capacity;
	}
	memcpy(set->bytes + set->size, chunk + CHUNK_HEADER_SIZE, data_size);
	set->size += data_size;
	if (++set->present == set->wanted) {
		hex_encode(chunk + ID_OFFSET, STORE_ID_SIZE, id);
		json_object_del(reader->open, id);
		*completed = true;
	}
	return 0;
}

static int decode_entry(const struct chunk_set *set, struct store_entry *entry)
{
	const uint8_t *bytes = set->bytes;

	if (set->size < STORE_ENTRY_HEADER_SIZE || bytes[0] != VERSION ||
	    (bytes[1] != STORE_TYPE_RECORD && bytes[1] != STORE_TYPE_PRIVATE_ANNOUNCEMENT) ||
	    read_u16(bytes + 2) != STORE_ID_SIZE)
		return -EBADMSG;
	entry->type = bytes[1];
	memcpy(entry->id, bytes + 4, STORE_ID_SIZE);
	entry->size = set->size - STORE_ENTRY_HEADER_SIZE;
	entry->offset = set->offset;
	entry->data = malloc(entry->size + 1);
	if (!entry->data)
		return -ENOMEM;
	memcpy(entry->data, bytes + STORE_ENTRY_HEADER_SIZE, entry->size);
	entry->data[entry->size] = 0;
	return 0;
}

static int read_chunks(struct reader *reader, const uint8_t *bytes, size_t size, struct store_scan *scan)
{
	size_t at = 0;

	while (at < size) {
		const uint8_t *chunk = bytes + at;
		size_t left = size - at, chunk_size;
		bool completed;
		int error;

		scan->error_offset = at;
		if (!is_plausible(chunk, left))
			return is_unwritten(chunk, left) ? 0 : -EBADMSG;
		if (left < CHUNK_HEADER_SIZE)
			return 0;
		chunk_size = CHUNK_HEADER_SIZE + read_u16(chunk + DATA_SIZE_OFFSET);
		if (left < chunk_size)
			return 0;
		error = add_chunk(reader, chunk, at, &completed);
		if (error)
			return error;
		at += chunk_size;
		if (completed)
			scan->sound_size = at;
	}
	return 0;
}

int store_scan(const uint8_t *bytes, size_t size, struct store_scan *scan)
{
	struct reader reader = { .open = json_object() };
	int error = reader.open ? 0 : -ENOMEM;

	memset(scan, 0, sizeof(*scan));
	if (!error)
		error = read_chunks(&reader, bytes, size, scan);
	if (!error && reader.count && !(scan->entries = calloc(reader.count, sizeof(*scan->entries))))
		error = -ENOMEM;
	for (size_t i = 0; !error && i < reader.count; i++) {
		if (reader.sets[i].present < reader.sets[i].wanted) {
			scan->held_back++;
			continue;
		}
		scan->error_offset = reader.sets[i].offset;
		error = decode_entry(&reader.sets[i], &scan->entries[scan->count]);
		if (!error)
			scan->count++;
	}
	for (size_t i = 0; i < reader.count; i++)
		free(reader.sets[i].bytes);
	free(reader.sets);
	json_decref(reader.open);
	if (error)
		store_scan_clear(scan);
	return error;
}

void store_scan_clear(struct store_scan *scan)
{
	for (size_t i = 0; i < scan->count; i++)
		free(scan->entries[i].data);
	free(scan->entries);
	scan->entries = NULL;
	scan->count = 0;
}

int store_encode(uint8_t type, const uint8_t id[STORE_ID_SIZE], const uint8_t chunk_set_id[STORE_ID_SIZE],
		 const uint8_t *data, size_t data_size, uint8_t **bytes, size_t *size)
{
	size_t entry_size = STORE_ENTRY_HEADER_SIZE + data_size;
	size_t chunks = (entry_size + STORE_CHUNK_DATA_MAX - 1) / STORE_CHUNK_DATA_MAX;
	_free_ uint8_t *entry = NULL;
	uint8_t *at;

	if (data_size > SIZE_MAX / 2 || chunks > UINT16_MAX)
		return -EMSGSIZE;
	entry = malloc(entry_size);
	*size = chunks * CHUNK_HEADER_SIZE + entry_size;
	*bytes = at = malloc(*size);
	if (!entry || !at) {
		free(at);
		*bytes = NULL;
		return -ENOMEM;
	}
	entry[0] = VERSION;
	entry[1] = type;
	write_u16(entry + 2, STORE_ID_SIZE);
	memcpy(entry + 4, id, STORE_ID_SIZE);
	memcpy(entry + STORE_ENTRY_HEADER_SIZE, data, data_size);
	for (size_t i = 0; i < chunks; i++) {
		size_t start = i * STORE_CHUNK_DATA_MAX;
		size_t piece = entry_size - start < STORE_CHUNK_DATA_MAX ? entry_size - start : STORE_CHUNK_DATA_MAX;

		at[0] = VERSION;
		write_u16(at + 1, (unsigned)chunks);
		write_u16(at + 3, (unsigned)i);
		write_u16(at + 5, STORE_ID_SIZE);
		memcpy(at + ID_OFFSET, chunk_set_id, STORE_ID_SIZE);
		write_u16(at + DATA_SIZE_OFFSET, (unsigned)piece);
		memcpy(at + CHUNK_HEADER_SIZE, entry + start, piece);
		at += CHUNK_HEADER_SIZE + piece;
	}
	return 0;
}
