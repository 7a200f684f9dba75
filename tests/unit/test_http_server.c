// SPDX-License-Identifier: Apache-2.0
/* The HTTP server against raw sockets: limits, malformed and ambiguous
 * requests, slow clients. */
#include "http_loopback.h"

/* Sends `text` and gathers what comes while the loop runs, until `expected`
 * occurs in it or (NULL) the connection ends. Malloc'd. */
static char *talk(int fd, const char *text, size_t length, const char *expected)
{
	uint64_t end = clock_now_ms() + PATIENCE_MS;
	char *got = calloc(1, 1);
	size_t size = 0, sent = 0;

	for (;;) {
		char buffer[4096];
		ssize_t count;

		assert_true(clock_now_ms() < end);
		if (sent < length) {
			count = send(fd, text + sent, length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
			sent += count > 0 ? (size_t)count : 0;
		}
		event_base_loop(base, EVLOOP_NONBLOCK);
		count = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (count > 0) {
			got = realloc(got, size + (size_t)count + 1);
			memcpy(got + size, buffer, (size_t)count);
			size += (size_t)count;
			got[size] = '\0';
		}
		if ((expected && strstr(got, expected)) || count == 0 || (count < 0 && errno == ECONNRESET))
			return got;
		if (count < 0)
			usleep(500); /* gives the kernel a moment; the loop has no event of ours to wait for */
	}
}

static void expect_talk(uint16_t port, const char *text, const char *expected_start, const char *expected_end)
{
	int fd = connect_raw(port);
	char *got = talk(fd, text, strlen(text), expected_end);

	if (strncmp(got, expected_start, strlen(expected_start)) != 0 || (expected_end && !strstr(got, expected_end)))
		fail_msg("sent %s\ngot %s", text, got);
	free(got);
	close(fd);
}

static void answer_in_order_and_keep_the_connection(void **state)
{
	struct served served;

	(void)state;
	serve(&served, NULL, (struct http_server_options){ 0 });
	int fd = connect_raw(http_server_port(served.server));
	const char two[] = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none\r\nPOST /b?q=1 HTTP/1.1\r\nHost: "
			   "x\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\ntw\r\n1\r\no\r\n0\r\nTrailer: t\r\n\r\n";
	char *got = talk(fd, two, sizeof(two) - 1, "two");

	assert_non_null(strstr(got, "one"));
	free(got);
	got = talk(fd, "DELETE /%63?x HTTP/1.1\r\n\r\n", 26, "/c");
	assert_non_null(strstr(got, "X-Method: DELETE"));
	assert_null(strstr(got, "Connection: close"));
	free(got);
	got = talk(fd, "HEAD /d HTTP/1.1\r\nConnection: close\r\n\r\n", 39, NULL);
	assert_non_null(strstr(got, "Content-Length: 2"));
	assert_string_equal(got + strlen(got) - 4, "\r\n\r\n");
	free(got);
	close(fd);
	assert_int_equal(served.count, 4);
	stop_serving(&served);
}

static void serve_old_and_careful_clients(void **state)
{
	struct served served;
	uint16_t port;

	(void)state;
	serve(&served, NULL, (struct http_server_options){ 0 });
	port = http_server_port(served.server);
	expect_talk(port, "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", NULL);
	expect_talk(port, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.1 200 OK\r\n", "Connection: keep-alive");
	expect_talk(port, "GET http://localhost/abs HTTP/1.1\n\n", "HTTP/1.1 200 OK\r\n", "/abs");
	int fd = connect_raw(port);
	char *got = talk(fd, "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", 60, "100 Continue\r\n\r\n");
	free(got);
	got = talk(fd, "ok", 2, "\r\n\r\nok");
	free(got);
	close(fd);
	stop_serving(&served);
}

static void refuse_bad_requests(void **state)
{
	static const struct {
		const char *text, *status;
	} bad[] = {
		{ "nonsense\r\n\r\n", "400" },
		{ "GET / HTTP/2.0\r\n\r\n", "505" },
		{ "GET /a b HTTP/1.1\r\n\r\n", "400" },
		{ "GET / HTTP/1.1\r\nno colon\r\n\r\n", "400" },
		{ "GET / HTTP/1.1\r\nName : x\r\n\r\n", "400" },
		{ "GET / HTTP/1.1\r\nA: x\r\n folded\r\n\r\n", "400" },
		{ "GET / HTTP/1.1\r\nA: x\ry\r\n\r\n", "400" },
		{ "GET /%00 HTTP/1.1\r\n\r\n", "400" },
		{ "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "400" },
		{ "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400" },
		{ "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", "400" },
		{ "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400" },
		{ "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "501" },
		{ "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "400" },
		{ "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "400" },
		{ "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\r\r\n0\r\n\r\n", "400" },
		{ "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x\ry\r\na\r\n0\r\n\r\n", "400" },
		{ "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\r\n", "400" },
		{ "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "400" },
		{ "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400" },
		{ "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n01234567890123456\r\n0\r\n\r\n", "413" },
		{ "POST / HTTP/1.1\r\nContent-Length: 17\r\n\r\n", "413" },
		{ "POST / HTTP/1.1\r\nExpect: magic\r\nContent-Length: 1\r\n\r\n", "417" },
	};
	struct served served;

	(void)state;
	serve(&served, NULL, (struct http_server_options){ .max_body_bytes = 16 });
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char start[32];

		snprintf(start, sizeof(start), "HTTP/1.1 %s ", bad[i].status);
		int fd = connect_raw(http_server_port(served.server));
		char *got = talk(fd, bad[i].text, strlen(bad[i].text), "\"}");
		if (strncmp(got, start, strlen(start)) != 0 || !strstr(got, "{\"message\":\"") ||
		    !strstr(got, "Connection: close\r\n"))
			fail_msg("sent %s\ngot %s", bad[i].text, got);
		free(got);
		shutdown(fd, SHUT_WR);
		got = talk(fd, "", 0, NULL);
		assert_string_equal(got, "");
		free(got);
		close(fd);
	}
	assert_int_equal(served.count, 0);
	stop_serving(&served);
}

static void write_few_lines_about_many_bad_requests(void **state)
{
	FILE *file = tmpfile();
	int real_stderr = dup(STDERR_FILENO);
	struct served served;
	unsigned lines = 0, told = 0;
	bool is_counted = false;
	char line[600];

	(void)state;
	dup2(fileno(file), STDERR_FILENO);
	serve(&served, NULL, (struct http_server_options){ 0 });
	uint64_t start = clock_now_ms();
	for (int i = 0; i < 200; i++) {
		int fd = connect_raw(http_server_port(served.server));
		free(talk(fd, "nonsense\r\n\r\n", 12, "\"}"));
		close(fd);
	}
	uint64_t most = 10 + (clock_now_ms() - start) / 100 + 1;
	stop_serving(&served);
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	rewind(file);
	while (fgets(line, sizeof(line), file)) {
		unsigned more = 0;
		const char *at = strstr(line, "test: ");

		lines += strstr(line, "bad request from") != NULL;
		if (at && strstr(line, "more lines about clients") && sscanf(at, "test: %u", &more) == 1)
			is_counted = true;
		told += more;
	}
	fclose(file);
	assert_in_range(lines, 10, most);
	assert_true(is_counted);
	assert_true(lines + told >= 200);
}

static void expect_refusal(uint16_t port, const char *text, const char *expected_start)
{
	static const char type[] = "\r\nContent-Type: application/json; charset=utf-8\r\n";
	int fd = connect_raw(port);
	char *got = talk(fd, text, strlen(text), "\"}"), *first = strstr(got, type);

	if (strncmp(got, expected_start, strlen(expected_start)) != 0 || !first || strstr(first + strlen(type), "Content-Type"))
		fail_msg("sent %s\ngot %s", text, got);
	free(got);
	close(fd);
}

static void refuse_a_large_head(void **state)
{
	struct served served;
	char *text = malloc(40000);

	(void)state;
	serve(&served, NULL, (struct http_server_options){ 0 });
	strcpy(text, "GET / HTTP/1.1\r\nA: ");
	memset(text + strlen(text), 'x', 30000);
	text[30000] = '\0';
	expect_refusal(http_server_port(served.server), text, "HTTP/1.1 431 ");
	strcpy(text, "GET / HTTP/1.1\r\n");
	for (int i = 0; i < 150; i++)
		strcat(text, "A: b\r\n");
	strcat(text, "\r\n");
	expect_refusal(http_server_port(served.server), text, "HTTP/1.1 431 ");
	free(text);
	stop_serving(&served);
}

/* The whole body is sent, though it is refused at its head: the answer must
 * arrive all the same. */
static void answer_a_large_body_that_keeps_coming(void **state)
{
	const size_t size = 3 << 20;
	struct served served;
	char *text = malloc(size + 200);

	(void)state;
	serve(&served, NULL, (struct http_server_options){ 0 });
	int length = sprintf(text, "POST / HTTP/1.1\r\nContent-Length: %zu\r\n\r\n", size);
	memset(text + length, 'x', size);
	int fd = connect_raw(http_server_port(served.server));
	char *got = talk(fd, text, size + (size_t)length, "\"}");
	assert_int_equal(strncmp(got, "HTTP/1.1 413 ", 13), 0);
	free(got);
	free(text);
	close(fd);
	stop_serving(&served);
}

static void close_slow_clients(void **state)
{
	struct served served;
	uint16_t port;

	(void)state;
	serve(&served, NULL, (struct http_server_options){ .idle_timeout_ms = 50, .progress_timeout_ms = 100 });
	port = http_server_port(served.server);
	expect_talk(port, "", "", NULL);
	expect_talk(port, "GET / HT", "", NULL);
	expect_talk(port, "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab", "", NULL);
	assert_int_equal(served.count, 0);
	stop_serving(&served);
	serve(&served, &server_tls, (struct http_server_options){ .handshake_timeout_ms = 50 });
	expect_talk(http_server_port(served.server), "\x16\x03\x01", "", NULL);
	stop_serving(&served);
}

static void end_a_request_that_only_trickles(void **state)
{
	static const char head[] = "POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n";
	struct served served;
	uint64_t start = clock_now_ms();
	ssize_t count;
	char byte;

	(void)state;
	serve(&served, NULL, (struct http_server_options){ .progress_timeout_ms = 5000, .request_timeout_ms = 200 });
	int fd = connect_raw(http_server_port(served.server));
	assert_int_equal(send(fd, head, sizeof(head) - 1, MSG_NOSIGNAL), sizeof(head) - 1);
	do {
		assert_true(clock_now_ms() - start < 4000);
		send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(1000);
		count = recv(fd, &byte, 1, MSG_DONTWAIT);
	} while (count < 0 && errno == EAGAIN);
	assert_true(count <= 0); /* FIN, or a reset for what came later */
	assert_true(clock_now_ms() - start >= 190);
	close(fd);
	stop_serving(&served);
}

/* A client whose kernel takes little at once. */
static int connect_narrow(uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), bytes = 4096;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	evutil_make_socket_nonblocking(fd);
	return fd;
}

static void end_an_answer_that_is_only_sipped(void **state)
{
	size_t length = 16 << 20; /* more than the kernel's buffers take */
	char *body = calloc(1, length), byte;
	struct served served;
	ssize_t count;

	(void)state;
	serve(&served, NULL, (struct http_server_options){ .progress_timeout_ms = 5000, .request_timeout_ms = 200 });
	int fd = connect_narrow(http_server_port(served.server));
	assert_int_equal(send(fd, "GET /hold HTTP/1.1\r\n\r\n", 22, MSG_NOSIGNAL), 22);
	run_until(&served.has_held);
	uint64_t start = clock_now_ms(), taken = 0;
	http_request_answer(served.held, 200, body, length);
	/* A byte now and then while the server is at it; then all that came. */
	while (clock_now_ms() - start < 250) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		taken += recv(fd, &byte, 1, MSG_DONTWAIT) > 0;
		usleep(1000);
	}
	while ((count = recv(fd, body, length, MSG_DONTWAIT)) > 0 || (count < 0 && errno == EAGAIN)) {
		assert_true(clock_now_ms() - start < 4000);
		taken += count > 0 ? (size_t)count : 0;
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	assert_true(taken < length);
	close(fd);
	free(body);
	stop_serving(&served);
}

/* What the client sent behind its request is never read, if it is only its close_notify. Closing
 * with it unread would reset the connection, and the client lose what its kernel had no room for. */
static void deliver_the_last_answer_whole(void **state)
{
	static const char request[] = "GET /hold HTTP/1.1\r\nConnection: close\r\n\r\n";
	size_t length = 1 << 20;
	char *body = malloc(length), *got = malloc(2 * length);

	(void)state;
	memset(body, 'x', length);
	for (int over_tls = 0; over_tls < 2; over_tls++) {
		SSL_CTX *context = over_tls ? tls_context_client(&client_tls, "http/1.1") : NULL;
		SSL *tls = context ? SSL_new(context) : NULL;
		uint64_t end = clock_now_ms() + PATIENCE_MS;
		struct served served;
		size_t have = 0;
		bool is_sent = false, is_over = false;

		serve(&served, over_tls ? &server_tls : NULL, (struct http_server_options){ 0 });
		int fd = connect_narrow(http_server_port(served.server));
		if (tls) {
			SSL_set_fd(tls, fd);
			SSL_set_connect_state(tls);
			assert_int_equal(tls_connection_expect(tls, "localhost", true), 0);
		}
		while (!is_over) {
			assert_true(clock_now_ms() < end);
			event_base_loop(base, EVLOOP_NONBLOCK);
			if (!is_sent) {
				is_sent = tls ? SSL_write(tls, request, sizeof(request) - 1) > 0 :
						send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) > 0;
				if (is_sent && tls)
					SSL_shutdown(tls);
				else if (is_sent)
					send(fd, "behind it", 9, MSG_NOSIGNAL);
			}
			if (served.held) {
				assert_int_equal(http_server_open_requests(served.server), 1);
				http_request_answer(served.held, 200, body, length);
				served.held = NULL;
				assert_int_equal(http_server_open_requests(served.server), 1); /* not written out */
			}
			int count = tls ? SSL_read(tls, got + have, 3000) : (int)recv(fd, got + have, 3000, 0);

			have += count > 0 ? (size_t)count : 0;
			is_over = tls ? count <= 0 && SSL_get_error(tls, count) != SSL_ERROR_WANT_READ :
					count == 0 || (count < 0 && errno != EAGAIN);
		}
		assert_true(have > length);
		assert_int_equal(http_server_open_requests(served.server), 0);
		assert_memory_equal(got, "HTTP/1.1 200 OK\r\n", 17);
		assert_memory_equal(got + have - length, body, length);
		SSL_free(tls);
		SSL_CTX_free(context);
		close(fd);
		stop_serving(&served);
	}
	free(body);
	free(got);
}

static void hold_so_many_connections_and_no_more(void **state)
{
	struct served served;
	char *got;

	(void)state;
	serve(&served, NULL, (struct http_server_options){ .max_connections = 2 });
	int first = connect_raw(http_server_port(served.server));
	free(talk(first, "GET /1 HTTP/1.1\r\n\r\n", 19, "/1"));
	int second = connect_raw(http_server_port(served.server));
	free(talk(second, "GET /2 HTTP/1.1\r\n\r\n", 19, "/2"));
	/* The first is idle: it makes way. */
	int third = connect_raw(http_server_port(served.server));
	got = talk(third, "GET /3 HTTP/1.1\r\n\r\nGET", 22, "/3");
	assert_int_equal(strncmp(got, "HTTP/1.1 200", 12), 0);
	free(got);
	got = talk(first, "", 0, NULL);
	assert_string_equal(got, "");
	free(got);
	close(first);
	/* Both of the others are at work: nobody does. */
	assert_int_equal(send(second, "GET /hold HTTP/1.1\r\n\r\n", 22, MSG_NOSIGNAL), 22);
	run_until(&served.has_held);
	int fourth = connect_raw(http_server_port(served.server));
	got = talk(fourth, "", 0, NULL);
	assert_string_equal(got, "");
	free(got);
	close(fourth);
	http_request_answer(served.held, 200, "late", 4);
	got = talk(second, "", 0, "late");
	free(got);
	got = talk(third, " /5 HTTP/1.1\r\n\r\n", 16, "/5");
	free(got);
	close(second);
	close(third);
	stop_serving(&served);
}

static void count_records(int is_written, int version, int type, const void *bytes, size_t length, SSL *tls,
			  void *context)
{
	(void)version, (void)length, (void)tls;
	if (!is_written && type == SSL3_RT_INNER_CONTENT_TYPE && *(const uint8_t *)bytes == SSL3_RT_APPLICATION_DATA)
		++*(unsigned *)context;
}

/* Each record costs the client a decryption, and both of us a system call. */
static void answer_in_one_tls_record(void **state)
{
	static const char request[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7000\r\n\r\n";
	SSL_CTX *context = tls_context_client(&client_tls, "http/1.1");
	SSL *tls = SSL_new(context);
	uint64_t end = clock_now_ms() + PATIENCE_MS;
	struct served served;
	unsigned records = 0;
	char *text = malloc(sizeof(request) + 7000), *got = calloc(1, 16384);
	size_t got_size = 0;
	bool is_sent = false;

	(void)state;
	memcpy(text, request, sizeof(request));
	memset(text + sizeof(request) - 1, 'x', 7000);
	text[sizeof(request) - 1 + 7000 - 1] = '!';
	serve(&served, &server_tls, (struct http_server_options){ 0 });
	int fd = connect_raw(http_server_port(served.server));
	evutil_make_socket_nonblocking(fd);
	SSL_set_fd(tls, fd);
	SSL_set_connect_state(tls);
	assert_int_equal(tls_connection_expect(tls, "localhost", true), 0);
	SSL_set_msg_callback(tls, count_records);
	SSL_set_msg_callback_arg(tls, &records);
	/* Twice: the second answer finds the buffers as the first one left them. */
	for (unsigned round = 0; round < 2; round++) {
		records = 0;
		is_sent = false;
		got_size = 0;
		while (!memchr(got, '!', got_size)) {
			assert_true(clock_now_ms() < end);
			event_base_loop(base, EVLOOP_NONBLOCK);
			if (!is_sent)
				is_sent = SSL_write(tls, text, (int)(sizeof(request) - 1 + 7000)) > 0;
			int size = SSL_read(tls, got + got_size, (int)(16384 - got_size));

			got_size += size > 0 ? (size_t)size : 0;
		}
		assert_memory_equal(got, "HTTP/1.1 200 OK\r\n", 17);
		assert_non_null(memmem(got, got_size, "\r\nX-Method: POST\r\n\r\nxxx", 23));
		assert_int_equal(records, 1);
	}
	SSL_free(tls);
	SSL_CTX_free(context);
	close(fd);
	free(text);
	free(got);
	stop_serving(&served);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answer_in_order_and_keep_the_connection),
		cmocka_unit_test(serve_old_and_careful_clients),
		cmocka_unit_test(refuse_bad_requests),
		cmocka_unit_test(write_few_lines_about_many_bad_requests),
		cmocka_unit_test(refuse_a_large_head),
		cmocka_unit_test(answer_a_large_body_that_keeps_coming),
		cmocka_unit_test(close_slow_clients),
		cmocka_unit_test(end_a_request_that_only_trickles),
		cmocka_unit_test(end_an_answer_that_is_only_sipped),
		cmocka_unit_test(deliver_the_last_answer_whole),
		cmocka_unit_test(hold_so_many_connections_and_no_more),
		cmocka_unit_test(answer_in_one_tls_record),
	};
	return cmocka_run_group_tests_name("http server", tests, set_up, tear_down);
}
