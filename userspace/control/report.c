/* SPDX-License-Identifier: Apache-2.0 */
/* report.c: the answers of the admin socket that come from the world: status, pods, services, policy. See report.h. */
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "report.h"

#define STATUS_PROBLEMS 200 /* listed; the numbers are exact */

static const char *mtls_name(unsigned mtls)
{
	static const char *const names[] = {
		[ABI_MTLS_PERMISSIVE] = "PERMISSIVE",
		[ABI_MTLS_STRICT] = "STRICT",
		[ABI_MTLS_DISABLE] = "DISABLE",
	};

	return mtls < array_size(names) ? names[mtls] : "unknown";
}

/* ------------------------------------------------------------------ problems */

struct tally {
	void (*each)(void *ctx, const struct problem *p);
	void *ctx;
	unsigned *errors, *warnings;
};

static void count_problem(void *ctx, const struct problem *p)
{
	struct tally *t = ctx;

	++*(p->warning ? t->warnings : t->errors);
	t->each(t->ctx, p);
}

void report_problems(const struct report *r, void (*each)(void *ctx, const struct problem *p), void *ctx,
		     unsigned *ret_errors, unsigned *ret_warnings)
{
	struct tally t = {.each = each, .ctx = ctx, .errors = ret_errors, .warnings = ret_warnings};
	const char *const *error;
	unsigned count;

	*ret_errors = *ret_warnings = 0;
	if (r->source)
		for (const struct problem *p = source_problems(r->source, ret_errors, ret_warnings); p;
		     p = p->next)
			each(ctx, p);
	if (r->world)
		world_problems(r->world, count_problem, &t);
	report_forced(r, count_problem, &t);
	cert_report_problems(r, count_problem, &t);
	if (!r->publish)
		return;
	error = publish_errors(r->publish, &count);
	for (unsigned i = 0; i < count; i++) {
		struct problem p = {.field = "kernel map"};

		text_copy(p.reason, sizeof(p.reason), error[i]);
		count_problem(&t, &p);
	}
}

static void list_problem(void *ctx, const struct problem *p)
{
	json_t *list = ctx;

	if (json_array_size(list) >= STATUS_PROBLEMS)
		return;
	json_array_append_new(list, json_pack("{s:b, s:o, s:i, s:o, s:o, s:o}", "warning", p->warning, "file",
					      answer_text(p->file), "line", (int)p->line, "object",
					      answer_text(p->object), "field", answer_text(p->field),
					      "reason", answer_text(p->reason)));
}

/* ------------------------------------------------------------------ status */

static unsigned dumped(int map, size_t key_size, size_t value_size)
{
	void *keys, *values;
	unsigned count;

	if (kernel_dump(map, key_size, value_size, &keys, &values, &count))
		return 0;
	free(keys);
	free(values);
	return count;
}

struct totals {
	unsigned objects, endpoints, sources, blocks, ports;
};

static struct totals totals_of(const struct world *w)
{
	struct totals t = {0};

	for (unsigned kind = 0; kind < KIND_COUNT; kind++)
		t.objects += store_count(w->store, kind);
	for (struct world_front *f = world_front_each(w, NULL); f; f = world_front_each(w, f))
		t.endpoints += f->count;
	list_each(at, &w->all_sets) {
		const struct policy_set *s = container_of(at, struct policy_set, all);

		t.sources += s->sources;
		t.blocks += s->blocks;
		t.ports += s->ports;
	}
	return t;
}

/* `used`: what is wanted there. */
static void add_map(json_t *list, const char *name, size_t used, unsigned max)
{
	if (used > max)
		used = max;
	json_array_append_new(list, json_pack("{s:s, s:I, s:i}", "name", name, "used", (json_int_t)used,
					      "max", (int)max));
}

static json_t *status_maps(const struct report *r, const struct totals *t, unsigned conns)
{
	const struct world *w = r->world;
	unsigned cpus = kernel_cpus();
	json_t *list = json_array();

	add_map(list, "pods", w->enrolled_count, ABI_MAX_PODS);
	add_map(list, "addresses", w->addresses.count, ABI_MAX_ADDRESSES);
	add_map(list, "services", w->fronts.count, ABI_MAX_SERVICES);
	add_map(list, "endpoints", t->endpoints, ABI_MAX_ENDPOINTS);
	add_map(list, "policies", w->set_count, ABI_MAX_POLICIES);
	add_map(list, "sources", t->sources, ABI_MAX_SOURCES);
	add_map(list, "blocks", t->blocks, ABI_MAX_BLOCKS);
	add_map(list, "ports", t->ports, ABI_MAX_PORTS);
	add_map(list, "conns", conns, ABI_MAX_CONNS);
	add_map(list, "traffic",
		dumped(r->fd[WIRE_FD_TRAFFIC], sizeof(struct abi_traffic_key),
		       cpus * sizeof(struct abi_traffic)),
		ABI_MAX_TRAFFIC);
	add_map(list, "refusals",
		dumped(r->fd[WIRE_FD_REFUSALS], sizeof(struct abi_refusal_key), cpus * sizeof(uint64_t)),
		ABI_MAX_REFUSALS);
	return list;
}

static json_t *status_reasons(const struct report *r)
{
	static const unsigned number[] = {
#define NUMBER(n, symbol, name, text) n,
		ABI_REASONS(NUMBER)
#undef NUMBER
	};
	json_t *list = json_array();

	for (size_t i = 0; i < array_size(number); i++) {
		uint64_t count;

		if (!traffic_reason(r->fd[WIRE_FD_REASONS], number[i], &count) && count)
			json_array_append_new(list, json_pack("{s:s, s:I}", "name", reason_name(number[i]),
							      "count", (json_int_t)count));
	}
	return list;
}

static struct answer *status(struct report *r, const json_t *request)
{
	const struct publish_stats *stats = publish_stats(r->publish);
	const struct totals t = totals_of(r->world);
	unsigned errors, warnings, conns;
	json_t *problems = json_array(), *counts;

	report_problems(r, list_problem, problems, &errors, &warnings);
	conns = dumped(r->fd[WIRE_FD_CONNS], sizeof(struct abi_tuple), sizeof(struct abi_conn));
	counts = json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I}", "objects", (int)t.objects, "pods",
			   (int)r->world->enrolled_count, "services", (int)r->world->fronts.count,
			   "endpoints", (int)t.endpoints, "policy_sets", (int)r->world->set_count,
			   "identities", (int)r->world->identities.count, "connections", (int)conns,
			   "destroyed", (json_int_t)r->destroyed, "swept", (json_int_t)r->swept);
	return answer_json(json_pack("{s:b, s:o, s:o, s:b, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:i, s:i, s:I}}",
				     "ready", r->ready, "why", answer_text(r->why), "source",
				     answer_text(r->source->name), "loaded", r->source->loaded, "errors",
				     (int)errors, "warnings", (int)warnings, "problems", problems, "counts",
				     counts, "maps", status_maps(r, &t, conns), "reasons", status_reasons(r), "certs",
				     cert_report_status(r), "threads", tunnel_report_threads(r),
				     "published", "updates", (int)stats->updates, "deletes",
				     (int)stats->deletes, "took_us", (json_int_t)(stats->took_ns / 1000)));
}

/* ------------------------------------------------------------------ pods and their policies */

/* Keys of the pods that a request wants: all enrolled, or the named one. NULL with *ret_error: there is none. */
static uint64_t *wanted_pods(struct report *r, const json_t *request, unsigned *ret_count,
			     struct answer **ret_error)
{
	const char *name = json_string_value(json_object_get(request, "pod"));
	const struct world *w = r->world;
	uint64_t *keys = mem_alloc((w->enrolled_count + 1) * sizeof(*keys));
	const struct world_pod *one;
	char why[256];

	*ret_count = 0;
	if (name) {
		one = name_find_pod(w, name, true, why);
		if (!one) {
			*ret_error = answer_error("%s", why);
			free(keys);
			return NULL;
		}
		keys[(*ret_count)++] = one->enrolled->netns;
		return keys;
	}
	list_each(at, &w->enrolled)
		keys[(*ret_count)++] = container_of(at, struct world_pod, enrolled_link)->enrolled->netns;
	return keys;
}

static json_t *pairs_json(const struct pairs *p)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < p->count; i++) {
		json_t *key = answer_text(p->item[i].key);

		json_object_set_new(o, json_string_value(key), answer_text(p->item[i].value));
		json_decref(key);
	}
	return o;
}

static json_t *pod_item(void *ctx, const void *key)
{
	const struct report *r = ctx;
	uint64_t netns;
	const struct world_pod *p;
	const struct pairs *labels;
	json_t *addresses, *j;

	memcpy(&netns, key, sizeof(netns));
	p = world_pod_in(r->world, netns);
	if (!p)
		return NULL;
	addresses = json_array();
	for (unsigned i = 0; i < p->addrs; i++)
		json_array_append_new(addresses, name_address(&p->addr[i]));
	labels = world_pod_labels(p);
	j = json_pack("{s:o, s:i, s:o, s:I, s:s, s:b, s:o}", "pod", name_full(p->namespace, p->name),
		      "number", (int)p->enrolled->number, "addresses", addresses, "netns", (json_int_t)netns,
		      "splice", splice_name(p->splice), "in_kernel", p->in_kernel, "labels",
		      pairs_json(labels));
	json_object_set_new(j, "identity", answer_text(p->identity ? p->identity->principal : ""));
	json_object_set_new(j, "identity_number", json_integer(p->identity ? p->identity->number : 0));
	json_object_set_new(j, "service_account",
			    answer_text(p->identity ? p->identity->service_account : ""));
	json_object_set_new(j, "policy_set", json_integer(p->set ? p->set->number : 0));
	json_object_set_new(j, "policies", json_integer(p->set ? p->set->policies : 0));
	json_object_set_new(j, "mtls", json_string(p->set ? mtls_name(p->set->head.mtls) : ""));
	json_object_set_new(j, "object",
			    name_place(p->object ? p->object->file : NULL, p->object ? p->object->line : 0));
	return j;
}

static struct answer *pods(struct report *r, const json_t *request)
{
	struct answer_list list = {.name = "pods", .size = sizeof(uint64_t), .item = pod_item};
	struct answer *error;

	list.keys = wanted_pods(r, request, &list.count, &error);
	return list.keys ? answer_lists(&list, 1, r, NULL) : error;
}

/* "shop/strict" as the set has it, to its object; NULL if it is gone. */
static const struct object *peer_object(const struct world *w, const char *full)
{
	const char *slash = full ? strchr(full, '/') : NULL;
	const struct object *o;
	char *namespace;

	if (!slash)
		return NULL;
	namespace = mem_format("%.*s", (int)(slash - full), full);
	o = store_get(w->store, KIND_PEER_AUTHENTICATION, namespace, slash + 1);
	free(namespace);
	return o;
}

static json_t *policies_json(const struct world *w, const struct policy_set *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->policies; i++) {
		const struct policy_named *n = &s->policy[i];
		const struct object *o =
			store_get(w->store, KIND_AUTHORIZATION_POLICY, n->namespace, n->name);
		bool root = text_equal(n->namespace, w->root_namespace);
		bool selects = o && o->authorization.selector.count;

		json_array_append_new(list, json_pack("{s:o, s:s, s:s, s:i, s:b, s:o}", "policy",
						      name_full(n->namespace, n->name), "action",
						      n->deny ? "DENY" : "ALLOW", "scope",
						      selects ? "workload"
						      : root  ? "mesh"
							      : "namespace",
						      "rules", o ? (int)o->authorization.rules : 0,
						      "stand_in", n->stand_in, "place",
						      name_place(o ? o->file : NULL, o ? o->line : 0)));
	}
	return list;
}

static json_t *policy_item(void *ctx, const void *key)
{
	const struct report *r = ctx;
	const struct policy_set *s;
	const struct world_pod *p;
	const struct object *peer;
	json_t *ports = json_array(), *j;
	uint64_t netns;

	memcpy(&netns, key, sizeof(netns));
	p = world_pod_in(r->world, netns);
	s = p ? p->set : NULL;
	if (!s) {
		json_decref(ports);
		return NULL;
	}
	for (unsigned i = 0; i < s->ports; i++)
		if (s->port[i].value.mtls != s->head.mtls)
			json_array_append_new(ports, json_pack("{s:i, s:s}", "port", (int)s->port[i].port,
							       "mtls", mtls_name(s->port[i].value.mtls)));
	peer = peer_object(r->world, s->mtls_from);
	j = json_pack("{s:o, s:i, s:s, s:o, s:o, s:b, s:o, s:o, s:b, s:i, s:b, s:o}", "pod",
		      name_full(p->namespace, p->name), "set", (int)s->number, "mtls",
		      mtls_name(s->head.mtls), "mtls_from", answer_text(s->mtls_from ? s->mtls_from : ""),
		      "mtls_place", name_place(peer ? peer->file : NULL, peer ? peer->line : 0), "mtls_stand_in",
		      peer && peer->peer.stand_in, "mtls_ports", ports,
		      "mtls_ports_from", answer_text(s->mtls_port_from ? s->mtls_port_from : ""),
		      "closed", s->head.closed, "terms", (int)s->terms.count, "in_kernel", s->published,
		      "policies", policies_json(r->world, s));
	return j;
}

static struct answer *policy(struct report *r, const json_t *request)
{
	struct answer_list list = {.name = "pods", .size = sizeof(uint64_t), .item = policy_item};
	struct answer *error;

	list.keys = wanted_pods(r, request, &list.count, &error);
	return list.keys ? answer_lists(&list, 1, r, NULL) : error;
}

/* ------------------------------------------------------------------ services */

static json_t *endpoints_json(const struct world *w, const struct world_front *f)
{
	json_t *list = json_array();
	double *share = mem_alloc(f->count * sizeof(*share) + 1);
	char buf[ADDR_PORT_TEXT];

	/* The alias table's shares: an entry keeps `share` of its slot and gives the rest to its alias. */
	for (unsigned i = 0; i < f->count; i++) {
		double keeps = ((double)f->endpoint[i].share + 1) / 4294967296.0 / f->count;

		share[i] += keeps;
		if (f->endpoint[i].alias < f->count)
			share[f->endpoint[i].alias] += 1.0 / f->count - keeps;
	}
	for (unsigned i = 0; i < f->count; i++) {
		const struct abi_endpoint *e = &f->endpoint[i];
		const struct world_address *a = world_address(w, &e->addr);

		json_array_append_new(list, json_pack("{s:s, s:o, s:i, s:f}", "address",
						      addr_port_text(&e->addr, e->port, buf), "pod",
						      a && a->pod ? name_full(a->pod->namespace, a->pod->name)
								  : answer_text(""),
						      "weight", (int)e->weight, "share", share[i]));
	}
	free(share);
	return list;
}

struct front_key {
	struct abi_service_key key;
	const char *namespace, *name; /* for the order only: not valid in a later part */
};

static json_t *service_json(const struct report *r, const void *key, bool endpoints)
{
	const struct front_key *k = key;
	const struct world_front *f = world_front(r->world, &k->key.vip, k->key.port);
	json_t *j;

	if (!f || !f->owner)
		return NULL;
	j = json_pack("{s:o, s:o, s:i, s:i, s:i, s:s, s:i, s:o}", "service",
		      name_full(f->owner->namespace, f->owner->name), "vip", name_address(&k->key.vip),
		      "port", (int)k->key.port, "number", (int)f->number, "affinity_seconds",
		      f->flags & ABI_SERVICE_AFFINITY ? (int)f->affinity_seconds : 0, "splice",
		      splice_name(f->splice), "endpoint_count", (int)f->count, "object",
		      name_place(f->owner->object ? f->owner->object->file : NULL,
				 f->owner->object ? f->owner->object->line : 0));
	json_object_set_new(j, "in_kernel", json_boolean(f->in_kernel && !f->dirty));
	if (endpoints)
		json_object_set_new(j, "endpoints", endpoints_json(r->world, f));
	return j;
}

static json_t *service_item(void *ctx, const void *key)
{
	return service_json(ctx, key, true);
}

static json_t *service_brief_item(void *ctx, const void *key)
{
	return service_json(ctx, key, false);
}

static int by_service(const void *a, const void *b)
{
	const struct front_key *x = a, *y = b;
	int order = strcmp(x->namespace, y->namespace);

	if (!order)
		order = strcmp(x->name, y->name);
	if (!order)
		order = x->key.port - y->key.port;
	return order ? order : memcmp(&x->key.vip, &y->key.vip, sizeof(x->key.vip));
}

static struct answer *services(struct report *r, const json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "service"));
	bool brief = json_is_false(json_object_get(request, "endpoints"));
	struct answer_list list = {.name = "services",
				   .size = sizeof(struct front_key),
				   .item = brief ? service_brief_item : service_item};
	const struct world *w = r->world;
	struct front_key *keys = mem_alloc((w->fronts.count + 1) * sizeof(*keys));

	for (struct world_front *f = world_front_each(w, NULL); f; f = world_front_each(w, f)) {
		if (!f->owner)
			continue;
		if (name) {
			char *full = mem_format("%s/%s", f->owner->namespace, f->owner->name);
			bool wanted = text_equal(full, name);

			free(full);
			if (!wanted)
				continue;
		}
		keys[list.count++] = (struct front_key){
			.key = f->key, .namespace = f->owner->namespace, .name = f->owner->name};
	}
	qsort(keys, list.count, sizeof(*keys), by_service);
	list.keys = keys;
	return answer_lists(&list, 1, r, NULL);
}

/* ------------------------------------------------------------------ which command */

/* What names something and is no text: taken for its absence, it would ask for all. NULL: nothing. */
static const char *no_text(const json_t *request)
{
	static const char *const names[] = {"pod", "service", "route", "gateway"};

	for (size_t i = 0; i < array_size(names); i++) {
		const json_t *name = json_object_get(request, names[i]);

		if (name && !json_is_string(name))
			return names[i];
	}
	return NULL;
}

struct answer *report_ask(void *ctx, const char *command, const json_t *request)
{
	static const struct {
		const char *name;
		struct answer *(*answer)(struct report *r, const json_t *request);
	} table[] = {
		{"status", status},
		{"pods", pods},
		{"services", services},
		{"policy", policy},
		{"routes", route_report},
		{"gateways", gateway_report},
		{"connections", connections_answer},
		{"tunnels", tunnel_report},
		{"traffic", traffic_answer},
		{"certs", cert_report},
		{"issue", cert_report_issue},
		{"explain", explain_answer},
	};
	const char *wrong = no_text(request);
	struct report *r = ctx;
	struct text names = {0};
	struct answer *error;

	for (size_t i = 0; i < array_size(table); i++) {
		if (!text_equal(table[i].name, command))
			continue;
		if (!r->publish)
			return answer_error("the worker is starting: its first world is not made yet");
		if (wrong)
			return answer_error("\"%s\" must be a text: NAMESPACE/NAME", wrong);
		return table[i].answer(r, request);
	}
	for (size_t i = 0; i < array_size(table); i++)
		text_add(&names, "%s%s", i ? ", " : "", table[i].name);
	error = answer_error("unknown command \"%.64s\": there are %s", command, names.data);
	text_free(&names);
	return error;
}
