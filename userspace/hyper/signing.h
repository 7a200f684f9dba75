// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The `signing` section of the settings at work: own key, the certificates that
 * signatures must lead to, and records signed in a row. */
#include "directory/signature.h"
#include "directory/verifier.h"
#include "settings/settings.h"

struct signing {
	struct signing_key *key; /* NULL: only verifying */
	struct verifier *verifier;
	struct signature_authority *authority;
};

/* What verifies; and with the own key, whose certificate must lead to the root and
 * carry the operator's name. False after the reason was logged. */
bool signing_load_authority(const struct hyper_settings *settings, struct signing *signing);
bool signing_load(const struct hyper_settings *settings, struct signing *signing);
void signing_clear(struct signing *signing);

/* New list of signed records, each behind the one before it, the first behind
 * `parent` (""), created now. NULL after the reason was logged. */
json_t *signing_sign_records(const struct signing *signing, const json_t *records, const char *parent);
