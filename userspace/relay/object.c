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

static size_t directions_size(uint32_t slots)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (slots * sizeof(struct gate_direction) + page - 1) / page * page;
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
	static const char *const sized[] = { "gate_sockets", "gate_indices", "gate_directions" };

	for (unsigned i = 0; i < sizeof sized / sizeof *sized; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object->object, sized[i]);

		if (!map || bpf_map__set_max_entries(map, object->slots))
			return -ENOENT;
	}
	return bpf_map__set_max_entries(bpf_object__find_map_by_name(object->object, "gate_rings"), object->rings);
}

static int set_knobs(struct gate_object *object, const struct gate_faults *knobs)
{
	struct bpf_map *map;

	if (!knobs)
		return 0;
	bpf_object__for_each_map(map, object->object) {
		if (strstr(bpf_map__name(map), ".rodata"))
			return bpf_map__set_initial_value(map, knobs, sizeof *knobs);
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

int gate_object_open(const struct gate_image *image, uint32_t slots, unsigned rings, struct gate_object **result,
		     char *reason, size_t reason_size)
{
	struct gate_object *object = calloc(1, sizeof *object);
	struct bpf_program *program;
	const char *step = "open";
	const void *bytes;
	void *mapped;
	size_t size;
	int error = -ENOMEM;

	if (!object)
		return -ENOMEM;
	libbpf_set_print(quiet);
	object->slots = slots;
	object->rings = rings;
	bytes = image->bytes(&size);
	object->object = bpf_object__open_mem(bytes, size, NULL);
	if (!object->object) {
		error = -errno;
		goto out;
	}
	error = set_sizes(object);
	if (!error)
		error = set_knobs(object, image->knobs);
	if (error)
		goto out;
	step = "load";
	error = bpf_object__load(object->object);
	if (error)
		goto out;
	object->sockets_fd = map_fd(object, "gate_sockets");
	object->indices_fd = map_fd(object, "gate_indices");
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
	mapped = mmap(NULL, directions_size(slots), PROT_READ | PROT_WRITE, MAP_SHARED, map_fd(object, "gate_directions"), 0);
	if (mapped == MAP_FAILED) {
		error = -errno;
		goto out;
	}
	object->directions = mapped;
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

void gate_object_close(struct gate_object *object)
{
	if (!object)
		return;
	bpf_link__destroy(object->endings);
	if (object->directions)
		munmap(object->directions, directions_size(object->slots));
	for (unsigned i = 0; object->ring_fds && i < object->rings; i++)
		if (object->ring_fds[i] >= 0)
			close(object->ring_fds[i]);
	free(object->ring_fds);
	bpf_object__close(object->object);
	free(object);
}
