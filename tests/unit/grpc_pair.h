// SPDX-License-Identifier: Apache-2.0
#pragma once
/* A gRPC server and a client of ours in one event loop, with certificates made
 * here, for the tests of both. The answers of all callbacks are gathered in
 * `struct pair`, and its switches say what the callbacks do. */
#include "base/instant.h"
#include "base/log.h"
#include "grpc/client.h"
#include "grpc/linger.h"
#include "grpc/server.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMIT_MS 10000

static EVP_PKEY *key;
static X509 *root;

static X509 *make_certificate(const char *name, bool is_root)
{
	X509 *certificate = X509_new();
	X509_NAME *subject = X509_get_subject_name(certificate);
	X509V3_CTX context;
	static long serial;
	char text[128];

	X509_set_version(certificate, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(certificate, is_root ? subject : X509_get_subject_name(root));
	X509_set_pubkey(certificate, key);
	X509V3_set_ctx(&context, is_root ? certificate : root, certificate, NULL, NULL, 0);
	snprintf(text, sizeof(text), is_root ? "critical,CA:TRUE" : "DNS:%s,DNS:%s.alias", name, name);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, is_root ? NID_basic_constraints
										  : NID_subject_alt_name, text);

	X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
	X509_sign(certificate, key, EVP_sha256());
	return certificate;
}

static SSL_CTX *make_context(const char *name, bool is_server)
{
	SSL_CTX *context = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	X509 *certificate = make_certificate(name, false);

	SSL_CTX_use_certificate(context, certificate);
	SSL_CTX_use_PrivateKey(context, key);
	X509_STORE_add_cert(SSL_CTX_get_cert_store(context), root);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	X509_free(certificate);
	return context;
}

/* ---- both ends ---- */

enum identify_mode { AT_ONCE, LATER, REFUSE, NEVER_YET };

struct question {
	identified done;
	void *context;
	char *name;
};

struct pair {
	struct event_base *base;
	struct grpc_server *server;
	struct grpc_connection *connection;
	SSL_CTX *server_tls, *client_tls;
	enum identify_mode server_mode, client_mode;
	struct question questions[8];
	size_t question_count;
	/* server */
	struct grpc_call *held[256];
	size_t held_count;
	bool holds_calls, frees_server_when_called, fails_calls, expels_callers;
	struct grpc_reverse *reverse;
	char reverse_name[64];
	unsigned reverse_ended;
	/* client */
	bool is_ready, frees_when_ready, frees_when_done, frees_when_requested;
	char closed[256];
	unsigned done_count, ok_count, undelivered_count, call_ended_count;
	int last_status;
	char last_message[8192];
	json_t *last_result;
	struct grpc_reverse_request *requests[64];
	size_t request_count;
	bool holds_requests;
	char reverse_reason[256];
	unsigned reverse_answers, reverse_failures;
	char reverse_failure[128];
	json_t *reverse_result;
};

static void answer_question(struct question *question, const char *failure)
{
	struct peer_identities identities = { 0 };

	if (!failure) {
		identities.items = calloc(1, sizeof(*identities.items));
		identities.items[0].name = strdup(question->name);
		identities.items[0].entry = json_object();
		identities.count = 1;
	}
	question->done(&identities, failure, question->context);
	free(question->name);
}

static void identify(struct pair *pair, enum identify_mode mode, const struct certificate_identity *certificate,
		     identified done, void *context)
{
	struct question question = { done, context, strdup(certificate->names[0]) };

	if (mode == AT_ONCE)
		answer_question(&question, NULL);
	else if (mode == REFUSE)
		answer_question(&question, "no name matched");
	else
		pair->questions[pair->question_count++] = question;
}

static void identify_client(void *owner, const struct certificate_identity *certificate, identified done, void *context)
{
	struct pair *pair = owner;

	identify(pair, pair->server_mode, certificate, done, context);
}

static void identify_server(void *owner, const struct certificate_identity *certificate, identified done, void *context)
{
	struct pair *pair = owner;

	identify(pair, pair->client_mode, certificate, done, context);
}

static void free_server(struct pair *pair)
{
	grpc_server_free(pair->server);
	pair->server = NULL;
}

/* Callbacks from inside find the connection gone already. */
static void free_connection(struct pair *pair)
{
	struct grpc_connection *connection = pair->connection;

	pair->connection = NULL;
	grpc_connection_free(connection);
}

static void respond(struct grpc_call *call)
{
	const struct hyper_request *request = grpc_call_request(call);
	struct hyper_response response = { .id = request->id, .result = request->params };

	assert_string_equal(grpc_call_identities(call)->items[0].name, "caller");
	grpc_call_respond(call, &response);
}

static void called(struct grpc_call *call, void *context)
{
	struct pair *pair = context;

	if (pair->holds_calls) {
		pair->held[pair->held_count++] = call;
	} else if (pair->fails_calls) {
		grpc_call_fail(call, GRPC_STATUS_UNKNOWN, "error: 100% \xc3\xbc\nnext line");
	} else if (pair->expels_callers) {
		grpc_call_expel(call, 16, "who are you?");
	} else if (pair->frees_server_when_called) {
		free_server(pair);
		respond(call);
	} else {
		respond(call);
	}
}

static void reverse_opened(struct grpc_reverse *reverse, const char *name, void *context)
{
	struct pair *pair = context;

	pair->reverse = reverse;
	snprintf(pair->reverse_name, sizeof(pair->reverse_name), "%s", name);
}

static void reverse_ended(struct grpc_reverse *reverse, void *context)
{
	struct pair *pair = context;

	assert_ptr_equal(reverse, pair->reverse);
	pair->reverse = NULL;
	pair->reverse_ended++;
}

static void ready(struct grpc_connection *connection, void *context)
{
	struct pair *pair = context;

	pair->is_ready = true;
	assert_ptr_equal(connection, pair->connection);
	if (pair->frees_when_ready)
		free_connection(pair);
}

static void closed(struct grpc_connection *connection, const char *reason, void *context)
{
	struct pair *pair = context;

	assert_ptr_equal(connection, pair->connection);
	assert_string_equal(pair->closed, "");
	snprintf(pair->closed, sizeof(pair->closed), "%s", reason);
	pair->connection = NULL;
}

static void call_ended(struct grpc_connection *connection, void *context)
{
	struct pair *pair = context;

	assert_ptr_equal(connection, pair->connection);
	pair->call_ended_count++;
}

static void done(const struct grpc_result *result, void *context)
{
	struct pair *pair = context;

	pair->done_count++;
	pair->last_status = result->status;
	snprintf(pair->last_message, sizeof(pair->last_message), "%s", result->message);
	pair->undelivered_count += result->undelivered;
	if (result->status == GRPC_STATUS_OK) {
		pair->ok_count++;
		json_decref(pair->last_result);
		pair->last_result = json_incref(result->response->result);
	}
	if (pair->frees_when_done && pair->connection)
		free_connection(pair);
}

static void answer_request(struct grpc_reverse_request *request)
{
	const struct hyper_request *got = grpc_reverse_request_get(request);
	struct hyper_response response = { .id = got->id, .result = got->params };

	grpc_reverse_answer(request, &response);
}

/* A connected pair of TCP sockets; the server's own socket buffers may be small. */
static void connect_sockets(int fds[2], int buffer_size)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
	if (buffer_size)
		setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &buffer_size, sizeof(buffer_size));
	assert_int_equal(listen(listener, 1), 0);
	getsockname(listener, (struct sockaddr *)&address, &length);
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (buffer_size)
		setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &buffer_size, sizeof(buffer_size));
	assert_int_equal(connect(fds[0], (struct sockaddr *)&address, length), 0);
	fds[1] = accept(listener, NULL, NULL);
	evutil_make_socket_nonblocking(fds[0]);
	close(listener);
}

static void start_client(struct pair *pair, int fd, const char *server_name)
{
	const struct grpc_connection_options options = {
		.fd = fd,
		.tls = pair->client_tls,
		.server_name = server_name,
		.identifier = { identify_server, pair },
		.handshake_timeout_ms = 2000,
		.ready = ready,
		.closed = closed,
		.call_ended = call_ended,
		.context = pair,
	};

	assert_int_equal(grpc_connection_start(pair->base, &options, &pair->connection), 0);
}

static int setup(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	pair->base = event_base_new();
	pair->server_tls = make_context("callee", true);
	pair->client_tls = make_context("caller", false);
	*state = pair;
	return 0;
}

/* `bind_address` and `limiter` may be NULL. */
static void start_server_at(struct pair *pair, const char *bind_address, struct rate_limiter *limiter)
{
	const struct grpc_server_options options = {
		.name = "callee",
		.bind_address = bind_address,
		.limiter = limiter,
		.tls = pair->server_tls,
		.identifier = { identify_client, pair },
		.called = called,
		.reverse_opened = reverse_opened,
		.reverse_ended = reverse_ended,
		.context = pair,
	};

	assert_int_equal(grpc_server_start(pair->base, &options, &pair->server), 0);
}

static void start_server(struct pair *pair)
{
	start_server_at(pair, NULL, NULL);
}

/* A server whose loop, the result, only turns when the test turns it. */
static inline struct event_base *start_frozen_server(struct pair *pair)
{
	struct event_base *both = pair->base, *frozen = event_base_new();

	pair->base = frozen;
	start_server(pair);
	pair->base = both;
	return frozen;
}

static void connect_both_as(struct pair *pair, const char *server_name)
{
	int fds[2];

	connect_sockets(fds, 0);
	start_server(pair);
	assert_int_equal(grpc_server_adopt(pair->server, fds[1]), 0);
	start_client(pair, fds[0], server_name);
}

static void connect_both(struct pair *pair)
{
	connect_both_as(pair, "callee");
}

static int teardown(void **state)
{
	struct pair *pair = *state;

	grpc_connection_free(pair->connection);
	grpc_server_free(pair->server);
	for (size_t i = 0; i < pair->held_count; i++)
		grpc_call_fail(pair->held[i], GRPC_STATUS_UNKNOWN, "");
	for (size_t i = 0; i < pair->request_count; i++)
		answer_request(pair->requests[i]);
	for (size_t i = 0; i < pair->question_count; i++)
		answer_question(&pair->questions[i], "too late");
	json_decref(pair->last_result);
	json_decref(pair->reverse_result);
	SSL_CTX_free(pair->server_tls);
	SSL_CTX_free(pair->client_tls);
	linger_end_all(pair->base);
	event_base_free(pair->base);
	free(pair);
	return 0;
}

/* Turns the loop until the condition holds; fails the test after LIMIT_MS. */
#define wait_for(pair, condition) \
	do { \
		uint64_t limit_ = clock_now_ms() + LIMIT_MS; \
		while (!(condition)) { \
			if (clock_now_ms() > limit_) \
				fail_msg("waited in vain for: %s", #condition); \
			turn(pair); \
		} \
	} while (0)

static void turn(struct pair *pair)
{
	const struct timeval pause = { 0, 5000 };

	event_base_loopexit(pair->base, &pause);
	event_base_loop(pair->base, EVLOOP_ONCE);
}

static void connect_ready(struct pair *pair)
{
	connect_both(pair);
	wait_for(pair, pair->is_ready);
}

static int call_with(struct pair *pair, json_t *params, unsigned timeout_ms)
{
	struct hyper_request request = {
		.method = (char *)"callee.f",
		.id = (char *)"callee.f(1)",
		.client_name = (char *)"caller",
		.params = params,
	};
	int error = grpc_connection_call(pair->connection, &request, timeout_ms, done, pair);

	json_decref(params);
	return error;
}

/* Connects, and makes a call that the server has and keeps open. */
static inline void hold_a_call(struct pair *pair)
{
	pair->holds_calls = true;
	connect_ready(pair);
	assert_int_equal(call_with(pair, NULL, 8000), 0);
	wait_for(pair, pair->held_count == 1);
}

static inline void respond_to_held(struct pair *pair)
{
	assert_int_not_equal(pair->held_count, 0);
	for (size_t i = 0; i < pair->held_count; i++)
		respond(pair->held[i]);
	pair->held_count = 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static int prepare_pair_tests(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "TEST");
	key = EVP_EC_gen("P-256");
	root = make_certificate("test root", true);
	return 0;
}

static int finish_pair_tests(void **state)
{
	(void)state;
	X509_free(root);
	EVP_PKEY_free(key);
	return 0;
}
