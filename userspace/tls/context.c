// SPDX-License-Identifier: Apache-2.0
/* Turns `tls` settings into OpenSSL contexts. One place decides versions,
 * suites, what a peer's certificate must be, and how failures read in the log.
 *
 * Certificate rules are those that the existing programs apply (protocol page
 * 4.1, 6.3): the extended key usage is absent or names the role; key usage bits
 * are not looked at; the subject's CN is no host name. OpenSSL's own purpose
 * check wants more (key usage), so it is replaced by check_peer_usage().
 *
 * A context may be shared by all threads once it is made. */
#include "tls/context.h"

#include "base/log.h"
#include "tls/validity.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* TLS 1.2 with forward secrecy only; 1.3 has nothing but AEAD anyway. */
#define SUITES_OF_TLS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!PSK"
#define SESSION_LIFETIME_S 3600

static int context_alpn_index = -1;

static void free_alpn(void *parent, void *alpn, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
	(void)parent, (void)data, (void)index, (void)argl, (void)argp;
	free(alpn);
}

__attribute__((constructor)) static void reserve_indices(void)
{
	context_alpn_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_alpn);
}

const char *tls_error_code_text(const SSL *ssl, unsigned long code)
{
	static _Thread_local char text[256];
	const char *reason = code ? ERR_reason_error_string(code) : NULL;
	long verified = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;

	if (!reason && ERR_SYSTEM_ERROR(code))
		reason = strerror(ERR_GET_REASON(code));
	if (verified != X509_V_OK && (!code || ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED))
		snprintf(text, sizeof(text), "%s (%s)", reason ? reason : "certificate verify failed",
			 X509_verify_cert_error_string(verified));
	else
		snprintf(text, sizeof(text), "%s", reason ? reason : "connection closed");
	return text;
}

const char *tls_error_text(const SSL *ssl)
{
	/* The first error is the cause, later ones say where it was noticed. */
	unsigned long code = ERR_get_error();

	ERR_clear_error();
	return tls_error_code_text(ssl, code);
}

static bool is_usage_allowed(X509 *certificate, bool is_client)
{
	if (!(X509_get_extension_flags(certificate) & EXFLAG_XKUSAGE))
		return true;
	uint32_t wanted = (is_client ? XKU_SSL_CLIENT : XKU_SSL_SERVER) | XKU_ANYEKU;
	return X509_get_extended_key_usage(certificate) & wanted;
}

static int check_peer_usage(int ok, X509_STORE_CTX *store_context)
{
	if (!ok || X509_STORE_CTX_get_error_depth(store_context) != 0)
		return ok;
	const SSL *ssl = X509_STORE_CTX_get_ex_data(store_context, SSL_get_ex_data_X509_STORE_CTX_idx());
	if (is_usage_allowed(X509_STORE_CTX_get_current_cert(store_context), SSL_is_server(ssl)))
		return 1;
	X509_STORE_CTX_set_error(store_context, X509_V_ERR_INVALID_PURPOSE);
	return 0;
}

static int accept_any_certificate(int ok, X509_STORE_CTX *store_context)
{
	(void)ok;
	X509_STORE_CTX_set_error(store_context, X509_V_OK);
	return 1;
}

static bool load_trust(SSL_CTX *context, const struct tls_settings *settings)
{
	for (size_t i = 0; i < settings->ca_certificate_files.count; i++) {
		const char *file = settings->ca_certificate_files.items[i];

		ERR_clear_error();
		if (!SSL_CTX_load_verify_file(context, file)) {
			log_error("cannot read CA certificates from %s: %s", file, tls_error_text(NULL));
			return false;
		}
	}
	return true;
}

/* The CA names in the certificate request, by which a client that has several
 * certificates chooses. Files were read before, so failures are lack of memory. */
static bool name_trust(SSL_CTX *context, const struct tls_settings *settings)
{
	STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();

	for (size_t i = 0; names && i < settings->ca_certificate_files.count; i++) {
		if (!SSL_add_file_cert_subjects_to_stack(names, settings->ca_certificate_files.items[i])) {
			sk_X509_NAME_pop_free(names, X509_NAME_free);
			names = NULL;
		}
	}
	if (names)
		SSL_CTX_set_client_CA_list(context, names);
	return names;
}

static bool load_own_certificate(SSL_CTX *context, const struct tls_settings *settings)
{
	const char *chain = settings->certificate_file, *key = settings->key_file;

	if (!chain || !key)
		return true;
	ERR_clear_error();
	if (!SSL_CTX_use_certificate_chain_file(context, chain)) {
		log_error("cannot read the certificate chain from %s: %s", chain, tls_error_text(NULL));
		return false;
	}
	if (!SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM)) {
		log_error("cannot use the key in %s with the certificate in %s: %s", key, chain, tls_error_text(NULL));
		return false;
	}
	return validity_check_own(context, chain);
}

/* What both roles share. */
static SSL_CTX *create_context(const SSL_METHOD *method)
{
	SSL_CTX *context = SSL_CTX_new(method);

	if (!context)
		return NULL;
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	if (!SSL_CTX_set_cipher_list(context, SUITES_OF_TLS_1_2)) {
		SSL_CTX_free(context);
		return NULL;
	}
	/* Replaced by check_peer_usage(). */
	X509_VERIFY_PARAM_set_purpose(SSL_CTX_get0_param(context), X509_PURPOSE_ANY);
	return context;
}

static int select_alpn(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_length,
		       const unsigned char *offered, unsigned offered_length, void *argument)
{
	const char *own = argument;
	size_t own_length = strlen(own);

	(void)ssl;
	for (unsigned i = 0; i < offered_length; i += offered[i] + 1u) {
		if (offered[i] == own_length && memcmp(offered + i + 1, own, own_length) == 0) {
			*chosen = offered + i + 1;
			*chosen_length = offered[i];
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301 section 3.2 */
}

/* The context keeps a copy of the name for as long as it lives. */
static bool set_alpn(SSL_CTX *context, const char *alpn, bool is_server)
{
	size_t length = alpn ? strlen(alpn) : 0;
	unsigned char wire[256];

	if (length == 0)
		return true;
	if (length > 255)
		return false;
	if (is_server) {
		char *copy = strdup(alpn);

		if (!copy || !SSL_CTX_set_ex_data(context, context_alpn_index, copy)) {
			free(copy);
			return false;
		}
		SSL_CTX_set_alpn_select_cb(context, select_alpn, copy);
		return true;
	}
	wire[0] = (unsigned char)length;
	memcpy(wire + 1, alpn, length);
	return SSL_CTX_set_alpn_protos(context, wire, (unsigned)length + 1) == 0;
}

SSL_CTX *tls_context_server(const struct tls_settings *settings, const char *alpn)
{
	SSL_CTX *context = create_context(TLS_server_method());
	static const unsigned char session_context[] = "p2p-server";

	if (!context || !set_alpn(context, alpn, true))
		goto no_memory;
	if (!settings->certificate_file || !settings->key_file) {
		log_error("a TLS server needs certificate_file and key_file");
		goto failed;
	}
	if (!load_own_certificate(context, settings))
		goto failed;
	if (settings->verify_client) {
		if (!load_trust(context, settings))
			goto failed;
		if (!name_trust(context, settings))
			goto no_memory;
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, check_peer_usage);
	} else if (settings->request_client_cert) {
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER, accept_any_certificate);
	}
	/* Resumption is by tickets, whose keys are this context's own, so that a
	 * session never leads past another context's checks. */
	SSL_CTX_set_session_id_context(context, session_context, sizeof(session_context) - 1);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_timeout(context, SESSION_LIFETIME_S);
	SSL_CTX_set_num_tickets(context, 1);
	return context;
no_memory:
	log_error("cannot set up TLS: %s", tls_error_text(NULL));
failed:
	SSL_CTX_free(context);
	return NULL;
}

SSL_CTX *tls_context_client(const struct tls_settings *settings, const char *alpn)
{
	SSL_CTX *context = create_context(TLS_client_method());

	if (!context || !set_alpn(context, alpn, false))
		goto no_memory;
	if (!settings) {
		if (!SSL_CTX_set_default_verify_paths(context))
			goto no_memory;
	} else if (!load_trust(context, settings) || !load_own_certificate(context, settings)) {
		goto failed;
	}
	SSL_CTX_set_verify(context, settings && settings->insecure_skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER,
			   check_peer_usage);
	return context;
no_memory:
	log_error("cannot set up TLS: %s", tls_error_text(NULL));
failed:
	SSL_CTX_free(context);
	return NULL;
}

int tls_connection_expect(SSL *ssl, const char *server_name, bool skip_verify)
{
	unsigned char address[16];
	bool is_address;

	if (!server_name || !*server_name)
		return -EINVAL;
	is_address = inet_pton(AF_INET, server_name, address) == 1 || inet_pton(AF_INET6, server_name, address) == 1;
	/* RFC 6066 section 3: no addresses in SNI. */
	if (!is_address && !SSL_set_tlsext_host_name(ssl, server_name))
		return -EINVAL;
	if (skip_verify) {
		SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
		return 0;
	}
	X509_VERIFY_PARAM *expected = SSL_get0_param(ssl);
	X509_VERIFY_PARAM_set_hostflags(expected,
					X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (is_address ? !X509_VERIFY_PARAM_set1_ip_asc(expected, server_name) : !SSL_set1_host(ssl, server_name))
		return -EINVAL;
	return 0;
}
