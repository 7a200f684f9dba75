// SPDX-License-Identifier: Apache-2.0
/* What a client takes from an sd and what it refuses as a whole (protocol page 3.8). */
#include "directory_vectors.h"
#include "made_certificates.h"
#include "made_records.h"

#include "directory/replica.h"

#include <errno.h>
#include <time.h>

static char reason[SIGNATURE_REASON_SIZE];

static void takes_the_recorded_directory_in_parts(void **state)
{
	struct verifier *verifier = vector_verifier();
	json_t *records = vector_records();
	int64_t now = record_seconds(json_array_get(records, 27));
	struct replica replica;

	(void)state;
	assert_int_equal(replica_init(&replica, verifier), 0);
	assert_string_equal(replica_tip(&replica), "");
	for (size_t from = 0; from < 28; from += 7) {
		json_t *part = json_array();

		for (size_t i = from; i < from + 7; i++)
			json_array_append(part, json_array_get(records, i));
		if (replica_update(&replica, part, now, reason))
			fail_msg("%s", reason);
		json_decref(part);
	}
	assert_true(json_equal(replica.records, records));
	assert_int_equal(json_object_size(replica.entries), 12);
	assert_int_equal(json_array_size(json_object_get(json_object_get(replica.entries, "hd-2"), "records")), 4);
	replica_clear(&replica);
	json_decref(records);
	verifier_free(verifier);
}

/* Everything that `list` breaks leaves the replica as it was. */
static void assert_refused(struct replica *replica, json_t *list, int64_t now, const char *why)
{
	json_t *before = json_deep_copy(replica->records), *entries = json_deep_copy(replica->entries);

	assert_int_equal(replica_update(replica, list, now, reason), -EBADMSG);
	if (!strstr(reason, why))
		fail_msg("\"%s\" does not say \"%s\"", reason, why);
	assert_true(json_equal(before, replica->records));
	assert_true(json_equal(entries, replica->entries));
	json_decref(before);
	json_decref(entries);
	json_decref(list);
}

static void refuses_a_list_as_a_whole(void **state)
{
	struct verifier *verifier = vector_verifier();
	json_t *records = vector_records(), *list, *changed;
	int64_t now = record_seconds(json_array_get(records, 27));
	struct replica replica;

	(void)state;
	assert_int_equal(replica_init(&replica, verifier), 0);
	assert_refused(&replica, json_object(), now, "no list");
	assert_refused(&replica, json_pack("[{}]"), now, "record 0: hash");
	list = json_pack("[O]", json_array_get(records, 3)); /* does not begin at the beginning */
	assert_refused(&replica, list, now, "do not continue");
	list = json_pack("[O, O, O]", json_array_get(records, 0), json_array_get(records, 1), json_array_get(records, 3));
	assert_refused(&replica, list, now, "record 2: its parent");
	changed = json_deep_copy(json_array_get(records, 2));
	json_object_set_new(json_object_get(changed, "record"), "name", json_string("else"));
	list = json_pack("[O, O, o]", json_array_get(records, 0), json_array_get(records, 1), changed);
	assert_refused(&replica, list, now, "record 2: the hash");
	assert_refused(&replica, json_copy(records), now + 3000 * (int64_t)86400, "record 0: the signing certificate");
	assert_int_equal(replica_update(&replica, records, now, reason), 0);
	list = json_pack("[O]", json_array_get(records, 5));
	assert_refused(&replica, list, now, "do not continue");
	replica_clear(&replica);
	json_decref(records);
	verifier_free(verifier);
}

static json_t *slice(const json_t *records, size_t from, size_t to)
{
	json_t *part = json_array();

	for (size_t i = from; i < to; i++)
		json_array_append(part, json_array_get(records, i));
	return part;
}

/* An sd whose data was cut answers all it has, since it does not know the tip. */
static void refuses_the_same_directory_with_fewer_records(void **state)
{
	struct verifier *verifier = vector_verifier();
	json_t *records = vector_records(), *list, *changed;
	int64_t now = record_seconds(json_array_get(records, 27));
	struct replica replica;

	(void)state;
	assert_int_equal(replica_init(&replica, verifier), 0);
	list = slice(records, 0, 20);
	assert_int_equal(replica_update(&replica, list, now, reason), 0);
	json_decref(list);
	assert_string_equal(replica_root(&replica), signed_record_hash(json_array_get(records, 0)));
	assert_refused(&replica, slice(records, 0, 1), now, "without record 1 of the 20");
	assert_refused(&replica, slice(records, 0, 19), now, "without record 19 of the 20");
	list = slice(records, 0, 19); /* another one took the place of the tip */
	changed = json_deep_copy(json_array_get(records, 20));
	json_object_set(changed, "parent_hash", json_object_get(json_array_get(records, 18), "hash"));
	json_array_append_new(list, changed);
	assert_refused(&replica, list, now, "rolled back");
	assert_int_equal(replica_update(&replica, records, now, reason), 0); /* all, and more */
	assert_true(json_equal(replica.records, records));
	assert_int_equal(json_object_size(replica.entries), 12);
	replica_clear(&replica);
	json_decref(records);
	verifier_free(verifier);
}

static void a_new_root_replaces_everything_unless_it_is_older(void **state)
{
	struct made root = make(NULL, "critical,CA:TRUE", NULL, NULL, NULL);
	struct made admin = make(&root, NULL, "URI:iris-name://hd-1,URI:iris-group://sd-admin", "digitalSignature", NULL);
	struct made other = make(&root, NULL, "URI:iris-name://hd-1,URI:iris-group://sd-admin", "digitalSignature", NULL);
	struct string_list roots, none = { 0 };
	_free_ char *key_file = NULL, *other_file = NULL;
	struct signing_key *key, *other_key;
	struct verifier *verifier;
	struct replica replica;
	json_t *first, *second, *pin, *list;
	int64_t now = time(NULL);

	(void)state;
	write_pem(&root, NULL);
	write_pem(&admin, &key_file);
	write_pem(&other, &other_file);
	roots = file_list(&root.file);
	key = signing_key_load(admin.file, key_file, reason);
	other_key = signing_key_load(other.file, other_file, reason);
	verifier = verifier_create(&roots, &none, reason);
	assert_int_equal(replica_init(&replica, verifier), 0);
	first = groups_by(key, "a", 10, NULL);
	second = groups_by(key, "b", 11, first);
	list = json_pack("[O, O]", first, second);
	assert_int_equal(replica_update(&replica, list, now, reason), 0);
	json_decref(list);
	list = json_array(); /* nothing new */
	assert_int_equal(replica_update(&replica, list, now, reason), 0);
	json_decref(list);
	assert_refused(&replica, json_pack("[o]", groups_by(key, "old", 9, NULL)), now, "older than");
	pin = pin_by(key, key, 12, NULL);
	list = json_pack("[O]", pin);
	assert_int_equal(replica_update(&replica, list, now, reason), 0);
	json_decref(list);
	assert_int_equal(json_array_size(replica.records), 1);
	assert_null(json_object_get(replica.entries, "a"));
	/* The pinning rule holds although the pin was verified long ago. */
	assert_refused(&replica, json_pack("[o]", groups_by(other_key, "a", 13, pin)), now, "record 1: the directory pins");
	json_decref(pin);
	json_decref(first);
	json_decref(second);
	replica_clear(&replica);
	verifier_free(verifier);
	signing_key_free(key);
	signing_key_free(other_key);
	unlink(key_file);
	unlink(other_file);
	made_free(&root);
	made_free(&admin);
	made_free(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_the_recorded_directory_in_parts),
		cmocka_unit_test(refuses_a_list_as_a_whole),
		cmocka_unit_test(refuses_the_same_directory_with_fewer_records),
		cmocka_unit_test(a_new_root_replaces_everything_unless_it_is_older),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
