// SPDX-License-Identifier: Apache-2.0
/* Is kTLS there? For each cipher and version: the ULP is attached to both ends of a
 * loopback connection, each end gets a made-up key for each direction, and bytes
 * written at one end must arrive decrypted at the other, by recv and by splice, both ways.
 * No handshake and no OpenSSL: this asks the kernel alone.
 *
 *   ktls_smoke                 one line "ok|FAIL|skip NAME - why", a closing line with counts
 *
 * Never does this program put a socket into a map: kTLS and sockmap together can end
 * an old kernel. */
#include <errno.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#define PAYLOAD_BYTES 50000 /* four records */
#define DEADLINE_MS 10000

union key {
	struct tls_crypto_info info;
	struct tls12_crypto_info_aes_gcm_128 aes_128;
	struct tls12_crypto_info_aes_gcm_256 aes_256;
	struct tls12_crypto_info_chacha20_poly1305 chacha;
};

static const struct cipher {
	const char *name;
	unsigned short type;
	socklen_t size;
} ciphers[] = {
	{ "aes-128-gcm", TLS_CIPHER_AES_GCM_128, sizeof(struct tls12_crypto_info_aes_gcm_128) },
	{ "aes-256-gcm", TLS_CIPHER_AES_GCM_256, sizeof(struct tls12_crypto_info_aes_gcm_256) },
	{ "chacha20-poly1305", TLS_CIPHER_CHACHA20_POLY1305, sizeof(struct tls12_crypto_info_chacha20_poly1305) },
};

static const struct version {
	const char *name;
	unsigned short number;
} versions[] = { { "tls-1.2", TLS_1_2_VERSION }, { "tls-1.3", TLS_1_3_VERSION } };

static char failure[200];

static bool fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static bool fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(failure, sizeof failure, format, arguments);
	va_end(arguments);
	return false;
}

/* Two ends of a connection over loopback. */
static bool connect_ends(int ends[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is_fine = listener >= 0 && ends[0] >= 0 && !bind(listener, (struct sockaddr *)&address, sizeof address) &&
		       !listen(listener, 1) && !getsockname(listener, (struct sockaddr *)&address, &length) &&
		       !connect(ends[0], (struct sockaddr *)&address, sizeof address);
	if (is_fine)
		ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (listener >= 0)
		close(listener);
	return (is_fine && ends[1] >= 0) || fail("no loopback connection: %s", strerror(errno));
}

/* The key of the direction that begins at end `from`; every byte made up, the same at both ends. */
static void make_key(union key *key, const struct cipher *cipher, const struct version *version, int from)
{
	memset(key, 0x40 + from, sizeof *key);
	key->info.version = version->number;
	key->info.cipher_type = cipher->type;
	if (cipher->type == TLS_CIPHER_AES_GCM_128)
		memset(key->aes_128.rec_seq, 0, sizeof key->aes_128.rec_seq);
	else if (cipher->type == TLS_CIPHER_AES_GCM_256)
		memset(key->aes_256.rec_seq, 0, sizeof key->aes_256.rec_seq);
	else
		memset(key->chacha.rec_seq, 0, sizeof key->chacha.rec_seq);
}

static bool arm(int ends[2], const struct cipher *cipher, const struct version *version)
{
	union key key;

	for (int end = 0; end < 2; end++)
		if (setsockopt(ends[end], SOL_TCP, TCP_ULP, "tls", sizeof "tls"))
			return fail("the ULP cannot be attached: %s%s", strerror(errno),
				    errno == ENOENT ? " (module tls is not loaded)" : "");
	for (int from = 0; from < 2; from++) {
		make_key(&key, cipher, version, from);
		if (setsockopt(ends[from], SOL_TLS, TLS_TX, &key, cipher->size))
			return fail("TLS_TX: %s", strerror(errno));
		if (setsockopt(ends[!from], SOL_TLS, TLS_RX, &key, cipher->size))
			return fail("TLS_RX: %s", strerror(errno));
	}
	return true;
}

static bool wait_readable(int fd)
{
	struct pollfd wanted = { .fd = fd, .events = POLLIN };

	return poll(&wanted, 1, DEADLINE_MS) == 1 || fail("nothing arrived within %d s", DEADLINE_MS / 1000);
}

static bool receive(int fd, char *into, bool by_splice, const int pipes[2])
{
	for (size_t have = 0; have < PAYLOAD_BYTES;) {
		ssize_t got;

		if (!wait_readable(fd))
			return false;
		if (by_splice) {
			got = splice(fd, NULL, pipes[1], NULL, PAYLOAD_BYTES - have, SPLICE_F_NONBLOCK);
			/* One record in, the pipe drained, the next record. */
			for (ssize_t taken = 0; got > 0 && taken < got;) {
				ssize_t part = read(pipes[0], into + have + taken, (size_t)(got - taken));
				if (part <= 0)
					return fail("the pipe lost bytes");
				taken += part;
			}
		} else {
			got = recv(fd, into + have, PAYLOAD_BYTES - have, 0);
		}
		if (got <= 0)
			return fail("%s after %zu bytes: %s", by_splice ? "splice" : "recv", have, got ? strerror(errno) : "end");
		have += (size_t)got;
	}
	return true;
}

static bool move_bytes(int ends[2])
{
	static char sent[PAYLOAD_BYTES], received[PAYLOAD_BYTES];
	int pipes[2];
	bool is_fine = true;

	if (pipe2(pipes, O_CLOEXEC))
		return fail("no pipe: %s", strerror(errno));
	for (int round = 0; is_fine && round < 4; round++) {
		int from = round & 1;
		for (size_t at = 0; at < sizeof sent; at++)
			sent[at] = (char)(at * 31 + at / 251 + (size_t)round);
		memset(received, 0, sizeof received);
		if (send(ends[from], sent, sizeof sent, MSG_NOSIGNAL) != (ssize_t)sizeof sent)
			is_fine = fail("send: %s", strerror(errno));
		is_fine = is_fine && receive(ends[!from], received, round >= 2, pipes);
		if (is_fine && memcmp(sent, received, sizeof sent))
			is_fine = fail("%s: other bytes arrived than were sent", round >= 2 ? "splice" : "recv");
	}
	close(pipes[0]);
	close(pipes[1]);
	return is_fine;
}

static bool try_cipher(const struct cipher *cipher, const struct version *version)
{
	int ends[2] = { -1, -1 };
	bool is_fine = connect_ends(ends) && arm(ends, cipher, version) && move_bytes(ends);

	for (int end = 0; end < 2; end++)
		if (ends[end] >= 0)
			close(ends[end]);
	return is_fine;
}

int main(void)
{
	unsigned passed = 0, failed = 0;

	for (size_t cipher = 0; cipher < sizeof ciphers / sizeof *ciphers; cipher++)
		for (size_t version = 0; version < sizeof versions / sizeof *versions; version++) {
			if (try_cipher(&ciphers[cipher], &versions[version])) {
				passed++;
				printf("ok   %s %s - recv and splice, both ways\n", versions[version].name, ciphers[cipher].name);
			} else {
				failed++;
				printf("FAIL %s %s - %s\n", versions[version].name, ciphers[cipher].name, failure);
			}
		}
	printf("%u passed, %u failed, 0 skipped\n", passed, failed);
	return failed ? 1 : 0;
}
