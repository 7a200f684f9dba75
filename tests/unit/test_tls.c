// SPDX-License-Identifier: Apache-2.0
/* Names and fingerprints of certificates; which handshakes succeed under which
 * settings, between contexts joined by memory. */
#include "base/log.h"
#include "tls/context.h"
#include "tls/identity.h"

#include "certificates.h"

#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/test-tls-XXXXXX";
static struct test_identity root, middle, server, client, foreign_root, foreign;
static char *root_file, *root_key, *chains[8], *keys[8];
enum { SERVER, CLIENT, FOREIGN, SERVER_ONLY, FOREIGN_ROOT, BOTH_ROOTS };

static int set_up(void **state)
{
	struct test_identity usage;

	(void)state;
	if (!mkdtemp(folder))
		return -1;
	root = test_identity_make("root", NULL, NULL, NULL);
	middle = test_identity_make("middle", &root, NULL, NULL);
	server = test_identity_make("server-1", &middle, "DNS:server-1,DNS:*.server-1.local,IP:127.0.0.1", NULL);
	client = test_identity_make("client-1", &middle, "DNS:client-1", "clientAuth");
	usage = test_identity_make("server-2", &middle, "DNS:server-2", "serverAuth");
	foreign_root = test_identity_make("foreign root", NULL, NULL, NULL);
	foreign = test_identity_make("client-1", &foreign_root, "DNS:client-1", NULL);
	test_identity_write(folder, "root", &root, NULL, &root_file, &root_key);
	test_identity_write(folder, "server", &server, &middle, &chains[SERVER], &keys[SERVER]);
	test_identity_write(folder, "client", &client, &middle, &chains[CLIENT], &keys[CLIENT]);
	test_identity_write(folder, "foreign", &foreign, NULL, &chains[FOREIGN], &keys[FOREIGN]);
	test_identity_write(folder, "usage", &usage, &middle, &chains[SERVER_ONLY], &keys[SERVER_ONLY]);
	test_identity_write(folder, "foreign-root", &foreign_root, NULL, &chains[FOREIGN_ROOT], &keys[FOREIGN_ROOT]);
	test_identity_write(folder, "both", &foreign_root, &root, &chains[BOTH_ROOTS], &keys[BOTH_ROOTS]);
	test_identity_free(&usage);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (int i = 0; i < 6; i++) {
		unlink(chains[i]);
		unlink(keys[i]);
		free(chains[i]);
		free(keys[i]);
	}
	unlink(root_file);
	unlink(root_key);
	free(root_file);
	free(root_key);
	test_identity_free(&root);
	test_identity_free(&middle);
	test_identity_free(&server);
	test_identity_free(&client);
	test_identity_free(&foreign_root);
	test_identity_free(&foreign);
	return rmdir(folder);
}

static struct tls_settings settings_for(int identity)
{
	struct tls_settings settings = {
		.ca_certificate_files = { &root_file, 1 },
		.certificate_file = identity < 0 ? NULL : chains[identity],
		.key_file = identity < 0 ? NULL : keys[identity],
		.verify_client = true,
	};
	return settings;
}

static void read_names(void **state)
{
	struct certificate_identity identity;

	(void)state;
	assert_int_equal(certificate_identity_read(server.certificate, &identity), 0);
	assert_int_equal(identity.name_count, 3);
	assert_string_equal(identity.names[0], "server-1");
	assert_string_equal(identity.names[1], "server-1");
	assert_string_equal(identity.names[2], "*.server-1.local");
	assert_int_equal(strlen(identity.fingerprint), 64);
	certificate_identity_clear(&identity);
	assert_int_equal(certificate_identity_read(NULL, &identity), -EINVAL);
}

static void leave_names_with_nul_out(void **state)
{
	X509 *certificate = X509_new();
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	struct certificate_identity identity;

	(void)state;
	for (int i = 0; i < 2; i++) {
		GENERAL_NAME *name = GENERAL_NAME_new();
		ASN1_IA5STRING *text = ASN1_IA5STRING_new();

		if (i)
			ASN1_STRING_set(text, "hd-2", 4);
		else
			ASN1_STRING_set(text, "hd-1\0.evil", 10);
		GENERAL_NAME_set0_value(name, GEN_DNS, text);
		sk_GENERAL_NAME_push(names, name);
	}
	X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, 0);
	GENERAL_NAMES_free(names);
	X509_set_pubkey(certificate, server.key);
	X509_sign(certificate, server.key, EVP_sha256());
	assert_int_equal(certificate_identity_read(certificate, &identity), 0);
	assert_int_equal(identity.name_count, 1);
	assert_string_equal(identity.names[0], "hd-2");
	certificate_identity_clear(&identity);
	X509_free(certificate);
}

static void match_recorded_fingerprint(void **state)
{
	const char *vectors = getenv("TEST_VECTORS") ? getenv("TEST_VECTORS") : "tests/vectors";
	char path[300];
	struct certificate_identity identity;

	(void)state;
	snprintf(path, sizeof(path), "%s/intermediate.crt", vectors);
	FILE *file = fopen(path, "r");
	if (!file)
		skip();
	X509 *certificate = PEM_read_X509(file, NULL, NULL, NULL);
	fclose(file);
	assert_int_equal(certificate_identity_read(certificate, &identity), 0);
	assert_string_equal(identity.names[0], "intermediate");
	assert_string_equal(identity.fingerprint, "6f2c91a630070ba88207ec60cb5383da4b24f3e662919b006c063e084509dba4");
	certificate_identity_clear(&identity);
	X509_free(certificate);
}

/* Runs a handshake to its end. Returns whether both sides finished it; texts of
 * the first failure of each side go to `why`. */
static bool shake_hands(const struct tls_settings *of_server, const struct tls_settings *of_client, const char *name,
			const char *server_alpn, const char *client_alpn, char why[2][256], const char **alpn)
{
	SSL_CTX *contexts[2] = { tls_context_server(of_server, server_alpn), tls_context_client(of_client, client_alpn) };
	BIO *pipes[2];
	SSL *sides[2];
	bool done[2] = { false }, failed[2] = { false };

	assert_non_null(contexts[0]);
	assert_non_null(contexts[1]);
	assert_int_equal(BIO_new_bio_pair(&pipes[0], 0, &pipes[1], 0), 1);
	for (int i = 0; i < 2; i++) {
		sides[i] = SSL_new(contexts[i]);
		SSL_set_bio(sides[i], pipes[i], pipes[i]);
		why[i][0] = '\0';
	}
	SSL_set_accept_state(sides[0]);
	SSL_set_connect_state(sides[1]);
	assert_int_equal(tls_connection_expect(sides[1], name, of_client->insecure_skip_verify), 0);
	for (int round = 0; round < 20; round++) {
		int i = round % 2 == 0;
		char byte;

		if (failed[i])
			continue;
		ERR_clear_error();
		int result = done[i] ? SSL_read(sides[i], &byte, 1) : SSL_do_handshake(sides[i]);
		if (result == 1)
			done[i] = true;
		else if (SSL_get_error(sides[i], result) != SSL_ERROR_WANT_READ) {
			failed[i] = true;
			snprintf(why[i], 256, "%s", tls_error_text(sides[i]));
		}
	}
	if (alpn) {
		const unsigned char *chosen;
		unsigned length;

		SSL_get0_alpn_selected(sides[1], &chosen, &length);
		*alpn = length == 2 ? "h2" : length == 8 ? "http/1.1" : "";
	}
	for (int i = 0; i < 2; i++) {
		SSL_free(sides[i]);
		SSL_CTX_free(contexts[i]);
	}
	return done[0] && done[1] && !failed[0] && !failed[1];
}

static void accept_a_known_client(void **state)
{
	struct tls_settings of_server = settings_for(SERVER), of_client = settings_for(CLIENT);
	const char *alpn;
	char why[2][256];

	(void)state;
	assert_true(shake_hands(&of_server, &of_client, "server-1", "h2", "h2", why, &alpn));
	assert_string_equal(alpn, "h2");
	assert_true(shake_hands(&of_server, &of_client, "a.server-1.local", "h2", NULL, why, &alpn));
	assert_string_equal(alpn, "");
	assert_true(shake_hands(&of_server, &of_client, "127.0.0.1", NULL, "h2", why, NULL));
}

static void refuse_a_wrong_server_name(void **state)
{
	struct tls_settings of_server = settings_for(SERVER), of_client = settings_for(CLIENT);
	char why[2][256];

	(void)state;
	assert_false(shake_hands(&of_server, &of_client, "server-2", NULL, NULL, why, NULL));
	assert_string_equal(why[1], "certificate verify failed (hostname mismatch)");
	of_client.insecure_skip_verify = true;
	assert_true(shake_hands(&of_server, &of_client, "server-2", NULL, NULL, why, NULL));
}

static void refuse_other_protocols(void **state)
{
	struct tls_settings of_server = settings_for(SERVER), of_client = settings_for(CLIENT);
	char why[2][256];

	(void)state;
	assert_false(shake_hands(&of_server, &of_client, "server-1", "h2", "http/1.1", why, NULL));
}

static void refuse_clients_without_a_good_certificate(void **state)
{
	struct tls_settings of_server = settings_for(SERVER), none = settings_for(-1), wrong = settings_for(FOREIGN),
			    usage = settings_for(SERVER_ONLY);
	char why[2][256];

	(void)state;
	assert_false(shake_hands(&of_server, &none, "server-1", NULL, NULL, why, NULL));
	assert_string_equal(why[0], "peer did not return a certificate");
	assert_false(shake_hands(&of_server, &wrong, "server-1", NULL, NULL, why, NULL));
	assert_string_equal(why[0], "certificate verify failed (unable to get local issuer certificate)");
	assert_false(shake_hands(&of_server, &usage, "server-1", NULL, NULL, why, NULL));
	assert_non_null(strstr(why[0], "certificate purpose"));
	of_server.verify_client = false;
	assert_true(shake_hands(&of_server, &none, "server-1", NULL, NULL, why, NULL));
	of_server.request_client_cert = true;
	assert_true(shake_hands(&of_server, &none, "server-1", NULL, NULL, why, NULL));
	assert_true(shake_hands(&of_server, &wrong, "server-1", NULL, NULL, why, NULL));
}

static void trust_several_certificates_of_one_file(void **state)
{
	struct tls_settings of_server = settings_for(SERVER), own = settings_for(CLIENT), other = settings_for(FOREIGN);
	char why[2][256];

	(void)state;
	of_server.ca_certificate_files.items = &chains[BOTH_ROOTS];
	assert_true(shake_hands(&of_server, &own, "server-1", NULL, NULL, why, NULL));
	assert_true(shake_hands(&of_server, &other, "server-1", NULL, NULL, why, NULL));
}

static void name_files_that_cannot_be_used(void **state)
{
	struct tls_settings settings = settings_for(SERVER);
	char *missing = "/nonexistent/root.crt";

	(void)state;
	settings.key_file = keys[CLIENT];
	assert_null(tls_context_server(&settings, "h2"));
	settings.key_file = missing;
	assert_null(tls_context_server(&settings, "h2"));
	settings = settings_for(SERVER);
	settings.ca_certificate_files.items = &missing;
	assert_null(tls_context_server(&settings, "h2"));
	assert_null(tls_context_client(&settings, "h2"));
	settings = settings_for(-1);
	assert_null(tls_context_server(&settings, "h2"));
	settings.ca_certificate_files.items = &keys[SERVER]; /* a file, but no certificate in it */
	assert_null(tls_context_client(&settings, "h2"));
}

static void refuse_an_own_certificate_that_has_expired(void **state)
{
	struct test_identity old = test_identity_make("old", &root, "DNS:old", NULL);
	char *chain, *key;

	(void)state;
	X509_gmtime_adj(X509_getm_notAfter(old.certificate), -5);
	assert_true(X509_sign(old.certificate, root.key, EVP_sha256()) > 0);
	test_identity_write(folder, "old", &old, NULL, &chain, &key);
	struct tls_settings settings = { .ca_certificate_files = { &root_file, 1 }, .certificate_file = chain, .key_file = key };
	assert_null(tls_context_server(&settings, "h2"));
	assert_null(tls_context_client(&settings, "h2"));
	unlink(chain);
	unlink(key);
	free(chain);
	free(key);
	test_identity_free(&old);
}

static void warn_of_an_own_certificate_that_is_not_valid_yet(void **state)
{
	struct test_identity early = test_identity_make("early", &root, "DNS:early", NULL);
	unsigned warnings = log_warning_count();
	char *chain, *key;

	(void)state;
	X509_gmtime_adj(X509_getm_notBefore(early.certificate), 3600);
	X509_gmtime_adj(X509_getm_notAfter(early.certificate), 365 * 86400);
	assert_true(X509_sign(early.certificate, root.key, EVP_sha256()) > 0);
	test_identity_write(folder, "early", &early, NULL, &chain, &key);
	struct tls_settings settings = { .ca_certificate_files = { &root_file, 1 }, .certificate_file = chain, .key_file = key };
	for (int i = 0; i < 2; i++) {
		SSL_CTX *context = tls_context_server(&settings, "h2");
		assert_non_null(context);
		SSL_CTX_free(context);
		assert_int_equal(log_warning_count() - warnings, 1);
	}
	unlink(chain);
	unlink(key);
	free(chain);
	free(key);
	test_identity_free(&early);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(read_names),
		cmocka_unit_test(leave_names_with_nul_out),
		cmocka_unit_test(match_recorded_fingerprint),
		cmocka_unit_test(accept_a_known_client),
		cmocka_unit_test(refuse_a_wrong_server_name),
		cmocka_unit_test(refuse_other_protocols),
		cmocka_unit_test(refuse_clients_without_a_good_certificate),
		cmocka_unit_test(trust_several_certificates_of_one_file),
		cmocka_unit_test(refuse_an_own_certificate_that_has_expired),
		cmocka_unit_test(warn_of_an_own_certificate_that_is_not_valid_yet),
		cmocka_unit_test(name_files_that_cannot_be_used),
	};
	return cmocka_run_group_tests_name("tls", tests, set_up, tear_down);
}
