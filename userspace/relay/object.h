// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Internal to relay/: the loaded kernel program of the sockmap plane, and its
 * maps. Constant once opened; the program stays attached as long as the map is
 * held open. */
#include "gate.h"

#include <stddef.h>
#include <stdint.h>

struct bpf_link;
struct bpf_object;

struct gate_object {
	struct bpf_object *object;
	int sockets_fd;                    /* map */
	struct gate_direction *directions; /* `slots` of them, shared with the program */
	struct gate_bucket *buckets;       /* same: a power of two */
	uint32_t bucket_count;
	uint32_t slots;
	unsigned rings;
	int *ring_fds; /* one per worker */
	struct bpf_link *endings; /* NULL: nobody announces ends, so every socket must be polled */
};

/* Which program is loaded. */
struct gate_image {
	const void *(*bytes)(size_t *size);
	const struct gate_faults *knobs; /* NULL: none */
	unsigned late_record_every;      /* this many-th ring record is handled a second late; 0: none */
};
extern const struct gate_image gate_image_product;
/* The relay's: the product's, unless faults.h has put the test build's here. */
extern struct gate_image gate_image;

/* Loads the program with room for `slots` sockets (an even number) and attaches
 * it. `rings`: number of announcement rings. 0 or a negative errno; `reason`
 * says which step failed. */
int gate_object_open(const struct gate_image *image, uint32_t slots, unsigned rings, struct gate_object **result,
		     char *reason, size_t reason_size);
/* Attaches the program that announces the ends of sockets. Without it (0 or a negative errno, which is not
 * fatal) everything works, but every socket is polled. */
int gate_object_watch_endings(struct gate_object *object);
/* Enters a socket into the index, for the program and for whoever removes it: from any thread, before the socket
 * enters the map. -ENOSPC: its bucket is full; -EEXIST: a cookie with the same low half is in. */
int gate_object_enter(struct gate_object *object, uint32_t index, uint64_t cookie);
void gate_object_leave(struct gate_object *object, uint32_t index);
void gate_object_close(struct gate_object *object);
