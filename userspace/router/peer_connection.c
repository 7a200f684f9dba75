// SPDX-License-Identifier: Apache-2.0
/* Making and keeping one connection.
 *
 * The whole attempt (brokering, TCP, TLS, pinning, SETTINGS) has one budget of
 * 20 s, each step gets what is left of it. The age of a relayed connection counts
 * from sending `requestConnection`, which is when the attempt starts; what its
 * life says about the proxy is told to relay_trust here. */
#include "router/peer_connection.h"

#include "base/address.h"
#include "base/instant.h"
#include "base/log.h"
#include "router/grpc_failure.h"
#include "router/identifier.h"
#include "router/relay_dialer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ATTEMPT_TIMEOUT_MS 20000
#define CONNECT_TIMEOUT_MS 10000

struct peer_connection {
	struct peer_connection_options options;
	char *name, *address, *proxy; /* proxy "": direct */
	json_t *entry;
	enum peer_connection_state state;
	struct connector *connector;
	struct relay_dial *dial;
	struct grpc_connection *grpc;
	bool is_doubted; /* its end, if it comes, is not our doing */
	uint64_t started_ms, idle_since_ms, serial;
};

enum peer_connection_state peer_connection_state(const struct peer_connection *connection)
{
	return connection->state;
}

struct grpc_connection *peer_connection_grpc(const struct peer_connection *connection)
{
	return connection->grpc;
}

uint64_t peer_connection_serial(const struct peer_connection *connection)
{
	return connection->serial;
}

static bool is_relayed(const struct peer_connection *connection)
{
	return *connection->proxy;
}

static unsigned left_ms(const struct peer_connection *connection, unsigned at_most_ms)
{
	uint64_t age_ms = clock_now_ms() - connection->started_ms;
	unsigned left = age_ms < ATTEMPT_TIMEOUT_MS ? (unsigned)(ATTEMPT_TIMEOUT_MS - age_ms) : 1;
	return left < at_most_ms ? left : at_most_ms;
}

static void connection_release(struct peer_connection *connection)
{
	json_decref(connection->entry);
	free(connection->name);
	free(connection->address);
	free(connection->proxy);
	free(connection);
}

static void attempt_fail(struct peer_connection *connection, const char *transport_error)
{
	char *text = transport_error ? grpc_failure_connection(transport_error) : NULL;
	connection->options.failed(connection, text ? text : "out of memory", connection->options.context);
	free(text);
	connection_release(connection);
}

/* ---- events of the gRPC connection ---- */

static void grpc_ready(struct grpc_connection *grpc, void *context)
{
	struct peer_connection *connection = context;
	(void)grpc;
	connection->state = PEER_READY;
	connection->idle_since_ms = clock_now_ms();
	log_debug("connected to %s at %s%s%s", connection->name, connection->address,
		  is_relayed(connection) ? " through " : "", connection->proxy);
	connection->options.ready(connection, connection->options.context);
}

static void learn(struct peer_connection *connection, enum relay_lesson lesson)
{
	if (lesson == RELAY_LESSON_TRUSTED)
		log_info("proxy %s keeps relayed connections open: from now on they are used for as long as they live",
			 connection->proxy);
	else if (lesson == RELAY_LESSON_DISTRUSTED)
		log_info("proxy %s cut a relayed connection to %s: from now on they are used for 3 s only",
			 connection->proxy, connection->name);
}

static void grpc_closed(struct grpc_connection *grpc, const char *reason, void *context)
{
	struct peer_connection *connection = context;
	bool was_announced = grpc_connection_is_going_away(grpc);
	connection->grpc = NULL;
	if (connection->state == PEER_HANDSHAKING) {
		attempt_fail(connection, reason);
		return;
	}
	if (connection->state == PEER_READY || connection->is_doubted) {
		log_debug("connection to %s ended: %s", connection->name, reason);
		/* What the peer announced is its own doing, not the proxy's. */
		if (is_relayed(connection) && !was_announced)
			learn(connection, relay_trust_note_cut(connection->options.trust, connection->proxy,
							       clock_now_ms() - connection->started_ms));
	}
	connection->options.lost(connection, reason, connection->options.context);
	connection_release(connection);
}

static void grpc_call_ended(struct grpc_connection *grpc, void *context)
{
	struct peer_connection *connection = context;
	(void)grpc;
	connection->idle_since_ms = clock_now_ms();
}

/* ---- the attempt ---- */

static void transport_ready(int fd_or_error, const char *reason, void *context)
{
	struct peer_connection *connection = context;
	connection->connector = NULL;
	connection->dial = NULL;
	if (fd_or_error < 0) {
		char *text = grpc_failure_dial(reason ? reason : strerror(-fd_or_error));
		attempt_fail(connection, text);
		free(text);
		return;
	}
	connection->state = PEER_HANDSHAKING;
	struct grpc_connection_options options = {
		.fd = fd_or_error,
		.tls = connection->options.tls,
		.skip_verify = connection->options.skip_verify,
		.server_name = connection->name,
		.identifier = identifier_for_directory(router_directory(connection->options.router)),
		.handshake_timeout_ms = left_ms(connection, ATTEMPT_TIMEOUT_MS),
		.ready = grpc_ready,
		.closed = grpc_closed,
		.call_ended = grpc_call_ended,
		.context = connection,
	};
	int error = grpc_connection_start(router_base(connection->options.router), &options, &connection->grpc);
	if (error < 0)
		attempt_fail(connection, strerror(-error));
}

int peer_connection_start(const struct peer_connection_options *options, struct peer_connection **result)
{
	static uint64_t last_serial;
	struct peer_connection *connection = calloc(1, sizeof(*connection));
	if (!connection)
		return -ENOMEM;
	connection->options = *options;
	connection->name = strdup(options->name);
	connection->address = strdup(options->target->address);
	connection->proxy = strdup(options->target->proxy);
	connection->entry = json_incref(options->entry);
	connection->serial = ++last_serial;
	connection->started_ms = clock_now_ms();
	int error = -ENOMEM;
	if (!connection->name || !connection->address || !connection->proxy)
		goto out;
	if (is_relayed(connection))
		error = relay_dial_start(options->router, options->dialling, connection->proxy, connection->name,
					 ATTEMPT_TIMEOUT_MS, transport_ready, connection, &connection->dial);
	else
		error = connector_start(router_base(options->router), connection->address, CONNECT_TIMEOUT_MS,
					transport_ready, connection, &connection->connector);
	if (error == 0) {
		*result = connection;
		return 0;
	}
out:
	connection_release(connection);
	return error;
}

void peer_connection_free(struct peer_connection *connection)
{
	if (connection->connector)
		connector_cancel(connection->connector);
	if (connection->dial)
		relay_dial_cancel(connection->dial);
	if (connection->grpc)
		grpc_connection_free(connection->grpc);
	connection_release(connection);
}

void peer_connection_retire(struct peer_connection *connection)
{
	if (connection->state != PEER_READY)
		return;
	connection->state = PEER_RETIRED;
	grpc_connection_finish(connection->grpc);
}

void peer_connection_doubt(struct peer_connection *connection)
{
	connection->is_doubted = connection->state == PEER_READY;
	peer_connection_retire(connection);
}

/* ---- fitness ---- */

bool peer_connection_fits(struct peer_connection *connection, json_t *entry, const struct grpc_server_entry *target)
{
	if (entry == connection->entry)
		return true;
	if (strcmp(target->address, connection->address) != 0 || strcmp(target->proxy, connection->proxy) != 0 ||
	    !json_equal(json_object_get(entry, "certificates"), json_object_get(connection->entry, "certificates")))
		return false;
	/* Other parts of the entry have changed: next time it is one comparison. */
	json_incref(entry);
	json_decref(connection->entry);
	connection->entry = entry;
	return true;
}

static bool is_alive_for_calls(struct peer_connection *connection, uint64_t now_ms)
{
	if (!is_relayed(connection))
		return true;
	struct relay_trust *trust = connection->options.trust;
	uint64_t age_ms = now_ms - connection->started_ms;
	learn(connection, relay_trust_note_alive(trust, connection->proxy, age_ms));
	return relay_trust_admits(trust, connection->proxy, age_ms);
}

bool peer_connection_admits(struct peer_connection *connection, uint64_t now_ms)
{
	return connection->state == PEER_READY && grpc_connection_accepts_calls(connection->grpc) &&
	       is_alive_for_calls(connection, now_ms);
}

bool peer_connection_is_idle(struct peer_connection *connection, uint64_t now_ms, uint64_t idle_timeout_ms)
{
	if (connection->state != PEER_READY || grpc_connection_open_calls(connection->grpc) > 0)
		return false;
	bool admits = is_alive_for_calls(connection, now_ms); /* learns */
	if (is_relayed(connection) && relay_trust_is_learning(connection->options.trust, connection->proxy,
							       now_ms - connection->started_ms))
		return false;
	return !admits || now_ms - connection->idle_since_ms >= idle_timeout_ms;
}
