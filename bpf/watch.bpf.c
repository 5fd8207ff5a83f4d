// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * watch.bpf.c: iter/bpf_sk_storage_map over `socks`, run by the supervisor every few dozen milliseconds while there is
 * something to watch: which connections enter the splice, which leave it, which must end.
 *
 * A connection is found by the abi_sock of its watcher, which life.bpf.c makes when an end has sent its second segment.
 *
 *	OUT		carried by TCP. If both ends are here, the rules and the sockets allow it, and what TCP has
 *			carried since the last look is a conversation, it gets a pair.
 *	ENTERING	each of its two sockets is put into `splices` by weft_enter, run by the supervisor. Nothing is
 *			redirected yet.
 *	IN		redirected, message by message (splice.bpf.c). Judged again at each pass: an option, a reader by
 *			splice(2), an annotation, a blocking read take it out.
 *	leaving		nothing is redirected any more. When the last redirect has been delivered and both queues are
 *			empty, the entries go; deleted earlier, what a reader has not read would be lost with them.
 *
 * Only one pass runs at a time, so nobody but this program gives out pairs and moves the stage. A pass that is the
 * last one for a while (the supervisor died) leaves everything as it is: no entry, no leave, redirects as before.
 */
#include "bytes.bpf.h"
#include "pair.bpf.h"
#include "sock.bpf.h"

#define PAIR_TRIES 32
#define PAIR_QUIET_NS 2000000000ull   /* a pair that was given back is not given out again earlier: a late sk_msg */
#define YOUNG_NS 2000000000ull	      /* looked at often until then */
#define ENTERING_NS 5000000000ull     /* a socket that cannot be entered for so long: give up */
#define SECOND_NS 1000000000ull

struct look { /* one connection, as a pass sees it from the socket of its watcher */
	struct abi_conn *c;
	struct abi_sock *s;
	struct abi_watch *w;
	const struct abi_caught *caught;
	const struct abi_settings *set;
	const struct sock *client, *server;
	__u64 now;
	__u8 always;
};

/* ------------------------------------------------------------------ may it? */

static __always_inline __u8 pod_splice(__u64 netns)
{
	const struct abi_pod *p = bpf_map_lookup_elem(&pods, &netns);

	return p && p->netns == netns ? p->splice : ABI_SPLICE_AUTO;
}

/* What operator, kernel and programs say about this connection, now. */
static __always_inline enum abi_reason look_rules(struct look *l)
{
	const struct abi_conn *c = l->c;
	struct decide_enter in = {
		.splice_off = l->set->splice_off,
		.kernel_safe = l->set->kernel_safe,
		.reader_seen = l->set->reader_seen,
		.client_splice = pod_splice(c->client_netns),
		.server_splice = pod_splice(c->server_netns),
		.service_splice = c->splice,
		.count_fault = l->set->count_fault,
		.readers = reader_how(c->client_netns) | reader_how(c->server_netns),
	};

	l->always = decide_always(&in);
	return decide_enter(&in);
}

/* What the sockets say, now. */
static __always_inline enum abi_reason look_sockets(const struct look *l)
{
	const struct file *client = sock_file(l->client), *server = sock_file(l->server);
	enum abi_reason why;

	if (!client || !server)
		return ABI_UNACCEPTED;
	if (mappings_there(file_mappings(client)) || mappings_there(file_mappings(server)))
		return ABI_SOCKET_OPTION;
	why = sock_eligible(l->client);
	if (!why)
		why = sock_eligible(l->server);
	if (!why && !l->always && (file_blocks(client) || file_blocks(server)))
		why = ABI_BLOCKING;
	return why;
}

/* ------------------------------------------------------------------ what does it carry? */

/* Of one end: what it has sent by TCP, both counted for each segment as it goes out. */
static __always_inline struct decide_way sent_by(const struct sock *sk, const struct abi_sent *mark)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;
	struct decide_way w = {};

	bpf_core_read(&w.segs, sizeof(w.segs), &tp->data_segs_out);
	bpf_core_read(&w.bytes, sizeof(w.bytes), &tp->bytes_sent);
	bpf_core_read(&w.mss, sizeof(w.mss), &tp->mss_cache);
	w.segs -= mark->segs;
	w.bytes -= mark->bytes;
	return w;
}

static __always_inline void sent_mark(const struct sock *sk, struct abi_sent *mark)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;

	bpf_core_read(&mark->segs, sizeof(mark->segs), &tp->data_segs_out);
	bpf_core_read(&mark->bytes, sizeof(mark->bytes), &tp->bytes_sent);
}

static __always_inline void look_mark(const struct look *l)
{
	sent_mark(l->client, &l->s->mark[ABI_CLIENT]);
	sent_mark(l->server, &l->s->mark[ABI_SERVER]);
}

static __always_inline enum decide_kind look_kind(const struct look *l)
{
	struct decide_traffic t = {
		.way = {sent_by(l->client, &l->s->mark[ABI_CLIENT]), sent_by(l->server, &l->s->mark[ABI_SERVER])},
	};

	if (!t.way[ABI_CLIENT].segs && !t.way[ABI_SERVER].segs)
		return DECIDE_WAIT;
	t.nodelay = sock_nodelay(t.way[ABI_SERVER].segs > t.way[ABI_CLIENT].segs ? l->server : l->client);
	return decide_kind(&t, l->set->turn_bytes);
}

/* ------------------------------------------------------------------ the pair */

/* For people: how it is carried, and why. Of one through the worker this is but a hop of its way. */
static __always_inline void conn_carried(struct abi_conn *c, enum abi_path path, enum abi_reason why)
{
	if (c->flags) {
		c->hop = why;
		return;
	}
	c->path = path;
	c->reason = why;
}

/* Likewise; how often a reason was given is counted when it changes. */
static __always_inline void conn_reason(struct abi_conn *c, enum abi_path path, enum abi_reason why)
{
	__u8 was = c->flags ? c->hop : c->reason;

	conn_carried(c, path, why);
	if (was != why)
		reason_count(why);
}

static __always_inline void flow_begin(struct abi_flow *f, const struct abi_local *end, int always)
{
	const struct sock *sk = (const struct sock *)end->sock;

	__builtin_memset(f, 0, sizeof(*f));
	f->cookie = end->cookie;
	f->sock = end->sock;
	if (!always) {
		f->file = (__u64)sock_file(sk);
		f->mapped = file_mappings((const struct file *)f->file);
	}
	f->read_at = sock_read_at(sk);
	f->by_tcp = 1;
}

static __always_inline struct abi_pair *pair_find(struct look *l)
{
	for (__u32 i = 0; i < PAIR_TRIES; i++) {
		__u32 slot = (l->c->conn + i * 97) & (ABI_MAX_PAIRS - 1);
		struct abi_pair *p = bpf_map_lookup_elem(&pairs, &slot);

		if (p && !p->conn && l->now - p->leaving_ns > PAIR_QUIET_NS) {
			l->c->slot = slot;
			return p;
		}
	}
	return NULL;
}

static __always_inline enum abi_reason pair_begin(struct look *l)
{
	struct abi_pair *p = pair_find(l);

	if (!p)
		return ABI_MAP_FULL;
	flow_begin(&p->end[ABI_CLIENT], &l->c->end[ABI_CLIENT], l->always);
	flow_begin(&p->end[ABI_SERVER], &l->c->end[ABI_SERVER], l->always);
	p->caught = l->caught->caught;
	p->always = l->always;
	p->netns[ABI_CLIENT] = l->c->client_netns;
	p->netns[ABI_SERVER] = l->c->server_netns;
	p->regs = (__u64)bpf_task_pt_regs(bpf_get_current_task_btf());
	p->regs -= (__u64)bpf_get_current_task_btf()->stack;
	p->leaving = 0;
	p->leaving_ns = 0;
	p->fresh_ns = l->now;
	p->conn = l->c->conn;
	l->c->stage = ABI_STAGE_ENTERING;
	return ABI_NONE;
}

/* Both entries go, and the pair. */
static __always_inline void pair_end(struct look *l, struct abi_pair *p)
{
	struct abi_conn *c = l->c;

	for (int i = 0; i < 2; i++) {
		__u64 key = p->end[i].cookie;

		if (p->end[i].in_map)
			bpf_map_delete_elem(&splices, &key);
	}
	conn_carried(c, ABI_PATH_TCP, p->leaving);
	c->again_ns = l->now + decide_again(c->left);
	if (c->left < 255)
		c->left++;
	pair_give(p, c);
	l->s->flags &= ~ABI_SOCK_IN_MAP;
	look_mark(l);
}

/* ------------------------------------------------------------------ the stages */

/* ABI_NONE: it has got a pair; ABI_WATCHED: not enough has been said to judge it */
static __always_inline enum abi_reason look_begin(struct look *l)
{
	enum abi_reason why = look_rules(l);

	if (!why && !l->always) {
		switch (look_kind(l)) {
		case DECIDE_WAIT:
			return ABI_WATCHED;
		case DECIDE_BULK:
			look_mark(l);
			why = ABI_BULK;
			break;
		default:
			break;
		}
	}
	if (!why)
		why = look_sockets(l);
	if (!why && (sock_owned(l->client) || sock_owned(l->server)))
		why = ABI_FOREIGN_OWNER;
	return why ? why : pair_begin(l);
}

static __always_inline void look_out(struct look *l)
{
	enum abi_reason why = ABI_WATCHED;
	struct abi_conn *c = l->c;
	int waits = l->now < c->again_ns;

	if (!waits)
		why = look_begin(l);
	if (!waits && l->now - c->established_ns < YOUNG_NS && !decide_stays(why))
		l->w->young++;
	else
		l->w->pending++;
	if (why && why != ABI_WATCHED)
		conn_reason(c, ABI_PATH_TCP, why);
}

/* Of the supervisor, see abi_errand. */
static __always_inline void errand(struct look *l, struct seq_file *seq, enum abi_reason why, __u32 end)
{
	const struct sock *sk = end == ABI_CLIENT ? l->client : l->server;
	const struct abi_conn *c = l->c;
	struct abi_errand e = {};

	e.tuple = l->s->tuple;
	e.reason = why;
	e.end = end;
	e.conn = c->conn;
	e.slot = c->slot;
	bpf_core_read(&e.device, sizeof(e.device), &sk->__sk_common.skc_bound_dev_if);
	e.netns[ABI_CLIENT] = c->client_netns;
	e.netns[ABI_SERVER] = c->server_netns;
	e.cookie[ABI_CLIENT] = c->end[ABI_CLIENT].cookie;
	e.cookie[ABI_SERVER] = c->end[ABI_SERVER].cookie;
	bpf_seq_write(seq, &e, sizeof(e));
}

/* Did this end's program look at its socket in a way that shows it less than has arrived? */
static __always_inline int flow_misread(const struct abi_flow *f, __u64 netns, enum abi_reason why)
{
	__u64 key = f->cookie;

	if (why == ABI_READER_COUNTS)
		return bpf_map_lookup_elem(&misled, &key) != NULL;
	return reader_how(netns) & ABI_READS_BY_SPLICE && !flow_quiet(f);
}

/*
 * What a program reads by splice(2) it takes from TCP alone: bytes that wait in its splice queue would be overtaken or
 * never seen. One that was told by FIONREAD that nothing has come, though TCP had brought something, may wait for ever.
 * Such a connection ends, at once.
 */
static __always_inline void look_misread(struct look *l, const struct abi_pair *p, enum abi_reason why,
					 struct seq_file *seq)
{
	struct abi_conn *c = l->c;

	if (!flow_misread(&p->end[ABI_CLIENT], c->client_netns, why) &&
	    !flow_misread(&p->end[ABI_SERVER], c->server_netns, why))
		return;
	conn_carried(c, c->path, why);
	errand(l, seq, why, ABI_SERVER);
}

/*
 * Readers that came to be known. One that asks FIONREAD may stay: what is redirected is counted, and as long as TCP
 * brings nothing the answer is right. Returns what the rules say beside that.
 */
static __always_inline enum abi_reason look_readers(struct look *l, struct abi_pair *p, struct seq_file *seq)
{
	enum abi_reason why = look_rules(l);

	p->caught = l->caught->caught;
	if (why == ABI_READER_SPLICES && !p->leaving)
		pair_leave(p, why);
	if (p->leaving == ABI_READER_SPLICES || why == ABI_READER_COUNTS)
		look_misread(l, p, why, seq);
	return why == ABI_READER_COUNTS ? ABI_NONE : why;
}

static __always_inline void look_in(struct look *l, struct abi_pair *p, enum abi_reason why)
{
	struct abi_conn *c = l->c;

	if (!p->leaving) {
		if (why == ABI_NONE)
			why = look_sockets(l);
		if (why == ABI_SWITCHED_OFF) { /* stays: the switch may come back any moment */
			conn_reason(c, ABI_PATH_TCP, why);
		} else if (why) {
			pair_leave(p, why);
		} else {
			conn_reason(c, ABI_PATH_SPLICE, ABI_SPLICED);
		}
	}
	if (p->leaving) {
		conn_carried(c, ABI_PATH_TCP, p->leaving);
		l->w->spliced++;
		if (l->now - p->leaving_ns >= l->set->leave_ns && flow_quiet(&p->end[ABI_CLIENT]) &&
		    flow_quiet(&p->end[ABI_SERVER]))
			pair_end(l, p);
		return;
	}
	l->w->spliced++;
	if (l->now - p->fresh_ns > l->set->refresh_s * SECOND_NS) { /* row 36 */
		p->fresh_ns = l->now;
		p->end[ABI_CLIENT].refresh = p->end[ABI_SERVER].refresh = 1;
	}
}

/* Are both sockets in? From then on messages may be redirected. */
static __always_inline void look_entering(struct look *l, struct abi_pair *p, struct seq_file *seq)
{
	struct abi_conn *c = l->c;

	if (p->end[ABI_CLIENT].in_map && p->end[ABI_SERVER].in_map) {
		c->stage = ABI_STAGE_IN;
		c->watcher = 1 + ABI_CLIENT; /* it closes with the record; weft_enter has made its abi_sock */
		conn_reason(c, ABI_PATH_SPLICE, ABI_SPLICED);
		l->w->spliced++;
		return;
	}
	l->w->entering++;
	if (l->now - p->fresh_ns > ENTERING_NS) {
		pair_leave(p, ABI_FOREIGN_OWNER);
		c->stage = ABI_STAGE_IN; /* and out again, in order */
		return;
	}
	if (!p->end[ABI_CLIENT].in_map)
		errand(l, seq, ABI_NONE, ABI_CLIENT);
	if (!p->end[ABI_SERVER].in_map)
		errand(l, seq, ABI_NONE, ABI_SERVER);
}

/* Closed, but not by its program: out of the map it says so as any other socket does (rows 29, 30). */
static __always_inline void gone(struct abi_sock *s, const struct sock *sk)
{
	__u64 key = sk->__sk_common.skc_cookie.counter;

	s->flags &= ~ABI_SOCK_IN_MAP;
	s->flags |= ABI_SOCK_REUSED; /* if it ever connects again */
	bpf_map_delete_elem(&splices, &key);
}

/* The connection that this socket watches. */
static __always_inline void look(struct look *l, struct abi_pair *p, struct seq_file *seq)
{
	enum abi_reason why = ABI_NONE;
	struct abi_conn *c = l->c;

	l->now = bpf_ktime_get_ns();
	l->client = (const struct sock *)c->end[ABI_CLIENT].sock;
	l->server = (const struct sock *)c->end[ABI_SERVER].sock;
	if (c->stage == ABI_STAGE_IN && p)
		why = look_readers(l, p, seq);
	if (!sock_is(l->client, c->end[ABI_CLIENT].cookie) || !sock_is(l->server, c->end[ABI_SERVER].cookie) ||
	    !sock_live(l->client) || !sock_live(l->server))
		return; /* closing: the entries go with the sockets, the pair with the record */
	if (c->stage == ABI_STAGE_OUT)
		look_out(l);
	else if (c->stage == ABI_STAGE_IN && p)
		look_in(l, p, why);
	if (c->stage == ABI_STAGE_ENTERING) {
		p = pair_get(c->slot, c->conn);
		if (p)
			look_entering(l, p, seq);
	}
}

SEC("iter/bpf_sk_storage_map")
int weft_watch(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct abi_sock *s = ctx->value;
	struct sock *sk = ctx->sk;
	struct abi_pair *p = NULL;
	struct look l = {};
	struct abi_tuple t;

	if (!s || !sk)
		return 0;
	if (s->flags & ABI_SOCK_IN_MAP && !sock_speaks(sk->__sk_common.skc_state) && sock_queue_empty(sk))
		gone(s, sk);
	if (!(s->flags & ABI_SOCK_CONNECTED))
		return 0;
	t = s->tuple;
	l.c = bpf_map_lookup_elem(&conns, &t);
	l.w = watch_get();
	l.caught = caught_get();
	l.set = settings_get();
	l.s = s;
	if (!l.c || l.c->conn != s->conn || !l.w || !l.caught || !l.set || !l.c->established ||
	    !l.c->end[ABI_CLIENT].cookie || !l.c->end[ABI_SERVER].cookie)
		return 0;
	if (l.c->stage != ABI_STAGE_OUT)
		p = pair_get(l.c->slot, l.c->conn);
	else if (s->end + 1 != l.c->watcher)
		s->flags &= ~ABI_SOCK_IN_MAP;
	if (s->end + 1 == l.c->watcher)
		look(&l, p, ctx->meta->seq);
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
