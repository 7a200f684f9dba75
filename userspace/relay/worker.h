// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Internal to relay/: the relay object, its workers, and what they share.
 *
 * A worker's fields belong to its thread, but `life` and what it guards. What
 * workers share is either constant after relay_create() or atomic or has a lock
 * of its own (slots). */
#include "relay/credit.h"
#include "relay/object.h"
#include "relay/pair.h"
#include "relay/slots.h"

#include <pthread.h>

struct ring_buffer;

/* A bounded stock of equal things on a free list. */
struct hold_stock {
	void *free; /* each starts with a pointer to the next */
	unsigned kept, used, most;
};
struct pipe_stock {
	struct pipe_pair *free;
	unsigned kept, used, most;
};

struct late_record {
	struct gate_record record;
	uint64_t due_ns;
};

struct worker {
	struct relay *relay;
	unsigned number;
	struct loop *loop;
	pthread_t thread;
	char *scratch; /* CHUNK_BYTES */
	struct pair *first, *last; /* live pairs */
	struct pair *young;        /* the oldest live pair that has not been asked to enter the map; all younger ones have not either */
	struct loop_timer young_timer;
	bool is_crowded;          /* many pairs came and went lately */
	uint64_t crowd_seen, crowd_seen_ns; /* of them, at the last look */
	struct pair *dead;         /* ended in this round */
	struct loop_timer bury_timer;
	unsigned pair_count;
	struct relay_totals past; /* of pairs that have ended, and of the worker itself */
	struct hold_stock holds;
	struct pipe_stock pipes;
	struct loop_timer sweep_timer;
	struct ring_buffer *ring; /* NULL: no sockmap */
	struct loop_watch ring_watch;
	struct pair **pairs;      /* this worker's, by half of their index of the map; NULL: no sockmap */
	struct late_record *late; /* ring records that a test holds back, oldest first */
	unsigned late_count, record_count;
	struct loop_message stop_message;
	struct loop_timer stop_timer;
	bool stopping, started;
	pthread_mutex_t life; /* guards `runs`: a message posted while it is true is received */
	bool runs;
};

struct relay {
	struct relay_options options;
	struct probe_report probe;
	struct worker *workers;
	unsigned worker_count;
	struct gate_object *object; /* NULL: no sockmap */
	struct slots slots;
	pthread_t grace_thread;
	bool grace_runs;
	struct credit_budget budget;  /* of credit */
	struct credit_budget buffers; /* of what socket buffers may hold */
	uint64_t send_buffer_bytes, receive_buffer_bytes; /* shares of pair_memory_bytes, real (doubled) sizes */
	uint64_t receive_most_bytes; /* that a receive buffer can be set to (net.core.rmem_max), real size */
	uint64_t gated_buffer_bytes; /* send buffers of gated pairs, of which the share may be filled (gate.c) */
	bool has_buffer_locks;      /* SO_BUF_LOCK works */
	bool tunes_receive_buffers; /* the kernel's own tuning stays within the share */
	bool never_gathers;         /* for tests */
	bool tunes_send_buffers;    /* same, and it can be switched on for plain pairs */
	atomic_uint pairs_live;
	atomic_bool refuses;
	_Atomic uint64_t next_id;
};

int worker_start(struct worker *worker, struct relay *relay, unsigned number);
void worker_stop(struct worker *worker); /* asks; worker_join() waits */
void worker_join(struct worker *worker);
void worker_free(struct worker *worker);
/* A pair of the worker has ended: free it in the next round, stop if it was the
 * last one that a stop waits for. */
void worker_bury(struct worker *worker, struct pair *pair);

/* NULL: the stock is used up. */
char *worker_take_hold(struct worker *worker);
void worker_give_hold(struct worker *worker, char *hold);
/* NULL: the stock is used up. Only an empty pipe may be given back; one with
 * bytes in it is closed by pipe_close(). */
struct pipe_pair *worker_take_pipe(struct worker *worker);
void worker_give_pipe(struct worker *worker, struct pipe_pair *pipe);
void worker_drop_pipe(struct worker *worker, struct pipe_pair *pipe);
void worker_fill_pipes(struct worker *worker, unsigned count);

/* report.c */
void report_fill(struct pair *pair, struct pair_report *report);
void report_add_totals(const struct pair *pair, struct relay_totals *totals);
