// SPDX-License-Identifier: Apache-2.0
#pragma once
/* One-time tokens (protocol page 7.3): 32 bytes from the system's random
 * source. Whoever holds one may be paired, so a token is never logged, never
 * shown, and wiped where it is no longer needed.
 *
 * Tables hold token keys instead: a keyed digest of the token. A key cannot be
 * turned back into a token, and how long a look-up takes tells a stranger
 * nothing about the tokens that are there. */
#include <stdbool.h>
#include <stdint.h>

#define TOKEN_SIZE 32
#define TOKEN_TEXT_SIZE 45 /* standard base64 with padding, and NUL */

struct token {
	uint8_t bytes[TOKEN_SIZE];
};

struct token_key {
	uint8_t bytes[32];
};

/* Of one table, made once by token_secret_generate(). */
struct token_secret {
	uint8_t bytes[32];
};

/* 0 or a negative errno of the random source. */
int token_generate(struct token *token);
int token_secret_generate(struct token_secret *secret);

void token_wipe(struct token *token);

/* Returns `text`; wipe it with token_wipe_text() when it has been sent. */
char *token_to_text(const struct token *token, char text[TOKEN_TEXT_SIZE]);
void token_wipe_text(char text[TOKEN_TEXT_SIZE]);

struct token_key token_key_of(const struct token_secret *secret, const struct token *token);

/* In constant time. */
bool token_key_is_equal(const struct token_key *a, const struct token_key *b);
