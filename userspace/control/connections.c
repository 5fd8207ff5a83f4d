/* SPDX-License-Identifier: Apache-2.0 */
/* connections.c: the list of live connections, with names: see report.h. */
#include <stdlib.h>
#include <string.h>

#include "live.h"
#include "report.h"

/* Pods of other nodes by address: only those that the list needs, because a mesh has many. */
struct stranger {
	struct abi_addr addr;
	char *pod; /* "shop/web-2", NULL: no pod of the mesh */
	struct table_link link;
};

struct listing {
	struct report *report;
	struct table strangers;
	struct relay_row *relay; /* what the worker has, in order of tuple */
	unsigned relays;
	uint64_t now_ns;
	uint32_t pod; /* only connections of this one; 0 all */
};

static int by_tuple(const void *a, const void *b)
{
	const struct relay_row *x = a, *y = b;

	return memcmp(&x->tuple, &y->tuple, sizeof(x->tuple));
}

static const struct relay_row *relay_of(const struct listing *l, const struct abi_tuple *t)
{
	const struct relay_row key = {.tuple = *t};

	return l->relays ? bsearch(&key, l->relay, l->relays, sizeof(key), by_tuple) : NULL;
}

/* A thread that does not answer must not hide what the kernel knows. */
static void take_relays(struct listing *l)
{
	const struct report *r = l->report;
	int err = r->relays ? r->relays(r->proxy, &l->relay, &l->relays) : 0;

	if (err)
		log_warning("the worker's own connections cannot be listed: %s", strerror(-err));
	else if (l->relays)
		qsort(l->relay, l->relays, sizeof(*l->relay), by_tuple);
}

static struct stranger *stranger_find(const struct listing *l, const struct abi_addr *a)
{
	struct table_link *at = table_first(&l->strangers, table_hash(a, sizeof(*a)));

	for (; at; at = table_next_same(at)) {
		struct stranger *s = container_of(at, struct stranger, link);

		if (addr_equal(&s->addr, a))
			return s;
	}
	return NULL;
}

static void stranger_want(struct listing *l, const struct abi_addr *a)
{
	struct stranger *s;

	if (stranger_find(l, a))
		return;
	s = mem_alloc(sizeof(*s));
	s->addr = *a;
	table_add(&l->strangers, &s->link, table_hash(a, sizeof(*a)));
}

/* One walk over all pods, whatever the number of strangers. */
static void strangers_name(struct listing *l)
{
	const struct world *w = l->report->world;

	if (!l->strangers.count)
		return;
	for (struct world_pod *p = world_pod_each(w, NULL); p; p = world_pod_each(w, p)) {
		for (unsigned i = 0; p->claimed == ABI_KIND_REMOTE_POD && i < p->addrs; i++) {
			struct stranger *s = stranger_find(l, &p->addr[i]);

			if (s && !s->pod)
				s->pod = mem_format("%s/%s", p->namespace, p->name);
		}
	}
}

static json_t *side(const struct listing *l, uint32_t pod, const struct abi_addr *a, uint16_t port)
{
	json_t *name = name_pod(l->report->world, pod);

	if (!pod) {
		const struct stranger *s = stranger_find(l, a);

		json_decref(name);
		name = answer_text(s && s->pod ? s->pod : "");
	}
	return json_pack("{s:o, s:o, s:i}", "pod", name, "address", name_address(a), "port", (int)port);
}

/* What the worker alone knows of a connection that it carries. */
static void add_relay(const struct listing *l, const struct live_row *r, json_t *j)
{
	const struct relay_row *k = relay_of(l, &r->tuple);
	static const char scheme[] = "spiffe://";
	const char *peer = k && text_starts(k->peer, scheme) ? k->peer + sizeof(scheme) - 1 : "";

	if (!(r->conn.flags & (ABI_CONN_CAPTURED | ABI_CONN_DELIVERED)))
		return;
	json_object_set_new(j, "hop", json_string(reason_name(r->conn.hop)));
	if (!k)
		return;
	/* of a source on another node the kernel has no number */
	json_object_set_new(j, k->kind == RELAY_HBONE ? "identity" : "peer", answer_text(peer));
	json_object_set_new(j, "waits", json_string(k->open ? k->waits : "connect"));
	json_object_set_new(j, "thread", json_integer(k->thread));
	if (k->kind == RELAY_HTTP || k->judged)
		json_object_set_new(j, "requests", json_integer((json_int_t)k->requests));
	if (k->judged)
		json_object_set_new(j, "denied", json_integer((json_int_t)k->denied));
}

static json_t *item(void *ctx, const void *key)
{
	const struct listing *l = ctx;
	const struct live_row *r = key;
	const struct abi_conn *c = &r->conn;
	uint16_t port;
	const struct abi_addr *to = live_target(r, &port);
	const struct abi_local *client = &c->end[ABI_CLIENT], *server = &c->end[ABI_SERVER];
	const struct world *w = l->report->world;
	uint64_t age = l->now_ns > c->opened_ns ? l->now_ns - c->opened_ns : 0;
	json_t *j = json_pack("{s:o, s:o, s:o, s:s, s:s, s:I, s:I, s:I}", "source",
			      side(l, c->client_pod, &r->tuple.src, r->tuple.src_port), "destination",
			      side(l, c->server_pod, to, port), "service",
			      name_service(w, c->service), "path", path_name(c->path), "reason",
			      reason_name(c->reason), "bytes_sent", (json_int_t)r->sent, "bytes_received",
			      (json_int_t)r->received, "age_ms", (json_int_t)(age / 1000000));
	json_t *more;

	if (!j)
		abort();
	more = json_pack("{s:o, s:b, s:I, s:I, s:I, s:[i,i], s:[i,i], s:i, s:i, s:[i,i]}", "identity",
			 name_identity(w, c->source), "established", c->established, "bytes_spliced",
			 (json_int_t)(client->spliced_bytes + server->spliced_bytes), "messages_spliced",
			 (json_int_t)client->spliced_msgs + server->spliced_msgs, "switches",
			 (json_int_t)client->switches + server->switches, "queue_peak_bytes",
			 (int)client->queue_bytes, (int)server->queue_bytes, "queue_peak_messages",
			 (int)client->queue_msgs, (int)server->queue_msgs, "srtt_us", (int)r->srtt_us,
			 "retransmits", (int)r->retransmits, "queued_bytes", (int)r->queued[ABI_SERVER],
			 (int)r->queued[ABI_CLIENT]);
	json_object_update_new(j, more);
	if (c->asked_port && !(addr_equal(&c->asked, to) && c->asked_port == port))
		json_object_update_new(j, json_pack("{s:o, s:i}", "asked_address", name_address(&c->asked),
						    "asked_port", (int)c->asked_port));
	add_relay(l, r, j);
	return j;
}

static int by_age(const void *a, const void *b)
{
	const struct live_row *x = a, *y = b;

	if (x->conn.opened_ns != y->conn.opened_ns)
		return x->conn.opened_ns < y->conn.opened_ns ? -1 : 1;
	return memcmp(&x->tuple, &y->tuple, sizeof(x->tuple));
}

static void listing_free(void *ctx)
{
	struct listing *l = ctx;

	for (struct table_link *at = table_walk(&l->strangers, NULL), *next; at; at = next) {
		struct stranger *s = container_of(at, struct stranger, link);

		next = table_walk(&l->strangers, at);
		table_del(&l->strangers, at);
		free(s->pod);
		free(s);
	}
	table_free(&l->strangers);
	free(l->relay);
	free(l);
}

/* Only those of l->pod, oldest first; remembers whose addresses need a name. */
static void choose(struct listing *l, struct live_rows *rows)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < rows->count; i++) {
		const struct live_row *r = &rows->row[i];
		uint16_t port;

		/* From one pod of this node to another one through the worker: the first record speaks for both. */
		if (r->conn.flags & ABI_CONN_DELIVERED && r->conn.client_pod)
			continue;
		if (l->pod && r->conn.client_pod != l->pod && r->conn.server_pod != l->pod)
			continue;
		if (!r->conn.client_pod)
			stranger_want(l, &r->tuple.src);
		if (!r->conn.server_pod)
			stranger_want(l, live_target(r, &port));
		memmove(&rows->row[kept++], r, sizeof(*r));
	}
	rows->count = kept;
	qsort(rows->row, kept, sizeof(*rows->row), by_age);
}

struct answer *connections_answer(struct report *r, const json_t *request)
{
	const char *pod = json_string_value(json_object_get(request, "pod"));
	struct answer_list list = {.name = "connections", .size = sizeof(struct live_row), .item = item};
	struct live_rows rows;
	struct listing *l;
	char why[256];
	const struct world_pod *only = pod ? name_find_pod(r->world, pod, true, why) : NULL;
	int err;

	if (pod && !only)
		return answer_error("%s", why);
	err = live_dump(r->fd[WIRE_FD_CONNS], r->fd[WIRE_FD_PAIRS], r->fd[WIRE_FD_LIVE], &rows);
	if (err)
		return answer_error("the connections of the kernel cannot be read: %s", strerror(-err));
	l = mem_alloc(sizeof(*l));
	l->report = r;
	l->now_ns = clock_ns();
	l->pod = only ? only->enrolled->number : 0;
	take_relays(l);
	choose(l, &rows);
	strangers_name(l);
	list.keys = rows.row;
	list.count = rows.count;
	return answer_lists(&list, 1, l, listing_free);
}
