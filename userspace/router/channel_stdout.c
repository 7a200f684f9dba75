// SPDX-License-Identifier: Apache-2.0
/* Prints requests to the own operator as indented JSON; there is no answer. For
 * development: a reader that stops reading stops the program. */
#include "base/json.h"
#include "router/channels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int stdout_open(struct channel *channel)
{
	(void)channel;
	return 0;
}

static bool stdout_can_deliver(struct channel *channel, const struct delivery *delivery)
{
	(void)channel;
	return delivery->to_own;
}

static void stdout_deliver(struct channel *channel, struct delivery *delivery)
{
	const struct hyper_request *request = delivery->request;
	(void)channel;
	json_t *value = json_pack("{s:s, s:O, s:s}", "method", request->method ? request->method : "", "params",
				  request->params ? request->params : json_null(), "id", request->id);
	char *text = value ? json_write_indented(value) : NULL;
	json_decref(value);
	if (!text) {
		delivery_fail(delivery, "out of memory");
		return;
	}
	printf("%s\n", text);
	fflush(stdout);
	free(text);
	delivery_submitted(delivery);
}

static void stdout_free(struct channel *channel)
{
	free(channel);
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
	struct channel *channel = calloc(1, sizeof(*channel));
	if (!channel)
		return -ENOMEM;
	channel->class = &class_stdout;
	*result = channel;
	return 0;
}
