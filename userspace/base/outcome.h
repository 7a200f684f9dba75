// SPDX-License-Identifier: Apache-2.0
#pragma once
/* How a ticket, a connection to a relay endpoint or a joined pair ended: the
 * closed list of reasons that an operator can see. One table maps each to its
 * log word, and to the sentence that p2pctl shows. Add a reason here, nowhere
 * else. */

#define OUTCOMES(X) \
	/*  name             word                sentence */ \
	X(HAPPY,            "happy",            "both sides ended their streams and every byte was delivered") \
	X(RESET_BY_PARTY,   "reset-by-party",   "one party reset its connection; the other was reset too") \
	X(PARTY_ERROR,      "party-error",      "the kernel reported an error on one party's connection") \
	X(STALLED,          "stalled",          "nothing moved for longer than the pair's stall limit") \
	X(BOOKS_WRONG,      "books-wrong",      "the byte counts of kernel and daemon disagreed; both sides were reset") \
	X(GATE_BROKEN,      "gate-broken",      "the kernel program met a packet it cannot place; both sides were reset") \
	X(NOT_DRAINED,      "not-drained",      "bytes stayed in the kernel's queue without progress; both sides were reset") \
	X(NOT_ENCRYPTED,    "not-encrypted",    "a handed-off party that claimed encryption sent something else; both sides were reset") \
	X(TRUNCATED,        "truncated",        "a TLS party's connection ended without close_notify; both sides were reset") \
	X(TLS_ALERT,        "tls-alert",        "a TLS party sent a fatal alert; both sides were reset") \
	X(TLS_BROKEN,       "tls-broken",       "a TLS party sent records that are wrong or out of place; both sides were reset") \
	X(KEY_UPDATE,       "key-update",       "a TLS party changed its keys and this kernel takes no new ones; both sides were reset") \
	X(KEY_LIMIT,        "key-limit",        "one key protected as many records as it may; both sides were reset") \
	X(NO_RESOURCES,     "no-resources",     "no memory, descriptor or pair slot was left") \
	X(SHUTDOWN,         "shutdown",         "the daemon was stopped") \
	X(LONELY,           "lonely",           "one party came, the other did not come in time") \
	X(UNCLAIMED,        "unclaimed",        "no party came in time") \
	X(IMPATIENT,        "impatient",        "the first party left before the second came") \
	X(REFUSED,          "refused",          "the callee refused or could not be asked") \
	X(UNKNOWN_TOKEN,    "unknown-token",    "the token is not known, was used, or has expired") \
	X(NO_TOKEN,         "no-token",         "the token did not arrive in time") \
	X(RATE_LIMITED,     "rate-limited",     "too many connections from this address") \
	X(TLS_FAILED,       "tls-failed",       "the TLS handshake failed or did not end in time") \
	X(BAD_HELLO,        "bad-hello",        "the hello inside of TLS is not one, or more came where nothing may be sent") \
	X(UNIDENTIFIED,     "unidentified",     "the certificate is not in the service directory, or the directory did not answer") \
	X(WRONG_OPERATOR,   "wrong-operator",   "the certificate is not that of an operator for whom the token is, or its connection is there already") \
	X(NOT_HANDED_OFF,   "not-handed-off",   "a party did not change from TLS to plain TCP as it was told; both sides were reset")

enum outcome {
#define OUTCOME_NAME(name, word, sentence) OUTCOME_##name,
	OUTCOMES(OUTCOME_NAME)
#undef OUTCOME_NAME
	OUTCOME_COUNT
};

const char *outcome_word(enum outcome outcome);
const char *outcome_sentence(enum outcome outcome);
