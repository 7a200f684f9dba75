// SPDX-License-Identifier: Apache-2.0
/* Own certificates and the own entry: each change is told once. */
#include "base/log.h"
#include "hyper/own_entry.h"
#include "tls/identity.h"

#include "certificates.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#define OTHER "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char folder[] = "/tmp/test-own-entry-XXXXXX";
static char *files[2][2];
static char fingerprints[2][FINGERPRINT_TEXT_SIZE];

static int set_up(void **state)
{
	struct test_identity ca = test_identity_make("ca", NULL, NULL, NULL);

	(void)state;
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "test");
	if (!mkdtemp(folder))
		return -1;
	for (int i = 0; i < 2; i++) {
		struct test_identity leaf = test_identity_make("hd-1", &ca, "DNS:hd-1", NULL);
		struct certificate_identity identity;

		test_identity_write(folder, i ? "server" : "client", &leaf, &ca, &files[i][0], &files[i][1]);
		assert_int_equal(certificate_identity_read(leaf.certificate, &identity), 0);
		memcpy(fingerprints[i], identity.fingerprint, FINGERPRINT_TEXT_SIZE);
		certificate_identity_clear(&identity);
		test_identity_free(&leaf);
	}
	test_identity_free(&ca);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		unlink(files[i / 2][i % 2]);
		free(files[i / 2][i % 2]);
	}
	return rmdir(folder);
}

static struct own_entry *create(int client, int server)
{
	struct tls_settings tls[2] = { { .certificate_file = files[client][0], .key_file = files[client][1] },
				       { .certificate_file = files[server][0], .key_file = files[server][1] } };
	struct grpc_client_settings grpc_client = { .tls = &tls[0] };
	struct grpc_server_settings grpc_server = { .tls = &tls[1] };
	struct channel_settings channels[] = {
		{ .name = "s", .type = CHANNEL_STDOUT },
		{ .name = "c", .type = CHANNEL_GRPC_CLIENT, .grpc_client = &grpc_client },
		{ .name = "d", .type = CHANNEL_GRPC_SERVER, .grpc_server = &grpc_server },
	};
	struct hyper_settings settings = { .name = "hd-1", .channels = channels, .channel_count = 3 };
	struct own_entry *own = NULL;

	assert_int_equal(own_entry_create(&settings, &own), 0);
	return own;
}

/* An entry with one or two certificates; `usage` of the first. */
static json_t *entry_of(const char *first, const char *usage, const char *second)
{
	json_t *entry = json_pack("{s:s, s:[{s:s, s:s}]}", "name", "hd-1", "certificates", "fingerprint", first, "key_usage",
				  usage);

	if (second)
		json_array_append_new(json_object_get(entry, "certificates"),
				      json_pack("{s:s, s:s}", "fingerprint", second, "key_usage", "encryption"));
	return entry;
}

/* What is logged by a look; takes the entry. */
static const char *look(struct own_entry *own, json_t *entry)
{
	static char said[2000];
	FILE *file = tmpfile();
	int real_stderr = dup(STDERR_FILENO);
	size_t length;

	dup2(fileno(file), STDERR_FILENO);
	own_entry_look(own, entry);
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	rewind(file);
	length = fread(said, 1, sizeof(said) - 1, file);
	said[length] = '\0';
	fclose(file);
	json_decref(entry);
	return said;
}

static void expect(const char *said, const char *level, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void expect(const char *said, const char *level, const char *format, ...)
{
	char wanted[300];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(wanted, sizeof(wanted), format, arguments);
	va_end(arguments);
	if (!strstr(said, wanted) || !strstr(said, level))
		fail_msg("wanted %s\nsaid %s", wanted, said);
	assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1); /* one line */
}

static void each_change_is_told_once(void **state)
{
	struct own_entry *own = create(0, 0);

	(void)state;
	assert_string_equal(look(own, NULL), "");
	expect(look(own, entry_of(OTHER, "encryption", NULL)), "level=warning",
	       "operator hd-1: peers refuse its certificate: its fingerprint is %.16s..., the service directory lists "
	       "0123456789abcdef...\"", fingerprints[0]);
	assert_string_equal(look(own, entry_of(OTHER, "encryption", NULL)), "");
	expect(look(own, entry_of(OTHER, "encryption", fingerprints[0])), "level=info",
	       "operator hd-1: the service directory lists its certificate %.16s... now", fingerprints[0]);
	assert_string_equal(look(own, entry_of(fingerprints[0], "encryption", NULL)), "");
	expect(look(own, entry_of(fingerprints[0], "signing", NULL)), "level=warning", "the service directory lists none");
	expect(look(own, entry_of(fingerprints[0], "encryption", NULL)), "level=info", "now");
	expect(look(own, NULL), "level=warning", "the service directory lists none");
	own_entry_free(own);
}

static void nothing_is_said_when_all_is_fine(void **state)
{
	struct own_entry *own = create(0, 1);

	(void)state;
	assert_string_equal(look(own, entry_of(fingerprints[1], "encryption", fingerprints[0])), "");
	expect(look(own, entry_of(fingerprints[1], "encryption", NULL)), "level=warning", "its fingerprint is %.16s...",
	       fingerprints[0]);
	own_entry_free(own);
}

static void an_unreadable_certificate_is_an_error(void **state)
{
	struct tls_settings tls = { .certificate_file = "/nowhere/x.crt", .key_file = "/nowhere/x.key" };
	struct grpc_client_settings grpc_client = { .tls = &tls };
	struct channel_settings channel = { .name = "c", .type = CHANNEL_GRPC_CLIENT, .grpc_client = &grpc_client };
	struct hyper_settings settings = { .name = "hd-1", .channels = &channel, .channel_count = 1 };
	struct own_entry *own;

	(void)state;
	assert_int_equal(own_entry_create(&settings, &own), -EINVAL);
	tls.key_file = NULL; /* then none is used */
	assert_int_equal(own_entry_create(&settings, &own), 0);
	own_entry_free(own);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_change_is_told_once),
		cmocka_unit_test(nothing_is_said_when_all_is_fine),
		cmocka_unit_test(an_unreadable_certificate_is_an_error),
	};
	return cmocka_run_group_tests_name("own entry", tests, set_up, tear_down);
}
