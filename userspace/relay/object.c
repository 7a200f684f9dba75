// SPDX-License-Identifier: Apache-2.0
/* Loading of the sockmap plane's kernel program: sizes its maps, makes one
 * announcement ring per worker, attaches the verdict to the socket map and maps
 * the directions into this process. Opened once by relay_create() and, with a
 * few slots, by the probe; nothing is pinned, so all of it goes with the last
 * descriptor. */
#include "relay/object.h"

#include "gate.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RECORD_BYTES (sizeof(struct gate_record) + 8) /* with the ring's own header */

static const void *product_bytes(size_t *size)
{
	return gate_bpf__elf_bytes(size);
}

const struct gate_image gate_image_product = { .bytes = product_bytes };
struct gate_image gate_image = { .bytes = product_bytes };

static int quiet(enum libbpf_print_level level, const char *format, va_list arguments)
{
	(void)level;
	(void)format;
	(void)arguments;
	return 0;
}

static size_t in_pages(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (size + page - 1) / page * page;
}

static size_t directions_size(const struct gate_object *object)
{
	return in_pages(object->slots * sizeof(struct gate_direction));
}

static size_t buckets_size(const struct gate_object *object)
{
	return in_pages(object->bucket_count * sizeof(struct gate_bucket));
}

/* Cookies are counted up, so sockets are spread evenly: with three in a bucket on the average, one of a
 * thousand finds its bucket full. */
static uint32_t buckets_for(uint32_t slots)
{
	uint32_t count = 1;

	while (count * 3 < slots)
		count *= 2;
	return count;
}

/* Room for one record of every slot: a direction cannot announce a second closing before its gate
 * was opened. (A break or an end may be a second record; the sweep finds what finds no room.) */
static uint32_t ring_size(uint32_t slots)
{
	uint32_t size = (uint32_t)sysconf(_SC_PAGESIZE);

	while (size < slots * RECORD_BYTES)
		size *= 2;
	return size;
}

static int map_fd(const struct gate_object *object, const char *name)
{
	return bpf_object__find_map_fd_by_name(object->object, name);
}

static int set_sizes(struct gate_object *object)
{
	static const char *const sized[] = { "gate_sockets", "gate_directions" };

	for (unsigned i = 0; i < sizeof sized / sizeof *sized; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object->object, sized[i]);

		if (!map || bpf_map__set_max_entries(map, object->slots))
			return -ENOENT;
	}
	return bpf_map__set_max_entries(bpf_object__find_map_by_name(object->object, "gate_buckets"), object->bucket_count)
		       ?: bpf_map__set_max_entries(bpf_object__find_map_by_name(object->object, "gate_rings"), object->rings);
}

static int set_constants(struct gate_object *object, const struct gate_faults *knobs)
{
	struct gate_constants constants = { .bucket_mask = object->bucket_count - 1 };
	struct bpf_map *map;

	if (knobs)
		constants.faults = *knobs;
	bpf_object__for_each_map(map, object->object) {
		if (strstr(bpf_map__name(map), ".rodata"))
			return bpf_map__set_initial_value(map, &constants, sizeof constants);
	}
	return -ENOENT;
}

static int make_rings(struct gate_object *object)
{
	int outer = map_fd(object, "gate_rings");

	object->ring_fds = malloc(object->rings * sizeof *object->ring_fds);
	if (!object->ring_fds)
		return -ENOMEM;
	for (unsigned i = 0; i < object->rings; i++)
		object->ring_fds[i] = -1;
	for (uint32_t i = 0; i < object->rings; i++) {
		int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "gate_ring", 0, 0, ring_size(object->slots), NULL);

		if (fd < 0)
			return fd;
		object->ring_fds[i] = fd;
		if (bpf_map_update_elem(outer, &i, &fd, BPF_ANY))
			return -errno;
	}
	return 0;
}

/* NULL with errno. */
static void *map_values(const struct gate_object *object, const char *name, size_t size)
{
	void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd(object, name), 0);

	return mapped == MAP_FAILED ? NULL : mapped;
}

int gate_object_open(const struct gate_image *image, uint32_t slots, unsigned rings, struct gate_object **result,
		     char *reason, size_t reason_size)
{
	struct gate_object *object = calloc(1, sizeof *object);
	struct bpf_program *program;
	const char *step = "open";
	const void *bytes;
	size_t size;
	int error = -ENOMEM;

	if (!object)
		return -ENOMEM;
	libbpf_set_print(quiet);
	object->slots = slots;
	object->bucket_count = buckets_for(slots);
	object->rings = rings;
	bytes = image->bytes(&size);
	object->object = bpf_object__open_mem(bytes, size, NULL);
	if (!object->object) {
		error = -errno;
		goto out;
	}
	error = set_sizes(object);
	if (!error)
		error = set_constants(object, image->knobs);
	if (error)
		goto out;
	step = "load";
	error = bpf_object__load(object->object);
	if (error)
		goto out;
	object->sockets_fd = map_fd(object, "gate_sockets");
	step = "rings";
	error = make_rings(object);
	if (error)
		goto out;
	step = "attach";
	program = bpf_object__find_program_by_name(object->object, "gate_verdict");
	error = bpf_prog_attach(bpf_program__fd(program), object->sockets_fd, BPF_SK_SKB_STREAM_VERDICT, 0);
	if (error)
		goto out;
	step = "mmap";
	object->directions = map_values(object, "gate_directions", directions_size(object));
	object->buckets = map_values(object, "gate_buckets", buckets_size(object));
	if (!object->directions || !object->buckets) {
		error = -errno;
		goto out;
	}
	*result = object;
	return 0;
out:
	snprintf(reason, reason_size, "%s: %s", step, strerror(-error));
	gate_object_close(object);
	return error;
}

int gate_object_watch_endings(struct gate_object *object)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object->object, "gate_ending");

	object->endings = program ? bpf_program__attach(program) : NULL;
	return object->endings ? 0 : program ? -errno : -ENOENT;
}

static struct gate_bucket *bucket_of(const struct gate_object *object, uint64_t cookie)
{
	return &object->buckets[cookie & (object->bucket_count - 1)];
}

int gate_object_enter(struct gate_object *object, uint32_t index, uint64_t cookie)
{
	unsigned long long *entries = bucket_of(object, cookie)->entries, wanted = cookie << 32 | (index + 1);

	for (unsigned i = 0; i < GATE_BUCKET_ENTRIES; i++) {
		unsigned long long entry = __atomic_load_n(&entries[i], __ATOMIC_RELAXED);

		if (entry && entry >> 32 == (uint32_t)cookie)
			return -EEXIST;
	}
	__atomic_store_n(&object->directions[index].cookie, cookie, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < GATE_BUCKET_ENTRIES; i++) {
		unsigned long long free_entry = 0;

		if (__atomic_compare_exchange_n(&entries[i], &free_entry, wanted, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
			return 0;
	}
	return -ENOSPC;
}

void gate_object_leave(struct gate_object *object, uint32_t index)
{
	uint64_t cookie = object->directions[index].cookie;
	unsigned long long *entries = bucket_of(object, cookie)->entries;

	for (unsigned i = 0; i < GATE_BUCKET_ENTRIES; i++)
		if (__atomic_load_n(&entries[i], __ATOMIC_RELAXED) == (cookie << 32 | (index + 1)))
			__atomic_store_n(&entries[i], 0, __ATOMIC_RELEASE);
}

void gate_object_close(struct gate_object *object)
{
	if (!object)
		return;
	bpf_link__destroy(object->endings);
	if (object->directions)
		munmap(object->directions, directions_size(object));
	if (object->buckets)
		munmap(object->buckets, buckets_size(object));
	for (unsigned i = 0; object->ring_fds && i < object->rings; i++)
		if (object->ring_fds[i] >= 0)
			close(object->ring_fds[i]);
	free(object->ring_fds);
	bpf_object__close(object->object);
	free(object);
}
