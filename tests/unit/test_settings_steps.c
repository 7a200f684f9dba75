// SPDX-License-Identifier: Apache-2.0
/* `$include`, `$ref` and `vars` (protocol page 2.2). */
#include "settings_files.h"

#include <fcntl.h>

static void assert_loads(const char *name, const char *expected)
{
	struct settings_tree *tree;
	json_t *json;
	char *text;

	reports[0] = 0;
	if (settings_tree_load(in_folder(name), collect_report, NULL, &tree))
		fail_msg("%s", reports);
	json = setting_to_json(settings_tree_root(tree));
	json_object_del(json, "_vars");
	text = json_write(json, NULL);
	assert_string_equal(text, expected);
	free(text);
	json_decref(json);
	settings_tree_free(tree);
}

static void assert_fails(const char *name, const char *expected_report)
{
	struct settings_tree *tree;

	reports[0] = 0;
	assert_true(settings_tree_load(in_folder(name), collect_report, NULL, &tree) < 0);
	assert_reported(expected_report);
}

static void assert_text_loads(const char *text, const char *expected)
{
	put_file("x.yml", text);
	assert_loads("x.yml", expected);
}

static void assert_text_fails(const char *text, const char *expected_report)
{
	put_file("x.yml", text);
	assert_fails("x.yml", expected_report);
}

/* --- $include --- */

static void maps_are_included_at_any_depth(void **state)
{
	(void)state;
	put_file("a.yml", "$include: sub/b.yml\na: 1\n");
	put_file("sub/b.yml", "b: 1\nc:\n  d:\n    $include: ../c.json\n");
	put_file("c.json", "{\"e\": [1]}");
	assert_loads("a.yml", "{\"a\":1,\"b\":1,\"c\":{\"d\":{\"e\":[1]}}}");
}

static void several_files_are_included_in_order(void **state)
{
	(void)state;
	put_file("1.yml", "x: 1\nlist: [1]\nonly1: 1\n");
	put_file("2.yml", "x: 2\nlist: [2]\n");
	assert_text_loads("$include: [1.yml, 2.yml]\nlist: [3]\n", "{\"list\":[1,2,3],\"only1\":1,\"x\":2}");
	assert_text_loads("a: {$include: []}\n", "{\"a\":null}");
}

static void the_including_file_wins(void **state)
{
	(void)state;
	put_file("i.yml", "x: included\ny: included\nm: {a: 1, b: 1}\nl: [1]\n");
	assert_text_loads("x: own\nm: {b: 2}\nl!: [9]\n$include: i.yml\n",
			  "{\"l\":[9],\"m\":{\"a\":1,\"b\":2},\"x\":\"own\",\"y\":\"included\"}");
	put_file("i.yml", "");
	assert_text_loads("x: own\n$include: i.yml\n", "{\"x\":\"own\"}");
}

static void a_map_of_an_include_alone_becomes_any_value(void **state)
{
	(void)state;
	put_file("text.yml", "hello\n");
	put_file("list.yml", "[1, 2]\n");
	assert_text_loads("a: {$include: text.yml}\nb: {$include: list.yml}\nc: {$include: [list.yml, list.yml]}\n",
			  "{\"a\":\"hello\",\"b\":[1,2],\"c\":[1,2,1,2]}");
	assert_text_fails("a:\n  b: 1\n  $include: list.yml\n",
			  "error x.yml:3: the included file holds a list, but a map with other keys can only include maps");
	assert_text_fails("$include: list.yml\n", "the top level must be a map, not a list");
}

static void included_lists_are_spliced_into_lists(void **state)
{
	(void)state;
	put_file("list.yml", "[1, {a: 2}]\n");
	put_file("map.yml", "{b: 3}\n");
	put_file("text.yml", "hello\n");
	assert_text_loads("l: [0, {$include: list.yml}, {$include: map.yml}, {$include: text.yml}, [{$include: list.yml}],"
			  " {c: {$include: list.yml}}, {$include: [list.yml, list.yml]}]\n",
			  "{\"l\":[0,1,{\"a\":2},{\"b\":3},\"hello\",[1,{\"a\":2}],{\"c\":[1,{\"a\":2}]},"
			  "1,{\"a\":2},1,{\"a\":2}]}");
}

static void wrong_includes_name_their_line(void **state)
{
	(void)state;
	put_file("x.txt", "");
	assert_text_fails("a: 1\nb:\n  $include: none.yml\n", "error x.yml:3: cannot include ");
	assert_reported("none.yml: No such file or directory");
	assert_text_fails("a: 1\n$include: /etc/x.yml\n", "error x.yml:2: $include takes relative paths only: /etc/x.yml");
	assert_text_fails("$include: x.txt\n", "error x.yml:1: $include takes .yml and .json files only: x.txt");
	assert_text_fails("$include: 5\n", "error x.yml:1: $include needs a path or a list of paths, not a whole number");
	assert_text_fails("$include:\n  - 5\n", "error x.yml:2: $include needs a path");
	assert_text_fails("$include: {a: b}\n", "error x.yml:1: $include needs a path");
	put_file("broken.yml", "a: [\n");
	assert_text_fails("$include: broken.yml\n", "error broken.yml:2: not readable as YAML");
}

static void including_in_a_circle_is_an_error(void **state)
{
	(void)state;
	put_file("a.yml", "x: {$include: sub/b.yml}\n");
	put_file("sub/b.yml", "\ny: {$include: ../sub/../a.yml}\n");
	assert_fails("a.yml", "error sub/b.yml:2: ");
	assert_reported("a.yml includes itself, over 2 files");
	assert_text_fails("$include: x.yml\n", "x.yml includes itself, over 1 files");
}

static void a_file_may_be_included_twice(void **state)
{
	(void)state;
	put_file("i.yml", "v: 1\nw: {x: 1}\n");
	assert_text_loads("a: {$include: i.yml}\nb: {$include: i.yml, w: {x: 2}}\n",
			  "{\"a\":{\"v\":1,\"w\":{\"x\":1}},\"b\":{\"v\":1,\"w\":{\"x\":2}}}");
}

static void path_and_dir_are_those_of_the_file_itself(void **state)
{
	char expected[512];

	(void)state;
	put_file("a.yml", "dir: /$DIR\npath: $PATH\nsub: {$include: sub/b.yml}\n"
			  "vars: {DIR: {type: string, source: literal, value: overridden}}\n");
	put_file("sub/b.yml", "file: \"/$DIR/../x\"\npath: $PATH\n");
	snprintf(expected, sizeof(expected),
		 "{\"dir\":\"%s\",\"path\":\"%s/a.yml\",\"sub\":{\"file\":\"%s/sub/../x\",\"path\":\"%s/sub/b.yml\"}}", folder,
		 folder + 1, folder, folder + 1);
	assert_loads("a.yml", expected);
}

static void variables_do_not_reach_into_included_files(void **state)
{
	struct settings_tree *tree;
	const struct setting *map;

	(void)state;
	put_file("i.yml", "vars: {a: {type: string, source: literal, value: inner}}\nx: $a\nprice: $$a\n");
	put_file("x.yml", "vars: {a: {type: string, source: literal, value: outer}}\nm: {$include: i.yml}\ny: $a\n");
	put_file("none.yml", "z: 1\nx: $b\n");
	assert_int_equal(settings_tree_load(in_folder("x.yml"), collect_report, NULL, &tree), 0);
	map = setting_child(settings_tree_root(tree), "m");
	assert_string_equal(setting_child(map, "x")->string, "inner");
	assert_string_equal(setting_child(map, "price")->string, "$a");
	assert_string_equal(setting_child(settings_tree_root(tree), "y")->string, "outer");
	settings_tree_free(tree);
	assert_text_fails("vars: {b: {type: int, source: literal, value: 1}}\nm: {$include: none.yml}\n",
			  "error none.yml:2: the variable $b is not defined");
}

/* --- $ref --- */

static void references_copy_a_value_of_the_same_file(void **state)
{
	(void)state;
	assert_text_loads("a: {b: [x, {c: 5}], '7': seven}\n"
			  "r1: {$ref: a.b}\nr2: {$ref: a.b.1.c}\nr3: [{$ref: a.7}]\nr4: {$ref: r2}\n"
			  "r5: {$ref: a, other: 1}\nr6: {$ref: 5}\nr7: {$ref: r1.1.c}\n",
			  "{\"a\":{\"7\":\"seven\",\"b\":[\"x\",{\"c\":5}]},\"r1\":[\"x\",{\"c\":5}],\"r2\":5,"
			  "\"r3\":[\"seven\"],\"r4\":5,\"r5\":{\"$ref\":\"a\",\"other\":1},\"r6\":{\"$ref\":5},\"r7\":5}");
}

static void references_see_what_was_included(void **state)
{
	(void)state;
	put_file("i.yml", "shared: {x: 1}\nown: {$ref: shared.x}\n");
	assert_text_loads("$include: i.yml\ny: {$ref: shared.x}\n", "{\"own\":1,\"shared\":{\"x\":1},\"y\":1}");
	assert_text_fails("m: {$include: i.yml}\ny: {$ref: shared.x}\n",
			  "error x.yml:2: $ref: there is nothing at 'shared.x'");
}

static void references_are_replaced_before_variables(void **state)
{
	(void)state;
	assert_text_loads("vars: {v: {type: int, source: literal, value: 5}}\na: $v\nb: {$ref: a}\n", "{\"a\":5,\"b\":5}");
}

static void wrong_references_name_their_line(void **state)
{
	static const char *const wrong[] = { "none", "a.c", "a.b.2", "a.b.x", "a.b.00000000000", "a..b", "", "a.b.0.x" };
	char text[128], report[128];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(text, sizeof(text), "a: {b: [1, 2]}\nr:\n  $ref: '%s'\n", wrong[i]);
		snprintf(report, sizeof(report), "error x.yml:3: $ref: there is nothing at '%s'", wrong[i]);
		assert_text_fails(text, report);
	}
	assert_text_fails("a: {$ref: b}\nb: {$ref: a}\n", "x.yml:");
	assert_text_fails("a: {b: {$ref: a}}\n", "x.yml:");
	assert_text_fails("a: {$ref: a.b}\n", "x.yml:1: $ref: there is nothing at 'a.b'");
}

/* --- vars --- */

static void variables_come_from_three_sources(void **state)
{
	int answers[2], real_stdin = dup(STDIN_FILENO);

	(void)state;
	setenv("SETTINGS_TEST_SET", "from env", 1);
	setenv("SETTINGS_TEST_EMPTY", "", 1);
	unsetenv("SETTINGS_TEST_UNSET");
	assert_text_loads("vars:\n"
			  "  a: {type: string, source: env, variable: SETTINGS_TEST_SET}\n"
			  "  b: {type: string, source: env, variable: SETTINGS_TEST_UNSET, default: def}\n"
			  "  c: {type: string, source: env, variable: SETTINGS_TEST_UNSET}\n"
			  "  d: {type: int, source: env, variable: SETTINGS_TEST_UNSET, default: 7, required: true}\n"
			  "  e: {type: any, source: literal, value: {x: [1]}}\n"
			  "  f: {type: string, source: env, variable: SETTINGS_TEST_EMPTY, default: def}\n"
			  "v: [$a, $b, $c, $d, $e, $f]\n",
			  "{\"v\":[\"from env\",\"def\",null,7,{\"x\":[1]},\"\"]}");
	assert_int_equal(pipe(answers), 0);
	assert_int_equal(write(answers[1], "first answer\n42\r\n", 17), 17);
	close(answers[1]);
	dup2(answers[0], STDIN_FILENO);
	close(answers[0]);
	assert_text_loads("vars:\n  p: {type: string, source: prompt, sensitive: true}\n  q: {type: int, source: prompt}\n"
			  "v: [$p, $q]\n", "{\"v\":[\"first answer\",42]}");
	assert_text_fails("vars:\n  p: {type: string, source: prompt}\n", "x.yml:2: vars.p: nothing was entered");
	dup2(real_stdin, STDIN_FILENO);
	close(real_stdin);
}

static void variables_have_types(void **state)
{
	(void)state;
	assert_text_loads("vars:\n"
			  "  a: {type: int, source: literal, value: '12'}\n"
			  "  b: {type: int, source: literal, value: 12}\n"
			  "  c: {type: int, source: literal, value: 12.0}\n"
			  "  d: {type: float, source: literal, value: '1.5'}\n"
			  "  e: {type: float, source: literal, value: 2}\n"
			  "  f: {type: json, source: literal, value: '{\"x\": [1, true]}'}\n"
			  "  g: {type: yaml, source: literal, value: '{x: [1, yes]}'}\n"
			  "  h: {type: any, source: literal, value: yes}\n"
			  "  i: {type: int, source: literal, value: '-12'}\n"
			  "v: [$a, $b, $c, $d, $e, $f, $g, $h, $i]\n",
			  "{\"v\":[12,12,12,1.5,2,{\"x\":[1,true]},{\"x\":[1,true]},true,-12]}");
}

static void wrong_values_do_not_fit_their_type(void **state)
{
	static const struct {
		const char *type, *value;
	} wrong[] = {
		{ "int", "x" },	     { "int", "'1.5'" }, { "int", "1.5" },  { "int", "''" },	    { "int", "[1]" },
		{ "int", "'0x10'" }, { "float", "x" },	 { "float", "''" }, { "float", "'1.5x'" },  { "float", "yes" },
		{ "string", "5" },   { "string", "[]" }, { "json", "5" },   { "json", "'secret{'" }, { "yaml", "{}" },
		{ "yaml", "'[1'" },  { "float", "inf" }, { "float", "'nan'" },
		{ "int", "'99999999999999999999'" },
	};
	char text[128], report[128];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(text, sizeof(text), "a: 1\nvars:\n  v: {type: %s, source: literal, value: %s}\n", wrong[i].type,
			 wrong[i].value);
		snprintf(report, sizeof(report), "error x.yml:3: vars.v: the value is not of type %s", wrong[i].type);
		assert_text_fails(text, report);
		assert_null(strstr(reports, "secret"));
	}
}

static void wrong_declarations_name_their_line(void **state)
{
	(void)state;
	assert_text_fails("vars: 5\n", "error x.yml:1: vars: must be a map, not a whole number");
	assert_text_fails("vars:\n  v: 5\n", "error x.yml:2: vars.v: must be a map, not a whole number");
	assert_text_fails("vars:\n  v: {source: literal, value: 1}\n", "error x.yml:2: vars.v: the key 'type' is missing");
	assert_text_fails("vars:\n  v: {type: int, value: 1}\n", "error x.yml:2: vars.v: the key 'source' is missing");
	assert_text_fails("vars:\n  v: {type: text, source: literal, value: 1}\n",
			  "error x.yml:2: vars.v.type: must be string, int, float, json, yaml or any, not 'text'");
	assert_text_fails("vars:\n  v: {type: int, source: file, value: 1}\n",
			  "error x.yml:2: vars.v.source: must be env, literal or prompt, not 'file'");
	assert_text_fails("vars:\n  v: {type: int, source: literal}\n", "vars.v: the key 'value' is missing");
	assert_text_fails("vars:\n  v: {type: int, source: env}\n", "vars.v: the key 'variable' is missing");
	assert_text_fails("vars:\n  v: {type: int, source: env, variable: 5}\n",
			  "vars.v.variable: must be text, not a whole number");
	assert_text_fails("vars:\n  v: {type: int, source: env, variable: SETTINGS_TEST_UNSET, required: 1}\n",
			  "vars.v.required: must be true or false");
	assert_text_fails("vars:\n  v: {type: int, source: env, variable: SETTINGS_TEST_UNSET, required: true}\n",
			  "vars.v: the environment variable SETTINGS_TEST_UNSET is not set, and it is required");
	/* a faulty variable is no undefined one */
	assert_text_fails("vars:\n  v: 5\na: $v\n", "vars.v: must be a map");
	assert_null(strstr(reports, "not defined"));
	assert_text_loads("vars:\n  a-b: {type: int, source: literal, value: 1, wrong: 1}\n", "{}");
	assert_reported("warning x.yml:2: vars.a-b: the key 'wrong' is not known");
	assert_reported("warning x.yml:2: vars.a-b: no $NAME can mean it");
}

#define VARIABLES \
	"vars:\n  x: {type: string, source: literal, value: ex}\n  n: {type: int, source: literal, value: 5}\n" \
	"  f: {type: float, source: literal, value: 1.50}\n  l: {type: any, source: literal, value: [1]}\n" \
	"  d: {type: string, source: literal, value: '$x$$'}\n  Long_1: {type: string, source: literal, value: L}\n"

static void variables_are_put_into_texts(void **state)
{
	(void)state;
	assert_text_loads(VARIABLES "v: [$x, $n, a$x, $x$x, '$x-$n', '$f%', '$Long_1$n', $l, {k: $x}, $x.yml]\n$x: 1\n",
			  "{\"$x\":1,\"v\":[\"ex\",5,\"aex\",\"exex\",\"ex-5\",\"1.5%\",\"L5\",[1],{\"k\":\"ex\"},"
			  "\"ex.yml\"]}");
}

static void dollars_are_escaped(void **state)
{
	(void)state;
	assert_text_loads(VARIABLES "v: [$$x, $$$$x, 'a$$x', '$$', '$', 'a$', '^x$', '$5', '$ x', '$$5', $d, 'a$d', '$x$$n']\n",
			  "{\"v\":[\"$x\",\"$$x\",\"a$x\",\"$\",\"$\",\"a$\",\"^x$\",\"$5\",\"$ x\",\"$5\",\"$x$$\",\"a$x$$\","
			  "\"ex$n\"]}");
}

static void what_cannot_be_put_in_names_its_line(void **state)
{
	(void)state;
	assert_text_fails("a: 1\nb:\n  - $none\n", "error x.yml:3: the variable $none is not defined");
	assert_text_fails("a: 1\nb: 'x $none y'\n", "error x.yml:2: the variable $none is not defined");
	assert_text_fails(VARIABLES "a: 'x$l'\n", "the variable $l is a list: it can only stand alone");
	assert_text_fails("vars: {u: {type: string, source: env, variable: SETTINGS_TEST_UNSET}}\na: 'x$u'\n",
			  "error x.yml:2: the variable $u is nothing: it can only stand alone");
}

static void typed_values_keep_their_type_and_place(void **state)
{
	struct settings_tree *tree;
	const struct setting *node;

	(void)state;
	put_file("x.yml", VARIABLES "a: $n\nb: '5$n'\nm: $l\n");
	assert_int_equal(settings_tree_load(in_folder("x.yml"), collect_report, NULL, &tree), 0);
	node = setting_child(settings_tree_root(tree), "a");
	assert_int_equal(node->type, SETTING_INT);
	assert_int_equal(node->line, 8);
	node = setting_child(settings_tree_root(tree), "b");
	assert_int_equal(node->type, SETTING_STRING);
	assert_string_equal(node->string, "55");
	assert_int_equal(setting_child(settings_tree_root(tree), "m")->type, SETTING_LIST);
	assert_null(setting_child(settings_tree_root(tree), "vars"));
	assert_non_null(setting_child(settings_tree_root(tree), "_vars"));
	settings_tree_free(tree);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(maps_are_included_at_any_depth),
		TEST(several_files_are_included_in_order),
		TEST(the_including_file_wins),
		TEST(a_map_of_an_include_alone_becomes_any_value),
		TEST(included_lists_are_spliced_into_lists),
		TEST(wrong_includes_name_their_line),
		TEST(including_in_a_circle_is_an_error),
		TEST(a_file_may_be_included_twice),
		TEST(path_and_dir_are_those_of_the_file_itself),
		TEST(variables_do_not_reach_into_included_files),
		TEST(references_copy_a_value_of_the_same_file),
		TEST(references_see_what_was_included),
		TEST(references_are_replaced_before_variables),
		TEST(wrong_references_name_their_line),
		TEST(variables_come_from_three_sources),
		TEST(variables_have_types),
		TEST(wrong_values_do_not_fit_their_type),
		TEST(wrong_declarations_name_their_line),
		TEST(variables_are_put_into_texts),
		TEST(dollars_are_escaped),
		TEST(what_cannot_be_put_in_names_its_line),
		TEST(typed_values_keep_their_type_and_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
