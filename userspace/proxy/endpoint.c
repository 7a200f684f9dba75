// SPDX-License-Identifier: Apache-2.0
/* Listeners of the endpoint, one of each kind on every worker, and its start and
 * stop. What becomes of an accepted connection is told in guest.c. */
#include "proxy/endpoint.h"

#include "base/address.h"
#include "base/cleanup.h"
#include "base/instant.h"
#include "base/log.h"
#include "proxy/guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 65535 /* the kernel takes net.core.somaxconn of it; a connection too many costs its party a second */
#define ACCEPTS_PER_ROUND 16
#define ACCEPT_PAUSE_NS (100 * 1000 * 1000ull) /* without descriptors */
#define READING_MAX 8192u                      /* connections without a token, at most */
#define SHAKING_MAX 1024u                      /* of them TLS handshakes, which take more memory */
#define SHAKING_MIN 16u                        /* of a worker, however many there are */

/* ---- workers ---- */

static void worker_resume(struct loop_timer *timer)
{
	struct listener *listener = CONTAINER_OF(timer, struct listener, pause);

	loop_watch_change(listener->worker->loop, &listener->watch, EPOLLIN);
}

static void worker_accept(struct loop_watch *watch, uint32_t events)
{
	struct listener *listener = CONTAINER_OF(watch, struct listener, watch);
	struct worker *worker = listener->worker;

	(void)events;
	for (unsigned i = 0; i < ACCEPTS_PER_ROUND; i++) {
		struct sockaddr_in6 peer = {0};
		socklen_t length = sizeof peer;
		int fd = accept4(watch->fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			guest_admit(worker, fd, &peer, listener->is_tls);
		} else if (errno == EAGAIN) {
			return;
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			refusals_note(worker->endpoint->options.refusals, listener->is_tls, NULL, OUTCOME_NO_RESOURCES, strerror(errno));
			loop_watch_change(worker->loop, watch, 0);
			loop_timer_arm(worker->loop, &listener->pause, clock_now_ns() + ACCEPT_PAUSE_NS, worker_resume);
			return;
		} /* else the connection died before it was accepted */
	}
}

static void worker_start(struct loop_message *message)
{
	struct worker *worker = CONTAINER_OF(message, struct worker, start);

	for (unsigned i = 0; i < 2; i++) {
		struct loop_watch *watch = &worker->listeners[i].watch;
		int error = watch->fd < 0 ? 0 : loop_watch_add(worker->loop, watch, watch->fd, EPOLLIN, worker_accept);
		if (error)
			log_error("internal endpoint: worker %u cannot watch its listener: %s", worker->index,
				  strerror(-error));
	}
}

static void worker_stop(struct loop_message *message)
{
	struct worker *worker = CONTAINER_OF(message, struct worker, stop);
	struct endpoint *endpoint = worker->endpoint;

	worker->is_stopped = true;
	loop_timer_cancel(worker->loop, &worker->handshakes);
	for (unsigned i = 0; i < 2; i++) {
		struct listener *listener = &worker->listeners[i];
		int fd = listener->watch.fd;
		loop_timer_cancel(worker->loop, &listener->pause);
		loop_watch_remove(worker->loop, &listener->watch);
		if (fd >= 0)
			close(fd);
	}
	for (struct guest *guest = LIST_FIRST(&worker->guests), *next; guest; guest = next) {
		struct ticket_ending ending;
		next = LIST_NEXT(guest, link);
		/* One that somebody has taken awaits its message. */
		if (guest->state == GUEST_TAKEN ||
		    (guest->state == GUEST_WAITS &&
		     broker_leave(endpoint->options.broker, &guest->key, guest, &ending) != 0))
			continue;
		if (guest->tls && guest->state != GUEST_SETTLES)
			tls_guest_tell(guest, OUTCOME_SHUTDOWN, NULL);
		guest_detach(guest);
		guest_free(guest);
	}
	pthread_mutex_lock(&endpoint->lock);
	endpoint->workers_listening--;
	pthread_cond_broadcast(&endpoint->changed);
	pthread_mutex_unlock(&endpoint->lock);
}

/* ---- the endpoint ---- */

struct bound {
	struct sockaddr_storage address;
	socklen_t length;
	int only_ipv6;
};

/* Resolves the address and makes sure that nobody else listens there: with
 * SO_REUSEPORT a second proxy would silently get half of the connections. */
static int bound_find(const char *text, struct bound *bound)
{
	_close_ int fd = address_listen(text, false, 1);
	socklen_t size = sizeof bound->only_ipv6;

	if (fd < 0)
		return fd;
	bound->length = sizeof bound->address;
	if (getsockname(fd, (struct sockaddr *)&bound->address, &bound->length))
		return -errno;
	bound->only_ipv6 = 1;
	if (bound->address.ss_family == AF_INET6)
		getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &bound->only_ipv6, &size);
	return 0;
}

/* Buffer sizes must stand before listen(): accepted sockets have them from
 * their first packet. */
static int worker_listen(const struct relay *relay, const struct bound *bound)
{
	_close_ int fd = socket(bound->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on))
		return -errno;
	if (bound->address.ss_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &bound->only_ipv6, sizeof bound->only_ipv6))
		return -errno;
	int error = relay_prepare_listener(relay, fd);
	if (error)
		return error;
	if (bind(fd, (const struct sockaddr *)&bound->address, bound->length) || listen(fd, BACKLOG))
		return -errno;
	int result = fd;
	fd = -1;
	return result;
}

static unsigned reading_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur / 4 > READING_MAX)
		return READING_MAX;
	return (unsigned)files.rlim_cur / 4;
}

/* Listeners of one kind on all workers. `address` gets what they are bound to. */
static int listen_on_all(struct endpoint *endpoint, const char *text, unsigned kind, char address[ADDRESS_TEXT_SIZE])
{
	struct bound bound;
	int error = bound_find(text, &bound);

	if (!error)
		address_format((struct sockaddr *)&bound.address, address);
	for (unsigned i = 0; !error && i < endpoint->worker_count; i++) {
		int fd = worker_listen(endpoint->options.relay, &bound);
		if (fd < 0)
			error = fd;
		else
			endpoint->workers[i].listeners[kind].watch.fd = fd;
	}
	if (error)
		log_error("internal endpoint: cannot listen on %s: %s", text, strerror(-error));
	return error;
}

/* How many may be without a token, of a worker, so that none goes without. */
static void share_out(struct endpoint *endpoint, unsigned *reading, unsigned *shaking)
{
	unsigned count = endpoint->worker_count;
	/* Half at most: handshakes alone must not shut the plain endpoint's door. */
	unsigned half = endpoint->tokenless_max / 2;

	*shaking = (half < SHAKING_MAX ? half : SHAKING_MAX) / count;
	if (*shaking < SHAKING_MIN)
		*shaking = SHAKING_MIN;
	unsigned all_shaking = endpoint->options.tls_bind_address ? *shaking * count : 0;
	*reading = (all_shaking < half ? endpoint->tokenless_max - all_shaking : half) / count;
	if (*reading == 0)
		*reading = 1;
}

static void prepare_worker(struct endpoint *endpoint, unsigned index)
{
	struct worker *worker = &endpoint->workers[index];

	*worker = (struct worker){.endpoint = endpoint, .index = index,
				  .loop = relay_worker_loop(endpoint->options.relay, index),
				  .start.receive = worker_start, .stop.receive = worker_stop};
	for (unsigned i = 0; i < 2; i++)
		worker->listeners[i] = (struct listener){.worker = worker, .watch.fd = -1, .is_tls = i == 1};
	LIST_INIT(&worker->guests);
}

static void destroy(struct endpoint *endpoint)
{
	for (unsigned i = 0; i < endpoint->worker_count; i++)
		for (unsigned kind = 0; kind < 2; kind++)
			crowd_close(&endpoint->workers[i].crowds[kind]);
	free(endpoint);
}

/* What is not tied to a socket yet. 0 or a negative errno. */
static int open_crowds(struct endpoint *endpoint)
{
	unsigned most[2];
	int error = 0;

	share_out(endpoint, &most[0], &most[1]);
	/* One more, because a newcomer is in before another one goes. */
	for (unsigned i = 0; !error && i < 2 * endpoint->worker_count; i++)
		error = crowd_open(&endpoint->workers[i / 2].crowds[i % 2], most[i % 2] + 1);
	if (error)
		log_error("internal endpoint: %s", strerror(-error));
	return error;
}

int endpoint_start(const struct endpoint_options *options, struct endpoint **result)
{
	unsigned count = relay_worker_count(options->relay);
	struct endpoint *endpoint = calloc(1, sizeof *endpoint + count * sizeof *endpoint->workers);

	if (!endpoint)
		return -ENOMEM;
	endpoint->options = *options;
	endpoint->tokenless_max = reading_limit();
	endpoint->worker_count = endpoint->workers_listening = count;
	for (unsigned i = 0; i < count; i++)
		prepare_worker(endpoint, i);
	int error = open_crowds(endpoint);
	if (!error)
		error = listen_on_all(endpoint, options->bind_address, 0, endpoint->address);
	if (!error && options->tls_bind_address)
		error = listen_on_all(endpoint, options->tls_bind_address, 1, endpoint->tls_address);
	if (error) {
		for (unsigned i = 0; i < 2 * count; i++)
			if (endpoint->workers[i / 2].listeners[i % 2].watch.fd >= 0)
				close(endpoint->workers[i / 2].listeners[i % 2].watch.fd);
		destroy(endpoint);
		return error;
	}
	pthread_mutex_init(&endpoint->lock, NULL);
	pthread_cond_init(&endpoint->changed, NULL);
	for (unsigned i = 0; i < count; i++)
		loop_post(endpoint->workers[i].loop, &endpoint->workers[i].start);
	*result = endpoint;
	return 0;
}

const char *endpoint_address(const struct endpoint *endpoint)
{
	return endpoint->address;
}

const char *endpoint_tls_address(const struct endpoint *endpoint)
{
	return endpoint->tls_address;
}

void endpoint_release(struct endpoint *endpoint, void *party, enum outcome outcome)
{
	struct guest *guest = party;

	(void)endpoint;
	guest->outcome = outcome;
	loop_post(guest->worker->loop, &guest->message);
}

static unsigned in_state(const struct endpoint *endpoint, enum guest_state state)
{
	return atomic_load(&endpoint->in_state[state]);
}

void endpoint_totals(const struct endpoint *endpoint, struct endpoint_totals *totals)
{
	totals->accepted = atomic_load_explicit(&endpoint->accepted, memory_order_relaxed);
	totals->tls_accepted = atomic_load_explicit(&endpoint->tls_accepted, memory_order_relaxed);
	totals->reading = in_state(endpoint, GUEST_READS) + in_state(endpoint, GUEST_SHAKES) +
			  in_state(endpoint, GUEST_IDENTIFIES);
	totals->waiting = in_state(endpoint, GUEST_WAITS) + in_state(endpoint, GUEST_TAKEN);
	totals->settling = in_state(endpoint, GUEST_SETTLES);
}

void endpoint_stop(struct endpoint *endpoint)
{
	for (unsigned i = 0; i < endpoint->worker_count; i++)
		loop_post(endpoint->workers[i].loop, &endpoint->workers[i].stop);
	pthread_mutex_lock(&endpoint->lock);
	while (endpoint->workers_listening > 0 || endpoint->guests > 0)
		pthread_cond_wait(&endpoint->changed, &endpoint->lock);
	pthread_mutex_unlock(&endpoint->lock);
}

void endpoint_free(struct endpoint *endpoint)
{
	if (!endpoint)
		return;
	pthread_mutex_destroy(&endpoint->lock);
	pthread_cond_destroy(&endpoint->changed);
	destroy(endpoint);
}
