// SPDX-License-Identifier: Apache-2.0
/* Prints requests to the own operator as indented JSON; there is no answer. For
 * development.
 *
 * The loop must not wait for the reader of the output, and the descriptor is not
 * ours alone, so that it cannot be made non-blocking: a thread writes what the
 * loop has queued. While more than QUEUE_MAX would wait, requests are refused.
 * Both threads use what stands under `lock`, with it held; the rest is the loop's. */
#include "base/json.h"
#include "base/log.h"
#include "router/channels.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define QUEUE_MAX (1u << 20) /* bytes; a single request may be larger */
#define END_WAIT_S 1         /* for the reader, when the program ends */

struct stdout_channel {
	struct channel channel; /* first */
	pthread_t writer;
	bool is_running;
	bool is_refusing; /* and has said so */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	char *queue; /* malloc'd, no end mark; NULL: empty */
	size_t queue_size, in_hand; /* bytes that the writer has taken and not finished */
	int error;                  /* of writing; it is over then */
	bool is_ending;
};

static struct stdout_channel *channel_of(struct channel *channel)
{
	return (struct stdout_channel *)channel;
}

/* ---- the writer ---- */

static void unlock(void *context)
{
	struct stdout_channel *own = context;
	pthread_mutex_unlock(&own->lock);
}

/* NULL: there is nothing, and nothing will come. */
static char *take_queue(struct stdout_channel *own, size_t *size)
{
	char *text;
	pthread_mutex_lock(&own->lock);
	pthread_cleanup_push(unlock, own);
	own->in_hand = 0;
	while (!own->queue && !own->is_ending)
		pthread_cond_wait(&own->changed, &own->lock);
	text = own->queue;
	*size = own->in_hand = own->queue_size;
	own->queue = NULL;
	own->queue_size = 0;
	pthread_cleanup_pop(1);
	return text;
}

static int write_all(const char *text, size_t size)
{
	while (size > 0) {
		ssize_t written = write(STDOUT_FILENO, text, size);
		if (written >= 0) {
			text += written;
			size -= (size_t)written;
		} else if (errno == EAGAIN) { /* somebody else has made it so */
			poll(&(struct pollfd){ .fd = STDOUT_FILENO, .events = POLLOUT }, 1, -1);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

static void *write_queue(void *context)
{
	struct stdout_channel *own = context;
	char *text;
	size_t size;
	int error = 0;
	while (!error && (text = take_queue(own, &size))) {
		pthread_cleanup_push(free, text);
		error = write_all(text, size);
		pthread_cleanup_pop(1);
	}
	pthread_mutex_lock(&own->lock);
	own->error = error;
	pthread_mutex_unlock(&own->lock);
	return NULL;
}

/* ---- the loop's side ---- */

static int stdout_open(struct channel *channel)
{
	struct stdout_channel *own = channel_of(channel);
	sigset_t all, before;
	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&own->writer, NULL, write_queue, own);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	own->is_running = error == 0;
	return -error;
}

static bool stdout_can_deliver(struct channel *channel, const struct delivery *delivery)
{
	(void)channel;
	return delivery->to_own;
}

/* 0, or -ENOBUFS: the reader is behind; -ENOMEM; or why nothing can be written. */
static int enqueue(struct stdout_channel *own, const char *text)
{
	size_t size = strlen(text);
	pthread_mutex_lock(&own->lock);
	size_t waiting = own->queue_size + own->in_hand;
	char *grown = NULL;
	int error = own->error;
	if (!error && waiting > 0 && waiting + size > QUEUE_MAX)
		error = -ENOBUFS;
	if (!error && !(grown = realloc(own->queue, own->queue_size + size + 1)))
		error = -ENOMEM;
	if (!error) {
		memcpy(grown + own->queue_size, text, size);
		grown[own->queue_size + size] = '\n';
		own->queue = grown;
		own->queue_size += size + 1;
		if (!waiting) /* the reader has caught up */
			own->is_refusing = false;
		pthread_cond_signal(&own->changed);
	}
	pthread_mutex_unlock(&own->lock);
	return error;
}

static void stdout_deliver(struct channel *channel, struct delivery *delivery)
{
	struct stdout_channel *own = channel_of(channel);
	const struct hyper_request *request = delivery->request;
	json_t *value = json_pack("{s:s, s:O, s:s}", "method", request->method ? request->method : "", "params",
				  request->params ? request->params : json_null(), "id", request->id);
	char *text = value ? json_write_indented(value) : NULL;
	json_decref(value);
	int error = text ? enqueue(own, text) : -ENOMEM;
	free(text);
	if (error && !own->is_refusing)
		log_warning("channel stdout: requests are not printed any more: %s",
			    error == -ENOBUFS ? "nobody reads the output" : strerror(-error));
	own->is_refusing |= error != 0;
	if (error)
		delivery_fail(delivery, error == -ENOBUFS ? "nobody reads the output" : strerror(-error));
	else
		delivery_submitted(delivery);
}

static void stdout_free(struct channel *channel)
{
	struct stdout_channel *own = channel_of(channel);
	struct timespec limit;
	if (own->is_running) {
		pthread_mutex_lock(&own->lock);
		own->is_ending = true;
		pthread_cond_signal(&own->changed);
		pthread_mutex_unlock(&own->lock);
		clock_gettime(CLOCK_REALTIME, &limit);
		limit.tv_sec += END_WAIT_S;
		if (pthread_timedjoin_np(own->writer, NULL, &limit) != 0) {
			pthread_cancel(own->writer);
			pthread_join(own->writer, NULL);
		}
	}
	free(own->queue);
	pthread_cond_destroy(&own->changed);
	pthread_mutex_destroy(&own->lock);
	free(own);
}

static const struct channel_class class_stdout = {
	.type = "stdout",
	.open = stdout_open,
	.can_deliver = stdout_can_deliver,
	.deliver = stdout_deliver,
	.free = stdout_free,
};

int channel_stdout_create(struct channel **result)
{
	struct stdout_channel *own = calloc(1, sizeof(*own));
	if (!own)
		return -ENOMEM;
	own->channel.class = &class_stdout;
	pthread_mutex_init(&own->lock, NULL);
	pthread_cond_init(&own->changed, NULL);
	*result = &own->channel;
	return 0;
}
