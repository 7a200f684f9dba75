// SPDX-License-Identifier: Apache-2.0
/* Data file (protocol page 9.1, 9.2): the recorded file, torn tails, the store. */
#include "directory_vectors.h"

#include "base/log.h"
#include "directory/file_store.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_path(void **state)
{
	static int count;

	return asprintf((char **)state, "/tmp/test-store-%d-%d/a/b.records", (int)getpid(), count++) > 0 ? 0 : -1;
}

static int remove_path(void **state)
{
	char *path = *state;

	unlink(path);
	for (int i = 0; i < 2; i++) {
		*strrchr(path, '/') = 0;
		rmdir(path);
	}
	free(path);
	return 0;
}

static void write_file(const char *path, const void *bytes, size_t size)
{
	_fclose_ FILE *file = fopen(path, "wb");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
}

static size_t file_size(const char *path)
{
	struct stat status;

	assert_int_equal(stat(path, &status), 0);
	return (size_t)status.st_size;
}

static void reads_the_recorded_file(void **state)
{
	size_t size;
	_free_ char *bytes = vector_read("service-directory.records", &size);
	json_t *records = vector_records();
	struct store_scan scan;
	json_error_t error;

	(void)state;
	assert_int_equal(store_scan((uint8_t *)bytes, size, &scan), 0);
	assert_int_equal(scan.count, 28);
	assert_int_equal(scan.held_back, 0);
	assert_int_equal(scan.sound_size, size);
	for (size_t i = 0; i < scan.count; i++) {
		json_t *record = json_read((char *)scan.entries[i].data, scan.entries[i].size, &error);
		char problem[RECORD_PROBLEM_SIZE];
		json_t *normalised = signed_record_normalise(record, problem);

		assert_int_equal(scan.entries[i].type, STORE_TYPE_RECORD);
		assert_true(json_equal(normalised, json_array_get(records, i)));
		json_decref(normalised);
		json_decref(record);
	}
	store_scan_clear(&scan);
	json_decref(records);
}

static void encodes_the_recorded_bytes(void **state)
{
	size_t size, at = 0;
	_free_ char *bytes = vector_read("service-directory.records", &size);
	struct store_scan scan;

	(void)state;
	assert_int_equal(store_scan((uint8_t *)bytes, size, &scan), 0);
	for (size_t i = 0; i < scan.count; i++) {
		const struct store_entry *entry = &scan.entries[i];
		_free_ uint8_t *encoded = NULL;
		size_t encoded_size;

		assert_int_equal(store_encode(entry->type, entry->id, (uint8_t *)bytes + entry->offset + 7, entry->data,
					      entry->size, &encoded, &encoded_size),
				 0);
		assert_memory_equal(encoded, bytes + at, encoded_size);
		at += encoded_size;
	}
	assert_int_equal(at, size);
	store_scan_clear(&scan);
}

static void a_torn_tail_loses_only_itself_at_every_offset(void **state)
{
	size_t size, ends[29] = { 0 }, complete = 0;
	_free_ char *bytes = vector_read("service-directory.records", &size);
	struct store_scan scan;

	(void)state;
	assert_int_equal(store_scan((uint8_t *)bytes, size, &scan), 0);
	for (size_t i = 1; i < scan.count; i++)
		ends[i] = scan.entries[i].offset;
	ends[scan.count] = size;
	store_scan_clear(&scan);
	for (size_t length = 0; length <= size; length++) {
		/* A copy of its own: the sanitizer sees any read behind the end. */
		_free_ uint8_t *prefix = malloc(length + !length);

		memcpy(prefix, bytes, length);
		while (complete < 28 && ends[complete + 1] <= length)
			complete++;
		assert_int_equal(store_scan(prefix, length, &scan), 0);
		assert_int_equal(scan.count, complete);
		assert_int_equal(scan.sound_size, ends[complete]);
		store_scan_clear(&scan);
	}
}

static void unwritten_blocks_are_a_torn_tail(void **state)
{
	size_t size;
	_free_ char *bytes = vector_read("service-directory.records", &size);
	struct store_scan scan;

	(void)state;
	for (size_t cut = size - 600; cut < size; cut += 7) {
		_free_ char *copy = calloc(1, size + 4096);

		memcpy(copy, bytes, cut);
		if (store_scan((uint8_t *)copy, size + 4096, &scan))
			fail_msg("zeros from byte %zu", cut);
		assert_true(scan.count == 27 || scan.count == 28); /* zeros can stand for the data of the last chunk */
		store_scan_clear(&scan);
	}
}

static void damage_in_the_middle_is_an_error(void **state)
{
	size_t size;
	_free_ char *bytes = vector_read("service-directory.records", &size);
	struct store_scan scan;

	(void)state;
	bytes[256] = 9;
	assert_int_equal(store_scan((uint8_t *)bytes, size, &scan), -EBADMSG);
	assert_int_equal(scan.error_offset, 256);
	bytes[256] = 1;
	bytes[26] = 7; /* type of the first entry */
	assert_int_equal(store_scan((uint8_t *)bytes, size, &scan), -EBADMSG);
	assert_int_equal(scan.error_offset, 0);
}

static void entries_may_interleave(void **state)
{
	uint8_t id[STORE_ID_SIZE] = { 0 }, sets[2][STORE_ID_SIZE] = { { 1 }, { 2 } }, data[2][300];
	uint8_t *encoded[2], mixed[2000];
	size_t sizes[2], at = 0;
	struct store_scan scan;

	(void)state;
	for (int i = 0; i < 2; i++) {
		memset(data[i], 'a' + i, sizeof(data[i]));
		assert_int_equal(store_encode(1, id, sets[i], data[i], sizeof(data[i]), &encoded[i], &sizes[i]), 0);
	}
	memcpy(mixed, encoded[0], 256);
	memcpy(mixed + 256, encoded[1], sizes[1]);
	at = 256 + sizes[1];
	assert_int_equal(store_scan(mixed, at, &scan), 0); /* the first is held back, and stays */
	assert_int_equal(scan.count, 1);
	assert_int_equal(scan.held_back, 1);
	assert_int_equal(scan.sound_size, at);
	assert_memory_equal(scan.entries[0].data, data[1], sizeof(data[1]));
	store_scan_clear(&scan);
	memcpy(mixed + at, encoded[0] + 256, sizes[0] - 256);
	at += sizes[0] - 256;
	assert_int_equal(store_scan(mixed, at, &scan), 0);
	assert_int_equal(scan.count, 2);
	assert_memory_equal(scan.entries[0].data, data[0], sizeof(data[0]));
	assert_memory_equal(scan.entries[1].data, data[1], sizeof(data[1]));
	store_scan_clear(&scan);
	free(encoded[0]);
	free(encoded[1]);
}

static struct {
	size_t count;
	char last[64];
} seen; /* since the file was opened */

static int note_entry(const struct store_entry *entry, void *context)
{
	assert_ptr_equal(context, &seen);
	seen.count++;
	snprintf(seen.last, sizeof(seen.last), "%s", (char *)entry->data);
	return 0;
}

static struct file_store *open_store(const char *path)
{
	struct file_store *store;

	memset(&seen, 0, sizeof(seen));
	assert_int_equal(file_store_open(path, note_entry, &seen, &store), 0);
	return store;
}

static void expect_kept(const char *path, size_t count, const char *last)
{
	file_store_close(open_store(path));
	assert_int_equal(seen.count, count);
	assert_string_equal(seen.last, last);
}

static void a_new_file_keeps_what_is_appended(void **state)
{
	const char *path = *state;
	struct file_store *store = open_store(path), *second;

	assert_int_equal(seen.count, 0);
	assert_int_equal(file_store_open(path, note_entry, &seen, &second), -EBUSY);
	assert_int_equal(file_store_append(store, 1, "one", 3), 0);
	assert_int_equal(file_store_append(store, 1, "two", 3), 0);
	file_store_close(store);
	expect_kept(path, 2, "two");
}

static void a_torn_tail_is_cut_off_before_the_next_entry(void **state)
{
	size_t size;
	_free_ char *bytes = vector_read("service-directory.records", &size);
	const char *path = *state;
	struct file_store *store;

	file_store_close(open_store(path)); /* makes the folders */
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "test"); /* dozens of the same warning */
	for (size_t torn = 1; torn < 2000; torn += 37) {
		write_file(path, bytes, size - torn);
		store = open_store(path);
		assert_true(seen.count == 27 || (torn > 1800 && seen.count == 26));
		assert_int_equal(file_size(path), size - torn); /* opening changes nothing */
		assert_int_equal(file_store_append(store, 1, "next", 4), 0);
		file_store_close(store);
		store = open_store(path);
		assert_true(seen.count == 28 || (torn > 1800 && seen.count == 27));
		assert_string_equal(seen.last, "next");
		file_store_close(store);
	}
}

static void a_failed_append_leaves_no_trace(void **state)
{
	const char *path = *state;
	struct rlimit old, tight;
	struct file_store *store;
	char large[1000];
	size_t size;

	memset(large, 'x', sizeof(large));
	log_configure(LOG_LEVEL_FATAL, LOG_FORMAT_TEXT, "test");
	store = open_store(path);
	assert_int_equal(file_store_append(store, 1, "one", 3), 0);
	size = file_size(path);
	/* A file size limit in the middle of the entry stands for a full disk. */
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tight = (struct rlimit){ size + 300, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	assert_int_equal(file_store_append(store, 1, large, sizeof(large)), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(file_size(path), size);
	assert_int_equal(file_store_append(store, 1, "two", 3), 0);
	file_store_close(store);
	expect_kept(path, 2, "two");
}

static void a_damaged_file_is_left_alone(void **state)
{
	size_t size;
	_free_ char *bytes = vector_read("service-directory.records", &size);
	const char *path = *state;
	struct file_store *store;

	file_store_close(open_store(path));
	bytes[512] = 0x55;
	write_file(path, bytes, size);
	assert_int_equal(file_store_open(path, note_entry, &seen, &store), -EBADMSG);
	assert_int_equal(file_size(path), size);
}

static void a_check_finds_what_cannot_be_made_and_makes_nothing(void **state)
{
	char *path = *state, folder[80], name[120];
	struct stat status;

	assert_int_equal(file_store_check(path), 0);
	snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(path, '/') - path) - 2, path);
	assert_int_equal(stat(folder, &status), -1);
	snprintf(name, sizeof(name), "%s/", path);
	assert_int_equal(file_store_check(name), -EISDIR);
	assert_true(file_store_check("/proc/nowhere/sd.records") < 0); /* where root has all permissions */
	assert_true(file_store_check("/sys/sd.records") < 0);
	assert_int_equal(file_store_check("/dev/null/sd.records"), -ENOTDIR);
	file_store_close(open_store(path));
	assert_int_equal(file_store_check(path), 0);
	assert_int_equal(file_store_check(folder), -EINVAL);
	unlink(path);
	assert_int_equal(symlink("nowhere", path), 0);
	snprintf(name, sizeof(name), "%s/sd.records", path);
	assert_int_equal(file_store_check(name), -ENOENT);
	assert_int_equal(file_store_check(path), 0); /* it makes what the link names */
}

#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, make_path, remove_path)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_recorded_file),
		cmocka_unit_test(encodes_the_recorded_bytes),
		cmocka_unit_test(a_torn_tail_loses_only_itself_at_every_offset),
		cmocka_unit_test(unwritten_blocks_are_a_torn_tail),
		cmocka_unit_test(damage_in_the_middle_is_an_error),
		cmocka_unit_test(entries_may_interleave),
		FILE_TEST(a_new_file_keeps_what_is_appended),
		FILE_TEST(a_torn_tail_is_cut_off_before_the_next_entry),
		FILE_TEST(a_failed_append_leaves_no_trace),
		FILE_TEST(a_damaged_file_is_left_alone),
		FILE_TEST(a_check_finds_what_cannot_be_made_and_makes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
