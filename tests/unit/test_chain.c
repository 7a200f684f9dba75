// SPDX-License-Identifier: Apache-2.0
/* Chain selection (protocol page 3.9): forks, resets, ties, skipped records. */
#include "directory_vectors.h"

#include "directory/chain.h"

#include <errno.h>

struct judged {
	const char *invalid; /* names of the records that are not valid */
	const json_t *records;
	size_t asked;
};

static bool judge(size_t index, const json_t *pins, void *context)
{
	struct judged *judged = context;

	(void)pins;
	judged->asked++;
	return !strchr(judged->invalid, *signed_record_hash(json_array_get(judged->records, index)));
}

/* `text`: "a:-:5 b:a:6": hash, parent ("-": none), day of creation. */
static json_t *records_of(const char *text)
{
	_free_ char *copy = strdup(text);
	json_t *records = json_array();
	char *save = NULL;

	for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		char hash[2] = { word[0], 0 }, parent[2] = { word[2] == '-' ? 0 : word[2], 0 }, created[32];

		snprintf(created, sizeof(created), "2021-05-%02dT10:00:00Z", atoi(word + 4));
		json_array_append_new(records, json_pack("{s:s, s:s, s:{s:s, s:s, s:[], s:s}}", "hash", hash, "parent_hash",
							 parent, "record", "name", hash, "section", "groups", "data",
							 "created_at", created));
	}
	return records;
}

static void assert_selects(const char *text, const char *invalid, const char *expected, bool ends_in_leaf)
{
	json_t *records = records_of(text);
	struct judged judged = { .invalid = invalid, .records = records };
	struct chain chain;
	char got[64] = "";
	int error = chain_select(records, judge, &judged, &chain);

	assert_int_equal(error, *expected ? 0 : -ENOENT);
	for (size_t i = 0; i < chain.count; i++)
		strcat(got, signed_record_hash(json_array_get(records, chain.indices[i])));
	if (strcmp(got, expected))
		fail_msg("%s (invalid: %s) selects %s, not %s", text, invalid, got, expected);
	if (!error)
		assert_int_equal(chain.ends_in_leaf, ends_in_leaf);
	chain_clear(&chain);
	json_decref(records);
}

static void a_straight_chain_is_kept_in_order(void **state)
{
	(void)state;
	assert_selects("", "", "", false);
	assert_selects("a:-:1", "", "a", true);
	assert_selects("a:-:1 b:a:2 c:b:3", "", "abc", true);
	assert_selects("c:b:3 a:-:1 b:a:2", "", "abc", true); /* stored in another order */
}

static void the_latest_root_wins_whatever_the_length(void **state)
{
	(void)state;
	assert_selects("a:-:1 b:a:2 c:b:3 d:-:2", "", "d", true);
	assert_selects("a:-:4 b:a:5 d:-:2 e:d:9", "", "ab", true);
	assert_selects("a:x:1 b:a:2 d:y:3", "", "d", true); /* unknown parents are roots too */
}

static void ties_and_forks_go_to_the_first_found(void **state)
{
	(void)state;
	assert_selects("a:-:1 b:-:1", "", "a", true);
	assert_selects("a:-:1 b:a:2 c:a:3 d:b:4", "", "abd", true);
	assert_selects("a:-:1 c:a:3 b:a:2 d:b:4", "", "ac", true);
}

static void invalid_records_are_skipped(void **state)
{
	(void)state;
	assert_selects("a:-:1 b:a:2 c:b:3", "b", "ac", true);
	assert_selects("a:-:1 b:a:2 c:b:3", "c", "ab", false);
	assert_selects("a:-:1 b:a:2 c:b:3", "abc", "", false);
	assert_selects("a:-:1 b:a:2 d:-:5", "d", "ab", true);
	/* The first valid record's time counts: b is younger than d. */
	assert_selects("a:-:1 b:a:7 d:-:5", "a", "b", true);
	/* A branch with nothing valid in it ties with its trunk. */
	assert_selects("a:-:1 b:a:2 c:a:3", "b", "a", false);
}

static void every_hash_is_visited_once(void **state)
{
	(void)state;
	assert_selects("a:-:1 b:a:2 a:b:9 c:b:3", "", "abc", true);
	assert_selects("a:-:1 a:-:2 b:a:3", "", "ab", true);
	assert_selects("a:a:1", "", "", false);             /* its own parent: no way in */
	assert_selects("a:b:1 b:a:2 c:-:1", "", "c", true); /* a circle: the same */
}

static void the_whole_prefix_pins_even_skipped_records(void **state)
{
	json_t *records = records_of("a:-:1 b:a:2");
	struct judged judged = { .invalid = "a", .records = records };
	json_t *inner = json_object_get(json_array_get(records, 0), "record");
	struct chain chain;

	(void)state;
	json_object_set_new(inner, "section", json_string("certificates"));
	json_object_set_new(inner, "data", json_pack("[{s:s, s:s}]", "fingerprint", "ff", "key_usage", "signing"));
	assert_int_equal(chain_select(records, judge, &judged, &chain), 0);
	assert_string_equal(json_text(chain.pins, "a"), "ff");
	chain_clear(&chain);
	json_decref(records);
}

static void long_chains_need_no_deep_stack(void **state)
{
	json_t *records = json_array();
	struct judged judged = { .invalid = "", .records = records };
	struct chain chain;
	char hash[16], parent[16] = "";

	(void)state;
	for (int i = 0; i < 50000; i++) {
		snprintf(hash, sizeof(hash), "h%d", i);
		json_array_append_new(records, json_pack("{s:s, s:s, s:{s:s, s:s, s:[], s:s}}", "hash", hash, "parent_hash",
							 parent, "record", "name", "n", "section", "groups", "data",
							 "created_at", "2021-05-17T10:00:00Z"));
		strcpy(parent, hash);
	}
	assert_int_equal(chain_select(records, judge, &judged, &chain), 0);
	assert_int_equal(chain.count, 50000);
	assert_int_equal(judged.asked, 50000);
	chain_clear(&chain);
	json_decref(records);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_straight_chain_is_kept_in_order),
		cmocka_unit_test(the_latest_root_wins_whatever_the_length),
		cmocka_unit_test(ties_and_forks_go_to_the_first_found),
		cmocka_unit_test(invalid_records_are_skipped),
		cmocka_unit_test(every_hash_is_visited_once),
		cmocka_unit_test(the_whole_prefix_pins_even_skipped_records),
		cmocka_unit_test(long_chains_need_no_deep_stack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
