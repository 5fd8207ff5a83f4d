/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.c: what the data threads see: see view.h. RCU hash tables; entries with their texts behind them are one
 * allocation each, freed when no reader can have them any more.
 */
#define _LGPL_SOURCE
#include <stdlib.h>
#include <string.h>
#include <urcu-qsbr.h>
#include <urcu/rculfhash.h>

#include "view_parts.h"

struct peer {
	struct view_peer is;
	uint64_t created; /* of the Pod object: one of the same name may be another pod */
	struct cds_lfht_node node;
	struct rcu_head rcu;
	char text[];
};

struct pod {
	struct view_pod is;
	struct policy_set *held; /* is.set; NULL: a Gateway */
	struct gateway *plan;	 /* is.gateway */
	struct abi_addr addr[2 * WIRE_ADDRS];
	struct cds_lfht_node node;
	struct rcu_head rcu;
	char text[];
};

struct view *view_new(void)
{
	struct view *v = mem_alloc(sizeof(*v));

	v->peers = view_table_new();
	v->pods = view_table_new();
	view_services_new(&v->services);
	return v;
}

static void peer_free(struct rcu_head *h)
{
	free(container_of(h, struct peer, rcu));
}

static void pod_free(struct rcu_head *h)
{
	struct pod *p = container_of(h, struct pod, rcu);

	if (p->held)
		policy_free(p->held);
	gateway_drop(p->plan);
	free(p);
}

static void peer_gone(struct cds_lfht_node *n)
{
	call_rcu(&container_of(n, struct peer, node)->rcu, peer_free);
}

static void pod_gone(struct cds_lfht_node *n)
{
	call_rcu(&container_of(n, struct pod, node)->rcu, pod_free);
}

void view_free(struct view *v)
{
	if (!v)
		return;
	view_table_free(v->peers, peer_gone);
	view_table_free(v->pods, pod_gone);
	view_services_free(&v->services);
	free(v->addr);
	free(v->netns);
	free(v);
}

/* ------------------------------------------------------------------ questions */

static int is_peer(struct cds_lfht_node *n, const void *addr)
{
	return addr_equal(&container_of(n, struct peer, node)->is.addr, addr);
}

static int is_pod(struct cds_lfht_node *n, const void *netns)
{
	return container_of(n, struct pod, node)->is.netns == *(const uint64_t *)netns;
}

static struct peer *peer_find(const struct view *v, const struct abi_addr *addr)
{
	struct cds_lfht_node *n = view_table_find(v->peers, table_hash(addr, sizeof(*addr)), is_peer, addr);

	return n ? container_of(n, struct peer, node) : NULL;
}

static struct pod *pod_find(const struct view *v, uint64_t netns)
{
	struct cds_lfht_node *n = view_table_find(v->pods, table_hash(&netns, sizeof(netns)), is_pod, &netns);

	return n ? container_of(n, struct pod, node) : NULL;
}

const struct view_peer *view_peer(const struct view *v, const struct abi_addr *addr)
{
	const struct peer *p = peer_find(v, addr);

	return p ? &p->is : NULL;
}

const struct view_pod *view_pod(const struct view *v, uint64_t netns)
{
	const struct pod *p = pod_find(v, netns);

	return p ? &p->is : NULL;
}

/* "spiffe://TD/ns/NS/sa/SA"; of any other form only the principal is left, and it has no namespace or account. */
static void split(const char *spiffe, char text[VIEW_ID], char account[VIEW_ID], struct identity *ret)
{
	static const char scheme[] = "spiffe://";
	char *ns, *sa;

	*ret = (struct identity){.trust_domain = "", .namespace = "", .service_account = "", .account = account};
	account[0] = '\0';
	if (text_starts(spiffe, scheme))
		spiffe += sizeof(scheme) - 1;
	ret->principal = (char *)spiffe;
	(void)text_copy(text, VIEW_ID, spiffe);
	ns = strstr(text, "/ns/");
	sa = ns ? strstr(ns + 4, "/sa/") : NULL;
	if (!sa)
		return;
	*ns = *sa = '\0';
	ret->trust_domain = text;
	ret->namespace = ns + 4;
	ret->service_account = sa + 4;
	snprintf(account, VIEW_ID, "%s/%s", ret->namespace, ret->service_account);
}

enum abi_reason view_allows(const struct view_pod *to, const char *spiffe, const struct abi_addr *source,
			    uint16_t port)
{
	char text[VIEW_ID], account[VIEW_ID];
	struct identity who;

	if (!spiffe || !*spiffe)
		return policy_judge(to->set, NULL, source, port);
	split(spiffe, text, account, &who);
	return policy_judge(to->set, &who, source, port);
}

bool view_still_allows(const struct view_pod *to, uint32_t *policy, const char *spiffe, const struct abi_addr *source,
		       uint16_t port)
{
	enum abi_reason reason;

	if (to->policy == *policy)
		return true;
	*policy = to->policy;
	reason = view_allows(to, spiffe, source, port);
	return !reason || reason == ABI_NEEDS_WORKER;
}

enum abi_reason view_allows_request(const struct view_pod *to, const char *spiffe, const struct abi_addr *source,
				    uint16_t port, const struct http_head *head, struct http_text host,
				    struct http_text path)
{
	struct policy_request q = {.source = source, .port = port, .head = head, .host = host, .path = path};
	char text[VIEW_ID], account[VIEW_ID];
	struct identity who;

	if (spiffe && *spiffe) {
		split(spiffe, text, account, &who);
		q.who = &who;
	}
	return policy_judge_request(to->set, &q);
}

bool view_needs_http(const struct view_pod *to, uint16_t port)
{
	return policy_needs_http(to->set, port);
}

/* ------------------------------------------------------------------ taking in */

void view_gather(struct view *v, const struct world *w)
{
	list_each(l, &w->dirty_addresses) {
		if (v->addrs == v->addr_size) {
			v->addr_size = v->addr_size ? 2 * v->addr_size : 64;
			v->addr = mem_grow(v->addr, v->addr_size, sizeof(*v->addr));
		}
		v->addr[v->addrs++] = container_of(l, struct world_address, dirty_link)->addr;
	}
	list_each(l, &w->dirty_pods) {
		const struct world_pod *p = container_of(l, struct world_pod, dirty_link);
		uint64_t netns[] = {p->enrolled ? p->enrolled->netns : 0, p->in_kernel ? p->kernel.netns : 0};

		for (unsigned i = 0; i < array_size(netns); i++) {
			if (!netns[i] || (i && netns[i] == netns[0]))
				continue;
			if (v->netnses == v->netns_size) {
				v->netns_size = v->netns_size ? 2 * v->netns_size : 64;
				v->netns = mem_grow(v->netns, v->netns_size, sizeof(*v->netns));
			}
			v->netns[v->netnses++] = netns[i];
		}
	}
	view_services_take(&v->services, w);
}

static const char *put_text(char **at, const char *s)
{
	size_t size = strlen(s) + 1;
	char *to = *at;

	memcpy(to, s, size);
	*at += size;
	return to;
}

/* "spiffe://TD/ns/NS/sa/SA" and "NS/NAME" */
static void pod_texts(const struct world *w, const struct world_pod *p, char spiffe[VIEW_ID],
		      char name[2 * WIRE_NAME])
{
	snprintf(spiffe, VIEW_ID, "spiffe://%s/ns/%s/sa/%s", w->trust_domain, p->namespace, world_pod_account(p));
	snprintf(name, 2 * WIRE_NAME, "%s/%s", p->namespace, p->name);
}

static struct peer *peer_new(const struct world *w, const struct world_address *a, enum abi_kind kind)
{
	const struct world_pod *pod = world_address_pod(a);
	const char *node = pod && pod->object && pod->object->pod.node ? pod->object->pod.node : "";
	char spiffe[VIEW_ID] = "", name[2 * WIRE_NAME] = "", *at;
	struct peer *p;

	if (pod)
		pod_texts(w, pod, spiffe, name);
	p = mem_alloc(sizeof(*p) + strlen(spiffe) + strlen(name) + strlen(node) + 3);
	at = p->text;
	p->created = pod && pod->object ? pod->object->created : 0;
	p->is = (struct view_peer){
		.addr = a->addr,
		.kind = kind,
		.mesh = kind == ABI_KIND_REMOTE_POD && pod && world_pod_mesh(w, pod),
		.netns = kind == ABI_KIND_LOCAL_POD ? pod->enrolled->netns : 0,
		.spiffe = put_text(&at, spiffe),
		.pod = put_text(&at, name),
		.node = put_text(&at, node),
	};
	return p;
}

static bool peer_same(const struct peer *a, const struct peer *b)
{
	return a->is.kind == b->is.kind && a->is.mesh == b->is.mesh && a->is.netns == b->is.netns &&
	       a->created == b->created && !strcmp(a->is.spiffe, b->is.spiffe) && !strcmp(a->is.pod, b->is.pod) &&
	       !strcmp(a->is.node, b->is.node);
}

static enum abi_kind kind_of(const struct world_address *a)
{
	if (a->pod)
		return a->pod->enrolled ? ABI_KIND_LOCAL_POD : ABI_KIND_NONE;
	if (a->node)
		return ABI_KIND_NODE;
	if (a->vip)
		return ABI_KIND_VIP;
	return a->remote ? ABI_KIND_REMOTE_POD : ABI_KIND_NONE;
}

static unsigned take_address(struct view *v, const struct world *w, const struct abi_addr *addr)
{
	const struct world_address *a = world_address(w, addr);
	enum abi_kind kind = a ? kind_of(a) : ABI_KIND_NONE;
	struct peer *old = peer_find(v, addr), *p;

	if (kind == ABI_KIND_NONE) {
		if (!old)
			return 0;
		(void)cds_lfht_del(v->peers, &old->node);
		peer_gone(&old->node);
		return VIEW_PEERS;
	}
	p = peer_new(w, a, kind);
	if (old && peer_same(old, p)) {
		free(p);
		return 0;
	}
	p->is.generation = ++v->generation;
	cds_lfht_node_init(&p->node);
	(void)cds_lfht_add_replace(v->peers, table_hash(addr, sizeof(*addr)), is_peer, addr, &p->node);
	if (old)
		peer_gone(&old->node);
	return VIEW_PEERS;
}

static struct pod *pod_new(const struct world *w, const struct world_pod *from)
{
	char spiffe[VIEW_ID], name[2 * WIRE_NAME], *at;
	struct pod *p;

	pod_texts(w, from, spiffe, name);
	p = mem_alloc(sizeof(*p) + strlen(spiffe) + strlen(name) + strlen(from->namespace) +
		      strlen(w->trust_domain) + 4);
	at = p->text;
	p->held = policy_hold(from->set);
	for (unsigned i = 0; i < from->addrs && i < array_size(p->addr); i++)
		p->addr[p->is.addrs++] = from->addr[i];
	p->is.netns = from->enrolled->netns;
	p->is.number = from->enrolled->number;
	p->is.identity = from->identity->number;
	p->is.policy = from->set->number;
	p->is.spiffe = put_text(&at, spiffe);
	p->is.name = put_text(&at, name);
	p->is.namespace = put_text(&at, from->namespace);
	p->is.trust_domain = put_text(&at, w->trust_domain);
	p->is.set = p->held;
	p->is.addr = p->addr;
	return p;
}

/* As the kernel has it: a set that could not be written is not asked here either. */
static unsigned take_pod(struct view *v, const struct world *w, uint64_t netns)
{
	const struct world_pod *from = world_pod_in(w, netns);
	struct pod *old = pod_find(v, netns), *p;

	if (!from || !from->in_kernel || from->kernel.netns != netns) {
		if (!old)
			return 0;
		(void)cds_lfht_del(v->pods, &old->node);
		pod_gone(&old->node);
		return VIEW_POLICY;
	}
	if (!from->set || from->kernel.policy != from->set->number)
		return 0;
	p = pod_new(w, from);
	cds_lfht_node_init(&p->node);
	(void)cds_lfht_add_replace(v->pods, table_hash(&netns, sizeof(netns)), is_pod, &netns, &p->node);
	if (old)
		pod_gone(&old->node);
	return VIEW_POLICY;
}

static struct pod *gateway_new(const struct world *w, const struct world_gateway *from)
{
	char *spiffe = mem_format("spiffe://%s/ns/%s/sa/%s", w->trust_domain, from->namespace,
				  world_gateway_account(from));
	char *name = mem_format("%s/%s", from->namespace, from->name), *at;
	struct pod *p = mem_alloc(sizeof(*p) + strlen(spiffe) + strlen(name) + strlen(from->namespace) +
				  strlen(w->trust_domain) + 4);

	at = p->text;
	p->plan = gateway_hold(from->plan);
	p->is.netns = from->netns;
	p->is.identity = from->identity->number;
	p->is.spiffe = put_text(&at, spiffe);
	p->is.name = put_text(&at, name);
	p->is.namespace = put_text(&at, from->namespace);
	p->is.trust_domain = put_text(&at, w->trust_domain);
	p->is.gateway = p->plan;
	free(spiffe);
	free(name);
	return p;
}

static void take_gateway(struct view *v, const struct world *w, const struct world_gateway *from)
{
	uint64_t netns = from->netns;
	struct pod *old = pod_find(v, netns), *p;

	if (from->object) {
		p = gateway_new(w, from);
		cds_lfht_node_init(&p->node);
		(void)cds_lfht_add_replace(v->pods, table_hash(&netns, sizeof(netns)), is_pod, &netns, &p->node);
	} else if (old) {
		(void)cds_lfht_del(v->pods, &old->node);
	}
	if (old)
		pod_gone(&old->node);
}

unsigned view_update(struct view *v, const struct world *w)
{
	unsigned changed = v->services.changed ? VIEW_SERVICES : 0;

	rcu_read_lock();
	for (unsigned i = 0; i < v->addrs; i++)
		changed |= take_address(v, w, &v->addr[i]);
	for (unsigned i = 0; i < v->netnses; i++)
		changed |= take_pod(v, w, v->netns[i]);
	list_each(l, &w->gateways) {
		const struct world_gateway *g = container_of(l, struct world_gateway, link);

		if (g->dirty)
			take_gateway(v, w, g);
		changed |= g->dirty ? VIEW_POLICY : 0;
	}
	rcu_read_unlock();
	view_services_leave(&v->services); /* the routes of Gateways are those of now as well */
	v->services.changed = false;
	v->addrs = v->netnses = 0;
	return changed;
}
