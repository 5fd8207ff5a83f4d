/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain.c: would this connection be allowed? The questions of the kernel's programs (connect.bpf.c, inbound.bpf.c,
 * bpf/decide.h) in their order, answered from the world, each with the object that decides. See report.h.
 */
#include <stdlib.h>
#include <string.h>

#include "decide.h"
#include "kernel.h"
#include "live.h"
#include "report.h"

#define ENDPOINTS_NAMED 4 /* in a sentence */
#define ROUTES_NAMED 4
#define ENDPOINTS_TOLD 8  /* kinds of them, each with its steps */

struct explain {
	struct report *report;
	const struct world *world;
	json_t *steps;
	const struct world_pod *source;
	struct destination to;
	const struct identity *who;	 /* as the destination will know it */
	const struct world_front *front; /* if it goes to a VIP */
};

/* ------------------------------------------------------------------ steps */

static void step(struct explain *x, const char *name, const char *object, json_t *place, const char *fmt, ...)
	printf_like(5, 6);
static void step(struct explain *x, const char *name, const char *object, json_t *place, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vformat(fmt, ap);
	va_end(ap);
	json_array_append_new(x->steps,
			      json_pack("{s:s, s:o, s:o, s:o}", "step", name, "text", answer_text(text),
					"object", answer_text(object ? object : ""), "place",
					place ? place : answer_text("")));
	free(text);
}

static json_t *place_of(const struct object *o)
{
	return o ? name_place(o->file, o->line) : NULL;
}

static char *object_text(const struct object *o) /* "Service shop/web"; free it; NULL for NULL */
{
	return o ? mem_format("%s %s/%s", object_kind_name(o->kind), o->namespace, o->name) : NULL;
}

static void step_object(struct explain *x, const char *name, const struct object *o, const char *text)
{
	char *object = object_text(o);

	step(x, name, object, place_of(o), "%s", text);
	free(object);
}

/* ------------------------------------------------------------------ the source */

static void explain_source(struct explain *x)
{
	const struct world_pod *p = x->source;
	char *text;

	if (!p->enrolled) {
		step_object(x, "source", p->object,
			    "the pod is not enrolled on this node: weft does not see its connect(), and for "
			    "the destination "
			    "it has no identity");
		return;
	}
	x->who = p->identity;
	text = mem_format("%s/%s is enrolled on this node; its identity is %s%s", p->namespace, p->name,
			  p->identity ? p->identity->principal : "not known yet",
			  p->in_kernel ? "" : " (the kernel does not know the pod yet: see weftctl status)");
	step_object(x, "source", p->object, text);
	free(text);
}

/* ------------------------------------------------------------------ service */

static char *endpoint_names(const struct explain *x, const struct world_front *f)
{
	struct text t = {0};
	char buf[ADDR_PORT_TEXT];

	for (unsigned i = 0; i < f->count && i < ENDPOINTS_NAMED; i++) {
		const struct world_address *a = world_address(x->world, &f->endpoint[i].addr);

		text_add(&t, "%s%s", i ? ", " : "",
			 addr_port_text(&f->endpoint[i].addr, f->endpoint[i].port, buf));
		if (a && a->pod)
			text_add(&t, " (%s/%s)", a->pod->namespace, a->pod->name);
	}
	if (f->count > ENDPOINTS_NAMED)
		text_add(&t, " and %u more", f->count - ENDPOINTS_NAMED);
	return t.data;
}

/* The routes that are in force at this port, the first few by name. */
static enum abi_reason explain_routes(struct explain *x, const struct world_service *s)
{
	const struct world_routed *r = world_routed(x->world, s->namespace, s->name);
	struct text names = {0};
	unsigned count = 0;

	list_each(l, &r->attached) {
		const struct world_route *route = container_of(l, struct world_use, link)->route;
		const struct object_route *o = &route->object->route;
		bool in_force = false;

		for (unsigned i = 0; i < o->parents && !in_force; i++)
			in_force = route->status[i].accepted &&
				   route_parent_is(&o->parent[i], s->namespace, s->name, x->front->port->port,
						   x->front->port->name);
		if (in_force && ++count <= ROUTES_NAMED)
			text_add(&names, "%s%s %s/%s", count > 1 ? ", " : "", object_kind_name(route->kind),
				 route->namespace, route->name);
	}
	if (count > ROUTES_NAMED)
		text_add(&names, " and %u more", count - ROUTES_NAMED);
	step(x, "service", NULL, NULL, "it is port %u of service %s/%s, which speaks %s", x->front->port->port,
	     s->namespace, s->name, protocol_name(protocol_of(x->front->port)));
	step(x, "routes", NULL, NULL, "%u route%s attached to it: %s; weft routes each request, or each connection",
	     count, count == 1 ? " is" : "s are", names.data ? names.data : "");
	text_free(&names);
	return ABI_ROUTES;
}

static enum abi_reason explain_service(struct explain *x)
{
	const struct world_front *f = x->front;
	const struct world_service *s = f ? f->owner : NULL;
	char buf[ADDR_PORT_TEXT], *text, *names;

	addr_port_text(&x->to.addr, x->to.port, buf);
	if (!s) {
		step(x, "service", NULL, NULL,
		     "the service at this address does not listen on port %u: refused (no_service_port)",
		     x->to.port);
		return ABI_NO_SERVICE_PORT;
	}
	if (f->flags & ABI_SERVICE_ROUTES)
		return explain_routes(x, s);
	if (!f->count) {
		text = mem_format("%s is service %s/%s: it has no ready endpoint: refused (no_endpoint)", buf,
				  s->namespace, s->name);
		step_object(x, "service", s->object, text);
		free(text);
		return ABI_NO_ENDPOINT;
	}
	names = endpoint_names(x, f);
	text = mem_format("%s is service %s/%s; connect() picks one of %u endpoint%s%s: %s", buf,
			  s->namespace, s->name, f->count, text_plural(f->count),
			  f->flags & ABI_SERVICE_AFFINITY ? ", the same for each client" : "", names);
	step_object(x, "service", s->object, text);
	free(text);
	free(names);
	return ABI_NONE;
}

/* ------------------------------------------------------------------ policy */

static const struct object *policy_object(const struct explain *x, const char *namespace, const char *name)
{
	return store_get(x->world->store, KIND_AUTHORIZATION_POLICY, namespace, name);
}

static const char stands_in[] = " (it stands for an object that was rejected: see weftctl status)";

/* One line for each term that matches and is in `among`; returns how many. */
static unsigned explain_matches(struct explain *x, const struct policy_set *s, const struct abi_bits *hit,
				const struct abi_bits *among, const char *name, const char *what)
{
	unsigned found = 0;

	for (unsigned bit = 0; bit < ABI_TERMS; bit++) {
		const struct policy_origin *o;
		char *object;

		if (!(hit->word[bit / 64] & among->word[bit / 64] & (1ull << (bit % 64))))
			continue;
		o = policy_origin(s, bit);
		found++;
		if (!o)
			continue;
		const struct object *from = policy_object(x, o->namespace, o->name);

		object = mem_format("AuthorizationPolicy %s/%s rules[%u]", o->namespace, o->name, o->rule);
		step(x, name, object, place_of(from), "%s%s", what,
		     from && from->authorization.stand_in ? stands_in : "");
		free(object);
	}
	return found;
}

/* "shop/a, shop/b" of the DENY or ALLOW policies; free it */
static char *policy_names(const struct policy_set *s, bool deny, unsigned *ret_count)
{
	struct text t = {0};

	*ret_count = 0;
	for (unsigned i = 0; i < s->policies; i++) {
		if (s->policy[i].deny != deny)
			continue;
		text_add(&t, "%s%s/%s", *ret_count ? ", " : "", s->policy[i].namespace, s->policy[i].name);
		++*ret_count;
	}
	if (!t.data)
		text_add(&t, "none");
	return t.data;
}

static void explain_mtls(struct explain *x, const struct policy_set *s, uint16_t port)
{
	static const char *const modes[] = {"PERMISSIVE", "STRICT", "DISABLE"};
	enum abi_mtls mode = policy_mtls_of(s, port);
	bool by_port = mode != s->head.mtls && s->mtls_port_from;
	const char *from = by_port ? s->mtls_port_from : s->mtls_from;
	const char *slash = from ? strchr(from, '/') : NULL;
	const struct object *o = NULL;
	char *text;

	if (slash) {
		char *namespace = mem_format("%.*s", (int)(slash - from), from);

		o = store_get(x->world->store, KIND_PEER_AUTHENTICATION, namespace, slash + 1);
		free(namespace);
	}
	text = mem_format("mTLS mode of port %u is %s%s; the source %s%s", port,
			  mode < array_size(modes) ? modes[mode] : "?",
			  !from ? " (no PeerAuthentication speaks for the pod)"
			  : o && o->peer.stand_in ? stands_in
						  : "",
			  x->who ? "is known by its socket on this node" : "has no identity",
			  mode == ABI_MTLS_STRICT && !x->who ? ": refused (mtls_required)" : "");
	step_object(x, "mtls", o, text);
	free(text);
}

/* The DENY and ALLOW halves of decide_policy(), told. */
static void explain_rules(struct explain *x, const struct policy_set *s, const struct abi_bits *hit,
			  enum abi_reason why)
{
	unsigned denies, allows;
	char *deny = policy_names(s, true, &denies), *allow = policy_names(s, false, &allows);

	if (explain_matches(x, s, hit, &s->head.deny, "deny", "a DENY rule matches: refused (denied)"))
		goto out;
	if (explain_matches(x, s, hit, &s->head.deny_l7, "deny",
			    "a DENY rule matches as far as a connection can tell: the worker asks it of each "
			    "request"))
		goto out;
	if (denies)
		step(x, "deny", NULL, NULL, "no DENY rule matches (%s)", deny);
	else
		step(x, "deny", NULL, NULL, "no DENY policy selects the pod");
	if (!s->head.has_allow) {
		step(x, "allow", NULL, NULL, "no ALLOW policy selects the pod: allowed by default");
		goto out;
	}
	if (explain_matches(x, s, hit, &s->head.allow, "allow", "an ALLOW rule matches: allowed"))
		goto out;
	if (why == ABI_NEEDS_WORKER || why == ABI_PROXIED) {
		explain_matches(x, s, hit, &s->head.allow_l7, "allow",
				"an ALLOW rule matches as far as a connection can tell: the worker asks it of each "
				"request");
		goto out;
	}
	if (allows == 1) {
		const struct object *only = NULL;

		for (unsigned i = 0; i < s->policies; i++)
			if (!s->policy[i].deny)
				only = policy_object(x, s->policy[i].namespace, s->policy[i].name);
		step_object(x, "allow", only,
			    "the one ALLOW policy that selects the pod has no rule that matches: refused "
			    "(not_allowed)");
	} else {
		step(x, "allow", NULL, NULL,
		     "no rule of the %u ALLOW policies that select the pod matches (%s): refused "
		     "(not_allowed)",
		     allows, allow);
	}
out:
	free(allow);
	free(deny);
}

static enum abi_reason explain_policy(struct explain *x, const struct world_pod *to, uint16_t port)
{
	const struct policy_set *s = to->set;
	struct abi_bits hit = {0};
	enum abi_reason why;

	if (!s || !to->in_kernel || !s->published) {
		step(x, "policy", NULL, NULL,
		     "the policy of %s/%s is not in the kernel%s: refused (policy_unsettled)", to->namespace,
		     to->name, s && s->failed ? ", because a map is full: see weftctl status" : " yet");
		return ABI_POLICY_UNSETTLED;
	}
	if (s->head.closed) {
		step(x, "policy", NULL, NULL,
		     "the policies of %s/%s need more than %d terms, which the kernel cannot hold: all is "
		     "refused (needs_worker); use "
		     "fewer or shorter rules",
		     to->namespace, to->name, ABI_TERMS);
		return ABI_NEEDS_WORKER;
	}
	explain_mtls(x, s, port);
	why = policy_foresee(s, x->who, &x->to.from, port, &hit);
	if (why != ABI_MTLS_REQUIRED)
		explain_rules(x, s, &hit, why);
	if (why == ABI_NEEDS_WORKER)
		step(x, "policy", NULL, NULL, "weft cannot know what it asks for: all is refused (needs_worker)");
	return why;
}

/* ------------------------------------------------------------------ splice, and what is there already */

/* What was seen of a pod's programs, ABI_READS_BY_*. */
static uint32_t splice_reader(const struct explain *x, const struct world_pod *pod, struct abi_reader *ret)
{
	if (kernel_lookup(x->report->fd[WIRE_FD_READERS], &pod->enrolled->netns, ret))
		*ret = (struct abi_reader){0};
	return ret->how;
}

static void explain_reader(struct explain *x, const struct world_pod *pod, const struct abi_reader *r,
			   enum abi_reason why)
{
	unsigned bit = why == ABI_READER_COUNTS;

	if (r->how & 1u << bit)
		step(x, "splice", NULL, NULL, "carried by TCP (%s): program %.16s of %s/%s %s", reason_name(why),
		     r->program[bit], pod->namespace, pod->name,
		     bit ? "asks FIONREAD, which this kernel answers wrong in a splice" : "reads by splice(2)");
}

static void explain_splice(struct explain *x, const struct world_pod *to)
{
	struct abi_settings set = {0};
	struct abi_reader client, server;
	uint32_t zero = 0;
	int err = kernel_lookup(x->report->fd[WIRE_FD_SETTINGS], &zero, &set);
	struct decide_enter in = {
		.splice_off = !x->report->splice_on,
		.kernel_safe = x->report->kernel_safe,
		.reader_seen = !err && set.reader_seen,
		.count_fault = !err && set.count_fault,
		.readers = (uint8_t)(splice_reader(x, x->source, &client) | splice_reader(x, to, &server)),
		.client_splice = (uint8_t)x->source->splice,
		.server_splice = (uint8_t)to->splice,
		.service_splice = x->front ? (uint8_t)x->front->splice : ABI_SPLICE_AUTO,
	};
	enum abi_reason why = decide_enter(&in);

	if (why == ABI_READER_SPLICES || why == ABI_READER_COUNTS) {
		explain_reader(x, x->source, &client, why);
		explain_reader(x, to, &server, why);
	} else if (why) {
		step(x, "splice", NULL, NULL, "carried by TCP (%s): %s", reason_name(why), reason_text(why));
	} else {
		step(x, "splice", NULL, NULL,
		     "eligible: both ends are on this node; a conversation skips TCP once it has shown itself, bulk "
		     "is left to TCP");
	}
}

static void explain_live(struct explain *x, const struct world_pod *to)
{
	unsigned count = 0, by_path[ABI_PATH_DIRECT + 1] = {0};
	struct text t = {0};
	struct live_rows rows;

	if (live_dump(x->report->fd[WIRE_FD_CONNS], x->report->fd[WIRE_FD_PAIRS], -1, &rows))
		return;
	for (unsigned i = 0; i < rows.count; i++) {
		const struct live_row *r = &rows.row[i];
		uint16_t port;

		if (r->conn.client_pod != x->source->enrolled->number)
			continue;
		if (to ? r->conn.server_pod != to->enrolled->number
		       : !addr_equal(live_target(r, &port), &x->to.addr))
			continue;
		count++;
		if (r->conn.path < array_size(by_path))
			by_path[r->conn.path]++;
	}
	free(rows.row);
	for (unsigned i = 0; i < array_size(by_path); i++)
		if (by_path[i])
			text_add(&t, "%s%u %s", t.len ? ", " : ": ", by_path[i],
				 i ? path_name(i) : "connecting");
	if (count)
		step(x, "live", NULL, NULL, "%u live connection%s between the two%s", count,
		     text_plural(count), t.data);
	text_free(&t);
}

/* ------------------------------------------------------------------ one destination address */

/* Is it weft's to decide? False: *ret_why says what it is instead, and a step has told it. */
static bool explain_kind(struct explain *x, const struct abi_addr *to, const struct world_pod **ret_pod,
			 enum abi_reason *ret_why)
{
	const struct world_address *a = world_address(x->world, to);
	bool kept_in = x->source->flags & ABI_POD_REGISTRY_ONLY && !x->front; /* and the next step says so */
	char buf[ADDR_TEXT];

	addr_text(to, buf);
	*ret_pod = a ? a->pod : NULL;
	if (addr_is_loopback(to) || addr_is_zero(to) || *ret_pod == x->source) {
		*ret_why = ABI_SAME_POD;
		step(x, "destination", NULL, NULL, "%s is the pod itself: not weft's business", buf);
	} else if (*ret_pod) {
		char *text = mem_format("%s is pod %s/%s of this node", buf, (*ret_pod)->namespace,
					(*ret_pod)->name);

		step_object(x, "destination", (*ret_pod)->object, text);
		free(text);
		return true;
	} else if (a && a->node) {
		*ret_why = ABI_NODE_ITSELF;
		step(x, "destination", NULL, NULL, "%s is this node itself: passed untouched", buf);
	} else if (a && a->remote) {
		*ret_why = ABI_OTHER_NODE;
		const struct world_pod *pod = world_address_pod(a);
		char *text = mem_format("%s is pod %s/%s of another node: its policy is decided there", buf,
					pod->namespace, pod->name);

		step_object(x, "destination", pod->object, text);
		free(text);
	} else if (!kept_in && to->byte[0] == 0xfe && (to->byte[1] & 0xc0) == 0x80) {
		*ret_why = ABI_OUTSIDE;
		step(x, "destination", NULL, NULL,
		     "%s is link-local, anybody's: it passes here, a pod of this node refuses it (link_local)", buf);
	} else {
		*ret_why = ABI_OUTSIDE;
		step(x, "destination", NULL, NULL, "%s is not in the mesh%s", buf, kept_in ? "" : ": passed untouched");
	}
	return false;
}

/* ------------------------------------------------------------------ capture */

static bool fails_open(const struct explain *x)
{
	return x->source->flags & ABI_POD_FAIL_OPEN;
}

/* Is the worker there to take it? */
static bool explain_worker(struct explain *x, bool open)
{
	uint32_t zero = 0;
	uint64_t seen = 0;
	enum decide_beat there = DECIDE_BEAT_GONE;

	if (!kernel_lookup(x->report->fd[WIRE_FD_BEAT], &zero, &seen))
		there = decide_beat(seen, clock_ns());
	if (there == DECIDE_BEAT_HERE || (there == DECIDE_BEAT_LATE && !open))
		return true;
	step(x, "capture", NULL, NULL, "the worker that it needs has not been seen for 3 seconds: %s",
	     open ? "it passes directly (weft.io/fail-open: true)" : "refused (worker_gone)");
	return false;
}

/* What connect() does with it: `need` of destination_need(), or why it is refused, or why it passes after all. */
static enum abi_reason explain_capture(struct explain *x, enum abi_reason need, bool open)
{
	switch (need) {
	case ABI_TUNNELLED:
		step(x, "capture", NULL, NULL,
		     "goes to the worker (path tunnel), and from there by mutual TLS to port %d of the pod, where its "
		     "node's worker takes it",
		     ABI_PORT_HBONE);
		break;
	case ABI_PROXIED:
		step(x, "capture", NULL, NULL,
		     "goes through the worker (path proxy), without TLS: the service, the pod or its namespace has "
		     "weft.io/proxy: always, or a policy of the pod asks for HTTP");
		break;
	case ABI_ROUTES:
		step(x, "capture", NULL, NULL,
		     "goes to the worker (path proxy); where each request goes is decided there, and whether it may is "
		     "asked at the pod that it goes to");
		break;
	case ABI_OWN_PORT:
		step(x, "capture", NULL, NULL, "ports %d and %d of a pod are weft's own: refused (own_port)",
		     ABI_PORT_OUTBOUND, ABI_PORT_INBOUND);
		return need;
	case ABI_EGRESS:
		step(x, "capture", NULL, NULL,
		     "the source may reach nothing outside of the mesh (weft.io/egress: registry-only): refused "
		     "(egress)");
		return need;
	default:
		return need;
	}
	if (explain_worker(x, open))
		return need;
	return open ? ABI_FAIL_OPEN : ABI_WORKER_GONE;
}

struct verdict {
	bool any_allowed, any_refused;
	enum abi_reason why; /* of the first refusal, else of the path */
};

static void note(struct verdict *v, enum abi_reason why, bool refused)
{
	if (refused ? !v->any_refused : !v->any_refused && !v->any_allowed)
		v->why = why;
	*(refused ? &v->any_refused : &v->any_allowed) = true;
}

/*
 * A pod with several addresses of a family may bind to any; if it does not, the policy is asked when the SYN arrives,
 * too late for the worker unless it is `captured` whatever the policy says.
 */
static void explain_other_sources(struct explain *x, const struct world_pod *to, uint16_t port, enum abi_reason why,
				  bool captured, struct verdict *v)
{
	bool proxied = false;
	char buf[ADDR_TEXT];

	if (port == ABI_PORT_HBONE || !to->set || !to->in_kernel || !to->set->published)
		return;
	for (unsigned i = 0; i < x->source->addrs; i++) {
		const struct abi_addr *from = &x->source->addr[i];
		enum abi_reason other;

		if (addr_is_v4(from) != addr_is_v4(&x->to.from) || addr_equal(from, &x->to.from))
			continue;
		other = policy_foresee(to->set, x->who, from, port, NULL);
		proxied |= other == ABI_PROXIED || why == ABI_PROXIED;
		if (other == why)
			continue;
		addr_text(from, buf);
		step(x, "policy", NULL, NULL, "from its other address %s it is %s%s%s%s", buf,
		     other >= ABI_DENIED ? "refused" : "allowed", other ? " (" : "", other ? reason_name(other) : "",
		     other ? ")" : "");
		note(v, other, other >= ABI_DENIED);
	}
	if (!proxied || captured)
		return;
	step(x, "policy", NULL, NULL, "not bound to one of its addresses it is refused (needs_worker)");
	note(v, ABI_NEEDS_WORKER, true);
}

/* One endpoint, or the address itself. */
static void explain_address(struct explain *x, const struct abi_addr *to, uint16_t port, struct verdict *v)
{
	enum abi_reason why, judged, need = ABI_NONE;
	const struct world_pod *pod;
	bool kernel = explain_kind(x, to, &pod, &why), captured;

	if ((kernel || why != ABI_SAME_POD) && x->source->enrolled)
		need = destination_need(&x->to, x->front, to, port);
	if (!kernel || need >= ABI_DENIED) {
		if (need)
			why = explain_capture(x, need, fails_open(x));
		if ((kernel || why != ABI_SAME_POD) && x->source->enrolled)
			explain_live(x, pod);
		note(v, why, why >= ABI_DENIED);
		return;
	}
	if (addr_is_zero(&x->to.from)) {
		step(x, "policy", NULL, NULL, "the source has no address of this family: it cannot connect there");
		note(v, ABI_NONE, false);
		return;
	}
	if (port == ABI_PORT_HBONE)
		step(x, "policy", NULL, NULL, "port %d is open to all: mutual TLS decides", port);
	judged = why = port == ABI_PORT_HBONE ? ABI_NONE : explain_policy(x, pod, port);
	captured = need;
	if (why == ABI_PROXIED) {
		need = ABI_PROXIED;
		why = ABI_NONE;
	}
	if (!why && need)
		why = explain_capture(x, need, judged != ABI_PROXIED && fails_open(x));
	note(v, why, why >= ABI_DENIED);
	explain_other_sources(x, pod, port, judged, captured, v);
	if (x->source->enrolled) {
		if (why < ABI_DENIED)
			explain_splice(x, pod);
		explain_live(x, pod);
	}
}

/* Would this endpoint be judged as that one was? Then it needs no paragraph of its own. */
static bool same_judgement(const struct explain *x, const struct abi_endpoint *a,
			   const struct abi_endpoint *b)
{
	const struct world_address *p = world_address(x->world, &a->addr),
				   *q = world_address(x->world, &b->addr);

	if (!p || !q || !p->pod || !q->pod)
		return (p && p->pod) == (q && q->pod) && (p && p->remote) == (q && q->remote);
	return p->pod->set == q->pod->set && p->pod->splice == q->pod->splice && p->pod->flags == q->pod->flags &&
	       a->port == b->port &&
	       p->pod != x->source && q->pod != x->source;
}

/* Endpoints that are judged alike share a paragraph; a service with very many kinds of them is cut. */
static void explain_endpoints(struct explain *x, struct verdict *v)
{
	const struct abi_endpoint *told[ENDPOINTS_TOLD];
	unsigned count = 0, more = 0;

	for (unsigned i = 0; i < x->front->count; i++) {
		const struct abi_endpoint *e = &x->front->endpoint[i];
		bool known = false;

		for (unsigned k = 0; k < count && !known; k++)
			known = same_judgement(x, told[k], e);
		if (known)
			continue;
		if (count == ENDPOINTS_TOLD) {
			more++;
			continue;
		}
		told[count++] = e;
		explain_address(x, &e->addr, e->port, v);
	}
	if (more)
		step(x, "endpoints", NULL, NULL,
		     "%u more endpoints, each with policies of its own: ask for them by address", more);
}

static void explain_all(struct explain *x, struct verdict *v)
{
	const struct world_address *a = world_address(x->world, &x->to.addr);
	bool service = a && a->vip && !a->pod && !a->node;
	enum abi_reason why;

	destination_from(&x->to);
	explain_source(x);
	if (service && x->source->enrolled) {
		x->front = world_front(x->world, &x->to.addr, x->to.port);
		why = explain_service(x);
		if (why == ABI_ROUTES) {
			why = explain_capture(x, why, fails_open(x));
			explain_live(x, NULL);
		}
		if (why)
			note(v, why, why >= ABI_DENIED);
		else
			explain_endpoints(x, v);
		return;
	}
	if (service)
		step(x, "service", NULL, NULL,
		     "the address is a service's: weft translates it only for pods that are enrolled");
	explain_address(x, &x->to.addr, x->to.port, v);
}

struct answer *explain_answer(struct report *r, const json_t *request)
{
	const char *source = json_string_value(json_object_get(request, "source"));
	const char *destination = json_string_value(json_object_get(request, "destination"));
	struct explain x = {.report = r, .world = r->world, .to.world = r->world};
	struct verdict v = {0};
	const char *verdict;
	char *summary;
	json_t *answer;

	if (!source || !destination)
		return answer_error("explain needs \"source\" (NAMESPACE/POD) and \"destination\"");
	x.source = x.to.source = name_find_pod(r->world, source, false, x.to.why);
	if (!x.source || !destination_parse(&x.to, destination))
		return answer_error("%s", x.to.why);
	x.steps = json_array();
	explain_all(&x, &v);
	verdict = !v.any_refused ? "allowed" : v.any_allowed ? "mixed"
							     : "refused";
	summary = v.why == ABI_NONE ? mem_format("the kernel lets it through")
		  : v.any_refused && v.any_allowed
			  ? mem_format("it depends on the endpoint or on the source's address; one is refused (%s): %s",
				       reason_name(v.why), reason_text(v.why))
			  : mem_format("%s: %s", reason_name(v.why), reason_text(v.why));
	answer = json_pack("{s:{s:o, s:o, s:o}, s:{s:o, s:o, s:i}, s:o, s:s, s:s, s:o}", "source", "pod",
			   answer_text(source), "address",
			   addr_is_zero(&x.to.from) ? answer_text("") : name_address(&x.to.from), "identity",
			   answer_text(x.who ? x.who->principal : ""), "destination", "asked",
			   answer_text(destination), "address", name_address(&x.to.addr), "port", (int)x.to.port,
			   "steps", x.steps, "verdict", verdict, "reason", reason_name(v.why), "summary",
			   answer_text(summary));
	free(summary);
	return answer_json(answer);
}
