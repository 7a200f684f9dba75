// SPDX-License-Identifier: Apache-2.0
/* Verified copy of a chain, see replica.h. */
#include "directory/replica.h"

#include "base/instant.h"
#include "base/json.h"
#include "directory/entry.h"
#include "directory/record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int replica_init(struct replica *replica, struct verifier *verifier)
{
	replica->verifier = verifier;
	replica->records = json_array();
	replica->entries = json_object();
	replica->pins = json_object();
	if (replica->records && replica->entries && replica->pins)
		return 0;
	replica_clear(replica);
	return -ENOMEM;
}

void replica_clear(struct replica *replica)
{
	json_decref(replica->records);
	json_decref(replica->entries);
	json_decref(replica->pins);
	memset(replica, 0, sizeof(*replica));
}

const char *replica_tip(const struct replica *replica)
{
	size_t count = json_array_size(replica->records);

	return count ? signed_record_hash(json_array_get(replica->records, count - 1)) : "";
}

const char *replica_root(const struct replica *replica)
{
	return json_array_size(replica->records) ? signed_record_hash(json_array_get(replica->records, 0)) : "";
}

static int refuse(char reason[SIGNATURE_REASON_SIZE], const char *why)
{
	snprintf(reason, SIGNATURE_REASON_SIZE, "%s", why);
	return -EBADMSG;
}

static int refuse_record(char reason[SIGNATURE_REASON_SIZE], size_t index, const char *why)
{
	snprintf(reason, SIGNATURE_REASON_SIZE, "record %zu: %.*s", index, SIGNATURE_REASON_SIZE - 40, why);
	return -EBADMSG;
}

static struct instant created_at(const json_t *record)
{
	const char *text = json_text(signed_record_inner(record), "created_at");
	struct instant instant = { 0 };

	instant_parse(text, strlen(text), &instant); /* normalised, so it parses */
	return instant;
}

/* Normalised copies with every link checked but the first record's. */
static int read_list(const json_t *list, json_t *result, char reason[SIGNATURE_REASON_SIZE])
{
	char problem[RECORD_PROBLEM_SIZE];

	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *record = signed_record_normalise(json_array_get(list, i), problem);

		if (!record)
			return refuse_record(reason, i, problem);
		if (json_array_append_new(result, record))
			return -ENOMEM;
		if (i && strcmp(signed_record_parent(record), signed_record_hash(json_array_get(result, i - 1))))
			return refuse_record(reason, i, "its parent is not the record before it");
	}
	return 0;
}

/* All records of the directory that is known. sd sends them when it does not have the
 * known tip: it has lost records, or other ones took their place. What was revoked
 * there would be valid again. */
static int check_same_root(const struct replica *replica, const json_t *list, char reason[SIGNATURE_REASON_SIZE])
{
	size_t known = json_array_size(replica->records), same = 0;

	while (same < known && same < json_array_size(list) &&
	       !strcmp(signed_record_hash(json_array_get(list, same)), signed_record_hash(json_array_get(replica->records, same))))
		same++;
	if (same == known)
		return 0;
	snprintf(reason, SIGNATURE_REASON_SIZE,
		 "the same directory, but without record %zu of the %zu that are known: its data was rolled back or has "
		 "lost records; restore it, or start it anew with --reset",
		 same, known);
	return -EBADMSG;
}

/* Does the list continue what is known, or begin anew? */
static int check_start(const struct replica *replica, const json_t *list, bool *anew, char reason[SIGNATURE_REASON_SIZE])
{
	const json_t *first = json_array_get(list, 0);

	*anew = false;
	if (!strcmp(signed_record_parent(first), replica_tip(replica)))
		return 0;
	if (*signed_record_parent(first))
		return refuse(reason, "the records do not continue the known ones");
	*anew = true;
	if (!strcmp(signed_record_hash(first), replica_root(replica)))
		return check_same_root(replica, list, reason);
	if (instant_compare(created_at(first), created_at(json_array_get(replica->records, 0))) < 0)
		return refuse(reason, "the new first record is older than the known one");
	return 0;
}

/* Adds `records` to `next`. Trusted ones are known to be authentic, and their entries are there. */
static int add_records(struct replica *next, const json_t *records, bool trusted, int64_t now,
		       char reason[SIGNATURE_REASON_SIZE])
{
	char why[SIGNATURE_REASON_SIZE];

	for (size_t i = 0; i < json_array_size(records); i++) {
		json_t *record = json_array_get(records, i);

		if ((!trusted && !verifier_is_authentic(next->verifier, record, why)) ||
		    !verifier_is_admissible(next->verifier, record, next->pins, now, why))
			return refuse_record(reason, json_array_size(next->records), why);
		if (json_array_append(next->records, record) || pins_note(next->pins, record) ||
		    (!trusted && entries_integrate(next->entries, record)))
			return -ENOMEM;
	}
	return 0;
}

int replica_update(struct replica *replica, const json_t *list, int64_t unix_seconds, char reason[SIGNATURE_REASON_SIZE])
{
	struct replica next = { 0 };
	json_t *records;
	bool anew;
	int error;

	if (!json_is_array(list))
		return refuse(reason, "the answer is no list");
	if (!json_array_size(list))
		return 0;
	snprintf(reason, SIGNATURE_REASON_SIZE, "out of memory");
	records = json_array();
	error = records ? replica_init(&next, replica->verifier) : -ENOMEM;
	if (!error)
		error = read_list(list, records, reason);
	if (!error)
		error = check_start(replica, records, &anew, reason);
	if (!error && !anew) {
		/* Entries are never changed in place, so a copy of the object can share them. */
		if (json_object_update(next.entries, replica->entries))
			error = -ENOMEM;
		else
			error = add_records(&next, replica->records, true, unix_seconds, reason);
	}
	if (!error)
		error = add_records(&next, records, false, unix_seconds, reason);
	json_decref(records);
	if (error) {
		replica_clear(&next);
		return error;
	}
	replica_clear(replica);
	*replica = next;
	return 0;
}
