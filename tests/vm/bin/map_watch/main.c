// SPDX-License-Identifier: Apache-2.0
/* Which pairs enter the kernel's socket map? Looks into the maps of a running relay from
 * outside, over and over, while pairs are joined, used and closed:
 *
 *   map_watch            a line "ok|FAIL|skip NAME - why" for each mix of transports, a count
 *
 * A pair of two plain parties lives all the time; its two sockets must be there. A pair with a
 * party whose TLS stays on (K kTLS, U userspace) must add nothing at any moment, whatever the
 * kernel would do; one of plain (P) and handed-off (H) parties must add two. */
#include "../../../integration/bin/relay_contract/host.h"
#include "../guest_bench/end.h"

#include "base/instant.h"
#include "gate.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define DEADLINE_MS 60000
#define LOOKS_LEAST 20
#define TRIPS_LEAST 100
#define MESSAGE_BYTES 1000

static struct host host;
static int sockets_fd = -1, buckets_fd = -1;
static uint32_t sockets_size, buckets_size;
static char failure[300];

static bool fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static bool fail(const char *format, ...)
{
	va_list arguments;

	if (*failure)
		return false;
	va_start(arguments, format);
	vsnprintf(failure, sizeof failure, format, arguments);
	va_end(arguments);
	return false;
}

/* ---- the maps ---- */

static void take_map(uint32_t id)
{
	struct bpf_map_info info = { 0 };
	uint32_t size = sizeof info;
	int fd = bpf_map_get_fd_by_id(id);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size)) {
		fail("map %u: %s", id, strerror(errno));
	} else if (!strcmp(info.name, "gate_sockets") && info.type == BPF_MAP_TYPE_SOCKMAP && sockets_fd < 0) {
		sockets_fd = fd;
		sockets_size = info.max_entries;
		return;
	} else if (!strcmp(info.name, "gate_buckets") && info.value_size == sizeof(struct gate_bucket) && buckets_fd < 0) {
		buckets_fd = fd;
		buckets_size = info.max_entries;
		return;
	}
	if (fd >= 0)
		close(fd);
}

/* Those that the relay's process holds. */
static bool find_maps(void)
{
	char folder[40], path[300], line[128];
	uint32_t id;

	snprintf(folder, sizeof folder, "/proc/%d/fdinfo", (int)host.pid);
	DIR *entries = opendir(folder);
	const struct dirent *entry;
	while (entries && (entry = readdir(entries))) {
		snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
		FILE *file = fopen(path, "re");
		while (file && fgets(line, sizeof line, file))
			if (sscanf(line, "map_id: %u", &id) == 1)
				take_map(id);
		if (file)
			fclose(file);
	}
	if (entries)
		closedir(entries);
	return (sockets_fd >= 0 && buckets_fd >= 0) || fail("the relay's maps are not to be found");
}

static unsigned count_sockets(void)
{
	unsigned count = 0;
	uint64_t cookie;

	for (uint32_t index = 0; index < sockets_size; index++)
		count += !bpf_map_lookup_elem(sockets_fd, &index, &cookie);
	return count;
}

/* What the program looks up. */
static unsigned count_indices(void)
{
	struct gate_bucket bucket;
	unsigned count = 0;

	for (uint32_t number = 0; number < buckets_size; number++) {
		if (bpf_map_lookup_elem(buckets_fd, &number, &bucket))
			continue;
		for (int at = 0; at < GATE_BUCKET_ENTRIES; at++)
			count += bucket.entries[at] != 0;
	}
	return count;
}

static bool wait_for_entries(unsigned wanted)
{
	for (uint64_t deadline = clock_now_ms() + DEADLINE_MS; clock_now_ms() < deadline; poll(NULL, 0, 5))
		if (count_sockets() == wanted && count_indices() == wanted)
			return true;
	return fail("%u sockets and %u indices in the maps, %u expected", count_sockets(), count_indices(), wanted);
}

/* ---- pairs ---- */

static bool open_pair(const char *parties, struct end ends[2])
{
	uint8_t name[32];

	if (getrandom(name, sizeof name, 0) != sizeof name)
		return fail("no random bytes");
	ends[0] = ends[1] = (struct end){ .fd = -1 };
	for (int side = 0; side < 2; side++) {
		ends[side].fd = end_dial(htonl(INADDR_LOOPBACK), host.lobby_ports[parties[side] != 'P']);
		if (ends[side].fd < 0 || !end_introduce(&ends[side], parties[side], name))
			return fail("party %c: %s", parties[side], end_error());
	}
	return true;
}

static bool trip(struct end ends[2])
{
	char message[MESSAGE_BYTES] = { 0x16, 0x03 }, got[MESSAGE_BYTES]; /* as a handed-off party must begin */

	for (int from = 0; from < 2; from++)
		if (!end_send(&ends[from], message, sizeof message) || !end_receive_all(&ends[!from], got, sizeof got) ||
		    memcmp(message, got, sizeof got))
			return false;
	return true;
}

static void close_pair(struct end ends[2])
{
	end_finish(&ends[0]);
	end_finish(&ends[1]);
	end_close(&ends[0]);
	end_close(&ends[1]);
}

struct traffic {
	const char *parties;
	struct end ends[2];
	atomic_bool is_open, stop, failed;
	atomic_uint trips;
};

/* Opening, using and closing: all of it while the main thread looks. */
static void *keep_busy(void *context)
{
	struct traffic *traffic = context;
	bool is_fine = open_pair(traffic->parties, traffic->ends);

	while (is_fine && !atomic_load(&traffic->stop)) {
		is_fine = trip(traffic->ends) || fail("a message did not come through: %s", end_error());
		atomic_fetch_add(&traffic->trips, 1);
		atomic_store(&traffic->is_open, true);
	}
	atomic_store(&traffic->failed, !is_fine);
	close_pair(traffic->ends);
	return NULL;
}

/* The plane of the younger one of two live pairs. */
static enum plane newest_plane(void)
{
	json_t *answer = host_ask(&host, "gates");
	const json_t *list = json_object_get(answer, "gates"), *pair = json_array_get(list, json_array_size(list) - 1);
	enum plane plane = json_array_size(list) < 2 ? PLANE_COUNT : (enum plane)json_integer_value(json_array_get(pair, 3));

	json_decref(answer);
	return plane;
}

static bool watch(const char *parties, unsigned adds, enum plane wanted)
{
	struct traffic traffic = { .parties = parties };
	unsigned looks = 0, most = 0, least = ~0u;
	enum plane plane = PLANE_COUNT;
	pthread_t thread;

	if (!wait_for_entries(2) || pthread_create(&thread, NULL, keep_busy, &traffic))
		return fail("no thread");
	uint64_t deadline = clock_now_ms() + DEADLINE_MS;
	/* Entries are counted again once the pair is on its plane: then they must all be there. */
	while (!traffic.failed && clock_now_ms() < deadline && (looks < LOOKS_LEAST || traffic.trips < TRIPS_LEAST)) {
		bool has_settled = plane == wanted;
		unsigned sockets = count_sockets(), indices = count_indices();

		most = sockets > most ? sockets : most;
		most = indices > most ? indices : most;
		if (has_settled) {
			least = sockets < least ? sockets : least;
			least = indices < least ? indices : least;
			looks++;
		} else {
			plane = newest_plane();
		}
	}
	atomic_store(&traffic.stop, true);
	pthread_join(thread, NULL);
	if (*failure)
		return false;
	if (plane != wanted)
		return fail("the pair came to plane %s, not to %s", plane == PLANE_COUNT ? "none" : plane_name(plane), plane_name(wanted));
	if (looks < LOOKS_LEAST || traffic.trips < TRIPS_LEAST)
		return fail("too slow: %u looks, %u round trips", looks, traffic.trips);
	if (most != 2 + adds || least != 2 + adds)
		return fail("%u to %u entries beside this pair's, %d expected", least, most, (int)adds);
	printf("ok   %s - on %s; %u entries of its own in %u looks over %u round trips\n", parties, plane_name(plane), adds, looks,
	       traffic.trips);
	return wait_for_entries(2);
}

int main(void)
{
	static const struct {
		const char *parties;
		unsigned adds;
		enum plane plane;
	} mixes[] = {
		{ "PP", 2, PLANE_SOCKMAP }, { "HP", 2, PLANE_SOCKMAP }, { "HH", 2, PLANE_SOCKMAP },
		{ "KK", 0, PLANE_KTLS_SPLICE }, { "KP", 0, PLANE_KTLS_SPLICE }, { "PK", 0, PLANE_KTLS_SPLICE },
		{ "KH", 0, PLANE_KTLS_SPLICE }, { "HK", 0, PLANE_KTLS_SPLICE }, { "KU", 0, PLANE_COPY },
		{ "UK", 0, PLANE_COPY }, { "UU", 0, PLANE_COPY }, { "UP", 0, PLANE_COPY }, { "HU", 0, PLANE_COPY },
	};
	struct host_settings settings = { .planes = PLANE_MASK_ALL, .lobby = true, .max_pairs = 64 };
	unsigned passed = 0, failed = 0, skipped = 0;
	struct end plain[2];

	signal(SIGPIPE, SIG_IGN);
	if (!host_start(&host, &settings) || !find_maps() || !open_pair("PP", plain) || !trip(plain)) {
		printf("FAIL start - %s\n0 passed, 1 failed, 0 skipped\n", *failure ? failure : host.error);
		return 1;
	}
	for (size_t at = 0; at < sizeof mixes / sizeof *mixes; at++) {
		if (strchr(mixes[at].parties, 'K') && !host.planes[PLANE_KTLS_SPLICE]) {
			printf("skip %s - this kernel does not do kTLS, or its module is not loaded\n", mixes[at].parties);
			skipped++;
			continue;
		}
		*failure = 0;
		if (watch(mixes[at].parties, mixes[at].adds, mixes[at].plane)) {
			passed++;
		} else {
			printf("FAIL %s - %s\n", mixes[at].parties, failure);
			failed++;
		}
		fflush(stdout);
	}
	close_pair(plain);
	if (!host_stop(&host)) {
		printf("FAIL stop - %s\n", host.error);
		failed++;
	}
	printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}
