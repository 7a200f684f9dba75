// SPDX-License-Identifier: Apache-2.0
/* Callers of a JSON-RPC server that keep their connections: each is a thread that sends
 * one call, waits for its answer and sends the next. Cheap on purpose, so that what is
 * measured is the server: requests are made once and only their id is written anew; of
 * an answer, the status line, the length and a word are looked at.
 *
 *   ping_bench HOST PORT SERVER-NAME CERTIFICATE KEY CA METHOD WORD CALLERS SECONDS
 *
 * Ids are unique: a server may take two calls of one caller with one id for a loop. Prints
 * one line "calls_per_s p50_ms p99_ms client_us_per_call failed". */
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP_CALLS 20
#define ANSWER_MAX (1u << 20)
#define IO_TIMEOUT_S 30

struct target {
	const char *host, *port, *server_name, *method, *word;
	SSL_CTX *tls;
	double seconds;
	pthread_barrier_t ready;
};

struct caller {
	pthread_t thread;
	struct target *target;
	unsigned number;
	SSL *ssl;
	int fd;
	char *answer;
	double *times_ms;
	size_t calls, capacity, failed;
	double begun, ended;
};

static double now_s(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int dial(const struct target *target)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
	struct timeval limit = { .tv_sec = IO_TIMEOUT_S };
	int fd = -1, one = 1;

	if (getaddrinfo(target->host, target->port, &hints, &found))
		return -1;
	for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
		fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen)) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(found);
	if (fd < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	return fd;
}

static bool open_caller(struct caller *caller)
{
	caller->fd = dial(caller->target);
	caller->ssl = SSL_new(caller->target->tls);
	return caller->fd >= 0 && caller->ssl && SSL_set_fd(caller->ssl, caller->fd) &&
	       SSL_set_tlsext_host_name(caller->ssl, caller->target->server_name) &&
	       SSL_set1_host(caller->ssl, caller->target->server_name) && SSL_connect(caller->ssl) == 1;
}

/* The whole answer, which ends where its Content-Length says. */
static bool read_answer(struct caller *caller)
{
	size_t have = 0, wanted = 0;

	while (!wanted || have < wanted) {
		int count = SSL_read(caller->ssl, caller->answer + have, (int)(ANSWER_MAX - 1 - have));
		if (count <= 0)
			return false;
		have += (size_t)count;
		caller->answer[have] = 0;
		const char *body = wanted ? NULL : strstr(caller->answer, "\r\n\r\n");
		if (!body)
			continue;
		const char *length = strcasestr(caller->answer, "\r\nContent-Length:");
		if (!length || length > body)
			return false;
		wanted = (size_t)(body + 4 - caller->answer) + strtoul(length + 17, NULL, 10);
		if (wanted >= ANSWER_MAX)
			return false;
	}
	return !strncmp(caller->answer, "HTTP/1.1 200", 12) && strstr(caller->answer, "\"result\"") &&
	       strstr(caller->answer, caller->target->word);
}

static bool call(struct caller *caller, size_t number)
{
	char body[256], request[600];
	int length = snprintf(body, sizeof body, "{\"method\":\"%s\",\"id\":\"c%u-%zu\",\"params\":{},\"jsonrpc\":\"2.0\"}",
			      caller->target->method, caller->number, number);

	length = snprintf(request, sizeof request,
			  "POST /jsonrpc HTTP/1.1\r\nHost: %s:%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			  caller->target->server_name, caller->target->port, length, body);
	return SSL_write(caller->ssl, request, length) == length && read_answer(caller);
}

static void keep_time(struct caller *caller, double milliseconds)
{
	if (caller->calls == caller->capacity) {
		caller->capacity = caller->capacity ? 2 * caller->capacity : 1024;
		caller->times_ms = realloc(caller->times_ms, caller->capacity * sizeof *caller->times_ms);
		if (!caller->times_ms)
			abort();
	}
	caller->times_ms[caller->calls++] = milliseconds;
}

static void *run_caller(void *context)
{
	struct caller *caller = context;
	bool fine = open_caller(caller);
	size_t number = 0;

	while (fine && number < WARM_UP_CALLS)
		fine = call(caller, number++);
	pthread_barrier_wait(&caller->target->ready);
	caller->begun = now_s(CLOCK_MONOTONIC);
	double before = caller->begun, deadline = before + caller->target->seconds;
	while (fine && before < deadline) {
		fine = call(caller, number++);
		double now = now_s(CLOCK_MONOTONIC);
		if (fine)
			keep_time(caller, (now - before) * 1e3);
		before = now;
	}
	caller->ended = before;
	if (!fine) {
		caller->failed++;
		fprintf(stderr, "ping_bench: caller %u, call %zu failed (%s): %.300s\n", caller->number, number,
			errno ? strerror(errno) : "no error of the system", caller->answer);
	}
	SSL_free(caller->ssl);
	if (caller->fd >= 0)
		close(caller->fd);
	return NULL;
}

static int compare(const void *one, const void *other)
{
	double a = *(const double *)one, b = *(const double *)other;

	return (a > b) - (a < b);
}

static int report(struct caller *callers, unsigned count, double client_s)
{
	size_t calls = 0, failed = 0;
	double rate = 0;

	for (unsigned at = 0; at < count; at++) {
		calls += callers[at].calls;
		failed += callers[at].failed;
		rate += (double)callers[at].calls / (callers[at].ended - callers[at].begun);
	}
	if (failed || !calls)
		return 1;
	double *times = malloc(calls * sizeof *times);
	size_t filled = 0;
	for (unsigned at = 0; at < count; at++) {
		memcpy(times + filled, callers[at].times_ms, callers[at].calls * sizeof *times);
		filled += callers[at].calls;
		free(callers[at].times_ms);
		free(callers[at].answer);
	}
	qsort(times, calls, sizeof *times, compare);
	printf("%.1f %.3f %.3f %.1f %zu\n", rate, times[calls / 2], times[calls * 99 / 100], client_s * 1e6 / (double)calls, failed);
	free(times);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 11) {
		fprintf(stderr, "usage: ping_bench HOST PORT SERVER-NAME CERTIFICATE KEY CA METHOD WORD CALLERS SECONDS\n");
		return 2;
	}
	struct target target = {
		.host = argv[1], .port = argv[2], .server_name = argv[3], .method = argv[7], .word = argv[8],
		.tls = SSL_CTX_new(TLS_client_method()), .seconds = atof(argv[10]),
	};
	unsigned count = (unsigned)atoi(argv[9]);
	struct caller *callers = calloc(count, sizeof *callers);

	signal(SIGPIPE, SIG_IGN);
	SSL_CTX_set_verify(target.tls, SSL_VERIFY_PEER, NULL);
	if (!callers || !count || !SSL_CTX_use_certificate_chain_file(target.tls, argv[4]) ||
	    !SSL_CTX_use_PrivateKey_file(target.tls, argv[5], SSL_FILETYPE_PEM) ||
	    !SSL_CTX_load_verify_locations(target.tls, argv[6], NULL)) {
		ERR_print_errors_fp(stderr);
		return 1;
	}
	pthread_barrier_init(&target.ready, NULL, count + 1);
	for (unsigned at = 0; at < count; at++) {
		callers[at].target = &target;
		callers[at].number = at;
		callers[at].answer = calloc(1, ANSWER_MAX);
		pthread_create(&callers[at].thread, NULL, run_caller, &callers[at]);
	}
	pthread_barrier_wait(&target.ready);
	double before = now_s(CLOCK_PROCESS_CPUTIME_ID);
	for (unsigned at = 0; at < count; at++)
		pthread_join(callers[at].thread, NULL);
	int status = report(callers, count, now_s(CLOCK_PROCESS_CPUTIME_ID) - before);
	SSL_CTX_free(target.tls);
	free(callers);
	return status;
}
