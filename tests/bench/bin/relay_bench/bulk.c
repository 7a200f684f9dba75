// SPDX-License-Identifier: Apache-2.0
/* One pair, one way, as fast as it goes. The speed is taken where the bytes arrive, over a
 * window in the middle; CPU time is that of the whole machine in the same window. */
#include "sample.h"
#include "workload.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE_SIZE (256u << 10)
#define WARM_UP_S 0.3

struct stream {
	int ends[2];
	atomic_bool stop;
	_Atomic uint64_t received;
	uint64_t sent;
	bool failed;
};

static void *write_stream(void *context)
{
	struct stream *stream = context;
	char *piece = calloc(1, PIECE_SIZE);

	while (piece && !atomic_load_explicit(&stream->stop, memory_order_relaxed)) {
		ssize_t count = send(stream->ends[0], piece, PIECE_SIZE, MSG_NOSIGNAL);
		if (count <= 0) {
			stream->failed = true;
			break;
		}
		stream->sent += (uint64_t)count;
	}
	shutdown(stream->ends[0], SHUT_WR);
	free(piece);
	return NULL;
}

static void *read_stream(void *context)
{
	struct stream *stream = context;
	char *piece = malloc(PIECE_SIZE);
	ssize_t count = -1;

	while (piece && (count = recv(stream->ends[1], piece, PIECE_SIZE, 0)) > 0)
		atomic_fetch_add_explicit(&stream->received, (uint64_t)count, memory_order_relaxed);
	stream->failed |= count != 0;
	free(piece);
	return NULL;
}

bool workload_bulk(struct contender *contender, const struct workload *workload, double seconds)
{
	struct stream stream = { 0 };
	struct machine_time from, to;
	pthread_t writer, reader;

	if (!contender_open_pair(contender, stream.ends) || !contender_settle(contender, 1))
		return false;
	pthread_create(&reader, NULL, read_stream, &stream);
	pthread_create(&writer, NULL, write_stream, &stream);
	sample_sleep(WARM_UP_S);
	uint64_t before = atomic_load(&stream.received);
	machine_time_take(&from);
	sample_sleep(seconds);
	uint64_t bytes = atomic_load(&stream.received) - before;
	machine_time_take(&to);
	stream.stop = true;
	pthread_join(writer, NULL);
	pthread_join(reader, NULL);
	close(stream.ends[1]);
	close(stream.ends[0]);
	if (stream.failed || stream.sent != stream.received)
		return contender_fail(contender, "the stream broke, or bytes are missing");
	struct contender_round round = { .pairs = 1, .bytes = { stream.sent + 1, 1 } };
	if (!contender_check(contender, &round))
		return false;
	figure(workload, contender, "gb_per_s", (double)bytes / (double)(to.now_ns - from.now_ns));
	figure(workload, contender, "cpu_s_per_gb", machine_busy_seconds(&from, &to) * 1e9 / (double)bytes);
	if (contender->kind == CONTENDER_OURS)
		figure(workload, contender, "redirected", round.redirected_share);
	return true;
}
