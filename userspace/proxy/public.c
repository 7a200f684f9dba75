// SPDX-License-Identifier: Apache-2.0
/* The public proxy. Main thread: JSON-RPC, control socket, expiry of tickets.
 * Relay workers: connections and bytes.
 *
 * A stop goes from the outside in: no new calls, calls under way answered, no
 * new connections, those not joined closed; then the joined pairs have their
 * time. relay_stop() blocks for that, so it has a thread of its own, while
 * p2pctl can still look and a second signal can still end it all. */
#include "proxy/public.h"

#include "base/daemon.h"
#include "base/instant.h"
#include "base/log.h"
#include "jsonrpc/control.h"
#include "proxy/brokering.h"
#include "proxy/control.h"
#include "proxy/endpoint.h"
#include "proxy/ending.h"
#include "proxy/operators.h"
#include "proxy/privileges.h"
#include "proxy/residency.h"
#include "relay/ktls.h"
#include "tls/context.h"
#include "tls/outer.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define REMEMBER_MS 5000 /* what the own hyper says of an operator; its own copy is as old */
#define ASK_MARGIN_MS 5000 /* the call's own timeout comes first */
#define FLUSH_STEP_MS 20
#define FLUSH_STEPS 50
#define CHORES_PERIOD_S 10
#define WORKER_STACK_BYTES (1024 * 1024)

struct public_proxy {
	const struct public_proxy_settings *settings;
	struct event_base *base;
	struct relay *relay;
	struct broker *broker;
	struct refusals *refusals;
	struct rate_limiter *limiter;
	struct endpoint *endpoint;
	SSL_CTX *tls; /* of the TLS endpoint; NULL: there is none */
	struct operators *operators;
	struct jsonrpc_client *hyper;
	struct brokering *brokering;
	struct jsonrpc_server *server;
	struct control control;
	struct control_server *control_server;
	struct daemon_signals *signals;
	pthread_t stopper;
	int stopped_fd; /* eventfd: relay_stop() is through */
	struct event *stopped, *flush;
	unsigned flush_steps;
	struct event *chores;
	uint64_t work_seen, work_trimmed; /* sums of what only grows, see do_chores() */
};

bool public_proxy_check(const struct proxy_settings *settings)
{
	if (!settings->public_proxy)
		log_error("settings: there is no `public` section");
	return settings->public_proxy;
}

/* From a worker's thread. */
static void pair_ended(const struct pair_report *report, void *context)
{
	struct public_proxy *proxy = context;
	char line[ENDING_LINE_SIZE];

	log_info("%s", ending_format(report, line));
	broker_pair_ended(proxy->broker, report->outcome);
	broker_pair_over(proxy->broker, report->parties[report->parties[1].asked].operator_name);
}

static void release_party(void *party, enum outcome outcome, void *context)
{
	struct public_proxy *proxy = context;

	endpoint_release(proxy->endpoint, party, outcome);
}

/* On each thread of the relay: all that needs privileges is done. The main thread,
 * which cannot do it either then, ends the program. */
static void relay_thread_started(void *context)
{
	int error = privileges_drop();

	(void)context;
	if (error)
		log_error("a thread of the relay cannot give its privileges up: %s", strerror(-error));
}

static int drop_privileges(void)
{
	char text[PRIVILEGES_TEXT_SIZE];
	int error = privileges_drop();

	if (error)
		log_error("cannot give privileges up: %s", strerror(-error));
	else
		log_info("privileges given up after the start: %s", privileges_describe(text));
	return error;
}

static int start_relay(struct public_proxy *proxy, const struct proxy_settings *settings)
{
	const struct public_proxy_settings *public = settings->public_proxy;
	struct broker_limits limits = {.accept_timeout_ms = public->accept_timeout_ms,
				       .ask_timeout_ms = public->jsonrpc_client->timeout_ms + ASK_MARGIN_MS,
				       .max_tickets = public->max_tickets,
				       .max_tickets_per_requester = public->max_tickets_per_operator,
				       .max_pairs_per_requester = public->max_pairs_per_operator};
	struct relay_options options = {.settings = settings->relay, .ended = pair_ended,
					.thread_started = relay_thread_started, .context = proxy};
	int error = broker_create(&limits, &proxy->broker);

	if (!error)
		error = refusals_create(&proxy->refusals);
	if (!error && public->limits.count > 0)
		error = rate_limiter_create(public->limits.rules, public->limits.count, public->limits.exempt_loopback,
					    &proxy->limiter);
	if (!error)
		error = relay_create(&options, &proxy->relay);
	if (error)
		return error;
	struct endpoint_options endpoint = {.relay = proxy->relay, .broker = proxy->broker, .refusals = proxy->refusals,
					    .limiter = proxy->limiter, .bind_address = public->internal_bind_address,
					    .token_timeout_ms = public->token_timeout_ms,
					    .tls_bind_address = public->relay_tls_bind_address, .tls = proxy->tls,
					    .operators = proxy->operators};
	return endpoint_start(&endpoint, &proxy->endpoint);
}

/* What the TLS endpoint needs: certificates, and somebody who knows the operators. */
static int prepare_tls(struct public_proxy *proxy)
{
	const struct public_proxy_settings *public = proxy->settings;
	struct operators_options options = {.base = proxy->base, .own_name = public->name,
					    .directory = public->directory, .hyper = proxy->hyper,
					    .remember_ms = REMEMBER_MS};

	if (!public->relay_tls_bind_address)
		return 0;
	struct tls_settings tls = *public->relay_tls;
	tls.verify_client = true;
	proxy->tls = tls_context_server(&tls, NULL);
	if (!proxy->tls)
		return -EINVAL;
	outer_context_prepare(proxy->tls);
	int error = relay_tls_context_prepare(proxy->tls);
	return error ? error : operators_create(&options, &proxy->operators);
}

static int start_brokering(struct public_proxy *proxy)
{
	const struct public_proxy_settings *public = proxy->settings;
	struct brokering_options options = {.base = proxy->base, .broker = proxy->broker, .hyper = proxy->hyper,
					    .endpoints = {public->internal_endpoint,
							  proxy->tls ? public->relay_tls_endpoint : NULL, public->name},
					    .accept_timeout_ms = public->accept_timeout_ms, .release = release_party,
					    .context = proxy};
	int error = brokering_create(&options, &proxy->brokering);
	if (error)
		return error;
	return jsonrpc_server_start(proxy->base, "proxy", public->jsonrpc_server, brokering_handle, proxy->brokering,
				    &proxy->server);
}

static void start_control(struct public_proxy *proxy, const struct control_settings *settings)
{
	proxy->control = (struct control){.name = proxy->settings->name, .endpoint = proxy->settings->internal_endpoint,
					  .tls_endpoint = proxy->tls ? proxy->settings->relay_tls_endpoint : NULL,
					  .started_ms = clock_now_ms(), .relay = proxy->relay, .broker = proxy->broker,
					  .endpoint_listener = proxy->endpoint, .refusals = proxy->refusals};
	/* If it fails, which it has told, nobody can look; but the service is worth more. */
	control_server_start(proxy->base, settings, control_handle, &proxy->control, &proxy->control_server);
}

/* What can wait: telling of lines that were held back, and giving memory back
 * once after work, when nothing has happened for a whole period. */
static void do_chores(evutil_socket_t fd, short events, void *context)
{
	struct public_proxy *proxy = context;
	struct broker_totals tickets;
	struct relay_totals pairs;

	(void)fd, (void)events;
	refusals_flush(proxy->refusals);
	if (proxy->control.has_said_much)
		malloc_trim(0);
	proxy->control.has_said_much = false;
	broker_totals(proxy->broker, &tickets);
	relay_totals(proxy->relay, &pairs);
	uint64_t work = tickets.issued + pairs.pairs_joined + pairs.packets + pairs.bytes;
	if (work == proxy->work_seen && work != proxy->work_trimmed) {
		residency_trim();
		proxy->work_trimmed = work;
	}
	proxy->work_seen = work;
}

static void flushed(evutil_socket_t fd, short events, void *context)
{
	struct public_proxy *proxy = context;

	(void)fd, (void)events;
	if (jsonrpc_server_open_calls(proxy->server) > 0 && proxy->flush_steps++ < FLUSH_STEPS)
		evtimer_add(proxy->flush, &(struct timeval){.tv_usec = FLUSH_STEP_MS * 1000});
	else
		event_base_loopbreak(proxy->base);
}

/* The relay is through; last answers get the time to be written. */
static void relay_stopped(evutil_socket_t fd, short events, void *context)
{
	struct public_proxy *proxy = context;

	(void)fd, (void)events;
	event_del(proxy->stopped);
	evtimer_add(proxy->flush, &(struct timeval){.tv_usec = FLUSH_STEP_MS * 1000});
}

static void *stop_relay(void *context)
{
	struct public_proxy *proxy = context;

	relay_stop(proxy->relay);
	eventfd_write(proxy->stopped_fd, 1);
	return NULL;
}

static void stop(void *context)
{
	struct public_proxy *proxy = context;

	proxy->control.is_stopping = true;
	jsonrpc_server_stop(proxy->server);
	brokering_stop(proxy->brokering);
	if (proxy->operators)
		operators_stop(proxy->operators); /* the endpoint waits for its answers */
	endpoint_stop(proxy->endpoint);
	if (pthread_create(&proxy->stopper, NULL, stop_relay, proxy)) {
		stop_relay(proxy);
		proxy->stopper = 0;
	}
}

static int prepare_stop(struct public_proxy *proxy)
{
	proxy->stopped_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (proxy->stopped_fd < 0)
		return -errno;
	proxy->stopped = event_new(proxy->base, proxy->stopped_fd, EV_READ, relay_stopped, proxy);
	proxy->flush = evtimer_new(proxy->base, flushed, proxy);
	proxy->chores = event_new(proxy->base, -1, EV_PERSIST, do_chores, proxy);
	proxy->signals = daemon_watch_signals(proxy->base, stop, proxy);
	if (!proxy->stopped || !proxy->flush || !proxy->chores || !proxy->signals || event_add(proxy->stopped, NULL))
		return -ENOMEM;
	return 0;
}

static int start(struct public_proxy *proxy, const struct proxy_settings *settings)
{
	proxy->base = event_base_new();
	int error = proxy->base ? prepare_stop(proxy) : -ENOMEM;
	if (!error)
		error = jsonrpc_client_create(proxy->base, settings->public_proxy->jsonrpc_client, NULL, NULL,
					      &proxy->hyper);
	if (!error)
		error = prepare_tls(proxy);
	if (!error)
		error = start_relay(proxy, settings);
	if (!error)
		error = start_brokering(proxy);
	if (!error)
		start_control(proxy, &settings->control);
	if (!error)
		error = drop_privileges();
	if (!error && event_add(proxy->chores, &(struct timeval){.tv_sec = CHORES_PERIOD_S}))
		error = -ENOMEM;
	return error;
}

static bool names_localhost(const char *address)
{
	return strncmp(address, "localhost:", 10) == 0 || strncmp(address, "127.", 4) == 0 ||
	       strncmp(address, "[::1]:", 6) == 0;
}

static void tell_planes(const struct proxy_settings *settings, const struct probe_report *probe)
{
	static const enum plane best_first[] = {PLANE_SOCKMAP, PLANE_KTLS_SPLICE, PLANE_SPLICE, PLANE_COPY};
	char text[128] = "";

	for (size_t i = 0; i < sizeof best_first / sizeof *best_first; i++) {
		size_t length = strlen(text);
		if (probe->planes[best_first[i]])
			snprintf(text + length, sizeof text - length, "%s%s", length > 0 ? ", " : "",
				 plane_name(best_first[i]));
	}
	log_info("planes for pairs, best first: %s", *text ? text : "copy, as nothing else can move bytes");
	if (!probe->planes[PLANE_SOCKMAP] && settings->relay.planes & PLANE_MASK_SOCKMAP)
		log_warning("pairs cannot use sockmap: the daemon works for every byte; the probe's lines say why");
}

/* What somebody who starts the proxy should know. */
static void tell_start(const struct public_proxy *proxy, const struct proxy_settings *settings)
{
	const struct public_proxy_settings *public = proxy->settings;

	tell_planes(settings, relay_probed(proxy->relay));
	if (names_localhost(public->internal_endpoint) && !names_localhost(public->internal_bind_address))
		log_warning("peers are told to dial internal_endpoint %s, which is their own machine", public->internal_endpoint);
	log_info("public.datastore is kept for TLS passthrough, which will store its records there: this version does not open it");
	log_info("TLS passthrough is not in this version: %s is not bound", public->tls_bind_address);
	if (settings->metrics)
		log_info("metrics are not in this version: %s is not bound", settings->metrics->bind_address);
	log_info("public proxy %s: parties are joined on %s (peers are told %s), %u workers", public->name,
		 endpoint_address(proxy->endpoint), public->internal_endpoint, relay_worker_count(proxy->relay));
	if (proxy->tls)
		log_info("parties that come over TLS are identified and joined on %s (peers are told %s)",
			 endpoint_tls_address(proxy->endpoint), public->relay_tls_endpoint);
}

/* Frees what there is. After a start that failed, nothing was stopped yet. */
static void release(struct public_proxy *proxy, bool was_stopped)
{
	if (proxy->stopper)
		pthread_join(proxy->stopper, NULL);
	control_server_free(proxy->control_server);
	if (proxy->server)
		jsonrpc_server_free(proxy->server);
	if (!was_stopped && proxy->brokering)
		brokering_stop(proxy->brokering);
	brokering_free(proxy->brokering);
	if (!was_stopped && proxy->operators)
		operators_stop(proxy->operators);
	if (proxy->hyper)
		jsonrpc_client_free(proxy->hyper);
	if (!was_stopped && proxy->endpoint)
		endpoint_stop(proxy->endpoint);
	if (!was_stopped && proxy->relay)
		relay_stop(proxy->relay);
	if (proxy->relay)
		relay_free(proxy->relay);
	endpoint_free(proxy->endpoint);
	operators_free(proxy->operators);
	SSL_CTX_free(proxy->tls);
	rate_limiter_free(proxy->limiter);
	if (proxy->refusals)
		refusals_flush(proxy->refusals);
	refusals_free(proxy->refusals);
	broker_free(proxy->broker);
	daemon_signals_free(proxy->signals);
	if (proxy->flush)
		event_free(proxy->flush);
	if (proxy->chores)
		event_free(proxy->chores);
	if (proxy->stopped)
		event_free(proxy->stopped);
	if (proxy->stopped_fd >= 0)
		close(proxy->stopped_fd);
	if (proxy->base)
		event_base_free(proxy->base);
}

/* Many threads with little to keep: few arenas, small stacks. */
static void bound_memory(void)
{
	pthread_attr_t attributes;

	mallopt(M_ARENA_MAX, 2);
	if (pthread_attr_init(&attributes))
		return;
	if (!pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES))
		pthread_setattr_default_np(&attributes);
	pthread_attr_destroy(&attributes);
}

int public_proxy_run(const struct proxy_settings *settings)
{
	struct public_proxy proxy = {.settings = settings->public_proxy, .stopped_fd = -1};

	if (control_path_check(settings->control.path))
		return 1; /* an error of the settings, like others; it has been told */
	bound_memory();
	daemon_prepare_process();
	int error = start(&proxy, settings);
	if (error) {
		log_fatal("the proxy cannot run: %s", strerror(-error));
	} else {
		tell_start(&proxy, settings);
		residency_trim();
		event_base_dispatch(proxy.base);
	}
	release(&proxy, !error);
	if (!error)
		log_info("public proxy stopped");
	return error ? 1 : 0;
}
