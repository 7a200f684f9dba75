// SPDX-License-Identifier: Apache-2.0
/* Connections from accept to join. A `guest` is one accepted connection. It
 * belongs to the thread of the worker that accepted it, and goes through
 *
 *   READS   its token is not complete; a timer runs
 *   WAITS   it is the first party of a ticket; only watched for its end, its
 *           bytes stay in the kernel for the relay
 *   TAKEN   it left at the moment at which somebody else took it out of the
 *           ticket: it only awaits the message
 *
 * A waiting guest is named in the broker's table. Whoever takes it from there
 * (the second party's thread, or the main thread for an expired or refused
 * ticket) sends exactly one message to its worker: with `second` set it is
 * joined, otherwise let go. Only if its own broker_leave() succeeds does it end
 * without one. So a guest is never touched by two threads at a time, and the
 * pair is always joined on the first party's worker. A first party that dies
 * between match and join is joined all the same: the relay hands its end on. */
#include "proxy/endpoint.h"

#include "base/address.h"
#include "base/cleanup.h"
#include "base/instant.h"
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define BACKLOG 1024
#define ACCEPTS_PER_ROUND 32
#define ACCEPT_PAUSE_NS (100 * 1000 * 1000ull) /* without descriptors */
#define READING_MAX 8192u                      /* connections without a token, at most */

enum guest_state { GUEST_READS, GUEST_WAITS, GUEST_TAKEN };

struct guest {
	LIST_ENTRY(guest) link;
	struct worker *worker;
	struct loop_watch watch;
	struct loop_timer timer;
	struct loop_message message;
	enum guest_state state;
	int fd;
	unsigned token_bytes; /* that have come */
	struct token token;   /* wiped when complete */
	struct token_key key;
	union {
		struct sockaddr any;
		struct sockaddr_in6 ipv6;
	} peer;
	struct guest *second;  /* set by whoever sends the message */
	struct ticket ticket;  /* of a second party */
	enum outcome outcome;  /* of a guest to be let go */
};

LIST_HEAD(guest_list, guest);

struct worker {
	struct endpoint *endpoint;
	unsigned index;
	struct loop *loop;
	struct loop_watch listener;
	struct loop_timer pause;
	struct loop_message start, stop;
	struct guest_list guests; /* that read or wait */
	bool is_stopped;
};

struct endpoint {
	struct endpoint_options options;
	char address[ADDRESS_TEXT_SIZE];
	unsigned reading_max;
	atomic_uint_fast64_t accepted;
	atomic_uint reading, waiting;
	pthread_mutex_t lock; /* of what endpoint_stop() waits for */
	pthread_cond_t changed;
	unsigned guests, workers_listening;
	unsigned worker_count;
	struct worker workers[];
};

#define GUEST_OF(pointer, member) ((struct guest *)(void *)((char *)(pointer) - offsetof(struct guest, member)))
#define WORKER_OF(pointer, member) ((struct worker *)(void *)((char *)(pointer) - offsetof(struct worker, member)))

/* ---- guests ---- */

static void count_guests(struct endpoint *endpoint, int change)
{
	pthread_mutex_lock(&endpoint->lock);
	endpoint->guests += (unsigned)change;
	if (endpoint->guests == 0)
		pthread_cond_broadcast(&endpoint->changed);
	pthread_mutex_unlock(&endpoint->lock);
}

/* Takes the guest off its worker; only its descriptor stays. */
static void guest_detach(struct guest *guest)
{
	loop_watch_remove(guest->worker->loop, &guest->watch);
	loop_timer_cancel(guest->worker->loop, &guest->timer);
	LIST_REMOVE(guest, link);
	atomic_fetch_sub(guest->state == GUEST_READS ? &guest->worker->endpoint->reading
						     : &guest->worker->endpoint->waiting, 1);
}

/* Frees a detached guest. */
static void guest_free(struct guest *guest)
{
	struct endpoint *endpoint = guest->worker->endpoint;

	if (guest->fd >= 0)
		close(guest->fd);
	token_wipe(&guest->token);
	free(guest);
	count_guests(endpoint, -1); /* last: endpoint_stop() may return now */
}

static void guest_refuse(struct guest *guest, enum outcome outcome, const char *detail)
{
	refusals_note(guest->worker->endpoint->options.refusals, &guest->peer.any, outcome, detail);
	guest_detach(guest);
	guest_free(guest);
}

static struct relay_party party_of(struct guest *guest, const char *operator_name)
{
	struct relay_party party = {.fd = guest->fd, .bytes_read = TOKEN_SIZE};

	snprintf(party.operator_name, sizeof party.operator_name, "%s", operator_name);
	guest->fd = -1;
	return party;
}

/* Joins a detached first party with its detached second one. */
static void guest_join(struct guest *first, struct guest *second)
{
	struct worker *worker = first->worker;
	struct endpoint *endpoint = worker->endpoint;
	const struct ticket *ticket = &second->ticket;
	uint64_t pair_id;

	if (!worker->is_stopped) {
		/* Nothing on the wire says which party is which. By the order of the
		 * protocol the callee connects before the requester learns the token. */
		struct relay_party parties[2] = {party_of(first, ticket->callee), party_of(second, ticket->requester)};
		int error = relay_join(endpoint->options.relay, worker->index, parties, &pair_id);
		if (error)
			refusals_note(endpoint->options.refusals, &second->peer.any, OUTCOME_NO_RESOURCES,
				      strerror(-error));
		else
			log_debug("ticket %llu: pair %llu joined, %s and %s", (unsigned long long)ticket->id,
				  (unsigned long long)pair_id, ticket->callee, ticket->requester);
	}
	guest_free(second);
	guest_free(first);
}

static void guest_receive(struct loop_message *message)
{
	struct guest *guest = GUEST_OF(message, message);

	if (guest->second) {
		guest_detach(guest);
		guest_join(guest, guest->second);
	} else {
		guest_refuse(guest, guest->outcome, NULL);
	}
}

static void guest_matched(struct guest *guest, const struct ticket_match *match)
{
	struct guest *first = match->first;

	guest_detach(guest);
	guest->ticket = match->ticket;
	first->second = guest;
	if (first->worker == guest->worker)
		guest_receive(&first->message);
	else
		loop_post(first->worker->loop, &first->message);
}

static void guest_show_token(struct guest *guest)
{
	struct endpoint *endpoint = guest->worker->endpoint;
	struct ticket_match match;

	guest->key = broker_key(endpoint->options.broker, &guest->token);
	token_wipe(&guest->token);
	loop_timer_cancel(guest->worker->loop, &guest->timer);
	guest->message.receive = guest_receive; /* from here on it may be sent */

	switch (broker_arrive(endpoint->options.broker, &guest->key, guest, clock_now_ms(), &match)) {
	case ARRIVAL_UNKNOWN:
		guest_refuse(guest, OUTCOME_UNKNOWN_TOKEN, NULL);
		return;
	case ARRIVAL_MATCHED:
		guest_matched(guest, &match);
		return;
	case ARRIVAL_WAITS:
		guest->state = GUEST_WAITS;
		atomic_fetch_sub(&endpoint->reading, 1);
		atomic_fetch_add(&endpoint->waiting, 1);
		/* Its end raises an event even if it has come already. */
		loop_watch_change(guest->worker->loop, &guest->watch, EPOLLRDHUP);
		return;
	}
}

static void guest_read(struct guest *guest)
{
	while (guest->token_bytes < TOKEN_SIZE) {
		ssize_t got = recv(guest->fd, guest->token.bytes + guest->token_bytes,
				   TOKEN_SIZE - guest->token_bytes, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0) {
			guest_refuse(guest, OUTCOME_NO_TOKEN, got == 0 ? "it closed" : strerror(errno));
			return;
		}
		guest->token_bytes += (unsigned)got;
	}
	guest_show_token(guest);
}

/* A waiting party's connection has ended. */
static void guest_left(struct guest *guest)
{
	struct ticket_ending ending;
	char peer[ADDRESS_TEXT_SIZE];

	if (broker_leave(guest->worker->endpoint->options.broker, &guest->key, guest, &ending)) {
		guest->state = GUEST_TAKEN;
		loop_watch_remove(guest->worker->loop, &guest->watch);
		return;
	}
	log_info("ticket %llu of %s to %s ended %s: %s (%s)", (unsigned long long)ending.ticket.id,
		 ending.ticket.requester, ending.ticket.callee, outcome_word(ending.outcome),
		 outcome_sentence(ending.outcome), address_format(&guest->peer.any, peer));
	guest_detach(guest);
	guest_free(guest);
}

static void guest_ready(struct loop_watch *watch, uint32_t events)
{
	struct guest *guest = GUEST_OF(watch, watch);

	(void)events;
	if (guest->state == GUEST_READS)
		guest_read(guest);
	else if (guest->state == GUEST_WAITS)
		guest_left(guest);
}

static void guest_timeout(struct loop_timer *timer)
{
	struct guest *guest = GUEST_OF(timer, timer);
	char detail[48];

	snprintf(detail, sizeof detail, "%u of %u bytes came", guest->token_bytes, TOKEN_SIZE);
	guest_refuse(guest, OUTCOME_NO_TOKEN, detail);
}

/* ---- workers ---- */

static void worker_admit(struct worker *worker, int fd, const struct sockaddr_in6 *peer)
{
	struct endpoint *endpoint = worker->endpoint;
	const struct sockaddr *address = (const struct sockaddr *)peer;

	atomic_fetch_add_explicit(&endpoint->accepted, 1, memory_order_relaxed);
	if (!rate_limiter_admit(endpoint->options.limiter, address, time(NULL))) {
		close(fd);
		refusals_note(endpoint->options.refusals, address, OUTCOME_RATE_LIMITED, NULL);
		return;
	}
	struct guest *guest = atomic_load(&endpoint->reading) < endpoint->reading_max ? calloc(1, sizeof *guest) : NULL;
	if (!guest) {
		close(fd);
		refusals_note(endpoint->options.refusals, address, OUTCOME_NO_RESOURCES, NULL);
		return;
	}
	guest->worker = worker;
	guest->fd = fd;
	guest->peer.ipv6 = *peer;
	LIST_INSERT_HEAD(&worker->guests, guest, link);
	atomic_fetch_add(&endpoint->reading, 1);
	count_guests(endpoint, 1);

	int error = loop_watch_add(worker->loop, &guest->watch, fd, EPOLLIN | EPOLLRDHUP, guest_ready);
	if (error) {
		guest_refuse(guest, OUTCOME_NO_RESOURCES, strerror(-error));
		return;
	}
	loop_timer_arm(worker->loop, &guest->timer,
		       clock_now_ns() + endpoint->options.token_timeout_ms * 1000000ull, guest_timeout);
	guest_read(guest); /* the token usually comes with the handshake's last packet */
}

static void worker_resume(struct loop_timer *timer)
{
	struct worker *worker = WORKER_OF(timer, pause);

	loop_watch_change(worker->loop, &worker->listener, EPOLLIN);
}

static void worker_accept(struct loop_watch *watch, uint32_t events)
{
	struct worker *worker = WORKER_OF(watch, listener);

	(void)events;
	for (unsigned i = 0; i < ACCEPTS_PER_ROUND; i++) {
		struct sockaddr_in6 peer = {0};
		socklen_t length = sizeof peer;
		int fd = accept4(watch->fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			worker_admit(worker, fd, &peer);
		} else if (errno == EAGAIN) {
			return;
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			refusals_note(worker->endpoint->options.refusals, NULL, OUTCOME_NO_RESOURCES, strerror(errno));
			loop_watch_change(worker->loop, watch, 0);
			loop_timer_arm(worker->loop, &worker->pause, clock_now_ns() + ACCEPT_PAUSE_NS, worker_resume);
			return;
		} /* else the connection died before it was accepted */
	}
}

static void worker_start(struct loop_message *message)
{
	struct worker *worker = WORKER_OF(message, start);
	int error = loop_watch_add(worker->loop, &worker->listener, worker->listener.fd, EPOLLIN, worker_accept);

	if (error)
		log_error("internal endpoint: worker %u cannot watch its listener: %s", worker->index, strerror(-error));
}

static void worker_stop(struct loop_message *message)
{
	struct worker *worker = WORKER_OF(message, stop);
	struct endpoint *endpoint = worker->endpoint;
	int fd = worker->listener.fd;

	worker->is_stopped = true;
	loop_timer_cancel(worker->loop, &worker->pause);
	loop_watch_remove(worker->loop, &worker->listener);
	close(fd);
	for (struct guest *guest = LIST_FIRST(&worker->guests), *next; guest; guest = next) {
		struct ticket_ending ending;
		next = LIST_NEXT(guest, link);
		/* One that somebody has taken awaits its message. */
		if (guest->state == GUEST_READS ||
		    (guest->state == GUEST_WAITS &&
		     broker_leave(endpoint->options.broker, &guest->key, guest, &ending) == 0)) {
			guest_detach(guest);
			guest_free(guest);
		}
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

int endpoint_start(const struct endpoint_options *options, struct endpoint **result)
{
	unsigned count = relay_worker_count(options->relay);
	struct bound bound;
	int error = bound_find(options->bind_address, &bound);
	if (error) {
		log_error("internal endpoint: cannot listen on %s: %s", options->bind_address, strerror(-error));
		return error;
	}
	struct endpoint *endpoint = calloc(1, sizeof *endpoint + count * sizeof *endpoint->workers);
	if (!endpoint)
		return -ENOMEM;
	endpoint->options = *options;
	endpoint->reading_max = reading_limit();
	address_format((struct sockaddr *)&bound.address, endpoint->address);
	for (unsigned i = 0; i < count; i++) {
		struct worker *worker = &endpoint->workers[i];
		int fd = worker_listen(options->relay, &bound);
		if (fd < 0) {
			log_error("internal endpoint: cannot listen on %s: %s", endpoint->address, strerror(-fd));
			while (i-- > 0)
				close(endpoint->workers[i].listener.fd);
			free(endpoint);
			return fd;
		}
		*worker = (struct worker){.endpoint = endpoint, .index = i, .loop = relay_worker_loop(options->relay, i),
					  .listener.fd = fd, .start.receive = worker_start, .stop.receive = worker_stop};
		LIST_INIT(&worker->guests);
	}
	pthread_mutex_init(&endpoint->lock, NULL);
	pthread_cond_init(&endpoint->changed, NULL);
	endpoint->worker_count = endpoint->workers_listening = count;
	for (unsigned i = 0; i < count; i++)
		loop_post(endpoint->workers[i].loop, &endpoint->workers[i].start);
	*result = endpoint;
	return 0;
}

const char *endpoint_address(const struct endpoint *endpoint)
{
	return endpoint->address;
}

void endpoint_release(struct endpoint *endpoint, void *party, enum outcome outcome)
{
	struct guest *guest = party;

	(void)endpoint;
	guest->outcome = outcome;
	loop_post(guest->worker->loop, &guest->message);
}

void endpoint_totals(const struct endpoint *endpoint, struct endpoint_totals *totals)
{
	totals->accepted = atomic_load_explicit(&endpoint->accepted, memory_order_relaxed);
	totals->reading = atomic_load(&endpoint->reading);
	totals->waiting = atomic_load(&endpoint->waiting);
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
	free(endpoint);
}
