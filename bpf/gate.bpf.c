// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The credit gate: a verdict program that redirects the bytes of a socket to the
 * other socket of its pair, as long as the target takes them.
 *
 * The kernel runs it for each packet of a source socket, one at a time per
 * socket. A packet is redirected (gate open), handed up to the socket's own queue
 * for the daemon to move (gate closed), or dropped (FIN, bytes already taken, and
 * everything behind a packet that cannot be placed). What closes the gate, what
 * opens it, and what the daemon does in between is told in gate.h and in
 * userspace/relay/gate.c. Nothing here ever drops a byte that the receiver needs:
 * every failure hands the packet up. */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "gate.h"

#define TRIM_STEP_BYTES 4095 /* most that bpf_skb_adjust_room takes at once */
#define TRIM_STEPS 320       /* 1.3 MB: more than a packet of 17 fragments */
#define RING_BYTES_LEAST 4096

/* Sizes are set by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} gate_sockets SEC(".maps");

struct { /* from a socket's cookie to its index */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__type(key, __u64);
	__type(value, __u32);
} gate_indices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct gate_direction);
} gate_directions SEC(".maps");

struct gate_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES_LEAST);
};

struct { /* one per worker */
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct gate_ring);
} gate_rings SEC(".maps");

#ifdef GATE_FAULTS
const volatile struct gate_faults gate_knobs;
__u64 gate_announced, gate_packets;
#endif

static __always_inline void announce(struct gate_direction *direction, __u32 index)
{
	__u32 worker = direction->worker;
	struct gate_record *record = 0;
	void *ring;

#ifdef GATE_FAULTS
	if (gate_knobs.lose_record_every &&
	    __sync_fetch_and_add(&gate_announced, 1) % gate_knobs.lose_record_every == 0) {
		direction->unannounced++;
		return;
	}
#endif
	ring = bpf_map_lookup_elem(&gate_rings, &worker);
	if (ring)
		record = bpf_ringbuf_reserve(ring, sizeof *record, 0);
	if (!record) {
		direction->unannounced++; /* the daemon's sweep finds it */
		return;
	}
	record->index = index;
	record->generation = direction->generation;
	bpf_ringbuf_submit(record, 0);
}

/* A packet cannot be placed: nothing passes any more, the daemon resets both sides. */
static __always_inline int break_direction(struct gate_direction *direction, __u32 index)
{
	direction->breaks++;
	__sync_fetch_and_or(&direction->gate, GATE_BROKEN | GATE_CLOSED);
	announce(direction, index);
	return SK_DROP;
}

/* The rule that closes the gate for the next packet, or -1: redirect it. */
static __always_inline int find_closing(struct gate_direction *direction, struct tcp_sock *target)
{
	struct sock *sk = &target->inet_conn.icsk_inet.sk;
	__u64 acked = target->bytes_acked;
	/* Where the target's TCP stream ends, its queue included. */
	__u64 in_tcp = acked + (__u32)(target->write_seq - target->snd_una);
	__u64 base = direction->base;
	__u64 end = direction->redirected + base;
	__u32 packets = direction->packets;

	if ((__s64)(end - acked) > (__s64)direction->credit)
		return GATE_CREDIT;
	/* Real memory: one-byte segments cost hundreds. */
	if (sk->sk_wmem_queued > sk->sk_sndbuf >> 2)
		return GATE_MEMORY;
	/* Packets on the target's psock queue, which nothing accounts for: at most
	 * those that were taken since the older checkpoint. */
	if ((__s64)(in_tcp - end) >= 0) { /* the queue is empty */
		direction->old_packets = direction->mark_packets = packets;
		direction->mark = direction->redirected;
	} else if ((__s64)(in_tcp - base - direction->mark) >= 0) { /* all before the younger one has left it */
		direction->old_packets = direction->mark_packets;
		direction->mark_packets = packets;
		direction->mark = direction->redirected;
	}
	return packets - direction->old_packets > direction->max_packets ? GATE_PILE : -1;
}

/* Notes what the daemon's hold wants to know of a packet that is handed up: its last
 * bytes, which it writes before it reads them, and whether the sender can go on. */
static __always_inline void note_handed_up(struct gate_direction *direction, struct __sk_buff *skb, __u64 handed_up)
{
	struct bpf_sock *source = skb->sk;
	struct tcp_sock *tcp = source ? bpf_skc_to_tcp_sock(source) : 0;
	__u32 length = skb->len;

	direction->window_left = -1;
	/* Exchanges, because they are barriers: who sees a byte of a new tail sees that it is not yet whole. */
	__sync_lock_test_and_set(&direction->tail_at, -1ull);
	if (!tcp || length < GATE_TAIL_BYTES ||
	    bpf_skb_load_bytes(skb, length - GATE_TAIL_BYTES, direction->tail, GATE_TAIL_BYTES))
		return;
	direction->unacked = tcp->rcv_nxt - tcp->rcv_wup;
	direction->window_left = tcp->rcv_wup + tcp->rcv_wnd - tcp->rcv_nxt;
	__sync_lock_test_and_set(&direction->tail_at, handed_up);
}

SEC("sk_skb/stream_verdict")
int gate_verdict(struct __sk_buff *skb)
{
	struct gate_direction *direction;
	__u32 index, target_index, *found;
	__u64 cookie, length, word;
	struct bpf_sock *target;
	int closing = GATE_FAILED;
	__u32 seq;
	__s32 old;

	if (!skb->len)
		return SK_DROP; /* FIN: redirected, it would end the target's other direction */
	/* TCP_SKB_CB(skb)->seq. Read once: clang may merge two reads into one that the verifier refuses. */
	seq = *(volatile __u32 *)&skb->cb[0];
	cookie = bpf_get_socket_cookie(skb);
	found = bpf_map_lookup_elem(&gate_indices, &cookie);
	if (!found)
		return SK_PASS; /* uncounted: the daemon reads more than was handed up, and resets */
	index = *found;
	target_index = index ^ 1;
	direction = bpf_map_lookup_elem(&gate_directions, &index);
	if (!direction)
		return SK_PASS;
	if (*(volatile __u64 *)&direction->gate & GATE_BROKEN)
		return SK_DROP;

	if (!direction->seq_known) {
		/* A packet of which a part was read before the insertion comes with its head again. */
		struct bpf_sock *source = skb->sk;
		struct tcp_sock *tcp = source ? bpf_skc_to_tcp_sock(source) : 0;

		if (!tcp)
			return break_direction(direction, index);
		direction->next_seq = tcp->copied_seq;
		direction->seq_known = 1;
	}
	old = direction->next_seq - seq;
	if (old < 0)
		return break_direction(direction, index); /* a gap */
	if (old > 0) {
		direction->trims++;
#ifdef GATE_FAULTS
		if (gate_knobs.no_trim && direction->redirected + GATE_HANDED_UP(direction->gate)) {
			direction->next_seq -= old;
			old = 0;
		}
#endif
		for (int step = 0; step < TRIM_STEPS && old > 0; step++) {
			__s32 part = skb->len;

			if (part > old)
				part = old;
			if (part > TRIM_STEP_BYTES)
				part = TRIM_STEP_BYTES;
			if (bpf_skb_adjust_room(skb, -part, 0, 0))
				return break_direction(direction, index);
			if (!skb->len) { /* wholly old; emptied, so that dropping it leaves copied_seq alone */
				direction->olds++;
				return SK_DROP;
			}
			old -= part;
		}
		if (old > 0)
			return break_direction(direction, index);
	}
	length = skb->len;
	direction->next_seq += length;
#ifdef GATE_FAULTS
	if (gate_knobs.lose_packet_every &&
	    __sync_add_and_fetch(&gate_packets, 1) % gate_knobs.lose_packet_every == 0)
		return SK_DROP;
#endif

	word = *(volatile __u64 *)&direction->gate;
	if (word & GATE_CLOSED)
		note_handed_up(direction, skb, GATE_HANDED_UP(word) + length);
	if ((word & GATE_CLOSED) && __sync_val_compare_and_swap(&direction->gate, word, word + 2 * length) == word)
		return SK_PASS;
	/* Open, or opened by the daemon this moment; only this program can close it. */
	target = bpf_map_lookup_elem(&gate_sockets, &target_index);
	if (target) {
		struct tcp_sock *tcp = bpf_skc_to_tcp_sock(target);

		if (tcp)
			closing = find_closing(direction, tcp);
		bpf_sk_release(target);
	}
	if (closing < 0) {
		if (bpf_sk_redirect_map(skb, &gate_sockets, target_index, 0) == SK_PASS) {
			direction->redirected += length;
			/* GRO joins tiny segments, but not their buffers. */
			direction->packets += skb->gso_segs > 1 ? skb->gso_segs : 1;
			return SK_PASS;
		}
		closing = GATE_FAILED;
	}
	direction->closings[closing & (GATE_CLOSINGS - 1)]++;
	note_handed_up(direction, skb, GATE_HANDED_UP(direction->gate) + length);
	__sync_fetch_and_add(&direction->gate, GATE_CLOSED + 2 * length);
	announce(direction, index);
	return SK_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
