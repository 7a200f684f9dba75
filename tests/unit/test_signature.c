// SPDX-License-Identifier: Apache-2.0
/* Signatures and verification (protocol page 3.5, 3.6) with the recorded
 * directory and with certificates made here. */
#include "directory_vectors.h"
#include "made_certificates.h"

#include <time.h>

static char reason[SIGNATURE_REASON_SIZE];

static void verifies_every_recorded_record(void **state)
{
	struct verifier *verifier = vector_verifier();
	json_t *records = vector_records(), *pins = json_object(), *record;
	size_t i;

	(void)state;
	json_array_foreach(records, i, record)
	{
		if (!verifier_is_authentic(verifier, record, reason) ||
		    !verifier_is_admissible(verifier, record, pins, record_seconds(record), reason))
			fail_msg("record %zu: %s", i, reason);
		assert_int_equal(pins_note(pins, record), 0);
	}
	assert_string_equal(json_text(pins, "hd-1"), "c5d18078a03b6fc4bdfdb87da6c6ac629813306c8e087d8b34f7113f72f5f944");
	json_decref(pins);
	json_decref(records);
	verifier_free(verifier);
}

static void a_changed_record_is_not_authentic(void **state)
{
	struct verifier *verifier = vector_verifier();
	json_t *records = vector_records();
	json_t *changed = json_deep_copy(json_array_get(records, 1));
	char hash[STRUCTURED_HASH_TEXT_SIZE];

	(void)state;
	json_object_set_new(json_object_get(changed, "record"), "name", json_string("somebody"));
	assert_false(verifier_is_authentic(verifier, changed, reason));
	assert_string_equal(reason, "the hash does not fit the record");
	assert_int_equal(record_hash(signed_record_inner(changed), hash), 0);
	json_object_set_new(changed, "hash", json_string(hash));
	assert_false(verifier_is_authentic(verifier, changed, reason));
	assert_string_equal(reason, "the signature is wrong");
	json_decref(changed);
	/* The link to the parent is signed too. */
	changed = json_deep_copy(json_array_get(records, 1));
	json_object_set_new(changed, "parent_hash", json_string(""));
	assert_false(verifier_is_authentic(verifier, changed, reason));
	assert_string_equal(reason, "the signature is wrong");
	json_decref(changed);
	json_decref(records);
	verifier_free(verifier);
}

/* A stranger's certificate of any size is cheap: it is not parsed, let alone kept. */
static void a_large_certificate_is_refused(void **state)
{
	struct verifier *verifier = vector_verifier();
	json_t *records = vector_records(), *changed = json_deep_copy(json_array_get(records, 1));
	json_t *signature = json_object_get(changed, "signature");
	_free_ char *large = malloc((16 << 10) + 2);
	const char *pem = json_text(signature, "c");
	size_t length = strlen(pem);

	(void)state;
	memset(large, '\n', (16 << 10) + 1);
	memcpy(large, pem, length);
	large[16 << 10] = 0;
	json_object_set_new(signature, "c", json_string(large));
	if (!verifier_is_authentic(verifier, changed, reason))
		fail_msg("%s", reason);
	large[16 << 10] = '\n';
	large[(16 << 10) + 1] = 0;
	json_object_set_new(signature, "c", json_string(large));
	assert_false(verifier_is_authentic(verifier, changed, reason));
	assert_string_equal(reason, "the signing certificate is larger than 16 KiB");
	json_decref(changed);
	json_decref(records);
	verifier_free(verifier);
}

static void time_and_pins_decide_what_is_admissible(void **state)
{
	struct verifier *verifier = vector_verifier();
	json_t *records = vector_records(), *pins = json_object();
	json_t *record = json_array_get(records, 0);
	int64_t when = record_seconds(record);

	(void)state;
	assert_true(verifier_is_admissible(verifier, record, pins, when, reason));
	assert_false(verifier_is_admissible(verifier, record, pins, when - 40 * 86400, reason));
	assert_true(verifier_is_admissible(verifier, record, pins, when, reason));
	assert_false(verifier_is_admissible(verifier, record, pins, when + 5000 * (int64_t)86400, reason));
	json_object_set_new(pins, "hd-2", json_string("00"));
	assert_true(verifier_is_admissible(verifier, record, pins, when, reason));
	json_object_set_new(pins, "hd-1", json_string("00"));
	assert_false(verifier_is_admissible(verifier, record, pins, when, reason));
	assert_string_equal(reason, "the directory pins another signing key of hd-1");
	json_decref(pins);
	json_decref(records);
	verifier_free(verifier);
}

static void the_last_listed_signing_key_is_pinned(void **state)
{
	json_t *pins = json_object();
	json_t *first = json_of("{\"record\":{\"name\":\"a\",\"section\":\"certificates\",\"data\":[{\"fingerprint\":\"1\",\"key_usage\":"
				"\"signing\"},{\"fingerprint\":\"2\",\"key_usage\":\"signing\"},{\"fingerprint\":\"3\",\"key_usage\":"
				"\"encryption\"}]}}");
	json_t *without = json_of("{\"record\":{\"name\":\"a\",\"section\":\"certificates\",\"data\":[]}}");
	json_t *other = json_of("{\"record\":{\"name\":\"a\",\"section\":\"groups\",\"data\":[]}}");

	(void)state;
	assert_int_equal(pins_note(pins, first), 0);
	assert_string_equal(json_text(pins, "a"), "2");
	assert_int_equal(pins_note(pins, without), 0);
	assert_int_equal(pins_note(pins, other), 0);
	assert_string_equal(json_text(pins, "a"), "2");
	json_decref(first);
	json_decref(without);
	json_decref(other);
	json_decref(pins);
}

static struct signer *parse_made(struct made *made)
{
	_free_ char *pem = pem_of(made->certificate);

	return signer_parse(pem, strlen(pem), reason);
}

static void signs_what_it_then_verifies(void **state)
{
	struct made root = make(NULL, "critical,CA:TRUE", NULL, NULL, NULL);
	struct made leaf = make(&root, NULL, "URI:iris-name://hd-1,URI:iris-group://sd-admin,DNS:hd-1", "digitalSignature", NULL);
	_free_ char *key_file = NULL;
	struct string_list roots, none = { 0 };
	uint8_t digest[32] = { 1, 2, 3 };
	struct signature_authority *authority;
	struct signing_key *key;
	const struct signer *signer;
	json_t *signature;
	int64_t from, until;

	(void)state;
	write_pem(&root, NULL);
	write_pem(&leaf, &key_file);
	roots = file_list(&root.file);
	key = signing_key_load(leaf.file, key_file, reason);
	if (!key)
		fail_msg("%s", reason);
	assert_null(signing_key_load(root.file, key_file, reason)); /* no key usage, other key */
	assert_null(signing_key_load(leaf.file, "/nonexistent", reason));
	signer = signing_key_signer(key);
	assert_string_equal(signer_name(signer), "hd-1");
	assert_true(signer_has_group(signer, "sd-admin"));
	assert_true(signer_has_dns_name(signer, "hd-1"));
	assert_false(signer_has_dns_name(signer, "hd-2"));
	signature = signing_key_sign(key, digest, sizeof(digest));
	assert_non_null(signature);
	assert_true(signer_verify(signer, digest, sizeof(digest), json_text(signature, "r"), json_text(signature, "s")));
	assert_false(signer_verify(signer, digest, sizeof(digest), json_text(signature, "s"), json_text(signature, "r")));
	assert_false(signer_verify(signer, digest, sizeof(digest), "0", "0"));
	assert_false(signer_verify(signer, digest, sizeof(digest), "-1", "1"));
	assert_false(signer_verify(signer, digest, sizeof(digest), "", ""));
	digest[0] ^= 1;
	assert_false(signer_verify(signer, digest, sizeof(digest), json_text(signature, "r"), json_text(signature, "s")));
	authority = signature_authority_load(&roots, &none, reason);
	assert_true(signer_check_chain(signer, authority, time(NULL), &from, &until, reason));
	assert_true(until - from >= 86400 + 3600 - 2);
	assert_false(signer_check_chain(signer, authority, until + 1, NULL, NULL, reason));
	signature_authority_free(authority);
	json_decref(signature);
	signing_key_free(key);
	unlink(key_file);
	made_free(&leaf);
	made_free(&root);
}

static void refuses_certificates_that_do_not_sign(void **state)
{
	struct made no_usage = make(NULL, NULL, "URI:iris-name://a", NULL, NULL);
	struct made wrong_usage = make(NULL, NULL, "URI:iris-name://a", "keyEncipherment", NULL);
	struct made bad_name = make(NULL, NULL, "URI:iris-name://a%2fb", "digitalSignature", NULL);
	_free_ char *pem = pem_of(no_usage.certificate);

	(void)state;
	assert_null(parse_made(&no_usage));
	assert_null(parse_made(&wrong_usage));
	assert_null(parse_made(&bad_name));
	assert_null(signer_parse("", 0, reason));
	assert_null(signer_parse("-----BEGIN X-----\nAAAA\n-----END X-----\n", 40, reason));
	assert_null(signer_parse(pem, strlen(pem) / 2, reason));
	made_free(&no_usage);
	made_free(&wrong_usage);
	made_free(&bad_name);
}

static void reads_groups_and_the_last_name(void **state)
{
	struct made made = make(NULL, NULL,
				"URI:iris-name://first,URI:IRIS-GROUP://a,URI:iris-group://,URI:iris-group://b/x,URI:http://c,"
				"URI:iris-name://last",
				"digitalSignature", NULL);
	struct signer *signer = parse_made(&made);

	(void)state;
	assert_non_null(signer);
	assert_string_equal(signer_name(signer), "last");
	assert_true(signer_has_group(signer, "a"));
	assert_true(signer_has_group(signer, "b"));
	assert_false(signer_has_group(signer, "c"));
	assert_false(signer_has_group(signer, ""));
	signer_free(signer);
	made_free(&made);
}

static void extended_usage_must_permit_code_signing(void **state)
{
	static const struct {
		const char *usage;
		bool permitted;
	} cases[] = { { NULL, true }, { "codeSigning", true }, { "anyExtendedKeyUsage", true }, { "serverAuth", false } };
	struct string_list none = { 0 };

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(*cases); i++) {
		bool at_root = i % 2;
		struct made root = make(NULL, "critical,CA:TRUE", NULL, NULL, at_root ? cases[i / 2].usage : NULL);
		struct made leaf = make(&root, NULL, "URI:iris-name://a", "digitalSignature", at_root ? NULL : cases[i / 2].usage);
		struct signer *signer = parse_made(&leaf);
		struct signature_authority *authority;
		struct string_list roots;

		write_pem(&root, NULL);
		roots = file_list(&root.file);
		authority = signature_authority_load(&roots, &none, reason);
		assert_int_equal(signer_check_chain(signer, authority, time(NULL), NULL, NULL, reason), cases[i / 2].permitted);
		signature_authority_free(authority);
		signer_free(signer);
		made_free(&leaf);
		made_free(&root);
	}
}

static void a_strange_root_does_not_verify(void **state)
{
	struct made root = make(NULL, "critical,CA:TRUE", NULL, NULL, NULL);
	struct made other = make(NULL, "critical,CA:TRUE", NULL, NULL, NULL);
	struct made leaf = make(&root, NULL, "URI:iris-name://a", "digitalSignature", NULL);
	struct signer *signer = parse_made(&leaf);
	struct string_list none = { 0 }, both;
	char *files[2];
	struct signature_authority *authority;

	(void)state;
	write_pem(&root, NULL);
	write_pem(&other, NULL);
	files[0] = other.file;
	files[1] = root.file;
	both = (struct string_list){ files, 1 };
	authority = signature_authority_load(&both, &none, reason);
	assert_false(signer_check_chain(signer, authority, time(NULL), NULL, NULL, reason));
	signature_authority_free(authority);
	both.count = 2; /* each root is tried alone */
	authority = signature_authority_load(&both, &none, reason);
	assert_true(signer_check_chain(signer, authority, time(NULL), NULL, NULL, reason));
	signature_authority_free(authority);
	signer_free(signer);
	made_free(&leaf);
	made_free(&root);
	made_free(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verifies_every_recorded_record),
		cmocka_unit_test(a_changed_record_is_not_authentic),
		cmocka_unit_test(a_large_certificate_is_refused),
		cmocka_unit_test(time_and_pins_decide_what_is_admissible),
		cmocka_unit_test(the_last_listed_signing_key_is_pinned),
		cmocka_unit_test(signs_what_it_then_verifies),
		cmocka_unit_test(refuses_certificates_that_do_not_sign),
		cmocka_unit_test(reads_groups_and_the_last_name),
		cmocka_unit_test(extended_usage_must_permit_code_signing),
		cmocka_unit_test(a_strange_root_does_not_verify),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
