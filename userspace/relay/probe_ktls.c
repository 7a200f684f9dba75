// SPDX-License-Identifier: Apache-2.0
/* What the kernel's TLS can do, tried on loopback connections: each suite of each
 * version in each direction against records that are sealed and opened in userspace,
 * then splice from one armed socket to another, new keys, and whether a record that
 * does not fit into a pipe comes out whole.
 *
 * None of these sockets ever meets a socket map: some kernels panic. Any thread. */
#include "relay/ktls_keys.h"
#include "relay/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEQUENCE 5 /* arming begins in the middle of a session */
#define LONG_BYTES 16384 /* with its type, tag and header more than the page of 16 KB that a slot of a pipe may hold */
#define ROOM (LONG_BYTES + KTLS_RECORD_OVERHEAD_MOST)

static const char *const version_names[KTLS_VERSION_COUNT] = { "1.2", "1.3" };
static const char *const cipher_names[KTLS_CIPHER_COUNT] = { "AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305" };
static const char *const item_names[KTLS_VERSION_COUNT][KTLS_CIPHER_COUNT][KTLS_DIRECTION_COUNT] = {
	{ { "ktls-1.2-aes-128-send", "ktls-1.2-aes-128-receive" },
	  { "ktls-1.2-aes-256-send", "ktls-1.2-aes-256-receive" },
	  { "ktls-1.2-chacha20-send", "ktls-1.2-chacha20-receive" } },
	{ { "ktls-1.3-aes-128-send", "ktls-1.3-aes-128-receive" },
	  { "ktls-1.3-aes-256-send", "ktls-1.3-aes-256-receive" },
	  { "ktls-1.3-chacha20-send", "ktls-1.3-chacha20-receive" } },
};

static struct ktls_key make_key(enum ktls_version version, enum ktls_cipher cipher)
{
	struct ktls_key key = { .version = version, .cipher = cipher, .sequence = SEQUENCE };

	/* Protects nothing but the bytes of this probe. */
	for (unsigned at = 0; at < sizeof key.key; at++)
		key.key[at] = (uint8_t)(at * 7 + 1);
	for (unsigned at = 0; at < sizeof key.iv; at++)
		key.iv[at] = (uint8_t)(at * 5 + 3);
	return key;
}

static bool is_readable(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, PROBE_WAIT_MS) == 1;
}

static bool send_sealed(int fd, struct ktls_key *key, uint8_t type, const void *bytes, size_t size)
{
	uint8_t record[ROOM];
	int length = ktls_record_seal(key, type, bytes, size, record);

	return length > 0 && send(fd, record, (size_t)length, MSG_NOSIGNAL) == length;
}

/* Exactly `text` comes out of an armed socket. */
static bool comes_out(int fd, const char *text)
{
	char bytes[32];
	uint8_t type;
	ssize_t size;

	if (!is_readable(fd))
		return false;
	size = ktls_receive(fd, bytes, sizeof bytes, &type);
	return size == (ssize_t)strlen(text) && type == TLS_RECORD_DATA && memcmp(bytes, text, (size_t)size) == 0;
}

/* One record with `text` arrives at a bare socket. */
static bool arrives_sealed(int fd, struct ktls_key *key, const char *text)
{
	uint8_t record[ROOM], bytes[ROOM], type;
	size_t got = 0;
	int size;

	while (got < 5 || got < 5u + (size_t)(record[3] << 8 | record[4])) {
		ssize_t part = is_readable(fd) ? recv(fd, record + got, sizeof record - got, MSG_DONTWAIT) : 0;

		if (part <= 0)
			return false;
		got += (size_t)part;
	}
	size = ktls_record_open(key, record, got, bytes, &type);
	return size == (int)strlen(text) && type == TLS_RECORD_DATA && memcmp(bytes, text, (size_t)size) == 0;
}

/* ---- suites ---- */

static bool try_direction(const struct probe_sockets *sockets, enum ktls_version version, enum ktls_cipher cipher,
			  enum ktls_direction direction, struct probe_report *report)
{
	struct ktls_key key = make_key(version, cipher);
	int error = ktls_give_key(sockets->relay[0], &key, direction);
	bool works = !error && (direction == KTLS_RECEIVE
		? send_sealed(sockets->client[0], &key, TLS_RECORD_DATA, "ping", 4) && comes_out(sockets->relay[0], "ping")
		: send(sockets->relay[0], "pong", 4, MSG_NOSIGNAL) == 4 && arrives_sealed(sockets->client[0], &key, "pong"));
	const char *name = item_names[version][cipher][direction];

	if (error)
		probe_add(report, name, PROBE_NO, "the kernel refused a key of %s, TLS %s: %s", cipher_names[cipher],
			  version_names[version], strerror(-error));
	else
		probe_add(report, name, works ? PROBE_YES : PROBE_NO, works ? "the kernel %s a record of %s, TLS %s"
									    : "the kernel %s a record of %s, TLS %s, wrongly",
			  direction == KTLS_SEND ? "sealed" : "opened", cipher_names[cipher], version_names[version]);
	return works;
}

/* False: there is no kTLS at all. */
static bool try_suite(enum ktls_version version, enum ktls_cipher cipher, struct probe_report *report)
{
	struct probe_sockets sockets;
	int error = probe_open_sockets(&sockets);

	if (error) {
		probe_add(report, "ktls-splice", PROBE_NO, "no loopback connection could be made to try it on");
		return false;
	}
	error = ktls_attach(sockets.relay[0]);
	if (!error) {
		bool sends = try_direction(&sockets, version, cipher, KTLS_SEND, report);
		bool receives = try_direction(&sockets, version, cipher, KTLS_RECEIVE, report);

		report->ktls[version][cipher] = sends && receives;
	} else if (error == -ENOENT) {
		probe_add(report, "ktls-splice", PROBE_NO, "the kernel's tls module is not loaded or does not exist (modules-load.d)");
	} else {
		probe_add(report, "ktls-splice", PROBE_NO, "the kernel's TLS cannot be attached: %s", strerror(-error));
	}
	probe_close_sockets(&sockets);
	return !error;
}

/* ---- splice ---- */

static int open_armed(struct probe_sockets *sockets, struct ktls_key *key)
{
	int error = probe_open_sockets(sockets);

	if (error)
		return error;
	for (unsigned i = 0; i < 2 && !error; i++)
		error = ktls_attach(sockets->relay[i]);
	if (!error)
		error = ktls_give_key(sockets->relay[0], key, KTLS_RECEIVE);
	if (!error)
		error = ktls_give_key(sockets->relay[1], key, KTLS_SEND);
	if (error)
		probe_close_sockets(sockets);
	return error;
}

static bool find_key(const struct probe_report *report, struct ktls_key *key)
{
	for (int version = KTLS_VERSION_COUNT - 1; version >= 0; version--)
		for (unsigned cipher = 0; cipher < KTLS_CIPHER_COUNT; cipher++)
			if (report->ktls[version][cipher]) {
				*key = make_key((enum ktls_version)version, (enum ktls_cipher)cipher);
				return true;
			}
	return false;
}

static bool try_splice(const struct ktls_key *key, struct probe_report *report)
{
	struct ktls_key in = *key, out = *key;
	struct probe_sockets sockets;
	int ends[2];
	bool works = false;

	if (!pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
		if (!open_armed(&sockets, &in)) {
			works = send_sealed(sockets.client[0], &in, TLS_RECORD_DATA, "ping", 4) && is_readable(sockets.relay[0]) &&
				splice(sockets.relay[0], NULL, ends[1], NULL, 4096, SPLICE_F_NONBLOCK) == 4 &&
				splice(ends[0], NULL, sockets.relay[1], NULL, 4, SPLICE_F_NONBLOCK) == 4 &&
				arrives_sealed(sockets.client[1], &out, "ping");
			probe_close_sockets(&sockets);
		}
		close(ends[0]);
		close(ends[1]);
	}
	probe_add(report, "ktls-splice", works ? PROBE_YES : PROBE_NO, works
		? "a record went through a pipe from one TLS socket of the kernel to another"
		: "splice between TLS sockets of the kernel failed: %s", strerror(errno));
	return works;
}

/* A pipe of one page cannot hold the record: kernels with the fault drop bytes at each page. */
static bool loses_nothing(struct probe_sockets *sockets, struct ktls_key *key, const int ends[2])
{
	uint8_t wanted[LONG_BYTES], got[LONG_BYTES];
	size_t size = 0;

	for (unsigned at = 0; at < LONG_BYTES; at++)
		wanted[at] = (uint8_t)(at * 31 ^ at >> 8);
	if (fcntl(ends[1], F_SETPIPE_SZ, 4096) < 0 || !send_sealed(sockets->client[0], key, TLS_RECORD_DATA, wanted, LONG_BYTES))
		return false;
	while (size < LONG_BYTES && is_readable(sockets->relay[0])) {
		ssize_t part = splice(sockets->relay[0], NULL, ends[1], NULL, LONG_BYTES - size, SPLICE_F_NONBLOCK);

		if (part <= 0 || read(ends[0], got + size, (size_t)part) != part)
			break;
		size += (size_t)part;
	}
	return size == LONG_BYTES && memcmp(wanted, got, LONG_BYTES) == 0;
}

static void try_several(const struct ktls_key *key, struct probe_report *report)
{
	struct ktls_key in = *key;
	struct probe_sockets sockets;
	int ends[2];

	if (!pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
		if (!open_armed(&sockets, &in)) {
			report->ktls_several = loses_nothing(&sockets, &in, ends);
			probe_close_sockets(&sockets);
		}
		close(ends[0]);
		close(ends[1]);
	}
	probe_add(report, "ktls-several", report->ktls_several ? PROBE_YES : PROBE_NO, "%s", report->ktls_several
		? "a record longer than the pipe came out whole: several records are moved at a time"
		: "a record longer than the pipe lost bytes: one record is moved at a time, through a pipe that holds it");
}

/* ---- opening into the reader's memory ---- */

/* TLS 1.3 hides a record's type, and padding behind it. Kernels with a fault cannot open such a record again. */
static void try_direct(const struct ktls_key *key, struct probe_report *report)
{
	static const char padded[] = { 'p', 'i', 'n', 'g', TLS_RECORD_DATA };
	struct ktls_key in = *key;
	struct probe_sockets sockets;
	int error = -ENOTCONN;

	if (!open_armed(&sockets, &in)) {
		error = key->version == KTLS_TLS_1_3 ? ktls_expect_no_padding(sockets.relay[0]) : -EPROTONOSUPPORT;
		report->ktls_direct = !error && send_sealed(sockets.client[0], &in, 0, padded, sizeof padded) &&
				      comes_out(sockets.relay[0], "ping") &&
				      send_sealed(sockets.client[0], &in, TLS_RECORD_DATA, "pong", 4) && comes_out(sockets.relay[0], "pong");
		probe_close_sockets(&sockets);
	}
	probe_add(report, "ktls-direct", report->ktls_direct ? PROBE_YES : PROBE_NO, report->ktls_direct
		? "records were opened straight into memory, one with padding too: they are read without a pipe"
		: "records cannot be opened straight into the reader's memory (%s): they go through a pipe",
		error ? strerror(-error) : "one with padding was lost");
}

/* ---- new keys ---- */

static void try_rekey(struct probe_report *report)
{
	static const uint8_t update[] = { 24, 0, 0, 1, 0 };
	struct ktls_key key = make_key(KTLS_TLS_1_3, KTLS_AES_128_GCM), next = key, sent = key;
	struct probe_sockets sockets;
	uint8_t bytes[32], type = 0;
	int error = -ENOTCONN;

	next.key[0] ^= 0x55;
	next.sequence = 0;
	for (unsigned cipher = 0; cipher < KTLS_CIPHER_COUNT && !report->ktls[KTLS_TLS_1_3][key.cipher]; cipher++)
		key.cipher = next.cipher = sent.cipher = (enum ktls_cipher)cipher;
	if (!open_armed(&sockets, &key)) {
		if (send_sealed(sockets.client[0], &key, TLS_RECORD_HANDSHAKE, update, sizeof update) &&
		    is_readable(sockets.relay[0]) &&
		    ktls_receive(sockets.relay[0], bytes, sizeof bytes, &type) == sizeof update && type == TLS_RECORD_HANDSHAKE)
			error = ktls_give_key(sockets.relay[0], &next, KTLS_RECEIVE);
		if (!error)
			error = ktls_give_key(sockets.relay[1], &next, KTLS_SEND);
		sent = next;
		report->ktls_rekeys = !error && send_sealed(sockets.client[0], &next, TLS_RECORD_DATA, "ping", 4) &&
				      comes_out(sockets.relay[0], "ping") && send(sockets.relay[1], "pong", 4, MSG_NOSIGNAL) == 4 &&
				      arrives_sealed(sockets.client[1], &sent, "pong");
		probe_close_sockets(&sockets);
	}
	probe_add(report, "ktls-rekey", report->ktls_rekeys ? PROBE_YES : PROBE_NO, report->ktls_rekeys
		? "a TLS socket of the kernel took new keys"
		: "a TLS socket of the kernel takes no new keys (%s): a KeyUpdate ends its pair", strerror(-error));
}

void probe_ktls(struct probe_report *report)
{
	struct ktls_key key;

	for (unsigned version = 0; version < KTLS_VERSION_COUNT; version++)
		for (unsigned cipher = 0; cipher < KTLS_CIPHER_COUNT; cipher++)
			if (!try_suite((enum ktls_version)version, (enum ktls_cipher)cipher, report))
				return;
	if (!find_key(report, &key)) {
		probe_add(report, "ktls-splice", PROBE_NO, "needs a cipher suite that works in both directions");
		return;
	}
	report->planes[PLANE_KTLS_SPLICE] = try_splice(&key, report);
	try_several(&key, report);
	try_direct(&key, report);
	try_rekey(report);
}
