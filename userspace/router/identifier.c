// SPDX-License-Identifier: Apache-2.0
/* Identities of a gRPC peer: every name of its leaf certificate whose directory
 * entry lists the certificate's fingerprint with key usage "encryption".
 *
 * A question holds copies, because the certificate belongs to a handshake that
 * may end while the directory is being asked; `done` is called all the same. */
#include "router/identifier.h"

#include "directory/entry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct question {
	struct directory *directory;
	struct certificate_identity certificate;
	identified done;
	void *context;
};

static void question_free(struct question *question)
{
	for (size_t i = 0; i < question->certificate.name_count; i++)
		free(question->certificate.names[i]);
	free(question->certificate.names);
	free(question);
}

static void question_answer(const char *failure, void *context)
{
	struct question *question = context;
	const struct certificate_identity *certificate = &question->certificate;
	struct peer_identities identities = { 0 };
	memcpy(identities.fingerprint, certificate->fingerprint, FINGERPRINT_TEXT_SIZE);
	if (!failure) {
		identities.items = calloc(certificate->name_count + 1, sizeof(*identities.items));
		if (!identities.items)
			failure = "out of memory";
	}
	for (size_t i = 0; !failure && i < certificate->name_count; i++) {
		json_t *entry = directory_entry(question->directory, certificate->names[i]);
		if (!entry || !entry_lists_fingerprint(entry, certificate->fingerprint))
			continue;
		char *name = strdup(certificate->names[i]);
		if (name)
			identities.items[identities.count++] =
				(struct peer_identity){ .name = name, .entry = json_incref(entry) };
		else
			failure = "out of memory";
	}
	if (!failure && identities.count == 0)
		failure = "no name matched";
	if (failure)
		peer_identities_clear(&identities);
	question->done(failure ? NULL : &identities, failure, question->context);
	question_free(question);
}

static void identify(void *owner, const struct certificate_identity *certificate, identified done, void *context)
{
	struct question *question = calloc(1, sizeof(*question));
	char **names = calloc(certificate->name_count + 1, sizeof(*names));
	if (!question || !names) {
		free(question);
		free(names);
		done(NULL, "out of memory", context);
		return;
	}
	question->directory = owner;
	question->done = done;
	question->context = context;
	memcpy(question->certificate.fingerprint, certificate->fingerprint, FINGERPRINT_TEXT_SIZE);
	question->certificate.names = names;
	for (size_t i = 0; i < certificate->name_count; i++) {
		names[i] = strdup(certificate->names[i]);
		if (!names[i]) {
			question_free(question);
			done(NULL, "out of memory", context);
			return;
		}
		question->certificate.name_count++;
	}
	directory_refresh(question->directory, question_answer, question);
}

struct identifier identifier_for_directory(struct directory *directory)
{
	return (struct identifier){ .identify = identify, .owner = directory };
}

bool identifier_confirms(const struct directory *directory, const struct peer_identities *identities,
			 const struct peer_identity *identity)
{
	const json_t *entry = directory_entry(directory, identity->name);
	return entry && (entry == identity->entry || entry_lists_fingerprint(entry, identities->fingerprint));
}

bool identifier_confirms_any(const struct directory *directory, const struct peer_identities *identities)
{
	for (size_t i = 0; i < identities->count; i++)
		if (identifier_confirms(directory, identities, &identities->items[i]))
			return true;
	return false;
}
