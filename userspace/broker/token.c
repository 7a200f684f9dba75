// SPDX-License-Identifier: Apache-2.0
/* Tokens: made, written as text, digested, wiped. Pure but for the random
 * source; may be called from any thread. */
#include "broker/token.h"

#include "base/encoding.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>
#include <sys/random.h>

static int random_fill(uint8_t *bytes, size_t size)
{
	while (size > 0) {
		ssize_t got = getrandom(bytes, size, 0);
		if (got < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		bytes += got;
		size -= (size_t)got;
	}
	return 0;
}

int token_generate(struct token *token)
{
	return random_fill(token->bytes, sizeof token->bytes);
}

int token_secret_generate(struct token_secret *secret)
{
	return random_fill(secret->bytes, sizeof secret->bytes);
}

void token_wipe(struct token *token)
{
	explicit_bzero(token, sizeof *token);
}

char *token_to_text(const struct token *token, char text[TOKEN_TEXT_SIZE])
{
	base64_encode(token->bytes, sizeof token->bytes, text);
	return text;
}

void token_wipe_text(char text[TOKEN_TEXT_SIZE])
{
	explicit_bzero(text, TOKEN_TEXT_SIZE);
}

/* Both parts have a fixed length and the digest never leaves the process, so
 * a plain hash of secret and token is a sound keyed digest here. */
struct token_key token_key_of(const struct token_secret *secret, const struct token *token)
{
	uint8_t input[sizeof secret->bytes + sizeof token->bytes];
	struct token_key key;

	memcpy(input, secret->bytes, sizeof secret->bytes);
	memcpy(input + sizeof secret->bytes, token->bytes, sizeof token->bytes);
	SHA256(input, sizeof input, key.bytes);
	explicit_bzero(input, sizeof input);
	return key;
}

bool token_key_is_equal(const struct token_key *a, const struct token_key *b)
{
	return CRYPTO_memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}
