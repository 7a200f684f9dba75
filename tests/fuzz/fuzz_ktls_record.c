// SPDX-License-Identifier: Apache-2.0
/* Records of the relay's TLS parties: control records that the kernel has opened, whole
 * records from anybody, and records that were changed on the way. The first three bytes
 * of the input choose version, suite, record type and which byte is changed. */
#include "relay/ktls_keys.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE_MOST 20000

static struct ktls_key make_key(uint8_t choice)
{
	struct ktls_key key = {
		.version = choice & 1 ? KTLS_TLS_1_3 : KTLS_TLS_1_2,
		.cipher = (enum ktls_cipher)(choice / 2 % KTLS_CIPHER_COUNT),
		.sequence = choice * 0x0123456789abcdull,
	};

	memset(key.key, choice, sizeof key.key);
	memset(key.iv, choice + 1, sizeof key.iv);
	return key;
}

/* Only the two messages that go on, and alerts, are anything but wrong; wrong has a reason. */
static void check_control(enum ktls_version version, uint8_t type, const uint8_t *bytes, size_t size)
{
	uint8_t detail = 0xff;
	const char *fault = "untouched";
	enum ktls_control control = ktls_control_read(version, type, bytes, size, &detail, &fault);

	if ((control == KTLS_CONTROL_WRONG) != (fault != NULL))
		abort();
	switch (control) {
	case KTLS_CONTROL_CLOSE:
	case KTLS_CONTROL_ALERT:
	case KTLS_CONTROL_NOTHING:
		if (type != TLS_RECORD_ALERT || size != 2 || detail != bytes[1] || (control == KTLS_CONTROL_CLOSE) != !detail)
			abort();
		break;
	case KTLS_CONTROL_KEY_UPDATE:
		if (type != TLS_RECORD_HANDSHAKE || version != KTLS_TLS_1_3 || size != 5 || detail > 1)
			abort();
		break;
	case KTLS_CONTROL_WRONG:
		if (detail || !*fault)
			abort();
		break;
	default:
		abort();
	}
}

static void check_open(uint8_t choice, const uint8_t *record, size_t size)
{
	struct ktls_key key = make_key(choice), before = key;
	uint8_t *bytes = malloc(size + 1), type;
	int length = ktls_record_open(&key, record, size, bytes, &type);

	/* Nobody has the key, so the tag of a stranger's record cannot be right. */
	if (length >= 0 || key.sequence != before.sequence)
		abort();
	free(bytes);
}

static void check_way_and_back(uint8_t choice, uint8_t type, uint8_t change, const uint8_t *bytes, size_t size)
{
	struct ktls_key out = make_key(choice), in = out, late = out;
	uint8_t *record = malloc(size + KTLS_RECORD_OVERHEAD_MOST), *opened = malloc(size + KTLS_RECORD_OVERHEAD_MOST), seen;
	int length = ktls_record_seal(&out, type, bytes, size, record);

	if (length < 0 || (size_t)length > size + KTLS_RECORD_OVERHEAD_MOST)
		abort();
	if (ktls_record_open(&in, record, (size_t)length, opened, &seen) != (int)size || seen != type ||
	    (size && memcmp(opened, bytes, size)) || in.sequence != out.sequence)
		abort();
	/* A second time it is an old record. */
	if (ktls_record_open(&in, record, (size_t)length, opened, &seen) >= 0)
		abort();
	/* Neither a changed byte behind the header nor a missing one goes unnoticed. */
	size_t at = 5 + (change * 257u + size) % ((size_t)length - 5);
	record[at] ^= (uint8_t)(change | 1);
	if (ktls_record_open(&late, record, (size_t)length, opened, &seen) >= 0 ||
	    ktls_record_open(&late, record, (size_t)length - 1, opened, &seen) >= 0)
		abort();
	free(record);
	free(opened);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3 || size > SIZE_MOST)
		return 0;
	uint8_t *copy = malloc(size - 3 + !(size - 3)); /* of its own, so that a read behind it shows */
	memcpy(copy, data + 3, size - 3);
	check_control(data[0] & 1 ? KTLS_TLS_1_3 : KTLS_TLS_1_2, data[1], copy, size - 3);
	check_open(data[0], copy, size - 3);
	/* Type 0 is padding in TLS 1.3. */
	if (data[1])
		check_way_and_back(data[0], data[1], data[2], copy, size - 3);
	free(copy);
	return 0;
}
