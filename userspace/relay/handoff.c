// SPDX-License-Identifier: Apache-2.0
/* What a handed-off party promised: payload that is itself TLS (architecture.md 5,
 * rule 7).
 *
 * The relay took it at its word and stopped encrypting. So the first two bytes of
 * its direction are looked at before anything moves them unseen: 0x16, a handshake,
 * or 0x15, a server's alert, and then 0x03. On the sockmap plane the gate of such a
 * direction opens only after that (gate.c), on the splice plane its first bytes are
 * copied (splice.c). Anything else resets the pair. Worker's thread only. */
#include "relay/pair.h"

#define RECORD_ALERT 0x15
#define RECORD_HANDSHAKE 0x16
#define VERSION_MAJOR 0x03

bool handoff_check_head(struct side *side, const char *bytes, size_t size)
{
	while (side->head_bytes < HEAD_BYTES && size--) {
		uint8_t byte = (uint8_t)*bytes++;

		if (side->head_bytes ? byte != VERSION_MAJOR : byte != RECORD_HANDSHAKE && byte != RECORD_ALERT) {
			pair_end(side_pair(side), OUTCOME_NOT_ENCRYPTED, "side %u: byte %u is 0x%02x", side->number, side->head_bytes, byte);
			return false;
		}
		side->head_bytes++;
	}
	return true;
}
