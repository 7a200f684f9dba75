// SPDX-License-Identifier: Apache-2.0
/* The control socket: its file, its calls, and clients that misbehave. The
 * server's loop runs on a thread of its own, as the client blocks. */
#include "base/instant.h"
#include "base/json.h"
#include "jsonrpc/control.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <grp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static char parent[] = "/tmp/test-control-XXXXXX";
static char folder[64], path[80];
static struct event_base *base;
static struct control_server *server;
static pthread_t thread;
static struct event *stop_event;

static void handle(struct jsonrpc_call *call, void *context)
{
	(void)context;
	if (strcmp(call->method, "echo") == 0)
		jsonrpc_call_result(call, json_incref(call->params));
	else if (strcmp(call->method, "peer") == 0)
		jsonrpc_call_result(call, json_string(call->peer));
	else
		jsonrpc_call_error(call, JSONRPC_METHOD_NOT_FOUND, "method not found", NULL);
}

static void stop_loop(int fd, short events, void *context)
{
	(void)fd, (void)events, (void)context;
	event_base_loopbreak(base);
}

static void *run(void *context)
{
	(void)context;
	event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
	return NULL;
}

static int start(void **state)
{
	struct control_settings settings = { .path = path };

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	if (!mkdtemp(parent))
		return -1;
	snprintf(folder, sizeof(folder), "%s/run", parent);
	snprintf(path, sizeof(path), "%s/control.sock", folder);
	evthread_use_pthreads();
	base = event_base_new();
	if (control_server_start(base, &settings, handle, NULL, &server))
		return -1;
	stop_event = event_new(base, -1, 0, stop_loop, NULL);
	return pthread_create(&thread, NULL, run, NULL);
}

static int stop(void **state)
{
	(void)state;
	event_active(stop_event, 0, 0);
	pthread_join(thread, NULL);
	control_server_free(server);
	event_free(stop_event);
	event_base_free(base);
	libevent_global_shutdown();
	if (access(path, F_OK) == 0 || rmdir(folder) || rmdir(parent))
		return -1;
	return 0;
}

static void guard_the_socket_file(void **state)
{
	struct control_settings settings = { .path = path };
	struct control_server *second;
	struct stat status;

	(void)state;
	assert_int_equal(lstat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0660);
	assert_true(S_ISSOCK(status.st_mode));
	assert_int_equal(lstat(folder, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0750);
	assert_int_equal(control_server_start(base, &settings, handle, NULL, &second), -EADDRINUSE);
	assert_int_equal(access(path, F_OK), 0);
}

static void replace_only_a_stale_socket(void **state)
{
	char other[100];
	struct control_settings settings = { .path = other };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct event_base *own = event_base_new();
	struct control_server *second;
	struct stat status;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	snprintf(other, sizeof(other), "%s/other.sock", folder);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/other.sock", folder);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd); /* as a killed process leaves it */
	settings.group = "root";
	assert_int_equal(control_server_start(own, &settings, handle, NULL, &second), 0);
	/* What somebody else put there since is not removed. */
	assert_int_equal(unlink(other), 0);
	fclose(fopen(other, "w"));
	control_server_free(second);
	assert_int_equal(lstat(other, &status), 0);
	settings.group = NULL;
	assert_int_equal(control_server_start(own, &settings, handle, NULL, &second), -EEXIST);
	assert_int_equal(unlink(other), 0);
	settings.group = "no-such-group";
	assert_int_equal(control_server_start(own, &settings, handle, NULL, &second), -EINVAL);
	unlink(other);
	memset(other, 'x', sizeof(other));
	char *long_path = calloc(1, 300);
	memset(long_path, '/', 299);
	settings = (struct control_settings){ .path = long_path };
	assert_int_equal(control_server_start(own, &settings, handle, NULL, &second), -ENAMETOOLONG);
	free(long_path);
	event_base_free(own);
}

static void open_a_new_folder_to_the_group(void **state)
{
	char new_folder[100], inside[120];
	struct control_settings settings = { .path = inside, .group = "daemon" };
	struct group *group = getgrnam("daemon");
	struct event_base *own = event_base_new();
	struct control_server *second;
	struct stat status;

	(void)state;
	if (!group || getuid() != 0) {
		event_base_free(own);
		print_message("needs root and a group named daemon\n");
		skip();
	}
	snprintf(new_folder, sizeof(new_folder), "%s/new", folder);
	snprintf(inside, sizeof(inside), "%s/sock", new_folder);
	assert_int_equal(control_server_start(own, &settings, handle, NULL, &second), 0);
	assert_int_equal(lstat(new_folder, &status), 0);
	assert_int_equal(status.st_gid, group->gr_gid);
	assert_int_equal(lstat(inside, &status), 0);
	assert_int_equal(status.st_gid, group->gr_gid);
	assert_int_equal(status.st_mode & 07777, 0660);
	control_server_free(second);
	assert_int_equal(rmdir(new_folder), 0);
	event_base_free(own);
}

static void call_and_be_answered(void **state)
{
	struct jsonrpc_answer answer;
	json_t *params = json_pack("{s:[i,f]}", "a", 1, 2.5);
	char *reason, expected[64];

	(void)state;
	assert_int_equal(control_call(path, "echo", params, 5000, &answer, &reason), 0);
	assert_null(reason);
	assert_true(json_is_array(json_object_get(answer.result, "a")));
	jsonrpc_answer_clear(&answer);
	json_decref(params);
	assert_int_equal(control_call(path, "other", NULL, 5000, &answer, &reason), 0);
	assert_true(answer.is_error);
	assert_int_equal(answer.code, JSONRPC_METHOD_NOT_FOUND);
	jsonrpc_answer_clear(&answer);
	assert_int_equal(control_call(path, "peer", NULL, 5000, &answer, &reason), 0);
	snprintf(expected, sizeof(expected), "process %d of user %d", getpid(), getuid());
	assert_string_equal(json_string_value(answer.result), expected);
	jsonrpc_answer_clear(&answer);
}

static void carry_large_answers(void **state)
{
	struct jsonrpc_answer answer;
	json_t *params = json_object();
	char *text = malloc(60001), *reason;

	(void)state;
	memset(text, 'z', 60000);
	text[60000] = '\0';
	json_object_set_new(params, "text", json_string(text));
	assert_int_equal(control_call(path, "echo", params, 5000, &answer, &reason), 0);
	assert_string_equal(json_text(answer.result, "text"), text);
	jsonrpc_answer_clear(&answer);
	json_decref(params);
	free(text);
}

static int connect_raw(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = 10 };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path, path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static char *read_to_end(int fd)
{
	static char got[4096];
	size_t length = 0;
	ssize_t count;

	while ((count = recv(fd, got + length, sizeof(got) - 1 - length, 0)) > 0)
		length += (size_t)count;
	got[length] = '\0';
	return got;
}

static void answer_several_lines_in_order(void **state)
{
	static const char lines[] = "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":{\"a\":1},\"id\":1}\n\n"
				    "nonsense\n"
				    "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":{\"a\":2},\"id\":2}\n"
				    "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":3}\n";
	int fd = connect_raw();

	(void)state;
	assert_int_equal(send(fd, lines, sizeof(lines) - 1, 0), sizeof(lines) - 1);
	shutdown(fd, SHUT_WR);
	assert_string_equal(read_to_end(fd),
			    "{\"jsonrpc\":\"2.0\",\"result\":{\"a\":1},\"id\":1}\n"
			    "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32700,\"message\":\"JSON required\"},\"id\":null}\n"
			    "{\"jsonrpc\":\"2.0\",\"result\":{\"a\":2},\"id\":2}\n"
			    "{\"jsonrpc\":\"2.0\",\"result\":{},\"id\":3}\n");
	close(fd);
}

static void refuse_a_line_without_end(void **state)
{
	char *text = malloc(200000);
	int fd = connect_raw();

	(void)state;
	memset(text, 'x', 200000);
	for (size_t sent = 0; sent < 200000;) {
		ssize_t count = send(fd, text + sent, 200000 - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (count < 0)
			break; /* not read any more */
		sent += (size_t)count;
	}
	assert_non_null(strstr(read_to_end(fd), "line is too long"));
	close(fd);
	free(text);
}

/* Asks and asks and never reads: what it can make the server hold is one
 * answer, and nobody else waits for it. */
static void wait_for_nobody(void **state)
{
	static const char line[] = "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":{},\"id\":1}\n";
	struct jsonrpc_answer answer;
	char *reason;
	int fds[20];

	(void)state;
	for (int i = 0; i < 20; i++) {
		fds[i] = connect_raw();
		for (int n = 0; n < 20000 && send(fds[i], line, sizeof(line) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0; n++)
			;
	}
	assert_int_equal(control_call(path, "echo", NULL, 5000, &answer, &reason), 0);
	jsonrpc_answer_clear(&answer);
	for (int i = 0; i < 20; i++)
		close(fds[i]);
}

static void bound_the_number_of_clients(void **state)
{
	struct jsonrpc_answer answer;
	uint64_t end = clock_now_ms() + 10000;
	char *reason = NULL;
	int fds[128], count = 0, error;

	(void)state;
	while (count < 64)
		fds[count++] = connect_raw();
	/* Those of the test before may still be on their way out, and have taken places of these. */
	while (!(error = control_call(path, "echo", NULL, 1000, &answer, &reason)) && count < 128 && clock_now_ms() < end) {
		jsonrpc_answer_clear(&answer);
		fds[count++] = connect_raw();
	}
	assert_true(error == -ECONNRESET || error == -EPIPE);
	assert_non_null(strstr(reason, "closed the connection"));
	free(reason);
	while (count)
		close(fds[--count]);
	do {
		error = control_call(path, "echo", NULL, 1000, &answer, &reason);
		jsonrpc_answer_clear(&answer);
		free(reason);
	} while (error && clock_now_ms() < end);
	assert_int_equal(error, 0);
}

static void explain_failures(void **state)
{
	char other[100], *reason;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct jsonrpc_answer answer;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	snprintf(other, sizeof(other), "%s/silent.sock", folder);
	assert_int_equal(control_call(other, "echo", NULL, 100, &answer, &reason), -ENOENT);
	assert_non_null(strstr(reason, "no proxy listens on"));
	free(reason);
	strcpy(address.sun_path, other);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(control_call(other, "echo", NULL, 100, &answer, &reason), -ECONNREFUSED);
	free(reason);
	listen(fd, 0);
	for (int i = 0; i < 3; i++) { /* the third finds the backlog full */
		assert_int_equal(control_call(other, "echo", NULL, 100, &answer, &reason), -ETIMEDOUT);
		assert_non_null(strstr(reason, "did not answer within 100 ms"));
		free(reason);
	}
	close(fd);
	unlink(other);
	char *long_path = calloc(1, 300);
	memset(long_path, '/', 299);
	assert_int_equal(control_call(long_path, "echo", NULL, 100, &answer, &reason), -ENAMETOOLONG);
	free(reason);
	free(long_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guard_the_socket_file),
		cmocka_unit_test(replace_only_a_stale_socket),
		cmocka_unit_test(open_a_new_folder_to_the_group),
		cmocka_unit_test(call_and_be_answered),
		cmocka_unit_test(carry_large_answers),
		cmocka_unit_test(answer_several_lines_in_order),
		cmocka_unit_test(refuse_a_line_without_end),
		cmocka_unit_test(wait_for_nobody),
		cmocka_unit_test(bound_the_number_of_clients),
		cmocka_unit_test(explain_failures),
	};
	return cmocka_run_group_tests_name("control", tests, start, stop);
}
