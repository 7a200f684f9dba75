// SPDX-License-Identifier: Apache-2.0
/* Compares own certificates with the own entry, see own_entry.h. A changed file has no
 * effect before the next start, so each is read once, as the channels do. */
#include "hyper/own_entry.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "directory/entry.h"
#include "tls/identity.h"

#include <errno.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_DIGITS 16 /* of a fingerprint */
#define MOST_CERTIFICATES 2 /* one channel of a type: gRPC client and server */

struct own_certificate {
	char fingerprint[FINGERPRINT_TEXT_SIZE];
	bool is_missing; /* in the directory, and that was told */
};

struct own_entry {
	const char *name;
	struct own_certificate certificates[MOST_CERTIFICATES];
	size_t count;
	bool was_seen;
};

static int read_fingerprint(const char *path, char fingerprint[FINGERPRINT_TEXT_SIZE])
{
	_fclose_ FILE *file = fopen(path, "re");
	X509 *leaf = file ? PEM_read_X509(file, NULL, NULL, (void *)"") : NULL;
	struct certificate_identity identity;
	int error = leaf ? certificate_identity_read(leaf, &identity) : -EINVAL;

	X509_free(leaf);
	if (error == -EINVAL)
		log_error("cannot read the certificate in %s", path);
	if (error)
		return error;
	memcpy(fingerprint, identity.fingerprint, FINGERPRINT_TEXT_SIZE);
	certificate_identity_clear(&identity);
	return 0;
}

static int add_certificate(struct own_entry *own, const struct tls_settings *tls)
{
	struct own_certificate certificate = { 0 };
	int error;

	if (!tls->certificate_file || !tls->key_file)
		return 0;
	error = read_fingerprint(tls->certificate_file, certificate.fingerprint);
	if (error)
		return error;
	for (size_t i = 0; i < own->count; i++)
		if (!strcmp(own->certificates[i].fingerprint, certificate.fingerprint))
			return 0;
	own->certificates[own->count++] = certificate;
	return 0;
}

int own_entry_create(const struct hyper_settings *settings, struct own_entry **result)
{
	struct own_entry *own = calloc(1, sizeof(*own));
	int error = own ? 0 : -ENOMEM;

	for (size_t i = 0; !error && i < settings->channel_count; i++) {
		const struct channel_settings *channel = &settings->channels[i];

		if (channel->type == CHANNEL_GRPC_CLIENT)
			error = add_certificate(own, channel->grpc_client->tls);
		else if (channel->type == CHANNEL_GRPC_SERVER)
			error = add_certificate(own, channel->grpc_server->tls);
	}
	if (error) {
		own_entry_free(own);
		return error;
	}
	own->name = settings->name;
	*result = own;
	return 0;
}

void own_entry_free(struct own_entry *own)
{
	free(own);
}

/* The first certificate for encryption that the entry lists; NULL: none. */
static const char *listed_fingerprint(const json_t *entry)
{
	const json_t *certificates = json_object_get(entry, "certificates");

	for (size_t i = 0; i < json_array_size(certificates); i++) {
		const json_t *item = json_array_get(certificates, i);
		const char *fingerprint = json_text(item, "fingerprint");

		if (fingerprint && entry_lists_fingerprint(entry, fingerprint))
			return fingerprint;
	}
	return NULL;
}

static void warn(const struct own_entry *own, const char *fingerprint, const json_t *entry)
{
	const char *listed = listed_fingerprint(entry);

	log_warning("operator %s: peers refuse its certificate: its fingerprint is %.*s..., the service directory lists %.*s%s",
		    own->name, SHOWN_DIGITS, fingerprint, SHOWN_DIGITS, listed ? listed : "none", listed ? "..." : "");
}

void own_entry_look(struct own_entry *own, const json_t *entry)
{
	if (!entry && !own->was_seen)
		return;
	own->was_seen = true;
	for (size_t i = 0; i < own->count; i++) {
		struct own_certificate *certificate = &own->certificates[i];
		bool is_missing = !entry_lists_fingerprint(entry, certificate->fingerprint);

		if (is_missing && !certificate->is_missing)
			warn(own, certificate->fingerprint, entry);
		else if (!is_missing && certificate->is_missing)
			log_info("operator %s: the service directory lists its certificate %.*s... now", own->name,
				 SHOWN_DIGITS, certificate->fingerprint);
		certificate->is_missing = is_missing;
	}
}
