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
#define SMALL_BYTES 1024
#define SMALL_ROOM 4096 /* more than a small packet costs in a send queue */
#define SPARE_MOST 15
/* Of TCP, as TCP_INFO numbers them. */
#define STATE_CLOSE 7
#define STATE_CLOSE_WAIT 8
#define STATE_CLOSING 11

/* Sizes are set by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} gate_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gate_bucket);
} gate_buckets SEC(".maps");

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

const volatile struct gate_constants gate_constants;
#ifdef GATE_FAULTS
#define gate_knobs gate_constants.faults
__u64 gate_announced, gate_packets;
#endif

/* The index of the socket with this cookie, or -1. */
static __always_inline __s64 find_index(__u64 cookie)
{
	__u32 number = (__u32)cookie & gate_constants.bucket_mask;
	struct gate_bucket *bucket = bpf_map_lookup_elem(&gate_buckets, &number);

	for (int i = 0; bucket && i < GATE_BUCKET_ENTRIES; i++) {
		__u64 entry = *(volatile __u64 *)&bucket->entries[i];

		if (entry >> 32 == (__u32)cookie && (__u32)entry)
			return (__u32)entry - 1;
	}
	return -1;
}

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
	__s32 room = (__s32)direction->memory - sk->sk_wmem_queued;

	direction->seen_acked = acked;
	direction->spare = 0;
	if ((__s64)(end - acked) > (__s64)direction->credit)
		return GATE_CREDIT;
	/* Real memory: one-byte segments cost hundreds. */
	if (room < 0)
		return GATE_MEMORY;
	/* Packets on the target's psock queue, which nothing accounts for: at most
	 * those that were taken since the older checkpoint. */
	if ((__s64)(in_tcp - end) >= 0) { /* the queue is empty */
		direction->old_packets = direction->mark_packets = packets;
		direction->mark = direction->redirected;
		room /= SMALL_ROOM;
		direction->spare = room < SPARE_MOST ? room : SPARE_MOST; /* below the least of max_packets */
	} else if ((__s64)(in_tcp - base - direction->mark) >= 0) { /* all before the younger one has left it */
		direction->old_packets = direction->mark_packets;
		direction->mark_packets = packets;
		direction->mark = direction->redirected;
	}
	return packets - direction->old_packets > direction->max_packets ? GATE_PILE : -1;
}

/* May a small packet follow without another look at the target, whose lines other processors write? Its psock
 * queue was empty at the last look, memory had room for so many, and credit counts from what was acknowledged
 * then. */
static __always_inline int is_spared(struct gate_direction *direction, const struct __sk_buff *skb, __u64 length)
{
	if (!direction->spare || length > SMALL_BYTES || skb->gso_segs > 1 ||
	    (__s64)(direction->redirected + direction->base - direction->seen_acked) > (__s64)direction->credit)
		return 0;
	direction->spare--;
	return 1;
}

/* Was this packet the last of many small ones in a short time, while nothing came the other way? Each costs
 * the kernel's worker a round of its own, and the daemon moves many with one call. Asked for every
 * GATE_SMALL_PACKETS-th packet. */
static __always_inline int is_small_stream(struct gate_direction *direction, __u32 target_index)
{
	struct gate_direction *other = bpf_map_lookup_elem(&gate_directions, &target_index);
	__u32 now = GATE_TICKS(bpf_ktime_get_ns()), seq = direction->next_seq;
	__u32 other_seq = other ? other->next_seq : 0;
	int is_small = now - direction->small_at < direction->small_most &&
		       seq - direction->small_seq <= GATE_SMALL_PACKETS * GATE_SMALL_BYTES &&
		       other_seq == direction->small_other;

	direction->small_at = now;
	direction->small_seq = seq;
	direction->small_other = other_seq;
	direction->small_found += is_small;
	return is_small;
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
	__u32 index, target_index;
	__u64 length, word;
	struct bpf_sock *target;
	int closing = GATE_FAILED, is_small;
	__s64 found;
	__u32 seq;
	__s32 old;

	if (!skb->len)
		return SK_DROP; /* FIN: redirected, it would end the target's other direction */
	/* TCP_SKB_CB(skb)->seq. Read once: clang may merge two reads into one that the verifier refuses. */
	seq = *(volatile __u32 *)&skb->cb[0];
	found = find_index(bpf_get_socket_cookie(skb));
	if (found < 0)
		return SK_PASS; /* uncounted: the daemon reads more than was handed up, and resets */
	index = (__u32)found;
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
	if (gate_knobs.break_packet_every &&
	    __sync_add_and_fetch(&gate_packets, 1) % gate_knobs.break_packet_every == 0)
		return break_direction(direction, index);
	if (length <= gate_knobs.bare_bytes && !(*(volatile __u64 *)&direction->gate & GATE_CLOSED) &&
	    bpf_sk_redirect_map(skb, &gate_sockets, target_index, 0) == SK_PASS) {
		direction->redirected += length;
		return SK_PASS;
	}
#endif

	/* Counted with the gate closed too: the daemon sees how it goes on. */
	is_small = ++direction->calls % GATE_SMALL_PACKETS == 0 && is_small_stream(direction, target_index);
	word = *(volatile __u64 *)&direction->gate;
	if (word & GATE_CLOSED)
		note_handed_up(direction, skb, GATE_HANDED_UP(word) + length);
	if ((word & GATE_CLOSED) && __sync_val_compare_and_swap(&direction->gate, word, word + 2 * length) == word)
		return SK_PASS;
	/* Open, or opened by the daemon this moment; only this program can close it. */
	if (is_small) {
		closing = GATE_SMALL;
	} else if (is_spared(direction, skb, length)) {
		closing = -1;
	} else if ((target = bpf_map_lookup_elem(&gate_sockets, &target_index))) {
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
	direction->spare = 0;
	direction->closings[closing & (GATE_CLOSINGS_ROOM - 1)]++;
	note_handed_up(direction, skb, GATE_HANDED_UP(direction->gate) + length);
	__sync_fetch_and_add(&direction->gate, GATE_CLOSED + 2 * length);
	announce(direction, index);
	return SK_PASS;
}

/* Sockets whose gates stay open are not polled, so that a packet wakes nobody at all. What
 * their peers do to them otherwise is learned here: FIN, reset, and the kernel giving up. */
SEC("tp_btf/inet_sock_set_state")
int gate_ending(__u64 *context)
{
	const struct sock *sk = (const struct sock *)context[0];
	struct gate_direction *direction;
	int state = (int)context[2];
	__u64 cookie;
	__s64 found;
	__u32 index;

	if (state != STATE_CLOSE && state != STATE_CLOSE_WAIT && state != STATE_CLOSING)
		return 0;
	cookie = (__u64)sk->__sk_common.skc_cookie.counter;
	found = cookie ? find_index(cookie) : -1;
	if (found < 0)
		return 0;
	index = (__u32)found;
	direction = bpf_map_lookup_elem(&gate_directions, &index);
	if (!direction || *(volatile __u64 *)&direction->cookie != cookie)
		return 0; /* any socket of this machine, whose cookie has the same low half */
	/* Counted first: the daemon says that it rests first, and then looks at the count. */
	__sync_fetch_and_add(&direction->endings, 1);
	if (*(volatile __u32 *)&direction->rests)
		announce(direction, index);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
