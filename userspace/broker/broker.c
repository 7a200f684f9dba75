// SPDX-License-Identifier: Apache-2.0
/* The ticket table. Shards by token key, each with a lock, a hash table and two
 * queues. All tickets of a queue wait for the same time, so a queue is in the
 * order of deadlines by itself: ASKING tickets wait for the callee's answer in
 * one, all others for a party in the other.
 *
 * A ticket is in its shard exactly while its state is neither MATCHED nor OVER;
 * whoever moves it there unlinks it under the lock and frees it. At most one
 * shard lock is held at a time and nothing is called with it but the visitor. */
#include "broker/broker.h"

#include "broker/requesters.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define SHARDS 16u
#define BUCKETS_AT_FIRST 16u

struct entry {
	struct entry *next; /* in the bucket */
	TAILQ_ENTRY(entry) link;
	struct token_key key;
	void *party;
	unsigned seats; /* that the waiting party may have */
	uint64_t arrived_ms;
	struct ticket ticket;
};

TAILQ_HEAD(entry_queue, entry);

struct shard {
	pthread_mutex_t lock;
	struct entry **buckets;
	size_t bucket_count; /* a power of two */
	size_t count;
	struct entry_queue asking, accepting;
};

struct broker {
	struct broker_limits limits;
	struct token_secret secret;
	struct requesters *requesters;
	struct shard shards[SHARDS];
	atomic_uint open;
	atomic_uint_fast64_t next_id, issued, matched, turned_away;
	atomic_uint_fast64_t ended[OUTCOME_COUNT], pairs_ended[OUTCOME_COUNT];
};

int broker_create(const struct broker_limits *limits, struct broker **result)
{
	struct broker *broker = calloc(1, sizeof *broker);
	int error = -ENOMEM;
	if (!broker)
		return error;
	broker->limits = *limits;
	atomic_init(&broker->next_id, 1);
	for (unsigned i = 0; i < SHARDS; i++) {
		pthread_mutex_init(&broker->shards[i].lock, NULL);
		TAILQ_INIT(&broker->shards[i].asking);
		TAILQ_INIT(&broker->shards[i].accepting);
	}
	for (unsigned i = 0; i < SHARDS; i++) {
		broker->shards[i].buckets = calloc(BUCKETS_AT_FIRST, sizeof(struct entry *));
		if (!broker->shards[i].buckets)
			goto fail;
		broker->shards[i].bucket_count = BUCKETS_AT_FIRST;
	}
	error = token_secret_generate(&broker->secret);
	if (error)
		goto fail;
	error = requesters_create(limits->max_tickets_per_requester, limits->max_pairs_per_requester, &broker->requesters);
	if (error)
		goto fail;
	*result = broker;
	return 0;
fail:
	broker_free(broker);
	return error;
}

void broker_free(struct broker *broker)
{
	if (!broker)
		return;
	for (unsigned i = 0; i < SHARDS; i++) {
		struct shard *shard = &broker->shards[i];
		for (size_t b = 0; b < shard->bucket_count; b++) {
			while (shard->buckets[b]) {
				struct entry *first = shard->buckets[b];
				shard->buckets[b] = first->next;
				free(first);
			}
		}
		free(shard->buckets);
		pthread_mutex_destroy(&shard->lock);
	}
	requesters_free(broker->requesters);
	explicit_bzero(&broker->secret, sizeof broker->secret);
	free(broker);
}

struct token_key broker_key(const struct broker *broker, const struct token *token)
{
	return token_key_of(&broker->secret, token);
}

/* ---- shards; the lock is held ---- */

static struct shard *shard_of(struct broker *broker, const struct token_key *key)
{
	return &broker->shards[key->bytes[0] % SHARDS];
}

static struct entry **bucket_of(struct entry **buckets, size_t count, const struct token_key *key)
{
	uint64_t hash;

	memcpy(&hash, key->bytes + 8, sizeof hash);
	return &buckets[hash & (count - 1)];
}

static struct entry **shard_find(struct shard *shard, const struct token_key *key)
{
	struct entry **link = bucket_of(shard->buckets, shard->bucket_count, key);
	while (*link && !token_key_is_equal(&(*link)->key, key))
		link = &(*link)->next;
	return link;
}

/* Without memory for a larger table the chains grow instead. */
static void shard_grow(struct shard *shard)
{
	size_t count = shard->bucket_count * 2;
	struct entry **buckets = calloc(count, sizeof(struct entry *));
	if (!buckets)
		return;
	for (size_t b = 0; b < shard->bucket_count; b++) {
		while (shard->buckets[b]) {
			struct entry *entry = shard->buckets[b];
			struct entry **link = bucket_of(buckets, count, &entry->key);
			shard->buckets[b] = entry->next;
			entry->next = *link;
			*link = entry;
		}
	}
	free(shard->buckets);
	shard->buckets = buckets;
	shard->bucket_count = count;
}

static struct entry_queue *queue_of(struct shard *shard, enum ticket_state state)
{
	return state == TICKET_ASKING ? &shard->asking : &shard->accepting;
}

static void shard_insert(struct shard *shard, struct entry *entry)
{
	if (shard->count >= shard->bucket_count)
		shard_grow(shard);
	struct entry **link = bucket_of(shard->buckets, shard->bucket_count, &entry->key);
	entry->next = *link;
	*link = entry;
	TAILQ_INSERT_TAIL(queue_of(shard, entry->ticket.state), entry, link);
	shard->count++;
}

/* Applies one event. Returns false if it means nothing in the ticket's state.
 * Afterwards the entry is in its queue, or unlinked if its life is over. */
static bool entry_step(struct broker *broker, struct shard *shard, struct entry *entry, enum ticket_event event,
		       uint64_t now_ms, struct ticket_step *step)
{
	*step = ticket_next(entry->ticket.state, event);
	if (!step->is_possible)
		return false;

	if (step->wait != TICKET_WAIT_SAME)
		TAILQ_REMOVE(queue_of(shard, entry->ticket.state), entry, link);
	entry->ticket.state = step->state;
	if (step->wait == TICKET_WAIT_ACCEPT) {
		entry->ticket.deadline_ms = now_ms + broker->limits.accept_timeout_ms;
		TAILQ_INSERT_TAIL(&shard->accepting, entry, link);
	} else if (step->wait == TICKET_WAIT_NONE) {
		*shard_find(shard, &entry->key) = entry->next;
		shard->count--;
	}
	return true;
}

/* ---- without the lock ---- */

/* Frees an entry that is not in its shard any more. */
static void entry_retire(struct broker *broker, struct entry *entry)
{
	if (entry->ticket.state == TICKET_MATCHED)
		requesters_pair(broker->requesters, entry->ticket.requester);
	else
		requesters_give_back(broker->requesters, entry->ticket.requester);
	atomic_fetch_sub(&broker->open, 1);
	free(entry);
}

static void entry_end(struct broker *broker, struct entry *entry, const struct ticket_step *step,
		      struct ticket_ending *ending)
{
	ending->ticket = entry->ticket;
	ending->outcome = step->outcome;
	ending->party = step->releases_party ? entry->party : NULL;
	atomic_fetch_add(&broker->ended[step->outcome], 1);
	entry_retire(broker, entry);
}

/* Cuts a long name between characters: reports must stay valid UTF-8. */
static void copy_name(char target[BROKER_NAME_SIZE], const char *name)
{
	size_t length = strlen(name);

	if (length >= BROKER_NAME_SIZE) {
		length = BROKER_NAME_SIZE - 1;
		while (length > 0 && ((unsigned char)name[length] & 0xc0) == 0x80)
			length--;
	}
	memcpy(target, name, length);
	target[length] = 0;
}

int broker_issue(struct broker *broker, const struct ticket_request *request, uint64_t now_ms, struct token *token,
		 struct token_key *key, uint64_t *id)
{
	struct entry *entry = calloc(1, sizeof *entry);
	if (!entry)
		return -ENOMEM;

	copy_name(entry->ticket.requester, request->requester);
	copy_name(entry->ticket.callee, request->callee);
	entry->ticket.state = TICKET_ASKING;
	entry->ticket.issued_ms = now_ms;
	entry->ticket.deadline_ms = now_ms + broker->limits.ask_timeout_ms;

	int error = token_generate(token);
	if (error)
		goto fail;
	if (atomic_fetch_add(&broker->open, 1) >= broker->limits.max_tickets) {
		error = -ENOSPC;
		goto fail_open;
	}
	error = requesters_take(broker->requesters, entry->ticket.requester);
	if (error)
		goto fail_open;

	entry->key = broker_key(broker, token);
	entry->ticket.id = atomic_fetch_add(&broker->next_id, 1);
	*key = entry->key;
	*id = entry->ticket.id;
	struct shard *shard = shard_of(broker, &entry->key);
	pthread_mutex_lock(&shard->lock);
	shard_insert(shard, entry);
	pthread_mutex_unlock(&shard->lock);
	atomic_fetch_add(&broker->issued, 1);
	return 0;

fail_open:
	atomic_fetch_sub(&broker->open, 1);
	if (error != -ENOMEM)
		atomic_fetch_add(&broker->turned_away, 1);
fail:
	token_wipe(token);
	free(entry);
	return error;
}

int broker_agree(struct broker *broker, const struct token_key *key, uint64_t now_ms)
{
	struct shard *shard = shard_of(broker, key);
	struct ticket_step step;
	int error = -ENOENT;

	pthread_mutex_lock(&shard->lock);
	struct entry *entry = *shard_find(shard, key);
	/* Past its deadline a ticket only waits for the next sweep. */
	if (entry && now_ms < entry->ticket.deadline_ms &&
	    entry_step(broker, shard, entry, TICKET_EVENT_AGREED, now_ms, &step))
		error = 0;
	pthread_mutex_unlock(&shard->lock);
	return error;
}

int broker_refuse(struct broker *broker, const struct token_key *key, struct ticket_ending *ending)
{
	struct shard *shard = shard_of(broker, key);
	struct ticket_step step;

	pthread_mutex_lock(&shard->lock);
	struct entry *entry = *shard_find(shard, key);
	bool is_over = entry && entry_step(broker, shard, entry, TICKET_EVENT_REFUSED, 0, &step);
	pthread_mutex_unlock(&shard->lock);
	if (!is_over)
		return -ENOENT;
	entry_end(broker, entry, &step, ending);
	return 0;
}

int broker_find(struct broker *broker, const struct token_key *key, uint64_t now_ms, struct ticket *ticket)
{
	struct shard *shard = shard_of(broker, key);
	int error = -ENOENT;

	pthread_mutex_lock(&shard->lock);
	const struct entry *entry = *shard_find(shard, key);
	if (entry && now_ms < entry->ticket.deadline_ms) {
		*ticket = entry->ticket;
		error = 0;
	}
	pthread_mutex_unlock(&shard->lock);
	return error;
}

/* Can the two have a seat each? */
static bool seats_match(unsigned first, unsigned second, bool *first_is_callee)
{
	*first_is_callee = first & SEAT_CALLEE && second & SEAT_REQUESTER;
	return *first_is_callee || (first & SEAT_REQUESTER && second & SEAT_CALLEE);
}

enum arrival broker_arrive_for(struct broker *broker, const struct token_key *key, unsigned seats, void *party,
			       uint64_t now_ms, struct ticket_match *match)
{
	struct shard *shard = shard_of(broker, key);
	enum arrival arrival = ARRIVAL_UNKNOWN;
	struct ticket_step step;

	pthread_mutex_lock(&shard->lock);
	struct entry *entry = *shard_find(shard, key);
	if (!entry || now_ms >= entry->ticket.deadline_ms)
		goto out;
	bool is_second = ticket_state_has_party(entry->ticket.state);
	if (is_second && !seats_match(entry->seats, seats, &match->first_is_callee)) {
		arrival = ARRIVAL_TAKEN;
		goto out;
	}
	if (!entry_step(broker, shard, entry, TICKET_EVENT_ARRIVAL, now_ms, &step))
		goto out;
	match->ticket = entry->ticket;
	if (step.state != TICKET_MATCHED) {
		entry->party = party;
		entry->seats = seats;
		entry->arrived_ms = now_ms;
		arrival = ARRIVAL_WAITS;
		goto out;
	}
	pthread_mutex_unlock(&shard->lock);

	match->first = entry->party;
	match->waited_ms = now_ms > entry->arrived_ms ? now_ms - entry->arrived_ms : 0;
	atomic_fetch_add(&broker->matched, 1);
	entry_retire(broker, entry);
	return ARRIVAL_MATCHED;
out:
	pthread_mutex_unlock(&shard->lock);
	return arrival;
}

enum arrival broker_arrive(struct broker *broker, const struct token_key *key, void *party, uint64_t now_ms,
			   struct ticket_match *match)
{
	return broker_arrive_for(broker, key, SEAT_ANY, party, now_ms, match);
}

int broker_leave(struct broker *broker, const struct token_key *key, const void *party, struct ticket_ending *ending)
{
	struct shard *shard = shard_of(broker, key);
	struct ticket_step step;

	pthread_mutex_lock(&shard->lock);
	struct entry *entry = *shard_find(shard, key);
	bool is_over = entry && entry->party == party && entry_step(broker, shard, entry, TICKET_EVENT_LEFT, 0, &step);
	pthread_mutex_unlock(&shard->lock);
	if (!is_over)
		return -ENOENT;
	entry_end(broker, entry, &step, ending);
	return 0;
}

/* Takes one ticket past its deadline out of the queue. */
static struct entry *shard_pop_due(struct broker *broker, struct shard *shard, struct entry_queue *queue,
				   uint64_t now_ms, struct ticket_step *step)
{
	struct entry *entry = TAILQ_FIRST(queue);
	if (!entry || now_ms < entry->ticket.deadline_ms ||
	    !entry_step(broker, shard, entry, TICKET_EVENT_DEADLINE, now_ms, step))
		return NULL;
	return entry;
}

bool broker_expire(struct broker *broker, uint64_t now_ms,
		   void (*ended)(const struct ticket_ending *ending, void *context), void *context)
{
	for (unsigned i = 0; i < SHARDS; i++) {
		struct shard *shard = &broker->shards[i];
		struct entry *entry;
		do {
			struct ticket_step step;
			pthread_mutex_lock(&shard->lock);
			entry = shard_pop_due(broker, shard, &shard->asking, now_ms, &step);
			if (!entry)
				entry = shard_pop_due(broker, shard, &shard->accepting, now_ms, &step);
			pthread_mutex_unlock(&shard->lock);
			if (entry) {
				struct ticket_ending ending;
				entry_end(broker, entry, &step, &ending);
				ended(&ending, context);
			}
		} while (entry);
	}
	return atomic_load(&broker->open) > 0;
}

void broker_pair_ended(struct broker *broker, enum outcome outcome)
{
	atomic_fetch_add(&broker->pairs_ended[outcome], 1);
}

void broker_pair_over(struct broker *broker, const char *requester)
{
	requesters_unpair(broker->requesters, requester);
}

static void visit_queue(struct entry_queue *queue, void (*visit)(const struct ticket *ticket, void *context),
			void *context)
{
	struct entry *entry;

	TAILQ_FOREACH(entry, queue, link)
		visit(&entry->ticket, context);
}

void broker_visit_tickets(struct broker *broker, void (*visit)(const struct ticket *ticket, void *context),
			  void *context)
{
	for (unsigned i = 0; i < SHARDS; i++) {
		struct shard *shard = &broker->shards[i];
		pthread_mutex_lock(&shard->lock);
		visit_queue(&shard->asking, visit, context);
		visit_queue(&shard->accepting, visit, context);
		pthread_mutex_unlock(&shard->lock);
	}
}

void broker_totals(struct broker *broker, struct broker_totals *totals)
{
	totals->issued = atomic_load(&broker->issued);
	totals->matched = atomic_load(&broker->matched);
	totals->turned_away = atomic_load(&broker->turned_away);
	totals->open = atomic_load(&broker->open);
	for (unsigned i = 0; i < OUTCOME_COUNT; i++) {
		totals->ended[i] = atomic_load(&broker->ended[i]);
		totals->pairs_ended[i] = atomic_load(&broker->pairs_ended[i]);
	}
}
