// SPDX-License-Identifier: Apache-2.0
/* The directory as programs see it: files, and an sd that comes late, closes
 * connections, goes away, or sends what does not verify (protocol page 2.4, 3.8).
 * The sd here is a JSON-RPC server in the same event loop. */
#include "directory_vectors.h"
#include "made_certificates.h"
#include "made_records.h"

#include "base/address.h"
#include "base/log.h"
#include "directory/directory.h"
#include "jsonrpc/server.h"

#include <errno.h>
#include <event2/listener.h>
#include <sys/stat.h>
#include <time.h>

struct fixture {
	struct event_base *base;
	struct event *tick;
	struct made root, admin;
	char *key_file, *endpoint, *address;
	struct signing_key *key;
	struct jsonrpc_server_settings server_settings;
	struct jsonrpc_client_settings client_settings;
	struct directory_settings settings;
	struct jsonrpc_server *server;
	struct evconnlistener *closer;
	struct directory *directory;
	json_t *records; /* what the server answers */
	int asked, closed, ready;
	char failure[512];
};

static char reason[SIGNATURE_REASON_SIZE];

/* A port that was free a moment ago. */
static int free_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void ignore_tick(evutil_socket_t fd, short what, void *context) { (void)fd, (void)what, (void)context; }

static int set_up(void **state)
{
	static const struct timeval tick = { 0, 10000 };
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	int port = free_port();

	log_configure(LOG_LEVEL_FATAL, LOG_FORMAT_TEXT, "test");
	fixture->base = event_base_new();
	fixture->tick = event_new(fixture->base, -1, EV_PERSIST, ignore_tick, NULL);
	event_add(fixture->tick, &tick);
	fixture->root = make(NULL, "critical,CA:TRUE", NULL, NULL, NULL);
	fixture->admin = make(&fixture->root, NULL, "URI:iris-name://hd-1,URI:iris-group://sd-admin", "digitalSignature", NULL);
	write_pem(&fixture->root, NULL);
	write_pem(&fixture->admin, &fixture->key_file);
	fixture->key = signing_key_load(fixture->admin.file, fixture->key_file, reason);
	assert_true(asprintf(&fixture->endpoint, "http://127.0.0.1:%d/jsonrpc", port) > 0);
	assert_true(asprintf(&fixture->address, "127.0.0.1:%d", port) > 0);
	fixture->server_settings.bind_address = fixture->address;
	fixture->server_settings.path = "/jsonrpc";
	fixture->server_settings.max_body_bytes = 16 << 20;
	fixture->client_settings.timeout_ms = 5000;
	fixture->settings.type = DIRECTORY_API;
	fixture->settings.endpoints = (struct string_list){ &fixture->endpoint, 1 };
	fixture->settings.jsonrpc_client = &fixture->client_settings;
	fixture->settings.ca_certificate_files = file_list(&fixture->root.file);
	fixture->settings.cache_entries_for_s = 0;
	fixture->records = json_array();
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	directory_free(fixture->directory);
	jsonrpc_server_free(fixture->server);
	if (fixture->closer)
		evconnlistener_free(fixture->closer);
	event_free(fixture->tick);
	event_base_free(fixture->base);
	signing_key_free(fixture->key);
	unlink(fixture->key_file);
	made_free(&fixture->root);
	made_free(&fixture->admin);
	json_decref(fixture->records);
	free(fixture->key_file);
	free(fixture->endpoint);
	free(fixture->address);
	free(fixture);
	return 0;
}

static void answer_call(struct jsonrpc_call *call, void *context)
{
	struct fixture *fixture = context;
	const char *after = json_text(call->params, "after");
	json_t *result = json_array(), *record;
	bool found = !*after;
	size_t i;

	assert_string_equal(call->method, "getRecords");
	fixture->asked++;
	json_array_foreach(fixture->records, i, record)
	{
		if (found)
			json_array_append(result, record);
		found = found || !strcmp(after, signed_record_hash(record));
	}
	jsonrpc_call_result(call, result);
}

static void start_server(struct fixture *fixture)
{
	assert_int_equal(jsonrpc_server_start(fixture->base, "sd", &fixture->server_settings, answer_call, fixture, &fixture->server), 0);
}

static void stop_server(struct fixture *fixture)
{
	jsonrpc_server_free(fixture->server);
	fixture->server = NULL;
}

static void note_ready(const char *failure, void *context)
{
	struct fixture *fixture = context;

	fixture->ready++;
	snprintf(fixture->failure, sizeof(fixture->failure), "%s", failure ? failure : "");
}

static void run_until(struct fixture *fixture, const int *counter, int value)
{
	uint64_t deadline = clock_now_ms() + 20000;

	while (*counter < value && clock_now_ms() < deadline)
		event_base_loop(fixture->base, EVLOOP_ONCE);
	if (*counter < value)
		fail_msg("nothing happened in time");
}

static void create_directory(struct fixture *fixture)
{
	assert_int_equal(directory_create(fixture->base, &fixture->settings, &fixture->directory), 0);
}

/* Asks and waits; the failure, "" if there is none. */
static const char *refresh(struct fixture *fixture)
{
	int before = fixture->ready;
	uint64_t now = clock_now_ms();

	while (clock_now_ms() == now) /* with a cache of 0 s, data of this millisecond is fresh */
		event_base_loop(fixture->base, EVLOOP_NONBLOCK);
	directory_refresh(fixture->directory, note_ready, fixture);
	run_until(fixture, &fixture->ready, before + 1);
	return fixture->failure;
}

static void add_record(struct fixture *fixture, const char *name, int second)
{
	size_t count = json_array_size(fixture->records);

	json_array_append_new(fixture->records,
			      groups_by(fixture->key, name, second, count ? json_array_get(fixture->records, count - 1) : NULL));
}

static void loads_and_follows(void **state)
{
	struct fixture *fixture = *state;
	json_t *held, *list;

	add_record(fixture, "a", 1);
	start_server(fixture);
	create_directory(fixture);
	assert_string_equal(refresh(fixture), "");
	assert_non_null(directory_entry(fixture->directory, "a"));
	assert_null(directory_entry(fixture->directory, "b"));
	held = json_incref(directory_entry(fixture->directory, "a"));
	add_record(fixture, "b", 2);
	add_record(fixture, "a", 3);
	assert_string_equal(refresh(fixture), "");
	assert_non_null(directory_entry(fixture->directory, "b"));
	assert_int_equal(json_array_size(json_object_get(directory_entry(fixture->directory, "a"), "records")), 2);
	assert_int_equal(json_array_size(json_object_get(held, "records")), 1);
	assert_int_equal(json_array_size(directory_records(fixture->directory)), 3);
	list = directory_query(fixture->directory, NULL, "g", NULL);
	assert_int_equal(json_array_size(list), 2);
	json_decref(list);
	list = directory_query(fixture->directory, "b", "other", NULL);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	json_decref(held);
}

static void questions_share_one_update(void **state)
{
	struct fixture *fixture = *state;

	add_record(fixture, "a", 1);
	start_server(fixture);
	create_directory(fixture);
	for (int i = 0; i < 20; i++)
		directory_refresh(fixture->directory, note_ready, fixture);
	run_until(fixture, &fixture->ready, 20);
	assert_int_equal(fixture->asked, 1);
}

static void fresh_data_is_not_asked_for(void **state)
{
	struct fixture *fixture = *state;

	fixture->settings.cache_entries_for_s = 60;
	add_record(fixture, "a", 1);
	start_server(fixture);
	create_directory(fixture);
	for (int i = 0; i < 5; i++)
		assert_string_equal(refresh(fixture), "");
	assert_int_equal(fixture->asked, 1);
	stop_server(fixture);
	assert_string_equal(refresh(fixture), ""); /* memory answers */
}

static void refreshes_in_the_background(void **state)
{
	struct fixture *fixture = *state;

	fixture->settings.cache_entries_for_s = 1;
	start_server(fixture);
	create_directory(fixture);
	assert_string_equal(refresh(fixture), "");
	add_record(fixture, "a", 1);
	run_until(fixture, &fixture->asked, 3); /* nobody asks the directory meanwhile */
	assert_non_null(directory_entry(fixture->directory, "a"));
}

static void waits_for_an_sd_that_comes_late(void **state)
{
	struct fixture *fixture = *state;
	uint64_t until;

	add_record(fixture, "a", 1);
	create_directory(fixture);
	directory_await(fixture->directory, note_ready, fixture);
	until = clock_now_ms() + 700;
	while (clock_now_ms() < until)
		event_base_loop(fixture->base, EVLOOP_ONCE);
	assert_int_equal(fixture->ready, 0);
	start_server(fixture);
	run_until(fixture, &fixture->ready, 1);
	assert_string_equal(fixture->failure, "");
	assert_non_null(directory_entry(fixture->directory, "a"));
	directory_await(fixture->directory, note_ready, fixture); /* at once now */
	assert_int_equal(fixture->ready, 2);
}

static void close_connection(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int size, void *context)
{
	struct fixture *fixture = context;

	(void)listener, (void)address, (void)size;
	close(fd);
	fixture->closed++;
}

static void tries_again_when_connections_are_closed(void **state)
{
	struct fixture *fixture = *state;
	int fd = address_listen(fixture->address, false, 16);

	assert_true(fd >= 0);
	fixture->closer = evconnlistener_new(fixture->base, close_connection, fixture, LEV_OPT_CLOSE_ON_FREE, 0, fd);
	add_record(fixture, "a", 1);
	create_directory(fixture);
	directory_refresh(fixture->directory, note_ready, fixture);
	run_until(fixture, &fixture->closed, 3);
	evconnlistener_free(fixture->closer);
	fixture->closer = NULL;
	start_server(fixture);
	run_until(fixture, &fixture->ready, 1);
	assert_string_equal(fixture->failure, "");
	assert_non_null(directory_entry(fixture->directory, "a"));
}

static void leaves_an_sd_alone_that_goes_on_closing(void **state)
{
	struct fixture *fixture = *state;
	int fd = address_listen(fixture->address, false, 16);

	assert_true(fd >= 0);
	fixture->closer = evconnlistener_new(fixture->base, close_connection, fixture, LEV_OPT_CLOSE_ON_FREE, 0, fd);
	create_directory(fixture);
	run_until(fixture, &fixture->closed, 6);
	assert_non_null(strstr(refresh(fixture), "our certificate was refused"));
	/* It rests now: the answer is there at once, and nobody is asked. */
	fixture->ready = 0;
	directory_refresh(fixture->directory, note_ready, fixture);
	assert_int_equal(fixture->ready, 1);
	assert_int_equal(fixture->closed, 6);
}

static void a_question_fails_when_sd_stays_away(void **state)
{
	struct fixture *fixture = *state;

	add_record(fixture, "a", 1);
	start_server(fixture);
	create_directory(fixture);
	assert_string_equal(refresh(fixture), "");
	stop_server(fixture);
	assert_non_null(strstr(refresh(fixture), "refused"));
	assert_non_null(directory_entry(fixture->directory, "a")); /* what was verified stays */
	start_server(fixture);
	assert_string_equal(refresh(fixture), "");
}

static void what_does_not_verify_changes_nothing(void **state)
{
	struct fixture *fixture = *state;
	json_t *bad;

	add_record(fixture, "a", 1);
	start_server(fixture);
	create_directory(fixture);
	assert_string_equal(refresh(fixture), "");
	add_record(fixture, "b", 2);
	add_record(fixture, "c", 3);
	bad = json_array_get(fixture->records, 2);
	json_object_set_new(json_object_get(bad, "record"), "data", json_pack("[s]", "sd-admin"));
	assert_non_null(strstr(refresh(fixture), "its records are refused: record 2: the hash"));
	assert_null(directory_entry(fixture->directory, "b"));
	json_array_remove(fixture->records, 2);
	assert_string_equal(refresh(fixture), "");
	assert_non_null(directory_entry(fixture->directory, "b"));
}

/* ---- files ---- */

static void write_text(const char *folder, const char *name, const char *text)
{
	_free_ char *path = NULL;
	FILE *file;

	assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void files_are_read_for_every_question(void **state)
{
	struct fixture *fixture = *state;
	char folder[] = "/tmp/test-directory-XXXXXX";
	_free_ char *command = NULL;
	const json_t *record;

	assert_non_null(mkdtemp(folder));
	fixture->settings = (struct directory_settings){ .type = DIRECTORY_JSON, .path = folder };
	write_text(folder, "a.json", "{\"records\":[{\"name\":\"a\",\"section\":\"groups\",\"data\":[\"x\"],\"created_at\":\"2021-05-17T10:00:00Z\"}]}");
	write_text(folder, "notes.txt", "no JSON");
	write_text(folder, "json", "no JSON either, and its name does not count");
	create_directory(fixture);
	assert_string_equal(refresh(fixture), "");
	assert_non_null(directory_entry(fixture->directory, "a"));
	record = json_array_get(json_object_get(directory_entry(fixture->directory, "a"), "records"), 0);
	assert_string_equal(signed_record_hash(record), "");
	assert_true(json_is_null(json_object_get(record, "signature")));
	/* A later file replaces the section. */
	write_text(folder, "b.json5", "{\"records\":[{\"name\":\"a\",\"section\":\"groups\",\"data\":[\"y\"],\"created_at\":\"2021-05-17T10:00:00Z\"}]}");
	assert_string_equal(refresh(fixture), "");
	assert_string_equal(json_string_value(json_array_get(json_object_get(directory_entry(fixture->directory, "a"), "groups"), 0)), "y");
	write_text(folder, "c.json", "{\"records\":[{\"name\":1}]}");
	assert_non_null(strstr(refresh(fixture), "c.json: records[0].name: must be a string"));
	assert_null(directory_records(fixture->directory));
	assert_true(asprintf(&command, "rm -r %s", folder) > 0);
	assert_int_equal(system(command), 0);
	assert_non_null(strstr(refresh(fixture), "No such file"));
}

int main(void)
{
#define API_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		API_TEST(loads_and_follows),
		API_TEST(questions_share_one_update),
		API_TEST(fresh_data_is_not_asked_for),
		API_TEST(refreshes_in_the_background),
		API_TEST(waits_for_an_sd_that_comes_late),
		API_TEST(tries_again_when_connections_are_closed),
		API_TEST(leaves_an_sd_alone_that_goes_on_closing),
		API_TEST(a_question_fails_when_sd_stays_away),
		API_TEST(what_does_not_verify_changes_nothing),
		API_TEST(files_are_read_for_every_question),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
