// SPDX-License-Identifier: Apache-2.0
/* Which files are read, in which order, what their scalars mean, and how they
 * are merged (protocol page 2.1). */
#include "settings_files.h"

#include <errno.h>

static void assert_path_loads(const char *search_path, const char *expected)
{
	struct settings_tree *tree;
	json_t *json;
	char *text;

	reports[0] = 0;
	if (settings_tree_load(search_path, collect_report, NULL, &tree))
		fail_msg("%s", reports);
	json = setting_to_json(settings_tree_root(tree));
	text = json_write(json, NULL);
	assert_string_equal(text, expected);
	free(text);
	json_decref(json);
	settings_tree_free(tree);
}

static void assert_loads(const char *name, const char *expected)
{
	assert_path_loads(in_folder(name), expected);
}

static void assert_fails(const char *name, const char *expected_report)
{
	struct settings_tree *tree;

	reports[0] = 0;
	assert_true(settings_tree_load(in_folder(name), collect_report, NULL, &tree) < 0);
	assert_reported(expected_report);
}

static void a_folder_is_read_in_byte_order(void **state)
{
	(void)state;
	put_file("d/b.yml", "x: b\nlast: b\n");
	put_file("d/B.json", "{\"x\": \"B\", \"first\": \"B\", \"list\": [1]}");
	put_file("d/a.yml", "x: a\nlist: [2]\n");
	put_file("d/c.yaml", "x: not read\n");
	put_file("d/d.YML", "x: not read\n");
	put_file("d/e.txt", "x: not read\n");
	put_file("d/sub.yml/inner.yml", "x: not read\n"); /* a folder, whatever its name */
	assert_loads("d", "{\"first\":\"B\",\"last\":\"b\",\"list\":[1,2],\"x\":\"b\"}");
}

static void a_search_path_has_several_parts(void **state)
{
	char path[512];

	(void)state;
	put_file("one.yml", "a: 1\nb: 1\n");
	put_file("two/two.yml", "b: 2\n");
	snprintf(path, sizeof(path), ":%s/one.yml::%s/two:", folder, folder);
	assert_path_loads(path, "{\"a\":1,\"b\":2}");
	assert_path_loads("", "{}");
	assert_path_loads(":::", "{}");
}

static void relative_parts_are_made_absolute(void **state)
{
	char before[512], expected[512];

	(void)state;
	assert_non_null(getcwd(before, sizeof(before)));
	put_file("sub/x.yml", "dir: /$DIR\npath: /$PATH\n");
	assert_int_equal(chdir(in_folder("sub")), 0);
	snprintf(expected, sizeof(expected), "{\"dir\":\"%s/sub\",\"path\":\"%s/sub/x.yml\"}", folder, folder);
	assert_path_loads("x.yml", expected);
	assert_path_loads(".", expected);
	assert_path_loads("..//sub/./x.yml", expected);
	assert_int_equal(chdir(before), 0);
}

static void what_cannot_be_read_is_an_error(void **state)
{
	(void)state;
	assert_fails("absent.yml", "error absent.yml:0: cannot be opened: No such file");
	put_file("x.txt", "a: 1");
	assert_fails("x.txt", "error x.txt:0: settings are .yml and .json files");
	put_file("bad.yml", "a: 1\nb: [1, 2\nc: 3\n");
	assert_fails("bad.yml", "error bad.yml:3: not readable as YAML: did not find expected");
	put_file("tab.yml", "a:\n\tb: 1\n");
	assert_fails("tab.yml", "error tab.yml:2: not readable as YAML");
	put_file("bytes.yml", "a: \xff\xfe\n");
	assert_fails("bytes.yml", "not readable as YAML");
	put_file("bad.json", "{\"a\": 1,\n\"b\": }\n");
	assert_fails("bad.json", "error bad.json:2: not readable as JSON: unexpected token");
	put_file("twice.json", "{\"a\": 1,\n\"a\": 2}\n");
	assert_fails("twice.json", "error twice.json:2: not readable as JSON: duplicate object key");
	put_file("list.yml", "- a\n");
	assert_fails("list.yml", "error list.yml:1: the top level must be a map, not a list");
	put_file("number.json", "5");
	assert_fails("number.json", "error number.json:1: the top level must be a map, not a number");
	put_file("key.yml", "a:\n  [1]: x\n");
	assert_fails("key.yml", "error key.yml:2: a key must be text, this one is a list");
	put_file("none.yml", "a: {? : x}\n");
	assert_fails("none.yml", "error none.yml:1: a key must be text, this one is nothing");
}

static void folders_and_fifos_do_not_pass_in_silence(void **state)
{
	uid_t user = geteuid();

	(void)state;
	put_file("d/x.yaml", "x: not read\n");
	assert_loads("d", "{}");
	assert_reported("warning d:0: the folder holds no .yml and no .json files\n");
	put_file("d/x.yml", "x: 1\n");
	assert_int_equal(symlink("nowhere", in_folder("d/link.yml")), 0);
	assert_loads("d", "{\"x\":1}");
	assert_reported("warning d/link.yml:0: left out, it cannot be opened: No such file or directory\n");
	assert_int_equal(mkfifo(in_folder("fifo.yml"), 0600), 0);
	assert_fails("fifo.yml", "error fifo.yml:0: cannot be read: it is no regular file\n");
	put_file("includes.yml", "$include: fifo.yml\n");
	assert_fails("includes.yml", "error includes.yml:1: cannot include ");

	assert_int_equal(chmod(folder, 0711), 0);
	assert_int_equal(chmod(in_folder("d"), 0311), 0);
	assert_int_equal(user ? 0 : seteuid(65534), 0); /* root may read everything */
	assert_fails("d", "error d:0: the folder cannot be read: Permission denied\n");
	assert_int_equal(seteuid(user), 0);
	assert_int_equal(chmod(in_folder("d"), 0700), 0);
}

static void every_fault_is_told(void **state)
{
	(void)state;
	put_file("d/1.yml", "a: [\n");
	put_file("d/2.yml", "a: $nothing\nb: $none\n");
	assert_fails("d", "1.yml");
	assert_reported("error d/2.yml:1: the variable $nothing is not defined");
	assert_reported("error d/2.yml:2: the variable $none is not defined");
}

static void yaml_scalars_are_those_of_yaml_1_1(void **state)
{
	(void)state;
	put_file("bool.yml", "t: [y, Y, yes, Yes, YES, true, True, TRUE, on, On, ON]\n"
			     "f: [n, N, no, No, NO, false, False, FALSE, off, Off, OFF]\n"
			     "s: [yEs, tRue, oN, 'yes', \"no\", ! 5, !!str 5]\n"
			     "n: [~, null, Null, NULL, '', \"~\"]\nempty:\n");
	assert_loads("bool.yml", "{\"empty\":null,\"f\":[false,false,false,false,false,false,false,false,false,false,false],"
				 "\"n\":[null,null,null,null,\"\",\"~\"],"
				 "\"s\":[\"yEs\",\"tRue\",\"oN\",\"yes\",\"no\",\"5\",\"5\"],"
				 "\"t\":[true,true,true,true,true,true,true,true,true,true,true]}");
	put_file("int.yml", "i: [0, 7, -7, +7, 0x1F, -0x1f, 010, 0o17, 0b101, 1_000_000, 08, 9223372036854775807]\n"
			    "f: [1.5, -1.5, 1., .5, 1e3, 1.5E-3, 1_0.5, 9223372036854775808]\n"
			    "s: [0x, 0xg, 1a, 1.2.3, 1e, '-', +, ., 2021-05-17, 12:30:45, 0b2, 127.0.0.1, 1e5x]\n");
	assert_loads("int.yml", "{\"f\":[1.5,-1.5,1,0.5,1000,0.0015,10.5,9223372036854776000],"
				"\"i\":[0,7,-7,7,31,-31,8,15,5,1000000,8,9223372036854776000],"
				"\"s\":[\"0x\",\"0xg\",\"1a\",\"1.2.3\",\"1e\",\"-\",\"+\",\".\",\"2021-05-17\",\"12:30:45\","
				"\"0b2\",\"127.0.0.1\",\"1e5x\"]}");
}

static void keys_mean_their_text(void **state)
{
	(void)state;
	put_file("x.yml", "y: 1\non: 2\n5: 3\nnull: 4\n'': 5\n");
	assert_loads("x.yml", "{\"\":5,\"5\":3,\"null\":4,\"on\":2,\"y\":1}");
}

static const struct setting *child_of(struct settings_tree *tree, const char *key)
{
	const struct setting *child = setting_child(settings_tree_root(tree), key);

	assert_non_null(child);
	return child;
}

static void nodes_know_type_file_and_line(void **state)
{
	struct settings_tree *tree;
	const struct setting *map;

	(void)state;
	put_file("x.yml", "# comment\na: 5\nb: 5.0\n\nc:\n  d: x\n  e: .inf\n");
	put_file("x.json", "\n{ \"a\" :\n\n5, \"b\": {\n \"c\": [ ],\"esc\\\"\": \"\\u00e9\\ud83d\\ude00\\/\\n\",\n \"d\": {}\n}\n ,\"e\":\ntrue,\"f\":null}");
	assert_int_equal(settings_tree_load(in_folder("x.yml"), collect_report, NULL, &tree), 0);
	assert_int_equal(child_of(tree, "a")->type, SETTING_INT);
	assert_int_equal(child_of(tree, "a")->line, 2);
	assert_string_equal(child_of(tree, "a")->file, in_folder("x.yml"));
	assert_int_equal(child_of(tree, "b")->type, SETTING_FLOAT);
	map = child_of(tree, "c");
	assert_int_equal(setting_child(map, "d")->line, 6);
	assert_int_equal(setting_child(map, "e")->type, SETTING_FLOAT);
	assert_null(setting_child(map, "x"));
	assert_null(setting_child(setting_child(map, "d"), "x"));
	settings_tree_free(tree);

	assert_int_equal(settings_tree_load(in_folder("x.json"), collect_report, NULL, &tree), 0);
	assert_int_equal(child_of(tree, "a")->type, SETTING_FLOAT); /* every JSON number */
	assert_int_equal(child_of(tree, "a")->line, 4);
	map = child_of(tree, "b");
	assert_int_equal(map->line, 4);
	assert_int_equal(setting_child(map, "c")->line, 5);
	assert_string_equal(setting_child(map, "esc\"")->string, "\u00e9\U0001F600/\n");
	assert_int_equal(setting_child(map, "d")->line, 6);
	assert_int_equal(child_of(tree, "e")->line, 9);
	assert_int_equal(child_of(tree, "f")->type, SETTING_NULL);
	settings_tree_free(tree);
}

static void anchors_aliases_and_merge_keys_work(void **state)
{
	(void)state;
	put_file("x.yml", "base: &base {a: 1, b: 1, c: {d: 1}}\n"
			  "more: &more {b: 2, e: 2}\n"
			  "text: &text hello\n"
			  "one: {<<: *base, b: 3}\n"
			  "two: {b: 3, <<: [*more, *base]}\n"
			  "list: [*text, *text]\n"
			  "quoted: {'<<': x}\n");
	assert_loads("x.yml", "{\"base\":{\"a\":1,\"b\":1,\"c\":{\"d\":1}},\"list\":[\"hello\",\"hello\"],"
			      "\"more\":{\"b\":2,\"e\":2},\"one\":{\"a\":1,\"b\":3,\"c\":{\"d\":1}},"
			      "\"quoted\":{\"<<\":\"x\"},\"text\":\"hello\","
			      "\"two\":{\"a\":1,\"b\":3,\"c\":{\"d\":1},\"e\":2}}");
	put_file("none.yml", "a: *none\n");
	assert_fails("none.yml", "none.yml:1: no anchor before the alias *none");
	put_file("self.yml", "a: &self\n  - *self\n");
	assert_fails("self.yml", "self.yml:2: the alias *self stands inside its own anchor");
	put_file("merge.yml", "a:\n  <<: text\n");
	assert_fails("merge.yml", "merge.yml:2: '<<' needs a map or a list of maps");
	put_file("tag.yml", "a: !!int x\n");
	assert_fails("tag.yml", "tag.yml:1: the value does not fit its tag 'int'");
	put_file("tags.yml", "a: !!float 5\nb: !!bool yes\nc: !!null ~\nd: !!int 5\n");
	assert_loads("tags.yml", "{\"a\":5,\"b\":true,\"c\":null,\"d\":5}");
	put_file("own.yml", "a: !mine x\n");
	assert_fails("own.yml", "own.yml:1: the tag '!mine' is not known");
}

static void aliases_cannot_multiply_without_end(void **state)
{
	char text[4096] = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";

	(void)state;
	for (int i = 1; i < 9; i++)
		sprintf(text + strlen(text), "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i,
			i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
	put_file("bomb.yml", text);
	assert_fails("bomb.yml", "more than 200000 values");
	memset(text, '[', 150);
	text[150] = 0;
	put_file("deep.yml", text);
	assert_fails("deep.yml", "more than 100 levels");
	memset(text + 150, ']', 150);
	text[300] = 0;
	put_file("deep.json", text);
	assert_fails("deep.json", "more than 100 levels");
}

/* Each key is looked for among those before it. */
static void keys_of_a_map_are_limited(void **state)
{
	enum { MOST = 4096 };
	char *text = malloc(MOST * 16), *at = text;

	(void)state;
	for (unsigned i = 0; i < MOST; i++)
		at += sprintf(at, "k%u: 1\n", i);
	put_file("many/1.yml", text);
	put_file("many/2.yml", "k7: 2\n");
	struct settings_tree *tree;
	assert_int_equal(settings_tree_load(in_folder("many"), collect_report, NULL, &tree), 0);
	settings_tree_free(tree);
	put_file("many/2.yml", "more: 2\nyet: 3\n");
	assert_fails("many", "error many/2.yml:1: more than 4096 keys in one map\n");
	assert_null(strstr(reports, "2.yml:2"));
	strcpy(at, "more: 1\nyet: 1\n");
	put_file("x.yml", text);
	assert_fails("x.yml", "error x.yml:4097: more than 4096 keys in one map\n");
	assert_null(strstr(reports, "4098"));
	free(text);
}

static void a_second_spelling_and_a_second_document_are_warnings(void **state)
{
	(void)state;
	put_file("x.yml", "a: 1\na: 2\n---\nb: 1\n");
	assert_loads("x.yml", "{\"a\":2}");
	assert_reported("warning x.yml:2: the key 'a' is here a second time");
	assert_reported("warning x.yml:3: only the first document");
	put_file("empty.yml", "");
	assert_loads("empty.yml", "{}");
	put_file("comment.yml", "# nothing\n---\n");
	assert_loads("comment.yml", "{}");
}

static void assert_merges(const char *earlier, const char *later, const char *expected)
{
	put_file("m/1.yml", earlier);
	put_file("m/2.yml", later);
	assert_loads("m", expected);
}

static void files_are_merged_key_by_key(void **state)
{
	(void)state;
	assert_merges("a: 1", "b: 2", "{\"a\":1,\"b\":2}");
	assert_merges("a: 1", "a: 2", "{\"a\":2}");
	assert_merges("a: ~", "a: 2", "{\"a\":2}");
	assert_merges("a: 1", "a: ~", "{\"a\":1}");
	assert_merges("a: ~", "a: ~", "{\"a\":null}");
	assert_merges("b: 1", "a: ~", "{\"a\":null,\"b\":1}");
	assert_merges("a: {b: 1, c: {d: 1}}", "a: {c: {e: 2}}", "{\"a\":{\"b\":1,\"c\":{\"d\":1,\"e\":2}}}");
	assert_merges("a: [1, 2]", "a: [2, 3]", "{\"a\":[1,2,2,3]}");
	assert_merges("a: [1]", "a: {b: 1}", "{\"a\":{\"b\":1}}");
	assert_merges("a: {b: 1}", "a: x", "{\"a\":\"x\"}");
	assert_merges("a: x", "a: [1]", "{\"a\":[1]}");
	assert_merges("a: false", "a: ''", "{\"a\":\"\"}");
}

static void a_marked_key_replaces_outright(void **state)
{
	(void)state;
	assert_merges("a: [1, 2]", "a!: [3]", "{\"a\":[3]}");
	assert_merges("a: {b: 1}", "a!: {c: 2}", "{\"a\":{\"c\":2}}");
	assert_merges("a: {b: [1], x: 1}", "a: {b!: [2]}", "{\"a\":{\"b\":[2],\"x\":1}}");
	assert_merges("a: 1", "a!: ~", "{\"a\":null}");
	assert_merges("b: 1", "a!: [3]", "{\"a\":[3],\"b\":1}");
	/* only where a merge really takes place */
	assert_merges("b: 1", "a: {x!: 1}", "{\"a\":{\"x!\":1},\"b\":1}");
	assert_merges("b: 1", "'!': 1", "{\"!\":1,\"b\":1}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_folder_is_read_in_byte_order),
		TEST(a_search_path_has_several_parts),
		TEST(relative_parts_are_made_absolute),
		TEST(what_cannot_be_read_is_an_error),
		TEST(folders_and_fifos_do_not_pass_in_silence),
		TEST(every_fault_is_told),
		TEST(yaml_scalars_are_those_of_yaml_1_1),
		TEST(keys_mean_their_text),
		TEST(nodes_know_type_file_and_line),
		TEST(anchors_aliases_and_merge_keys_work),
		TEST(aliases_cannot_multiply_without_end),
		TEST(keys_of_a_map_are_limited),
		TEST(a_second_spelling_and_a_second_document_are_warnings),
		TEST(files_are_merged_key_by_key),
		TEST(a_marked_key_replaces_outright),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
