// SPDX-License-Identifier: Apache-2.0
#pragma once
/* What the targets of the gRPC client and server share: the loop, blocks of headers,
 * and a program of steps whose frames go past TLS, straight into the HTTP/2 session of
 * `transport`. Included by one target each. */
#include "base/log.h"
#include "grpc/transport.h"

#include <nghttp2/nghttp2.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct event_base *base;
static SSL_CTX *tls;
static struct transport *transport;
static struct {
	uint8_t bytes[128];
	size_t size;
} header_blocks[8];
static size_t header_block_count;

static void prepare_loop(const SSL_METHOD *method)
{
	signal(SIGPIPE, SIG_IGN);
	log_configure(LOG_LEVEL_PANIC, LOG_FORMAT_TEXT, "fuzz");
	base = event_base_new();
	tls = SSL_CTX_new(method);
}

/* Adds a block of `count` headers, at most six. */
static void encode_headers(const char *const texts[][2], size_t count)
{
	nghttp2_nv headers[6];
	nghttp2_hd_deflater *deflater;

	for (size_t i = 0; i < count; i++)
		headers[i] = (nghttp2_nv){ (uint8_t *)texts[i][0], (uint8_t *)texts[i][1], strlen(texts[i][0]),
					   strlen(texts[i][1]), NGHTTP2_NV_FLAG_NONE };
	if (nghttp2_hd_deflate_new(&deflater, 0))
		abort();
	ssize_t size = nghttp2_hd_deflate_hd(deflater, header_blocks[header_block_count].bytes,
					     sizeof(header_blocks->bytes), headers, count);

	if (size < 0)
		abort();
	header_blocks[header_block_count++].size = (size_t)size;
	nghttp2_hd_deflate_del(deflater);
}

/* What TLS would hand to nghttp2 and take from it. */
static void feed(const uint8_t *bytes, size_t size)
{
	if (transport->is_closed || transport->failure)
		return;
	transport->is_in_session = true;
	ssize_t taken = nghttp2_session_mem_recv(transport->session, bytes, size);
	transport->is_in_session = false;
	if (!transport->is_closed && taken < 0)
		transport_fail(transport, "protocol error");
}

static void collect(void)
{
	const uint8_t *bytes;
	ssize_t size = 1;

	while (!transport->is_closed && !transport->failure && size > 0) {
		transport->is_in_session = true;
		size = nghttp2_session_mem_send(transport->session, &bytes);
		transport->is_in_session = false;
		if (!transport->is_closed && size < 0)
			transport_fail(transport, "send");
	}
}

static void feed_frame(uint8_t type, uint8_t flags, uint32_t stream, const uint8_t *payload, size_t size)
{
	uint8_t header[9] = { (uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size, type, flags,
			      (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream };

	feed(header, sizeof(header));
	feed(payload, size);
}

static void feed_headers(bool ends_stream, uint32_t stream, unsigned choice)
{
	size_t block = choice % header_block_count;

	feed_frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | ends_stream, stream, header_blocks[block].bytes,
		   header_blocks[block].size);
}

/* The steps that both targets have under the same numbers; `size` is at most 255. */
static void feed_step(unsigned step, uint8_t argument, uint32_t stream, const uint8_t *payload, size_t size)
{
	uint8_t framed[5 + 255] = { 0, 0, 0, 0, (uint8_t)size };

	switch (step) {
	case 0:
		feed(payload, size);
		break;
	case 2:
		feed_frame(NGHTTP2_DATA, argument >> 7, stream, payload, size);
		break;
	case 3: /* a whole gRPC frame */
		memcpy(framed + 5, payload, size);
		feed_frame(NGHTTP2_DATA, argument >> 7, stream, framed, 5 + size);
		break;
	case 4:
		feed_frame(argument & 15, argument >> 4, size ? payload[0] : 0, payload, size);
		break;
	}
}

/* Each step is its number, an argument, a length and a payload; at the end, what waits is done. */
static void run_steps(const uint8_t *data, size_t size,
		      void (*run)(uint8_t step, uint8_t argument, const uint8_t *payload, size_t size))
{
	while (size >= 3) {
		size_t length = data[2] < size - 3 ? data[2] : size - 3;

		run(data[0], data[1], data + 3, length);
		data += 3 + length;
		size -= 3 + length;
	}
	collect();
	event_base_loop(base, EVLOOP_NONBLOCK);
}
