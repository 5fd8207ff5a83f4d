/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * decide.h: the decisions of the kernel side as pure functions over plain structs.
 *
 * Compiled by clang for BPF and by gcc for the worker (explain, live connections) and the native tests:
 * what they say is what the kernel does. No map, no helper, no clock in here.
 */
#ifndef WEFT_DECIDE_H
#define WEFT_DECIDE_H

#include "abi.h"

#undef __always_inline /* <linux/stddef.h> has one that only hints */
#define __always_inline inline __attribute__((always_inline))

/* ------------------------------------------------------------------ L4 policy */

/*
 * May a source with `identity` connect? The order of the questions is that of abi.h. `source`, `block` and
 * `port` are what the three maps say, NULL where the key is not listed. Returns ABI_NONE or the reason of the
 * refusal. ret_hit (may be NULL natively) gets the bits that decided: for `explain`.
 */
static __always_inline enum abi_reason
decide_policy(const struct abi_policy *p, const struct abi_bits *source,
	      const struct abi_bits *block, const struct abi_port *port, __u32 identity,
	      struct abi_bits *ret_hit)
{
	const struct abi_bits *any_source = source ? source : &p->any_source;
	const struct abi_bits *any_block = block ? block : &p->any_block;
	const struct abi_bits *any_port = port ? &port->bits : &p->any_port;
	__u64 deny = 0, deny_l7 = 0, allow = 0, allow_l7 = 0;

	if (p->closed)
		return ABI_NEEDS_WORKER;
	if ((port ? port->mtls : p->mtls) == ABI_MTLS_STRICT && !identity)
		return ABI_MTLS_REQUIRED;
#pragma GCC unroll 4
	for (int i = 0; i < ABI_BIT_WORDS; i++) {
		__u64 hit = any_source->word[i] & any_block->word[i] & any_port->word[i];

		if (ret_hit)
			ret_hit->word[i] = hit;
		deny |= hit & p->deny.word[i];
		deny_l7 |= hit & p->deny_l7.word[i];
		allow |= hit & p->allow.word[i];
		allow_l7 |= hit & p->allow_l7.word[i];
	}
	if (deny)
		return ABI_DENIED;
	if (deny_l7)
		return ABI_NEEDS_WORKER;
	if (!p->has_allow || allow)
		return ABI_NONE;
	return allow_l7 ? ABI_NEEDS_WORKER : ABI_NOT_ALLOWED;
}

/* ------------------------------------------------------------------ is the worker there */

enum decide_beat {
	DECIDE_BEAT_HERE,
	DECIDE_BEAT_LATE, /* who fails closed gives it decide_beat_grace() and finds it here */
	DECIDE_BEAT_GONE
};

/* What `beat` holds. */
static __always_inline enum decide_beat decide_beat(__u64 seen, __u64 now)
{
	if ((__s64)(now - seen) <= ABI_BEAT_NS)
		return DECIDE_BEAT_HERE;
	return !seen || seen & ABI_BEAT_LATE ? DECIDE_BEAT_GONE : DECIDE_BEAT_LATE;
}

/* What it holds next, if it is late. */
static __always_inline __u64 decide_beat_grace(__u64 now)
{
	return (now - ABI_BEAT_NS + ABI_BEAT_GRACE_NS) | ABI_BEAT_LATE;
}

/* ------------------------------------------------------------------ who may have one more record */

/*
 * The place in `holds` of the pod that holds a record: it opens the connection, or else, in the second half, what comes
 * to it from elsewhere, so that nobody uses up the room of what a pod opens by coming to it. Pods with numbers so far
 * apart that they share a place share its room.
 */
static __always_inline __u32 decide_place(const struct abi_conn *c)
{
	return c->client_pod ? 1 + c->client_pod % (ABI_HOLDS_ARRIVED - 1)
			     : ABI_HOLDS_ARRIVED + 1 + c->server_pod % (ABI_HOLDS_ARRIVED - 1);
}

/* Where the sum of its half is. */
static __always_inline __u32 decide_place_sum(__u32 place)
{
	return place & ABI_HOLDS_ARRIVED;
}

/*
 * While it holds fewer than are free (dynamic thresholds: Choudhury and Hahne, ToN 1998): one greedy pod gets half of
 * the map, two a third each, and there is always as much left for those that hold little. What comes from elsewhere and
 * is not the worker's (`arrived`) gets on without a record: it gets half of the map at most.
 */
static __always_inline int decide_hold(__u64 opened_all, __u64 arrived_all, __u64 held, int arrived)
{
	__s64 room = (__s64)ABI_MAX_CONNS - (__s64)opened_all, most = ABI_MAX_CONNS / 2;

	if (arrived && most < room)
		room = most;
	return (__s64)held < room - (__s64)arrived_all;
}

/* ------------------------------------------------------------------ rows that the worker replaces */

/*
 * A row that is replaced under the search can be missed: about one look in a thousand while it is, without a pause
 * (the kernel gives the old row's memory to the next one at once, and a search that stands on it runs past the new
 * one). So what has no row has none at any of several looks: pods, addresses and services, where "none" is an answer.
 */
#define ROW_LOOKS 4
#define ADDRESS_LOOKS 6 /* what has changed at each of them is not known */

struct decide_row_looks { /* at one address; zeroed before the first */
	struct abi_address said; /* by the last row that was found; ABI_KIND_NONE: none was */
	__u32 missing;
};

/*
 * The same memory may become another address's row while it is read. So what a row says counts if the row that is found
 * then says the same: each look searches, and who has the address by then has its own row. True: `said` is the answer.
 */
static __always_inline int decide_row(struct decide_row_looks *l, const struct abi_address *row)
{
	__u64 now[3], before[3];

	_Static_assert(sizeof(now) == sizeof(*row), "compared whole");
	if (!row) {
		if (++l->missing < ROW_LOOKS)
			return 0;
		__builtin_memset(&l->said, 0, sizeof(l->said));
		return 1;
	}
	__builtin_memcpy(now, row, sizeof(now));
	__asm__ volatile("" : : : "memory"); /* read once */
	__builtin_memcpy(before, &l->said, sizeof(before));
	__builtin_memcpy(&l->said, now, sizeof(now));
	return now[0] == before[0] && now[1] == before[1] && now[2] == before[2];
}

/* ------------------------------------------------------------------ capture */

struct decide_dest { /* of a connect(), after a service's endpoint was picked */
	__u8 kind;	    /* enum abi_kind of the address */
	__u8 address;	    /* ABI_ADDRESS_* */
	__u8 pod;	    /* ABI_POD_* of the source */
	__u8 service;	    /* 1: a service was asked */
	__u8 service_proxy; /* 1: with ABI_SERVICE_PROXY */
	__u8 service_routes; /* 1: with ABI_SERVICE_ROUTES: then the rest does not matter */
	__u16 port;
};

/*
 * Does the connection need the worker? ABI_NONE: no, leave it alone; ABI_TUNNELLED, ABI_PROXIED, ABI_ROUTES: yes; else
 * why it is refused. Not asked of what stays within the pod. What speaks HBONE by itself is not put into HBONE again.
 */
static __always_inline enum abi_reason decide_capture(const struct decide_dest *d)
{
	if (d->service_routes)
		return ABI_ROUTES;
	if (d->kind == ABI_KIND_LOCAL_POD || d->kind == ABI_KIND_REMOTE_POD) {
		if (d->port == ABI_PORT_OUTBOUND || d->port == ABI_PORT_INBOUND)
			return ABI_OWN_PORT;
		if (d->port == ABI_PORT_HBONE)
			return ABI_NONE;
	}
	if (d->kind == ABI_KIND_NONE && d->pod & ABI_POD_REGISTRY_ONLY && !d->service)
		return ABI_EGRESS;
	if (d->kind == ABI_KIND_REMOTE_POD && d->address & ABI_ADDRESS_MESH && !(d->pod & ABI_POD_PLAIN))
		return ABI_TUNNELLED;
	if (d->service_proxy || (d->kind == ABI_KIND_LOCAL_POD && d->address & ABI_ADDRESS_PROXY))
		return ABI_PROXIED;
	return ABI_NONE;
}

/* How a connection that the worker has a hand in travels. */
static __always_inline enum abi_path decide_path(enum abi_reason why)
{
	return why == ABI_PROXIED || why == ABI_ROUTES ? ABI_PATH_PROXY : ABI_PATH_TUNNEL;
}

/* ------------------------------------------------------------------ endpoints */

/* An index below count, evenly, from 32 random bits (Lemire 2019; bias < count / 2^32). */
static __always_inline __u32 decide_index(__u32 random, __u32 count)
{
	return (__u32)(((__u64)random * count) >> 32);
}

/* The alias method's second half: stay with this entry or take its alias? */
static __always_inline __u32 decide_alias(const struct abi_endpoint *e, __u32 index, __u32 random)
{
	return random <= e->share ? index : e->alias;
}

/* Is it longer than that since a client used its endpoint? Another CPU may have done so after our look at the clock. */
static __always_inline int decide_lapsed(__u64 used_ns, __u64 now, __u32 seconds)
{
	return (__s64)(now - used_ns) > (__s64)(seconds * 1000000000ull);
}

/* ------------------------------------------------------------------ who may enter the splice */

struct decide_enter {
	__u8 splice_off;     /* settings */
	__u8 kernel_safe;    /* settings */
	__u8 reader_seen;    /* settings */
	__u8 client_splice;  /* enum abi_splice of the client's pod */
	__u8 server_splice;
	__u8 service_splice;
	__u8 count_fault;    /* settings */
	__u8 readers;	     /* ABI_READS_BY_* of both pods */
};

/* Somebody who may say so wants it spliced, come what may. */
static __always_inline int decide_always(const struct decide_enter *in)
{
	return in->client_splice == ABI_SPLICE_ALWAYS || in->server_splice == ABI_SPLICE_ALWAYS ||
	       in->service_splice == ABI_SPLICE_ALWAYS;
}

/* ABI_NONE: the rules let it enter; else why not. Off wins over always, always over auto. */
static __always_inline enum abi_reason decide_enter(const struct decide_enter *in)
{
	if (in->splice_off)
		return ABI_SWITCHED_OFF;
	if (in->client_splice == ABI_SPLICE_OFF || in->server_splice == ABI_SPLICE_OFF)
		return ABI_POD_OFF;
	if (in->service_splice == ABI_SPLICE_OFF)
		return ABI_SERVICE_OFF;
	if (decide_always(in))
		return ABI_NONE;
	if (!in->kernel_safe)
		return ABI_KERNEL_UNSAFE;
	if (!in->reader_seen)
		return ABI_READER_UNSEEN;
	if (in->readers & ABI_READS_BY_SPLICE)
		return ABI_READER_SPLICES;
	if (in->readers & ABI_READS_BY_COUNT && in->count_fault)
		return ABI_READER_COUNTS;
	return ABI_NONE;
}

/* ------------------------------------------------------------------ what does it carry? */

struct decide_way { /* what TCP carried one way since the last judgement */
	__u64 bytes; /* in these segments */
	__u32 segs;  /* with data */
	__u32 mss;   /* bytes of a full one */
};

struct decide_traffic {
	struct decide_way way[2]; /* by the end that sent, enum abi_end */
	__u8 nodelay;		  /* TCP_NODELAY of the end that sends most */
};

enum decide_kind {
	DECIDE_WAIT = 0,   /* too little to tell */
	DECIDE_TALK = 1,   /* one speaks, the other answers, in turns that a splice carries better */
	DECIDE_STREAM = 2, /* one way, in small writes that TCP does not coalesce */
	DECIDE_BULK = 3,
};

#define DECIDE_TURNS 8
#define DECIDE_STREAM_SEGS 64
#define DECIDE_STREAM_MSS 4096u /* a full segment of loopback has 64 KB: what is short of that need not be small */
#define DECIDE_BULK_BYTES (1u << 20)

/*
 * How often did this end speak? Never more often than it sent segments. Each time it speaks the last segment is as
 * full as chance has it, half on the average, and the others are full: so what the segments lack of being full, twice,
 * says how often. 725 segments of a megabyte lack less than one: they are one turn.
 */
static __always_inline __u64 decide_turns(const struct decide_way *w)
{
	__u64 room = (__u64)w->segs * w->mss, turns;

	if (!w->mss || room <= w->bytes)
		return 0;
	turns = 2 * (room - w->bytes) / w->mss;
	return turns < w->segs ? turns : w->segs;
}

/*
 * Whoever is answered speaks as often as whoever answers, so the smaller count is the turns, and bytes / turns says how
 * long a turn is. A stream of small writes is known by its short segments: where TCP could fill them, it
 * carries the stream well; and tiny writes that Nagle may gather are better off with him.
 */
static __always_inline enum decide_kind decide_kind(const struct decide_traffic *t, __u32 turn_bytes)
{
	const struct decide_way *client = &t->way[ABI_CLIENT], *server = &t->way[ABI_SERVER];
	__u64 asked = decide_turns(client), answered = decide_turns(server);
	__u64 turns = asked < answered ? asked : answered, bytes = client->bytes + server->bytes;
	__u64 segs = (__u64)client->segs + server->segs;
	__u64 full = client->mss < DECIDE_STREAM_MSS ? client->mss : DECIDE_STREAM_MSS;

	if (turns >= DECIDE_TURNS && bytes <= turns * turn_bytes)
		return DECIDE_TALK;
	if (t->nodelay && segs >= DECIDE_STREAM_SEGS && bytes * 4 <= segs * full * 3)
		return DECIDE_STREAM;
	return bytes >= DECIDE_BULK_BYTES ? DECIDE_BULK : DECIDE_WAIT;
}

#define DECIDE_AGAIN_NS 1000000000ull /* the first time; doubled with each */
#define DECIDE_AGAIN_MOST 6

/* How long a connection that has left the splice `left` times stays out. */
static __always_inline __u64 decide_again(__u32 left)
{
	return DECIDE_AGAIN_NS << (left < DECIDE_AGAIN_MOST ? left : DECIDE_AGAIN_MOST);
}

/*
 * A young connection is looked at often, so that it enters soon. Not if what keeps it out is seldom over within a
 * second: each look wakes the supervisor beside an app that is busy.
 */
static __always_inline int decide_stays(enum abi_reason why)
{
	return why == ABI_BULK || why == ABI_KERNEL_UNSAFE || why == ABI_READER_UNSEEN || why == ABI_READER_SPLICES ||
	       why == ABI_READER_COUNTS;
}

/* ------------------------------------------------------------------ splice: one message */

/*
 * Conversations are spliced, bulk is TCP's. A direction redirects while
 *	order	nothing of it is under way in TCP: a redirect would overtake it (`drained`), and
 *	grant	what went since the reader's queue was last seen empty is below a limit.
 * The grant is renewed when the queue is seen empty and the peer has spoken since (a turn), and for messages up to
 * small_bytes even if it has not: a one-way stream of small writes, which TCP carries worse; it gets stream_bytes,
 * because a fall back to TCP lasts until the reader has caught up.
 * Where the grant ends while something still waits for the reader, redirects go on up to a hard limit, so that TCP
 * brings nothing behind bytes that a reader by splice(2), if it became one now, would not see. What waits for a
 * reader is stream_bytes and grant_msgs at most, whatever it does.
 * To look costs as much as the rest of the program, so it is done once in DECIDE_LOOK_EVERY messages, and when
 * the grant would end.
 */
#define DECIDE_LOOK_EVERY 32 /* power of two */

/* The limits of struct abi_settings as weftd sets them, as an initializer. */
#define DECIDE_LIMITS                                                                              \
	.turn_bytes = 131072, .grant_msgs = 900, .small_bytes = 4096, .stream_bytes = 917504,              \
	.bulk_bytes = 1 << 20, .refresh_s = 60,                                                    \
	.leave_ns = 500000000 /* above the time that a CPU quota may hold a sender inside sendmsg */

enum decide_look { /* what the program has to find out before decide_message */
	DECIDE_LOOK_NOT = 0,
	DECIDE_LOOK_QUEUE = 1, /* is the reader's splice queue empty? */
	DECIDE_LOOK_ORDER = 2, /* has the reader consumed all that went by TCP? (implies an empty queue) */
};

static __always_inline int decide_below(const struct abi_flow *me, const struct abi_settings *set, __u32 size,
					__u32 limit)
{
	return size <= limit && me->turn_bytes <= limit - size && me->turn_msgs < set->grant_msgs;
}

static __always_inline int decide_granted(const struct abi_flow *me, const struct abi_settings *set,
					  __u32 size)
{
	return decide_below(me, set, size, size <= set->small_bytes ? set->stream_bytes : set->turn_bytes);
}

/* The hard limit, of bytes and of messages. */
static __always_inline int decide_room(const struct abi_flow *me, const struct abi_settings *set, __u32 size)
{
	return decide_below(me, set, size, set->stream_bytes);
}

static __always_inline enum decide_look decide_look(const struct abi_flow *me,
						    const struct abi_settings *set, __u32 size)
{
	if (me->by_tcp)
		return DECIDE_LOOK_ORDER;
	if (!decide_granted(me, set, size) ||
	    (me->turn_msgs & (DECIDE_LOOK_EVERY - 1)) == DECIDE_LOOK_EVERY - 1)
		return DECIDE_LOOK_QUEUE;
	return DECIDE_LOOK_NOT;
}

/*
 * `free` answers what decide_look asked (1 yes; ignored for LOOK_NOT); `heard` = messages of the peer so far.
 * Renews the grant; returns 1 to redirect, 0 to leave the message to TCP. The caller accounts what then happened.
 */
static __always_inline int decide_message(struct abi_flow *me, const struct abi_settings *set,
					  __u32 heard, __u32 size, enum decide_look look, int free)
{
	if (look != DECIDE_LOOK_NOT) {
		if (me->turn_bytes > me->queue_bytes)
			me->queue_bytes = me->turn_bytes;
		if (me->turn_msgs > me->queue_msgs)
			me->queue_msgs = me->turn_msgs;
	}
	if (look == DECIDE_LOOK_ORDER && !free)
		return 0;
	if (look != DECIDE_LOOK_NOT && free &&
	    (heard != me->granted || !me->said || size <= set->small_bytes)) {
		me->granted = heard;
		me->turn_bytes = 0;
		me->turn_msgs = 0;
	}
	return decide_granted(me, set, size) || (look == DECIDE_LOOK_QUEUE && !free && decide_room(me, set, size));
}

/* ------------------------------------------------------------------ accounts */

/* What a stay in `splices` counted is added to the record of its connection. */
static __always_inline void decide_add(struct abi_conn *c, const struct abi_pair *p)
{
	for (int i = 0; i < 2; i++) {
		const struct abi_flow *f = &p->end[i];
		struct abi_local *to = &c->end[i];

		to->spliced_bytes += f->spliced_bytes;
		to->spliced_msgs += f->spliced_msgs;
		to->switches += f->switches;
		if (to->queue_bytes < f->queue_bytes)
			to->queue_bytes = f->queue_bytes;
		if (to->queue_msgs < f->queue_msgs)
			to->queue_msgs = f->queue_msgs;
	}
	c->stage = ABI_STAGE_OUT;
}

#endif
