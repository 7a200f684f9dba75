// SPDX-License-Identifier: Apache-2.0
/* Stored records and the winning chain, see ledger.h.
 *
 * A record that continues the chain is added to it; anything else (a reset, a
 * fork that is on the disk) selects the chain anew from all stored records.
 * Whether a record is authentic never changes and is remembered per record, so
 * selecting costs no signature checks. Chain, pins and entries are replaced
 * together or not at all. */
#include "sd/ledger.h"

#include "base/instant.h"
#include "base/json.h"
#include "base/log.h"
#include "directory/chain.h"
#include "directory/entry.h"
#include "directory/file_store.h"
#include "directory/record.h"
#include "directory/verifier.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum authenticity { AUTHENTICITY_UNKNOWN, AUTHENTIC, FORGED };

/* What was selected. */
struct view {
	json_t *records;   /* list */
	json_t *positions; /* hash -> number of records up to and with it */
	json_t *pins;
	json_t *entries;
	bool ends_in_leaf;
};

struct ledger {
	struct file_store *store;
	struct verifier *verifier;
	json_t *stored; /* list of all records */
	json_t *hashes; /* hash -> true, of all records */
	uint8_t *authenticity;
	size_t authenticity_capacity;
	const char *filename; /* while the file is read */
	int64_t now; /* while a chain is selected */
	struct view view;
};

static void view_clear(struct view *view)
{
	json_decref(view->records);
	json_decref(view->positions);
	json_decref(view->pins);
	json_decref(view->entries);
	memset(view, 0, sizeof(*view));
}

static int view_init(struct view *view)
{
	view->records = json_array();
	view->positions = json_object();
	view->entries = json_object();
	if (!view->pins)
		view->pins = json_object();
	return view->records && view->positions && view->entries && view->pins ? 0 : -ENOMEM;
}

static int view_add(struct view *view, json_t *record)
{
	json_int_t position = (json_int_t)json_array_size(view->records) + 1;

	if (json_array_append(view->records, record) ||
	    json_object_set_new(view->positions, signed_record_hash(record), json_integer(position)))
		return -ENOMEM;
	return entries_integrate(view->entries, record);
}

static int remember(struct ledger *ledger, json_t *record, enum authenticity authenticity)
{
	size_t count = json_array_size(ledger->stored);

	if (count == ledger->authenticity_capacity) {
		size_t capacity = count ? 2 * count : 64;
		uint8_t *larger = realloc(ledger->authenticity, capacity);

		if (!larger)
			return -ENOMEM;
		ledger->authenticity = larger;
		ledger->authenticity_capacity = capacity;
	}
	if (json_object_set_new(ledger->hashes, signed_record_hash(record), json_true()) ||
	    json_array_append(ledger->stored, record))
		return -ENOMEM;
	ledger->authenticity[count] = (uint8_t)authenticity;
	return 0;
}

static void log_skipped(const json_t *record, const char *reason)
{
	const json_t *inner = signed_record_inner(record);

	log_warning("skipping stored record %s (%s of %s): %s", signed_record_hash(record), record_section(inner),
		    record_name(inner), reason);
}

static bool judge(size_t index, const json_t *pins, void *context)
{
	struct ledger *ledger = context;
	const json_t *record = json_array_get(ledger->stored, index);
	char reason[SIGNATURE_REASON_SIZE] = "";

	if (ledger->authenticity[index] == AUTHENTICITY_UNKNOWN) {
		ledger->authenticity[index] = verifier_is_authentic(ledger->verifier, record, reason) ? AUTHENTIC : FORGED;
		if (ledger->authenticity[index] == FORGED)
			log_skipped(record, reason);
	}
	if (ledger->authenticity[index] == FORGED)
		return false;
	if (verifier_is_admissible(ledger->verifier, record, pins, ledger->now, reason))
		return true;
	log_skipped(record, reason);
	return false;
}

/* Selects anew. If nothing is valid, the view stays as it is. */
static int select_view(struct ledger *ledger, int64_t unix_seconds)
{
	struct view view = { 0 };
	struct chain chain;
	int error;

	ledger->now = unix_seconds;
	error = chain_select(ledger->stored, judge, ledger, &chain);
	if (error)
		return error == -ENOENT ? 0 : error;
	view.pins = json_incref(chain.pins);
	view.ends_in_leaf = chain.ends_in_leaf;
	error = view_init(&view);
	for (size_t i = 0; !error && i < chain.count; i++)
		error = view_add(&view, json_array_get(ledger->stored, chain.indices[i]));
	chain_clear(&chain);
	if (error) {
		view_clear(&view);
		return error;
	}
	view_clear(&ledger->view);
	ledger->view = view;
	return 0;
}

static int load_entry(const struct store_entry *entry, void *context)
{
	struct ledger *ledger = context;
	char problem[RECORD_PROBLEM_SIZE] = "not JSON";
	json_t *json, *record = NULL;
	json_error_t parse_error;
	int error = 0;

	if (entry->type != STORE_TYPE_RECORD) {
		log_error("%s: the entry at byte %zu, of type %u, is no record of a service directory",
			  ledger->filename, entry->offset, entry->type);
		return -EBADMSG;
	}
	json = json_read((const char *)entry->data, entry->size, &parse_error);
	if (json)
		record = signed_record_normalise(json, problem);
	if (record)
		error = remember(ledger, record, AUTHENTICITY_UNKNOWN);
	else
		log_warning("%s: skipping the entry at byte %zu: %s", ledger->filename, entry->offset, problem);
	json_decref(record);
	json_decref(json);
	return error;
}

int ledger_open(const char *filename, const struct string_list *root_files, const struct string_list *intermediate_files,
		int64_t unix_seconds, struct ledger **result)
{
	struct ledger *ledger = calloc(1, sizeof(*ledger));
	char reason[SIGNATURE_REASON_SIZE];
	int error = -ENOMEM;

	if (!ledger)
		return -ENOMEM;
	ledger->stored = json_array();
	ledger->hashes = json_object();
	if (!ledger->stored || !ledger->hashes || view_init(&ledger->view))
		goto fail;
	ledger->verifier = verifier_create(root_files, intermediate_files, reason);
	if (!ledger->verifier) {
		log_error("certificates for record signatures: %s", reason);
		error = -EINVAL;
		goto fail;
	}
	ledger->filename = filename;
	error = file_store_open(filename, load_entry, ledger, &ledger->store);
	if (!error)
		error = select_view(ledger, unix_seconds);
	if (error)
		goto fail;
	log_info("%s: %zu records stored, %zu in the directory's chain, %zu entries", filename,
		 json_array_size(ledger->stored), json_array_size(ledger->view.records), json_object_size(ledger->view.entries));
	*result = ledger;
	return 0;
fail:
	ledger_close(ledger);
	return error;
}

void ledger_close(struct ledger *ledger)
{
	if (!ledger)
		return;
	file_store_close(ledger->store);
	verifier_free(ledger->verifier);
	view_clear(&ledger->view);
	json_decref(ledger->stored);
	json_decref(ledger->hashes);
	free(ledger->authenticity);
	free(ledger);
}

static struct instant created_at(const json_t *record)
{
	const char *text = json_text(signed_record_inner(record), "created_at");
	struct instant instant = { 0 };

	instant_parse(text, strlen(text), &instant);
	return instant;
}

static int refuse(char reason[SIGNATURE_REASON_SIZE], int error, const char *why)
{
	snprintf(reason, SIGNATURE_REASON_SIZE, "%s", why);
	return error;
}

/* Is it in its place, as far as that can be said before looking at signatures? */
static int check_place(const struct ledger *ledger, const json_t *record, char reason[SIGNATURE_REASON_SIZE])
{
	const json_t *tip = ledger_tip(ledger);
	const char *parent = signed_record_parent(record);

	if (json_object_get(ledger->hashes, signed_record_hash(record)))
		return refuse(reason, -EEXIST, "it is stored already");
	if (*parent && (!tip || strcmp(parent, signed_record_hash(tip))))
		return refuse(reason, -ESTALE, "its parent is not the last record");
	/* Neither could ever win: a branch beside records that are not valid any more, an old reset. */
	if (*parent && !ledger->view.ends_in_leaf)
		return refuse(reason, -ESTALE, "records behind the last valid one are not valid any more: a reset is needed");
	if (!*parent && tip &&
	    instant_compare(created_at(record), created_at(json_array_get(ledger->view.records, 0))) <= 0)
		return refuse(reason, -ESTALE, "it starts a chain that is not younger than the present one");
	return 0;
}

static int extend_view(struct ledger *ledger, json_t *record, int64_t unix_seconds)
{
	if (!*signed_record_parent(record) || !ledger->view.ends_in_leaf)
		return select_view(ledger, unix_seconds);
	if (pins_note(ledger->view.pins, record) || view_add(&ledger->view, record))
		return select_view(ledger, unix_seconds); /* half done: all or nothing */
	return 0;
}

int ledger_append(struct ledger *ledger, json_t *record, int64_t unix_seconds, char reason[SIGNATURE_REASON_SIZE])
{
	int error = check_place(ledger, record, reason);
	char *text;
	size_t length;

	if (error)
		return error;
	if (!verifier_is_authentic(ledger->verifier, record, reason) ||
	    !verifier_is_admissible(ledger->verifier, record, ledger->view.pins, unix_seconds, reason))
		return -EPERM;
	text = json_write(record, &length);
	error = text ? file_store_append(ledger->store, STORE_TYPE_RECORD, text, length) : -ENOMEM;
	free(text);
	if (error)
		return refuse(reason, error, "it cannot be stored");
	error = remember(ledger, record, AUTHENTIC);
	if (!error)
		error = extend_view(ledger, record, unix_seconds);
	if (error)
		return refuse(reason, error, "out of memory");
	if (!json_object_get(ledger->view.positions, signed_record_hash(record)))
		return refuse(reason, -ESTALE, "it is not on the winning chain");
	return 0;
}

const json_t *ledger_records(const struct ledger *ledger) { return ledger->view.records; }
const json_t *ledger_entries(const struct ledger *ledger) { return ledger->view.entries; }

json_t *ledger_tip(const struct ledger *ledger)
{
	size_t count = json_array_size(ledger->view.records);

	return count ? json_array_get(ledger->view.records, count - 1) : NULL;
}

json_t *ledger_records_after(const struct ledger *ledger, const char *hash)
{
	size_t from = (size_t)json_integer_value(json_object_get(ledger->view.positions, hash));
	json_t *result = json_array();

	for (size_t i = from; result && i < json_array_size(ledger->view.records); i++) {
		if (json_array_append(result, json_array_get(ledger->view.records, i))) {
			json_decref(result);
			return NULL;
		}
	}
	return result;
}
