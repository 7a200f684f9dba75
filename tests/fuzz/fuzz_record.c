// SPDX-License-Identifier: Apache-2.0
/* Signed records from strangers: form check, hash, digest, chain selection, entries.
 * A normalised record must stay as it is when it is normalised again. */
#include "base/json.h"
#include "directory/chain.h"
#include "directory/entry.h"
#include "directory/record.h"
#include "directory/verifier.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool judge(size_t index, const json_t *pins, void *context)
{
	(void)pins;
	return (index + *(const size_t *)context) % 3;
}

static void try_record(json_t *value, json_t *records)
{
	char problem[RECORD_PROBLEM_SIZE], hash[STRUCTURED_HASH_TEXT_SIZE];
	uint8_t digest[STRUCTURED_HASH_SIZE];
	json_t *record = signed_record_normalise(value, problem), *again;

	if (!record)
		return;
	again = signed_record_normalise(record, problem);
	if (!again || !json_equal(record, again) || record_hash(signed_record_inner(record), hash) ||
	    signed_record_digest(record, digest))
		abort();
	json_decref(again);
	json_array_append_new(records, record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_error_t error;
	json_t *value = json_read((const char *)data, size, &error), *records, *entries, *pins, *record;
	struct grpc_server_entry server;
	struct chain chain;
	const char *name;
	json_t *entry;
	size_t i;

	if (!value)
		return 0;
	records = json_array();
	entries = json_object();
	pins = json_object();
	if (json_is_array(value)) {
		json_array_foreach(value, i, record)
			try_record(record, records);
	} else {
		try_record(value, records);
	}
	json_array_foreach(records, i, record)
	{
		entries_integrate(entries, record);
		pins_note(pins, record);
	}
	json_object_foreach(entries, name, entry)
	{
		entry_grpc_server(entry, &server);
		entry_permits(entry, entry, "_ping");
	}
	if (!chain_select(records, judge, &size, &chain))
		chain_clear(&chain);
	json_decref(pins);
	json_decref(entries);
	json_decref(records);
	json_decref(value);
	return 0;
}
