// SPDX-License-Identifier: Apache-2.0
/* What sd keeps (protocol page 3.9): taking over the recorded data file, appending,
 * resets, pinned keys, and that a restart finds what was there. */
#include "directory_vectors.h"
#include "made_certificates.h"
#include "made_records.h"

#include "base/log.h"
#include "sd/ledger.h"

#include <errno.h>
#include <time.h>

/* A CA, an admin's key and another admin's key under the same name. */
struct fixture {
	struct made root, admin, other, stranger;
	char *key_files[3];
	struct signing_key *keys[3];
	char *data_file;
	int64_t now;
};

static char reason[SIGNATURE_REASON_SIZE];

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct made *made[3];

	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "test");
	fixture->root = make(NULL, "critical,CA:TRUE", NULL, NULL, NULL);
	fixture->admin = make(&fixture->root, NULL, "URI:iris-name://hd-1,URI:iris-group://sd-admin", "digitalSignature", NULL);
	fixture->other = make(&fixture->root, NULL, "URI:iris-name://hd-1,URI:iris-group://sd-admin", "digitalSignature", NULL);
	fixture->stranger = make(&fixture->root, NULL, "URI:iris-name://hd-2,URI:iris-group://", "digitalSignature", NULL);
	write_pem(&fixture->root, NULL);
	made[0] = &fixture->admin;
	made[1] = &fixture->other;
	made[2] = &fixture->stranger;
	for (int i = 0; i < 3; i++) {
		write_pem(made[i], &fixture->key_files[i]);
		fixture->keys[i] = signing_key_load(made[i]->file, fixture->key_files[i], reason);
		assert_non_null(fixture->keys[i]);
	}
	assert_true(asprintf(&fixture->data_file, "/tmp/test-ledger-%d.records", (int)getpid()) > 0);
	unlink(fixture->data_file);
	fixture->now = time(NULL);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	for (int i = 0; i < 3; i++) {
		signing_key_free(fixture->keys[i]);
		unlink(fixture->key_files[i]);
		free(fixture->key_files[i]);
	}
	unlink(fixture->data_file);
	free(fixture->data_file);
	made_free(&fixture->root);
	made_free(&fixture->admin);
	made_free(&fixture->other);
	made_free(&fixture->stranger);
	free(fixture);
	return 0;
}

static struct ledger *open_ledger(struct fixture *fixture)
{
	struct string_list roots = file_list(&fixture->root.file), none = { 0 };
	struct ledger *ledger;

	assert_int_equal(ledger_open(fixture->data_file, &roots, &none, fixture->now, &ledger), 0);
	return ledger;
}

static void assert_append(struct ledger *ledger, struct fixture *fixture, json_t *record, int expected)
{
	int error = ledger_append(ledger, record, fixture->now, reason);

	if (error != expected)
		fail_msg("append gives %d (%s), not %d", error, error ? reason : "", expected);
	json_decref(record);
}

static void takes_over_the_recorded_file(void **state)
{
	_free_ char *root = vector_path("root.crt"), *intermediate = vector_path("intermediate.crt"), *bytes = NULL;
	struct string_list roots = file_list(&root), intermediates = file_list(&intermediate);
	json_t *records = vector_records(), *after;
	struct fixture *fixture = *state;
	struct ledger *ledger;
	size_t size;
	FILE *file;

	/* A copy: opening locks, and this test must not write to the vectors. */
	bytes = vector_read("service-directory.records", &size);
	file = fopen(fixture->data_file, "wb");
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
	assert_int_equal(ledger_open(fixture->data_file, &roots, &intermediates, record_seconds(json_array_get(records, 27)), &ledger), 0);
	assert_true(json_equal(ledger_records(ledger), records));
	assert_int_equal(json_object_size(ledger_entries(ledger)), 12);
	after = ledger_records_after(ledger, signed_record_hash(json_array_get(records, 25)));
	assert_int_equal(json_array_size(after), 2);
	json_decref(after);
	after = ledger_records_after(ledger, signed_record_hash(ledger_tip(ledger)));
	assert_int_equal(json_array_size(after), 0);
	json_decref(after);
	after = ledger_records_after(ledger, "00");
	assert_int_equal(json_array_size(after), 28);
	json_decref(after);
	ledger_close(ledger);
	/* Long after the certificates: nothing is valid, and nothing is deleted. */
	assert_int_equal(ledger_open(fixture->data_file, &roots, &intermediates, 4000000000, &ledger), 0);
	assert_null(ledger_tip(ledger));
	ledger_close(ledger);
	json_decref(records);
}

static void appends_in_order_and_finds_it_again(void **state)
{
	struct fixture *fixture = *state;
	struct ledger *ledger = open_ledger(fixture);
	json_t *before;

	assert_null(ledger_tip(ledger));
	assert_append(ledger, fixture, pin_by(fixture->keys[0], fixture->keys[0], 1, NULL), 0);
	for (int i = 2; i < 40; i++)
		assert_append(ledger, fixture, groups_by(fixture->keys[0], i % 2 ? "a" : "b", i, ledger_tip(ledger)), 0);
	assert_append(ledger, fixture, json_incref(ledger_tip(ledger)), -EEXIST);
	assert_append(ledger, fixture, groups_by(fixture->keys[0], "a", 50, json_array_get(ledger_records(ledger), 3)), -ESTALE);
	before = json_copy((json_t *)ledger_records(ledger));
	assert_int_equal(json_array_size(before), 39);
	ledger_close(ledger);
	ledger = open_ledger(fixture);
	assert_true(json_equal(before, ledger_records(ledger)));
	assert_int_equal(json_object_size(ledger_entries(ledger)), 3);
	json_decref(before);
	ledger_close(ledger);
}

static void only_the_pinned_admin_writes(void **state)
{
	struct fixture *fixture = *state;
	struct ledger *ledger = open_ledger(fixture);

	assert_append(ledger, fixture, groups_by(fixture->keys[2], "a", 1, NULL), -EPERM); /* no admin */
	assert_append(ledger, fixture, groups_by(fixture->keys[1], "a", 1, NULL), 0);      /* nothing pinned yet */
	assert_append(ledger, fixture, pin_by(fixture->keys[0], fixture->keys[0], 2, ledger_tip(ledger)), 0);
	assert_append(ledger, fixture, groups_by(fixture->keys[1], "a", 3, ledger_tip(ledger)), -EPERM);
	assert_append(ledger, fixture, groups_by(fixture->keys[1], "a", 4, NULL), -EPERM); /* a reset neither */
	assert_append(ledger, fixture, pin_by(fixture->keys[0], fixture->keys[1], 5, ledger_tip(ledger)), 0);
	assert_append(ledger, fixture, groups_by(fixture->keys[0], "a", 6, ledger_tip(ledger)), -EPERM);
	assert_append(ledger, fixture, groups_by(fixture->keys[1], "a", 7, ledger_tip(ledger)), 0);
	ledger_close(ledger);
}

static void a_reset_starts_a_new_chain(void **state)
{
	struct fixture *fixture = *state;
	struct ledger *ledger = open_ledger(fixture);
	json_t *old_tip;

	assert_append(ledger, fixture, groups_by(fixture->keys[0], "old", 10, NULL), 0);
	assert_append(ledger, fixture, groups_by(fixture->keys[0], "old", 11, ledger_tip(ledger)), 0);
	old_tip = json_incref(ledger_tip(ledger));
	assert_append(ledger, fixture, groups_by(fixture->keys[0], "late", 9, NULL), -ESTALE);
	assert_append(ledger, fixture, groups_by(fixture->keys[0], "tie", 10, NULL), -ESTALE);
	assert_append(ledger, fixture, groups_by(fixture->keys[0], "new", 12, NULL), 0);
	assert_int_equal(json_array_size(ledger_records(ledger)), 1);
	assert_null(json_object_get(ledger_entries(ledger), "old"));
	assert_append(ledger, fixture, groups_by(fixture->keys[0], "old", 13, old_tip), -ESTALE);
	assert_append(ledger, fixture, groups_by(fixture->keys[0], "new", 14, ledger_tip(ledger)), 0);
	assert_int_equal(json_array_size(ledger_records(ledger)), 2);
	ledger_close(ledger);
	ledger = open_ledger(fixture);
	assert_int_equal(json_array_size(ledger_records(ledger)), 2);
	assert_non_null(json_object_get(ledger_entries(ledger), "new"));
	json_decref(old_tip);
	ledger_close(ledger);
}

static void a_torn_record_is_lost_alone(void **state)
{
	struct fixture *fixture = *state;
	struct ledger *ledger = open_ledger(fixture);
	json_t *second;
	off_t size;
	FILE *file;

	assert_append(ledger, fixture, groups_by(fixture->keys[0], "a", 1, NULL), 0);
	second = groups_by(fixture->keys[0], "a", 2, ledger_tip(ledger));
	assert_append(ledger, fixture, json_incref(second), 0);
	ledger_close(ledger);
	file = fopen(fixture->data_file, "rb");
	fseek(file, 0, SEEK_END);
	size = ftell(file);
	fclose(file);
	assert_int_equal(truncate(fixture->data_file, size - 100), 0);
	ledger = open_ledger(fixture);
	assert_int_equal(json_array_size(ledger_records(ledger)), 1);
	assert_append(ledger, fixture, second, 0);
	ledger_close(ledger);
	ledger = open_ledger(fixture);
	assert_int_equal(json_array_size(ledger_records(ledger)), 2);
	ledger_close(ledger);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(takes_over_the_recorded_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(appends_in_order_and_finds_it_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(only_the_pinned_admin_writes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_reset_starts_a_new_chain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_torn_record_is_lost_alone, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
