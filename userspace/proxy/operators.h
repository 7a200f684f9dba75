// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Whose certificate is this? Asked by the endpoint's workers about parties that
 * came over TLS, answered by the service directory: the proxy's own, or that of
 * its hyper (`_directory`). What the directory said is remembered for a while. */
#include "base/outcome.h"
#include "jsonrpc/client.h"
#include "relay/loop.h"
#include "settings/settings.h"
#include "tls/identity.h"

#include <event2/event.h>

struct operators;

struct operators_options {
	struct event_base *base;
	const char *own_name;
	const struct directory_settings *directory; /* NULL: the hyper is asked */
	struct jsonrpc_client *hyper;
	unsigned remember_ms; /* what the hyper said */
};

int operators_create(const struct operators_options *options, struct operators **result);
/* On the main thread: every question is answered with a failure, also those that
 * are still asked later. */
void operators_stop(struct operators *operators);
void operators_free(struct operators *operators); /* stopped before */

#define QUESTION_NAMES_MAX 2
#define QUESTION_FAILURE_SIZE 160

/* Made and freed by whoever asks; in between it belongs to `operators`. */
struct operators_question {
	struct loop_message answered; /* received by `loop` when the answer is there */
	struct loop *loop;
	void *context; /* of the asker, on the loop's thread only */
	char fingerprint[FINGERPRINT_TEXT_SIZE];
	char *names[QUESTION_NAMES_MAX]; /* owned; NULL: none */
	/* The answer: does that operator's entry list the fingerprint? */
	bool is_listed[QUESTION_NAMES_MAX];
	char failure[QUESTION_FAILURE_SIZE]; /* "": the directory has answered */
	struct operators_question *next; /* internal, as is the rest */
	struct operators *operators;
	unsigned waits_for;
};
struct operators_question *operators_question_new(void);
void operators_question_free(struct operators_question *question);

/* From any thread. */
void operators_ask(struct operators *operators, struct operators_question *question);
