/* SPDX-License-Identifier: Apache-2.0 */
/*
 * terms.c: the rules of AuthorizationPolicies as terms: (who) AND (from which address) AND (to which port).
 *
 * A rule is from x to x when. Operations know only ports, so all of a rule fold into one port predicate (and one
 * more for those that HTTP must complete); sources with the same addresses fold into one, as do those with
 * the same names. So an ordinary rule is one term, and none is the product of its lists.
 */
#include <stdlib.h>
#include <string.h>

#include "policy.h"

/* ------------------------------------------------------------------ asking */

bool terms_fit(const char *pattern, const char *text)
{
	size_t len = strlen(pattern);

	if (!strcmp(pattern, "*"))
		return true;
	if (pattern[0] == '*')
		return text_ends(text, pattern + 1);
	if (len && pattern[len - 1] == '*')
		return !strncmp(text, pattern, len - 1);
	return !strcmp(pattern, text);
}

static bool v4_block(const struct block *b)
{
	return b->bits >= 96 && addr_is_v4(&b->addr);
}

bool terms_in_block(const struct abi_addr *addr, const struct block *b)
{
	return v4_block(b) == addr_is_v4(addr) && addr_in_block(addr, &b->addr, b->bits);
}

struct terms_who terms_who(const struct identity *who)
{
	struct terms_who w = {0};
	const char *name[] = {
		[TEST_PRINCIPAL] = who ? who->principal : NULL,
		[TEST_NAMESPACE] = who ? who->namespace : NULL,
		[TEST_SERVICE_ACCOUNT] = who ? who->account : NULL,
		[TEST_TRUST_DOMAIN] = who ? who->trust_domain : NULL,
	};

	for (unsigned what = 0; who && what < array_size(name); what++) {
		w.name[what] = name[what];
		w.hash[what] = table_hash(name[what], strlen(name[what]));
	}
	return w;
}

static bool text_test_holds(const struct test *t, const struct terms_who *who)
{
	const char *name = who->name[t->what];

	for (unsigned i = 0; name && i < t->count; i++)
		if ((t->pattern[i] || t->hash[i] == who->hash[t->what]) && terms_fit(t->text[i], name))
			return true;
	return false;
}

bool terms_source_holds(const struct predicate *p, const struct terms_who *who)
{
	for (unsigned a = 0; a < p->alts; a++) {
		const struct test_all *all = &p->alt[a];
		unsigned i = 0;

		while (i < all->count && text_test_holds(all->test[i], who) != all->test[i]->invert)
			i++;
		if (i == all->count)
			return true;
	}
	return false;
}

static bool block_test_holds(const struct test *t, const struct abi_addr *addr)
{
	for (unsigned i = 0; i < t->count; i++)
		if (terms_in_block(addr, &t->block[i]))
			return true;
	return false;
}

/* ------------------------------------------------------------------ comparing */

static uint64_t mix(uint64_t hash, const void *p, size_t len)
{
	uint64_t pair[2] = {hash, table_hash(p, len)};

	return table_hash(pair, sizeof(pair));
}

static uint64_t test_hash(const struct test *t)
{
	uint32_t head[3] = {t->what, t->invert, t->count};
	uint64_t hash = table_hash(head, sizeof(head));

	for (unsigned i = 0; i < t->count; i++) {
		if (t->what == TEST_BLOCK) {
			hash = mix(hash, &t->block[i].addr, sizeof(t->block[i].addr));
			hash = mix(hash, &t->block[i].bits, sizeof(t->block[i].bits));
		} else if (t->what == TEST_PORT) {
			hash = mix(hash, &t->port[i], sizeof(t->port[i]));
		} else {
			hash = mix(hash, t->text[i], strlen(t->text[i]));
		}
	}
	return hash;
}

/* Its hash, for who has to compare it. */
static void predicate_seal(struct predicate *p)
{
	p->hash = table_hash(&p->alts, sizeof(p->alts));
	for (unsigned a = 0; a < p->alts; a++) {
		p->hash = mix(p->hash, &p->alt[a].count, sizeof(p->alt[a].count));
		for (unsigned i = 0; i < p->alt[a].count; i++) {
			uint64_t h = test_hash(p->alt[a].test[i]);

			p->hash = mix(p->hash, &h, sizeof(h));
		}
	}
}

static bool test_equal(const struct test *a, const struct test *b)
{
	if (a == b)
		return true;
	if (a->what != b->what || a->invert != b->invert || a->count != b->count)
		return false;
	for (unsigned i = 0; i < a->count; i++) {
		if (a->what == TEST_BLOCK) {
			if (a->block[i].bits != b->block[i].bits ||
			    !addr_equal(&a->block[i].addr, &b->block[i].addr))
				return false;
		} else if (a->what == TEST_PORT) {
			if (a->port[i] != b->port[i])
				return false;
		} else if (strcmp(a->text[i], b->text[i])) {
			return false;
		}
	}
	return true;
}

static bool predicate_equal(const struct predicate *a, const struct predicate *b)
{
	if (a->hash != b->hash || a->alts != b->alts)
		return false;
	for (unsigned i = 0; i < a->alts; i++) {
		if (a->alt[i].count != b->alt[i].count)
			return false;
		for (unsigned j = 0; j < a->alt[i].count; j++)
			if (!test_equal(a->alt[i].test[j], b->alt[i].test[j]))
				return false;
	}
	return true;
}

static bool predicate_any(const struct predicate *p)
{
	for (unsigned a = 0; a < p->alts; a++)
		if (!p->alt[a].count)
			return true;
	return false;
}

/* ------------------------------------------------------------------ merging */

/* Order in which terms that may merge in dimension `dim` are neighbours. */
static int neighbours(const struct term *a, const struct term *b, enum dimension dim)
{
	if (a->deny != b->deny)
		return a->deny ? -1 : 1;
	if (a->l7 != b->l7)
		return a->l7 ? 1 : -1;
	for (enum dimension d = 0; d < DIM_COUNT; d++)
		if (d != dim && a->dim[d].hash != b->dim[d].hash)
			return a->dim[d].hash < b->dim[d].hash ? -1 : 1;
	return 0;
}

static int compare_terms(const void *pa, const void *pb, void *ctx)
{
	const struct term *a = pa, *b = pb;
	int c = neighbours(a, b, *(enum dimension *)ctx);

	return c ? c : (a->order > b->order) - (a->order < b->order);
}

static int compare_order(const void *pa, const void *pb)
{
	const struct term *a = pa, *b = pb;

	return (a->order > b->order) - (a->order < b->order);
}

static bool mergeable(const struct term *a, const struct term *b, enum dimension dim)
{
	if (neighbours(a, b, dim))
		return false;
	for (enum dimension d = 0; d < DIM_COUNT; d++)
		if (d != dim && !predicate_equal(&a->dim[d], &b->dim[d]))
			return false;
	return true;
}

/* term[0] becomes the OR of term[0..count) in one dimension; the others are equal in the rest. */
static void merge_run(struct arena *a, struct term *term, unsigned count, enum dimension dim)
{
	struct predicate *p = &term[0].dim[dim];
	unsigned alts = 0, origins = 0;
	struct policy_origin *origin;
	struct test_all *alt;
	bool any = false;

	for (unsigned i = 0; i < count; i++) {
		alts += term[i].dim[dim].alts;
		origins += term[i].origins;
		any |= predicate_any(&term[i].dim[dim]);
	}
	alt = arena_alloc(a, alts * sizeof(*alt));
	origin = arena_alloc(a, origins * sizeof(*origin));
	alts = origins = 0;
	for (unsigned i = 0; i < count; i++) {
		const struct term *t = &term[i];

		memcpy(alt + alts, t->dim[dim].alt, t->dim[dim].alts * sizeof(*alt));
		alts += t->dim[dim].alts;
		for (unsigned o = 0; o < t->origins; o++) {
			const struct policy_origin *last = origins ? &origin[origins - 1] : NULL;

			if (!last || last->name != t->origin[o].name || last->rule != t->origin[o].rule)
				origin[origins++] = t->origin[o];
		}
	}
	if (any) {
		alts = 1;
		alt[0] = (struct test_all){0};
	}
	*p = (struct predicate){.alt = alt, .alts = alts};
	predicate_seal(p);
	term[0].origin = origin;
	term[0].origins = origins;
}

/* Merge what may merge in one dimension; returns how many are left, in their old order. */
static unsigned merge(struct arena *a, struct term *term, unsigned count, enum dimension dim)
{
	unsigned kept = 0, end;

	if (count < 2)
		return count;
	for (unsigned i = 0; i < count; i++)
		for (enum dimension d = 0; d < DIM_COUNT; d++)
			if (!term[i].dim[d].hash)
				predicate_seal(&term[i].dim[d]);
	qsort_r(term, count, sizeof(*term), compare_terms, &dim);
	for (unsigned i = 0; i < count; i = end) {
		for (end = i + 1; end < count && mergeable(&term[i], &term[end], dim); end++)
			;
		if (end - i > 1)
			merge_run(a, &term[i], end - i, dim);
		term[kept++] = term[i];
	}
	qsort(term, kept, sizeof(*term), compare_order);
	return kept;
}

/* ------------------------------------------------------------------ one rule */

struct vec { /* tests under construction */
	struct test **test;
	unsigned count, size;
	bool never; /* a list that was given empty: nothing fits */
};

/* A test of `count` values, to be filled in; NULL: the list says nothing, or that nothing fits. */
static struct test *add_test(struct arena *a, struct vec *v, enum test_what what, bool invert, bool given,
			     unsigned count)
{
	struct test **more, *t;

	if (!given || (invert && !count))
		return NULL;
	if (!count) {
		v->never = true;
		return NULL;
	}
	if (v->count == v->size) {
		v->size = v->size ? v->size * 2 : 4;
		more = arena_alloc(a, v->size * sizeof(*more));
		if (v->count)
			memcpy(more, v->test, v->count * sizeof(*more));
		v->test = more;
	}
	t = arena_alloc(a, sizeof(*t));
	*t = (struct test){.what = what, .invert = invert, .count = count};
	v->test[v->count++] = t;
	return t;
}

static void add_texts(struct arena *a, struct vec *v, enum test_what what, bool invert,
		      const struct match_strings *m, const char *namespace)
{
	struct test *t = add_test(a, v, what, invert, m->given, m->values.count);

	if (!t)
		return;
	t->text = arena_alloc(a, t->count * sizeof(char *));
	t->hash = arena_alloc(a, t->count * sizeof(*t->hash));
	t->pattern = arena_alloc(a, t->count * sizeof(*t->pattern));
	for (unsigned i = 0; i < t->count; i++) {
		const char *s = m->values.item[i];
		size_t len = strlen(s);

		t->pattern[i] = memchr(s, '*', len);
		if (what == TEST_SERVICE_ACCOUNT && !strchr(s, '/') && strcmp(s, "*")) {
			char *full = mem_format("%s/%s", namespace, s);

			len = strlen(full);
			t->text[i] = arena_string(a, full, len);
			free(full);
		} else {
			t->text[i] = arena_string(a, s, len);
		}
		t->hash[i] = table_hash(t->text[i], len);
	}
}

static void add_blocks(struct arena *a, struct vec *v, bool invert, const struct match_blocks *m)
{
	struct test *t = add_test(a, v, TEST_BLOCK, invert, m->given, m->values.count);
	struct block *b;

	if (!t)
		return;
	b = arena_alloc(a, t->count * sizeof(*b));
	memcpy(b, m->values.item, t->count * sizeof(*b));
	t->block = b;
}

static void add_ports(struct arena *a, struct vec *v, bool invert, const struct match_ports *m)
{
	struct test *t = add_test(a, v, TEST_PORT, invert, m->given, m->values.count);
	uint16_t *p;

	if (!t)
		return;
	p = arena_alloc(a, t->count * sizeof(*p));
	memcpy(p, m->values.item, t->count * sizeof(*p));
	t->port = p;
}

/* The conjunction of two lists of tests as a predicate of one alternative. */
static struct predicate conjunction(struct arena *a, const struct vec *x, const struct vec *y)
{
	struct predicate p = {.alts = 1, .alt = arena_alloc(a, sizeof(*p.alt))};

	p.alt->test = arena_alloc(a, (x->count + y->count) * sizeof(struct test *) + 1);
	if (x->count)
		memcpy(p.alt->test, x->test, x->count * sizeof(struct test *));
	if (y->count)
		memcpy(p.alt->test + x->count, y->test, y->count * sizeof(struct test *));
	p.alt->count = x->count + y->count;
	return p;
}

struct build { /* the rule at hand */
	struct arena *arena;
	const struct object *policy;
	const char *namespace, *name; /* copies in the arena */
	unsigned index, rule;
	struct vec when[DIM_COUNT];
	bool when_l7;
	struct terms *out;
	unsigned size;
};

static bool dest_condition_holds(const struct policy_condition *c, const struct abi_addr *addr)
{
	struct test in = {.what = TEST_BLOCK, .count = c->blocks.values.count, .block = c->blocks.values.item};
	struct test out = {
		.what = TEST_BLOCK, .count = c->not_blocks.values.count, .block = c->not_blocks.values.item};

	return (!c->blocks.given || block_test_holds(&in, addr)) &&
	       (!c->not_blocks.given || !block_test_holds(&out, addr));
}

/*
 * destination.ip is asked of the pod's addresses now. Source and destination of a connection are of one family: so
 * where the answer depends on the family alone it is a test of the source address. Where it does not
 * (several addresses of one family), the kernel cannot tell: the term is left to the worker.
 */
static void fold_destination(struct build *b, const struct policy_rule *r, const struct abi_addr *addr,
			     unsigned addrs)
{
	static const struct block all_v4 = {.addr.byte = {[10] = 0xff, [11] = 0xff}, .bits = 96};
	unsigned yes[2] = {0, 0}, no[2] = {0, 0};
	struct test *t;

	for (unsigned i = 0; i < addrs; i++) {
		bool holds = true;

		for (unsigned c = 0; c < r->whens; c++)
			if (r->when[c].key == WHEN_DESTINATION_IP)
				holds = holds && dest_condition_holds(&r->when[c], &addr[i]);
		(holds ? yes : no)[addr_is_v4(&addr[i])]++;
	}
	if ((yes[0] && no[0]) || (yes[1] && no[1]) || !addrs)
		b->when_l7 = true;
	if (!yes[0] && !yes[1] && addrs)
		b->when[DIM_SOURCE].never = true;
	if ((no[0] && !yes[0]) == (no[1] && !yes[1]))
		return;
	t = add_test(b->arena, &b->when[DIM_BLOCK], TEST_BLOCK, no[1] && !yes[1], true, 1);
	t->block = &all_v4;
}

static void add_condition(struct build *b, const struct policy_condition *c)
{
	static const enum test_what what[] = {
		[WHEN_SOURCE_NAMESPACE] = TEST_NAMESPACE,
		[WHEN_SOURCE_PRINCIPAL] = TEST_PRINCIPAL,
		[WHEN_SOURCE_SERVICE_ACCOUNT] = TEST_SERVICE_ACCOUNT,
	};
	struct vec *v = b->when;

	switch (c->key) {
	case WHEN_SOURCE_IP:
		add_blocks(b->arena, &v[DIM_BLOCK], false, &c->blocks);
		add_blocks(b->arena, &v[DIM_BLOCK], true, &c->not_blocks);
		break;
	case WHEN_SOURCE_NAMESPACE:
	case WHEN_SOURCE_PRINCIPAL:
	case WHEN_SOURCE_SERVICE_ACCOUNT:
		add_texts(b->arena, &v[DIM_SOURCE], what[c->key], false, &c->values, b->namespace);
		add_texts(b->arena, &v[DIM_SOURCE], what[c->key], true, &c->not_values, b->namespace);
		break;
	case WHEN_DESTINATION_PORT:
		add_ports(b->arena, &v[DIM_PORT], false, &c->ports);
		add_ports(b->arena, &v[DIM_PORT], true, &c->not_ports);
		break;
	case WHEN_DESTINATION_IP:
		break; /* fold_destination */
	case WHEN_L7:
		b->when_l7 = true;
		break;
	}
}

static void emit(struct build *b, const struct term *t)
{
	struct terms *out = b->out;

	if (out->count == b->size) {
		b->size = b->size ? b->size * 2 : 16;
		out->term = mem_grow(out->term, b->size, sizeof(*out->term));
	}
	out->term[out->count] = *t;
	out->term[out->count].order = out->count;
	out->count++;
}

/* All operations of one kind (L4 alone, or with L7 fields) as one port predicate. False: there is none. */
static bool fold_operations(struct build *b, const struct policy_rule *r, bool l7, struct predicate *ret)
{
	struct test_all *alt = arena_alloc(b->arena, (r->tos + 1) * sizeof(*alt));
	unsigned alts = 0;
	bool any = false;

	if (!r->tos && !l7)
		alt[alts++] = *conjunction(b->arena, &b->when[DIM_PORT], &(struct vec){0}).alt;
	for (unsigned i = 0; i < r->tos; i++) {
		struct vec v = {0};

		if (r->to[i].l7 != l7)
			continue;
		add_ports(b->arena, &v, false, &r->to[i].ports);
		add_ports(b->arena, &v, true, &r->to[i].not_ports);
		if (!v.never)
			alt[alts++] = *conjunction(b->arena, &v, &b->when[DIM_PORT]).alt;
	}
	for (unsigned i = 0; i < alts; i++)
		any |= !alt[i].count;
	if (any) {
		alts = 1;
		alt[0] = (struct test_all){0};
	}
	*ret = (struct predicate){.alt = alt, .alts = alts};
	return alts;
}

static void add_source(struct build *b, const struct policy_source *s, struct vec v[DIM_COUNT])
{
	struct arena *a = b->arena;
	struct vec *who = &v[DIM_SOURCE];

	add_texts(a, who, TEST_PRINCIPAL, false, &s->principals, b->namespace);
	add_texts(a, who, TEST_PRINCIPAL, true, &s->not_principals, b->namespace);
	add_texts(a, who, TEST_NAMESPACE, false, &s->namespaces, b->namespace);
	add_texts(a, who, TEST_NAMESPACE, true, &s->not_namespaces, b->namespace);
	add_texts(a, who, TEST_SERVICE_ACCOUNT, false, &s->service_accounts, b->namespace);
	add_texts(a, who, TEST_SERVICE_ACCOUNT, true, &s->not_service_accounts, b->namespace);
	add_texts(a, who, TEST_TRUST_DOMAIN, false, &s->trust_domains, b->namespace);
	add_texts(a, who, TEST_TRUST_DOMAIN, true, &s->not_trust_domains, b->namespace);
	add_blocks(a, &v[DIM_BLOCK], false, &s->ip_blocks);
	add_blocks(a, &v[DIM_BLOCK], true, &s->not_ip_blocks);
}

static void add_rule(struct build *b, const struct policy_rule *r, const struct abi_addr *addr,
		     unsigned addrs)
{
	struct term t = {.deny = b->policy->authorization.action == POLICY_DENY, .origins = 1};
	unsigned first = b->out->count, left;
	struct predicate port[2];
	bool have[2], dest = false;

	memset(b->when, 0, sizeof(b->when));
	b->when_l7 = false;
	for (unsigned i = 0; i < r->whens; i++) {
		add_condition(b, &r->when[i]);
		dest |= r->when[i].key == WHEN_DESTINATION_IP;
	}
	if (dest)
		fold_destination(b, r, addr, addrs);
	if (b->when[DIM_SOURCE].never || b->when[DIM_BLOCK].never || b->when[DIM_PORT].never)
		return;
	for (int l7 = 0; l7 < 2; l7++)
		have[l7] = fold_operations(b, r, l7, &port[l7]);
	t.origin = arena_alloc(b->arena, sizeof(*t.origin));
	*t.origin = (struct policy_origin){
		.namespace = b->namespace, .name = b->name, .policy = b->index, .rule = b->rule};
	for (unsigned i = 0; i < (r->froms ? r->froms : 1); i++) {
		static const struct policy_source anybody;
		const struct policy_source *s = r->froms ? &r->from[i] : &anybody;
		struct vec v[DIM_COUNT] = {0};

		add_source(b, s, v);
		if (v[DIM_SOURCE].never || v[DIM_BLOCK].never)
			continue;
		for (enum dimension d = DIM_SOURCE; d <= DIM_BLOCK; d++)
			t.dim[d] = conjunction(b->arena, &v[d], &b->when[d]);
		for (int l7 = 0; l7 < 2; l7++) {
			if (!have[l7])
				continue;
			t.dim[DIM_PORT] = port[l7];
			t.l7 = l7 || s->l7 || b->when_l7;
			emit(b, &t);
		}
	}
	left = b->out->count - first;
	if (!left)
		return;
	left = merge(b->arena, b->out->term + first, left, DIM_SOURCE);
	left = merge(b->arena, b->out->term + first, left, DIM_BLOCK);
	b->out->count = first + left;
}

static void add_policy(struct build *b, const struct object *o, const struct abi_addr *addr, unsigned addrs)
{
	const struct object_authorization *p = &o->authorization;
	static const struct policy_rule everything;

	b->policy = o;
	b->namespace = arena_string(b->arena, o->namespace, strlen(o->namespace));
	b->name = arena_string(b->arena, o->name, strlen(o->name));
	b->rule = 0;
	if (p->action == POLICY_ALLOW)
		b->out->has_allow = true;
	if (p->stand_in && p->action == POLICY_DENY)
		add_rule(b, &everything, addr, addrs);
	if (p->stand_in)
		return;
	for (; b->rule < p->rules; b->rule++)
		add_rule(b, &p->rule[b->rule], addr, addrs);
}

void terms_compile(struct arena *a, const struct object *const *policy, unsigned count,
		   const struct abi_addr *addr, unsigned addrs, struct terms *ret)
{
	struct build b = {.arena = a, .out = ret};
	struct term *kept;
	unsigned before;

	*ret = (struct terms){0};
	for (; b.index < count; b.index++)
		add_policy(&b, policy[b.index], addr, addrs);
	do { /* only where bits are short: a merged term no longer knows which rule it was */
		before = ret->count;
		for (enum dimension d = 0; d < DIM_COUNT && ret->count > ABI_TERMS; d++)
			ret->count = merge(a, ret->term, ret->count, d);
	} while (ret->count < before && ret->count > ABI_TERMS);
	if (ret->count > ABI_TERMS) {
		ret->too_many = true;
		ret->count = 0;
	}
	kept = arena_alloc(a, ret->count * sizeof(*kept) + 1);
	if (ret->count)
		memcpy(kept, ret->term, ret->count * sizeof(*kept));
	free(ret->term);
	ret->term = kept;
}
