// SPDX-License-Identifier: Apache-2.0
/* The commands `hyper sd …`, see sd_commands.h. What a command prints for
 * programs goes to standard output; everything else is a log line. */
#include "hyper/sd_commands.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "directory/record.h"
#include "hyper/sd_client.h"
#include "hyper/signing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_WAIT_S 30
#define MOST_WAIT_S 86400

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct arguments {
	bool reset;
	const char *name;
	unsigned wait_ms;
	const char *words[2];
	int word_count;
};

/* `flags`: which of "r" (--reset), "n" (--name N), "w" (--wait S) are taken. */
static const struct form {
	const char *command;
	const char *flags;
	int words;
	int (*run)(int argc, char **argv, void *settings);
} forms[] = {
	{ "submit-records", "rw", 1, sd_command_submit_records },
	{ "get-entries", "nw", 0, sd_command_get_entries },
	{ "sign", "", 1, sd_command_sign },
	{ "verify", "", 2, sd_command_verify },
};
enum { SUBMIT_RECORDS, GET_ENTRIES, SIGN, VERIFY, FORMS };

static bool read_arguments(int form, int argc, char **argv, struct arguments *result)
{
	const char *flags = forms[form].flags;
	int words = forms[form].words;
	const char *problem = NULL;

	*result = (struct arguments){ .wait_ms = DEFAULT_WAIT_S * 1000 };
	for (int i = 0; i < argc && !problem; i++) {
		if (!strcmp(argv[i], "--reset") && strchr(flags, 'r')) {
			result->reset = true;
		} else if (!strcmp(argv[i], "--name") && strchr(flags, 'n') && i + 1 < argc) {
			result->name = argv[++i];
		} else if (!strcmp(argv[i], "--wait") && strchr(flags, 'w') && i + 1 < argc) {
			char *end;
			double seconds = strtod(argv[++i], &end);

			if (*end || end == argv[i] || !(seconds >= 0 && seconds <= MOST_WAIT_S))
				problem = "--wait wants a number of seconds";
			else
				result->wait_ms = (unsigned)(seconds * 1000);
		} else if (argv[i][0] == '-' && argv[i][1]) {
			problem = "unknown flag, or its value is missing";
		} else if (result->word_count == words) {
			problem = "too many arguments";
		} else {
			result->words[result->word_count++] = argv[i];
		}
	}
	if (!problem && result->word_count < words)
		problem = words == 1 ? "a file is missing" : "a file and a name are wanted";
	if (problem)
		fprintf(stderr, "hyper sd %s: %s\n", forms[form].command, problem);
	return !problem;
}

bool sd_command_accepts(const struct program_command *command, int argc, char **argv)
{
	struct arguments arguments;

	for (int form = 0; form < FORMS; form++)
		if (command->run == forms[form].run)
			return read_arguments(form, argc, argv, &arguments);
	return true;
}

static json_t *read_json_file(const char *path)
{
	_fclose_ FILE *file = fopen(path, "r");
	_free_ char *text = NULL;
	size_t capacity = 0;
	ssize_t length;
	json_error_t error;
	json_t *json;

	if (!file) {
		log_error("%s: %s", path, strerror(errno));
		return NULL;
	}
	length = getdelim(&text, &capacity, 0, file); /* JSON text has no NUL: this is the whole file */
	json = json_read(text ? text : "", length > 0 ? (size_t)length : 0, &error);
	if (!json)
		log_error("%s:%d: %s", path, error.line, error.text);
	return json;
}

static bool print_json(const json_t *value)
{
	size_t length;
	_free_ char *text = json_write(value, &length);

	return text && printf("%s\n", text) > 0 && !fflush(stdout);
}

/* ---- submit-records ---- */

/* Hash of the directory's last record, malloc'd; "" if there is none; NULL: failed. */
static char *ask_tip(struct sd_client *client)
{
	json_t *params = json_object(), *tip;
	char *hash = NULL;

	if (!sd_client_call(client, "getTip", params, false, &tip)) {
		hash = strdup(json_is_object(tip) && signed_record_hash(tip) ? signed_record_hash(tip) : "");
		json_decref(tip);
	}
	json_decref(params);
	return hash;
}

static int submit_once(struct sd_client *client, const json_t *records, size_t from)
{
	json_t *rest = json_array(), *params, *answer;
	int error = -ENOMEM;

	for (size_t i = from; i < json_array_size(records); i++)
		json_array_append(rest, json_array_get(records, i));
	params = json_pack("{s:o}", "records", rest);
	if (params)
		error = sd_client_call(client, "submitRecords", params, true, &answer);
	if (!error)
		json_decref(answer);
	json_decref(params);
	return error;
}

/* How many of the records are stored, as the tip says; -ESTALE if it is neither
 * one of them nor the old one, or cannot be asked. */
static ssize_t count_stored(struct sd_client *client, const json_t *records, const char *old_tip)
{
	_free_ char *tip = ask_tip(client);

	for (size_t i = 0; tip && i < json_array_size(records); i++)
		if (!strcmp(tip, signed_record_hash(json_array_get(records, i))))
			return (ssize_t)i + 1;
	if (tip && !strcmp(tip, old_tip))
		return 0;
	if (tip)
		log_fatal("somebody else has written to the service directory meanwhile");
	return -ESTALE;
}

/* Submits all. When a call got no answer, or was refused because an earlier try
 * had come through, the tip says how far that was: go on from there. */
static bool submit(struct sd_client *client, const json_t *records, const char *old_tip)
{
	size_t from = 0;
	int error;

	while (from < json_array_size(records) && (error = submit_once(client, records, from))) {
		ssize_t stored = error == -EAGAIN || error == -EPROTO ? count_stored(client, records, old_tip) : -ESTALE;

		if (stored < 0 || (error == -EPROTO && (size_t)stored <= from))
			return false;
		from = (size_t)stored;
		log_info("%zu of %zu records are stored, going on", from, json_array_size(records));
	}
	return true;
}

static bool submit_file(const struct arguments *arguments, const struct hyper_settings *settings,
			const struct signing *signing, const json_t *records)
{
	struct sd_client *client;
	_free_ char *tip = NULL;
	json_t *signed_records = NULL;
	bool fine = false;

	if (settings->directory.type != DIRECTORY_API) {
		log_fatal("only a directory of type api can be written to");
		return false;
	}
	if (sd_client_create(&settings->directory, arguments->wait_ms, &client))
		return false;
	/* A reset is also the way out when the present records do not verify any more. */
	if ((arguments->reset || sd_client_directory(client)) && (tip = ask_tip(client)))
		signed_records = signing_sign_records(signing, records, arguments->reset ? "" : tip);
	if (signed_records)
		fine = submit(client, signed_records, tip);
	if (fine)
		log_info("%zu records submitted", json_array_size(signed_records));
	else if (signed_records)
		log_fatal("the records of %s were not all accepted", arguments->words[0]);
	json_decref(signed_records);
	sd_client_free(client);
	return fine;
}

int sd_command_submit_records(int argc, char **argv, void *context)
{
	const struct hyper_settings *settings = context;
	char problem[RECORD_PROBLEM_SIZE];
	struct arguments arguments;
	struct signing signing;
	json_t *file, *records;
	bool fine = false;

	if (!read_arguments(SUBMIT_RECORDS, argc, argv, &arguments))
		return EXIT_USAGE;
	file = read_json_file(arguments.words[0]);
	if (!file)
		return EXIT_FAILED;
	records = record_file_normalise(file, problem);
	json_decref(file);
	if (!records) {
		log_error("%s: %s", arguments.words[0], problem);
		return EXIT_FAILED;
	}
	if (signing_load(settings, &signing)) {
		fine = submit_file(&arguments, settings, &signing, records);
		signing_clear(&signing);
	}
	json_decref(records);
	return fine ? EXIT_FINE : EXIT_FAILED;
}

/* ---- get-entries ---- */

int sd_command_get_entries(int argc, char **argv, void *context)
{
	const struct hyper_settings *settings = context;
	struct arguments arguments;
	struct sd_client *client;
	struct directory *directory;
	json_t *entries = NULL;
	bool fine;

	if (!read_arguments(GET_ENTRIES, argc, argv, &arguments))
		return EXIT_USAGE;
	if (sd_client_create(&settings->directory, arguments.wait_ms, &client))
		return EXIT_FAILED;
	directory = sd_client_directory(client);
	if (directory)
		entries = directory_query(directory, arguments.name, NULL, NULL);
	fine = entries && print_json(entries);
	json_decref(entries);
	sd_client_free(client);
	return fine ? EXIT_FINE : EXIT_FAILED;
}

/* ---- sign, verify ---- */

/* Is `signed_data` a {"signature":{r,s,c},"data":…} that `authority` vouches for, made for `name`? */
static bool verify_data(const json_t *signed_data, const struct signature_authority *authority, const char *name,
			char reason[SIGNATURE_REASON_SIZE])
{
	const json_t *signature = json_object_get(signed_data, "signature");
	const char *r = json_text(signature, "r"), *s = json_text(signature, "s"), *c = json_text(signature, "c");
	uint8_t digest[STRUCTURED_HASH_SIZE];
	struct signer *signer;
	bool fine = false;

	if (!r || !s || !c || !json_object_get(signed_data, "data")) {
		snprintf(reason, SIGNATURE_REASON_SIZE, "not of the form {\"signature\": {r, s, c}, \"data\": …}");
		return false;
	}
	signer = signer_parse(c, strlen(c), reason);
	if (!signer)
		return false;
	if (signer_check_chain(signer, authority, (int64_t)time(NULL), NULL, NULL, reason)) {
		if (!signer_has_dns_name(signer, name))
			snprintf(reason, SIGNATURE_REASON_SIZE, "the certificate does not carry the name %s", name);
		else if (structured_hash_of(json_object_get(signed_data, "data"), digest) ||
			 !signer_verify(signer, digest, sizeof(digest), r, s))
			snprintf(reason, SIGNATURE_REASON_SIZE, "the signature is wrong");
		else
			fine = true;
	}
	signer_free(signer);
	return fine;
}

int sd_command_sign(int argc, char **argv, void *context)
{
	const struct hyper_settings *settings = context;
	char reason[SIGNATURE_REASON_SIZE] = "out of memory";
	uint8_t digest[STRUCTURED_HASH_SIZE];
	struct arguments arguments;
	struct signing signing;
	json_t *data, *result = NULL;
	bool fine = false;

	if (!read_arguments(SIGN, argc, argv, &arguments))
		return EXIT_USAGE;
	data = read_json_file(arguments.words[0]);
	if (!data)
		return EXIT_FAILED;
	if (!json_is_object(data)) {
		log_error("%s: must be a JSON object", arguments.words[0]);
	} else if (signing_load(settings, &signing)) {
		if (!structured_hash_of(data, digest))
			result = json_pack("{s:o, s:O}", "signature", signing_key_sign(signing.key, digest, sizeof(digest)), "data", data);
		fine = result && verify_data(result, signing.authority, settings->name, reason);
		if (!fine)
			log_fatal("signing failed: %s", reason);
		signing_clear(&signing);
	}
	fine = fine && print_json(result);
	json_decref(result);
	json_decref(data);
	return fine ? EXIT_FINE : EXIT_FAILED;
}

int sd_command_verify(int argc, char **argv, void *context)
{
	char reason[SIGNATURE_REASON_SIZE];
	struct arguments arguments;
	struct signing signing;
	json_t *signed_data;
	bool fine = false;

	if (!read_arguments(VERIFY, argc, argv, &arguments))
		return EXIT_USAGE;
	signed_data = read_json_file(arguments.words[0]);
	if (!signed_data)
		return EXIT_FAILED;
	if (signing_load_authority(context, &signing)) {
		fine = verify_data(signed_data, signing.authority, arguments.words[1], reason);
		if (fine)
			log_info("%s: the signature of %s is valid", arguments.words[0], arguments.words[1]);
		else
			log_fatal("%s: %s", arguments.words[0], reason);
		signing_clear(&signing);
	}
	json_decref(signed_data);
	return fine ? EXIT_FINE : EXIT_FAILED;
}
