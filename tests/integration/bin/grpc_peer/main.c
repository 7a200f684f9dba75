// SPDX-License-Identifier: Apache-2.0
/* A gRPC peer made of the library, for tests that put an independent
 * implementation on the other end:
 *   grpc_peer serve ADDRESS CERTIFICATE KEY CA [UNKNOWN-NAME]
 *   grpc_peer call ADDRESS CERTIFICATE KEY CA SERVER-NAME [UNKNOWN-NAME]
 * The directory is simulated: every name of a certificate has an entry but
 * UNKNOWN-NAME. Ends with the end of standard input. */
#include "peer.h"

#include "base/daemon.h"
#include "base/json.h"
#include "base/log.h"
#include "tls/context.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct peer_options options;
static struct evbuffer *input;
static struct event *input_event;

void peer_tell(json_t *event)
{
	char *text = json_dumps(event, JSON_COMPACT);

	puts(text);
	fflush(stdout);
	free(text);
	json_decref(event);
}

json_t *peer_describe_response(const struct hyper_response *response)
{
	json_t *description = json_pack("{s:s, s:O?}", "id", response->id, "result", response->result);

	if (response->has_error)
		json_object_set_new(description, "error",
				    json_pack("{s:i, s:s, s:O?}", "code", response->code, "message", response->message,
					      "data", response->data));
	return description;
}

static void identify(void *owner, const struct certificate_identity *certificate, identified done, void *context)
{
	const struct peer_options *peer = owner;
	struct peer_identities identities = { 0 };

	identities.items = calloc(certificate->name_count + 1, sizeof(*identities.items));
	for (size_t i = 0; i < certificate->name_count; i++) {
		if (peer->unknown_name && !strcmp(certificate->names[i], peer->unknown_name))
			continue;
		identities.items[identities.count].name = strdup(certificate->names[i]);
		identities.items[identities.count++].entry = json_object();
	}
	if (identities.count) {
		done(&identities, NULL, context);
	} else {
		peer_identities_clear(&identities);
		done(&identities, "no name matched", context);
	}
}

struct identifier peer_identifier(const struct peer_options *peer)
{
	return (struct identifier){ identify, (void *)peer };
}

static void take_input(evutil_socket_t fd, short events, void *context)
{
	char *line;
	(void)events;

	if (evbuffer_read(input, fd, -1) <= 0) {
		event_base_loopbreak(context);
		return;
	}
	while ((line = evbuffer_readln(input, NULL, EVBUFFER_EOL_LF))) {
		json_t *command = json_loads(line, 0, NULL);
		const char *verb = json_text(command, "do");

		if (!verb)
			log_error("not a command");
		else if (!strcmp(options.role, "serve"))
			serving_command(verb, command);
		else
			calling_command(verb, command);
		json_decref(command);
		free(line);
	}
}

int main(int argc, char **argv)
{
	bool is_server = argc > 1 && !strcmp(argv[1], "serve");
	int fixed = is_server ? 6 : 7;

	if (argc < fixed || argc > fixed + 1 || (!is_server && strcmp(argv[1], "call"))) {
		fprintf(stderr, "usage: %s serve|call ADDRESS CERTIFICATE KEY CA [SERVER-NAME] [UNKNOWN-NAME]\n", argv[0]);
		return 2;
	}
	options = (struct peer_options){
		.role = argv[1],
		.address = argv[2],
		.certificate = argv[3],
		.key = argv[4],
		.ca = argv[5],
		.server_name = is_server ? NULL : argv[6],
		.unknown_name = argv[fixed],
	};
	struct tls_settings tls = {
		.ca_certificate_files = { (char **)&options.ca, 1 },
		.certificate_file = (char *)options.certificate,
		.key_file = (char *)options.key,
		.verify_client = true,
	};

	daemon_prepare_process();
	log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT, "peer");
	SSL_CTX *context = is_server ? tls_context_server(&tls, "h2") : tls_context_client(&tls, "h2");

	if (!context)
		return 1;
	struct event_base *base = event_base_new();

	input = evbuffer_new();
	evutil_make_socket_nonblocking(STDIN_FILENO);
	/* Standard input may be a file or a pipe; files cannot be polled and are not supported. */
	input_event = event_new(base, STDIN_FILENO, EV_READ | EV_PERSIST, take_input, base);
	event_add(input_event, NULL);
	if (is_server)
		serving_start(base, &options, context);
	else
		calling_start(base, &options, context);
	event_base_dispatch(base);
	if (is_server)
		serving_finish();
	else
		calling_finish();
	event_free(input_event);
	evbuffer_free(input);
	event_base_free(base);
	SSL_CTX_free(context);
	return 0;
}
