// SPDX-License-Identifier: Apache-2.0
/* From `requestConnection` to its answer. Each call under way is a `request` in
 * a list: it holds the token until the callee has agreed, and is freed with its
 * answer. A callee's refusal goes back to the caller as it is.
 *
 * Tickets expire by a tick that runs only while there are any. */
#include "proxy/brokering.h"

#include "base/instant.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define TOO_MANY_TICKETS 429
#define TICK_MS_MIN 10u
#define TICK_MS_MAX 250u

struct request {
	LIST_ENTRY(request) link;
	struct brokering *brokering;
	struct jsonrpc_call *call;
	struct jsonrpc_pending *pending;
	uint64_t ticket;
	struct token token;
	struct token_key key;
	char *to, *requester;
};

struct brokering {
	struct brokering_options options;
	struct event *tick;
	LIST_HEAD(, request) requests;
	bool is_stopped;
};

static void tick_start(struct brokering *brokering)
{
	unsigned ms = brokering->options.accept_timeout_ms / 20;

	ms = ms < TICK_MS_MIN ? TICK_MS_MIN : ms > TICK_MS_MAX ? TICK_MS_MAX : ms;
	if (!evtimer_pending(brokering->tick, NULL))
		evtimer_add(brokering->tick, &(struct timeval){.tv_usec = ms * 1000});
}

static void ticket_ended(const struct ticket_ending *ending, void *context)
{
	struct brokering *brokering = context;

	log_info("ticket %llu of %s to %s ended %s: %s", (unsigned long long)ending->ticket.id,
		 ending->ticket.requester, ending->ticket.callee, outcome_word(ending->outcome),
		 outcome_sentence(ending->outcome));
	if (ending->party)
		brokering->options.release(ending->party, ending->outcome, brokering->options.context);
}

static void tick(evutil_socket_t fd, short events, void *context)
{
	struct brokering *brokering = context;

	(void)fd, (void)events;
	if (broker_expire(brokering->options.broker, clock_now_ms(), ticket_ended, brokering))
		tick_start(brokering);
}

static void request_free(struct request *request)
{
	LIST_REMOVE(request, link);
	token_wipe(&request->token);
	free(request->to);
	free(request->requester);
	free(request);
}

/* The callee refused or could not be asked, which the caller logs: the ticket
 * goes first, so that the token is void when anybody hears of it. */
static void request_void(struct request *request)
{
	struct brokering *brokering = request->brokering;
	struct ticket_ending ending;

	if (broker_refuse(brokering->options.broker, &request->key, &ending) == 0 && ending.party)
		brokering->options.release(ending.party, ending.outcome, brokering->options.context);
}

static void answer_token(struct request *request)
{
	char text[TOKEN_TEXT_SIZE];
	json_t *result = connection_answer(&request->brokering->options.endpoints, token_to_text(&request->token, text));

	token_wipe_text(text);
	if (result)
		jsonrpc_call_result(request->call, result);
	else
		jsonrpc_call_error(request->call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
}

static void callee_answered(const struct jsonrpc_answer *answer, const char *failure, bool closed_early, void *context)
{
	struct request *request = context;

	(void)closed_early;
	if (failure) {
		log_warning("ticket %llu of %s to %s ended refused: the own hyper cannot be reached: %s",
			    (unsigned long long)request->ticket, request->requester, request->to, failure);
		request_void(request);
		jsonrpc_call_error(request->call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
	} else if (answer->is_error) {
		log_info("ticket %llu of %s to %s ended refused: the callee did not accept: %d %s",
			 (unsigned long long)request->ticket, request->requester, request->to, answer->code,
			 answer->message ? answer->message : "");
		request_void(request);
		jsonrpc_call_error(request->call, answer->code, answer->message ? answer->message : "",
				   json_incref(answer->data));
	} else if (broker_agree(request->brokering->options.broker, &request->key, clock_now_ms())) {
		/* The token is void already; the caller would only run into a closed door. */
		log_info("ticket %llu of %s to %s: it had ended when the callee answered",
			 (unsigned long long)request->ticket, request->requester, request->to);
		jsonrpc_call_error(request->call, JSONRPC_INTERNAL_ERROR,
				   "the callee's connection ended before the request was answered", NULL);
	} else {
		answer_token(request);
	}
	request_free(request);
}

/* The method is the callee's full address. */
static int callee_ask(struct request *request, const struct connection_request *form)
{
	struct brokering *brokering = request->brokering;
	char text[TOKEN_TEXT_SIZE];
	char *method = NULL;

	json_t *params = connection_request_params(form, &brokering->options.endpoints,
						   token_to_text(&request->token, text));
	token_wipe_text(text);
	int error = params && asprintf(&method, "%s._connectionRequest", form->to) >= 0 ? 0 : -ENOMEM;
	if (!error)
		error = jsonrpc_client_call(brokering->options.hyper, method, params, "", callee_answered, request,
					    &request->pending);
	free(method);
	json_decref(params);
	return error;
}

static struct request *request_new(struct brokering *brokering, struct jsonrpc_call *call,
				   const struct connection_request *form)
{
	struct request *request = calloc(1, sizeof *request);
	if (!request)
		return NULL;
	request->brokering = brokering;
	request->call = call;
	request->to = strdup(form->to);
	request->requester = strdup(form->requester);
	LIST_INSERT_HEAD(&brokering->requests, request, link);
	if (request->to && request->requester)
		return request;
	request_free(request);
	return NULL;
}

static void refuse_over_limit(struct jsonrpc_call *call, const struct connection_request *form, int error)
{
	const char *message = error == -EDQUOT ? "too many open connection requests of this operator"
			      : error == -EUSERS ? "too many connections of this operator"
						 : "too many open connection requests";

	log_warning("requestConnection of %s to %s refused: %s", form->requester, form->to, message);
	jsonrpc_call_error(call, TOO_MANY_TICKETS, message, NULL);
}

static void connection_requested(struct brokering *brokering, struct jsonrpc_call *call,
				 const struct connection_request *form)
{
	struct ticket_request wanted = {.requester = form->requester, .callee = form->to};
	struct request *request = request_new(brokering, call, form);
	if (!request) {
		jsonrpc_call_error(call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
		return;
	}
	int error = broker_issue(brokering->options.broker, &wanted, clock_now_ms(), &request->token, &request->key,
				 &request->ticket);
	if (error == -EDQUOT || error == -EUSERS || error == -ENOSPC) {
		refuse_over_limit(call, form, error);
		request_free(request);
		return;
	}
	if (!error) {
		tick_start(brokering);
		error = callee_ask(request, form);
		if (error)
			request_void(request);
	}
	if (error) {
		log_error("requestConnection of %s to %s failed: %s", form->requester, form->to, strerror(-error));
		jsonrpc_call_error(call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
		request_free(request);
	}
}

static void handle_request_connection(struct brokering *brokering, struct jsonrpc_call *call)
{
	struct connection_request form;
	json_t *problems = NULL;
	int error = connection_request_read(call->params, &form, &problems);

	if (error == -EINVAL) {
		const char *field = json_object_iter_key(json_object_iter(problems));
		log_warning("requestConnection from %s does not fit its form: %s", call->peer, field ? field : "?");
		jsonrpc_call_error(call, JSONRPC_INVALID_PARAMS, "invalid params", jsonrpc_form_error(problems));
	} else if (error) {
		jsonrpc_call_error(call, JSONRPC_INTERNAL_ERROR, "internal error", NULL);
	} else if (brokering->is_stopped) {
		jsonrpc_call_error(call, JSONRPC_INTERNAL_ERROR, "the proxy is stopping", NULL);
	} else {
		connection_requested(brokering, call, &form);
	}
	json_decref(problems);
	connection_request_clear(&form);
}

void brokering_handle(struct jsonrpc_call *call, void *context)
{
	if (strcmp(call->method, "requestConnection") == 0) {
		handle_request_connection(context, call);
		return;
	}
	log_info("JSON-RPC call from %s for an unknown method %s", call->peer, call->method);
	jsonrpc_call_error(call, JSONRPC_METHOD_NOT_FOUND, "method not found", NULL);
}

int brokering_create(const struct brokering_options *options, struct brokering **result)
{
	struct brokering *brokering = calloc(1, sizeof *brokering);
	if (!brokering)
		return -ENOMEM;
	brokering->options = *options;
	brokering->tick = evtimer_new(options->base, tick, brokering);
	if (!brokering->tick) {
		free(brokering);
		return -ENOMEM;
	}
	*result = brokering;
	return 0;
}

void brokering_stop(struct brokering *brokering)
{
	struct request *request;

	brokering->is_stopped = true;
	evtimer_del(brokering->tick);
	while ((request = LIST_FIRST(&brokering->requests))) {
		jsonrpc_client_cancel(request->pending);
		request_void(request);
		jsonrpc_call_error(request->call, JSONRPC_INTERNAL_ERROR, "the proxy is stopping", NULL);
		request_free(request);
	}
}

void brokering_free(struct brokering *brokering)
{
	if (!brokering)
		return;
	event_free(brokering->tick);
	free(brokering);
}
