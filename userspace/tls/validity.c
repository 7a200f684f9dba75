// SPDX-License-Identifier: Apache-2.0
/* Looks at the dates of own certificates, see validity.h. A peer would refuse an
 * expired one in every handshake, without saying why on most paths, so it is said
 * here at the start. Certificates behind the leaf may have expired without harm
 * when the peer knows another way to its root. */
#include "tls/validity.h"

#include "base/log.h"

#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SOON_DAYS 30
#define WARNED_MAX 16 /* files; beyond that warnings repeat */

static pthread_mutex_t warned_lock = PTHREAD_MUTEX_INITIALIZER;
static char *warned[WARNED_MAX];

static bool is_first_warning(const char *file)
{
	bool is_first = true;
	size_t i = 0;

	pthread_mutex_lock(&warned_lock);
	while (i < WARNED_MAX && warned[i] && strcmp(warned[i], file))
		i++;
	if (i < WARNED_MAX && warned[i])
		is_first = false;
	else if (i < WARNED_MAX)
		warned[i] = strdup(file);
	pthread_mutex_unlock(&warned_lock);
	return is_first;
}

static bool write_date(const ASN1_TIME *time, char text[32])
{
	struct tm date;

	if (!ASN1_TIME_to_tm(time, &date)) {
		strcpy(text, "an unreadable date");
		return false;
	}
	strftime(text, 32, "%Y-%m-%d %H:%M UTC", &date);
	return true;
}

/* Days left until the certificate expires, -1 if it has; `until` is when. */
static int days_left(const X509 *certificate, char until[32])
{
	const ASN1_TIME *end = X509_get0_notAfter(certificate);
	int days = 0, seconds = 0;

	if (!write_date(end, until) || !ASN1_TIME_diff(&days, &seconds, NULL, end))
		return -1;
	return days < 0 || seconds < 0 ? -1 : days;
}

/* Not an error: the clock of a machine that has just started may still be set. */
static void warn_if_early(const X509 *leaf, const char *file)
{
	const ASN1_TIME *start = X509_get0_notBefore(leaf);
	char from[32];
	int days = 0, seconds = 0;

	if (!write_date(start, from) || !ASN1_TIME_diff(&days, &seconds, NULL, start) || (days <= 0 && seconds <= 0))
		return;
	if (is_first_warning(file))
		log_warning("the certificate in %s is not valid before %s: is the clock right?", file, from);
}

bool validity_check_own(SSL_CTX *context, const char *file)
{
	const X509 *leaf = SSL_CTX_get0_certificate(context);
	STACK_OF(X509) *chain = NULL;
	char until[32];
	int days = leaf ? days_left(leaf, until) : SOON_DAYS;

	if (days < 0) {
		log_error("the certificate in %s has expired on %s: renew it (development: make certs)", file, until);
		return false;
	}
	if (leaf)
		warn_if_early(leaf, file);
	if (days < SOON_DAYS) {
		if (is_first_warning(file))
			log_warning("the certificate in %s expires on %s", file, until);
		return true;
	}
	SSL_CTX_get0_chain_certs(context, &chain);
	for (int i = 0; i < sk_X509_num(chain); i++) {
		days = days_left(sk_X509_value(chain, i), until);
		if (days >= SOON_DAYS)
			continue;
		if (is_first_warning(file))
			log_warning("certificate %d in %s %s on %s", i + 2, file, days < 0 ? "has expired" : "expires", until);
		break;
	}
	return true;
}
