// SPDX-License-Identifier: Apache-2.0
/*
 * policy.c: terms as the rows of abi.h: for each dimension the bits of the terms that hold, by key, and for
 * all keys that are not listed.
 *
 * any_source are the bits of a stranger: an identity of the mesh's trust domain in a namespace that no policy
 * names. So `sources` lists only identities that some pattern tells from a stranger, and usually 0.
 */
#include <stdlib.h>
#include <string.h>

#include "decide.h"
#include "policy.h"

static void bit_set(struct abi_bits *b, unsigned i)
{
	b->word[i / 64] |= 1ull << (i % 64);
}

static bool bits_equal(const struct abi_bits *a, const struct abi_bits *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* ------------------------------------------------------------------ who is selected */

static bool selector_fits(const struct pairs *selector, const struct pairs *labels)
{
	for (unsigned i = 0; i < selector->count; i++)
		if (!text_equal(pairs_get(labels, selector->item[i].key), selector->item[i].value))
			return false;
	return true;
}

bool policy_selects(const struct object *policy, const char *root_namespace, const char *namespace,
		    const struct pairs *labels)
{
	return (text_equal(policy->namespace, namespace) || text_equal(policy->namespace, root_namespace)) &&
	       selector_fits(&policy->authorization.selector, labels);
}

/* Of two PeerAuthentications of one scope the older counts, then the first by name. */
static const struct object *older(const struct object *a, const struct object *b)
{
	if (!a || a->created != b->created)
		return !a || b->created < a->created ? b : a;
	return strcmp(b->name, a->name) < 0 ? b : a;
}

void policy_mtls(const struct object *const *object, unsigned count, const char *root_namespace,
		 const char *namespace, const struct pairs *labels, struct policy_mtls *ret)
{
	enum { MESH,
	       NAMESPACE,
	       WORKLOAD,
	       SCOPES };
	const struct object *found[SCOPES] = {NULL};

	for (unsigned i = 0; i < count; i++) {
		const struct object *o = object[i];
		bool here = text_equal(o->namespace, namespace);
		int scope = WORKLOAD;

		if (!o->peer.selector.count)
			scope = text_equal(o->namespace, root_namespace) ? MESH : NAMESPACE;
		if (scope != MESH && !here)
			continue;
		if (scope == WORKLOAD && !selector_fits(&o->peer.selector, labels))
			continue;
		found[scope] = older(found[scope], o);
	}
	*ret = (struct policy_mtls){.mtls = ABI_MTLS_PERMISSIVE};
	for (int scope = MESH; scope < SCOPES; scope++) {
		if (found[scope] && found[scope]->peer.mtls_given) {
			ret->mtls = found[scope]->peer.mtls;
			ret->from = found[scope];
		}
	}
	if (found[WORKLOAD] && found[WORKLOAD]->peer.ports) {
		ret->port = found[WORKLOAD]->peer.port;
		ret->ports = found[WORKLOAD]->peer.ports;
		ret->port_from = found[WORKLOAD];
	}
}

/* ------------------------------------------------------------------ sources */

static void source_bits(const struct policy_set *s, const struct identity *who, struct abi_bits *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < s->terms.count; i++)
		if (terms_source_holds(&s->terms.term[i].dim[DIM_SOURCE], who))
			bit_set(ret, i);
}

static struct policy_source_row *source_find(const struct policy_set *s, uint32_t identity, unsigned *ret_at)
{
	unsigned low = 0, high = s->sources;

	while (low < high) {
		unsigned mid = (low + high) / 2;

		if (s->source[mid].identity < identity)
			low = mid + 1;
		else
			high = mid;
	}
	if (ret_at)
		*ret_at = low;
	return low < s->sources && s->source[low].identity == identity ? &s->source[low] : NULL;
}

static const struct policy_source_row *source_add(struct policy_set *s, uint32_t number,
						  const struct identity *who)
{
	struct policy_source_row row = {.identity = number};
	struct policy_source_row *old;
	unsigned at;

	old = source_find(s, number, &at);
	if (old)
		return old;
	source_bits(s, who, &row.bits);
	if (bits_equal(&row.bits, &s->head.any_source))
		return NULL;
	if (s->sources == s->source_size) {
		s->source_size = s->source_size ? s->source_size * 2 : 8;
		s->source = mem_grow(s->source, s->source_size, sizeof(*s->source));
	}
	memmove(&s->source[at + 1], &s->source[at], (s->sources - at) * sizeof(*s->source));
	s->source[at] = row;
	s->sources++;
	return &s->source[at];
}

const struct policy_source_row *policy_learn(struct policy_set *s, const struct identity *who)
{
	return source_add(s, who->number, who);
}

static void build_sources(struct policy_set *s, const char *trust_domain, const struct identities *ids)
{
	char *principal = mem_format("%s/ns/\1/sa/\1", trust_domain);
	struct identity stranger = {.trust_domain = trust_domain,
				    .namespace = "\1",
				    .service_account = "\1",
				    .principal = principal,
				    .account = "\1/\1"};

	source_bits(s, &stranger, &s->head.any_source);
	free(principal);
	source_add(s, 0, NULL);
	for (unsigned i = 0; i < ids->count; i++)
		source_add(s, ids->all[i]->number, ids->all[i]);
}

/* ------------------------------------------------------------------ blocks */

static int compare_blocks(const struct block *a, const struct block *b)
{
	int c = memcmp(&a->addr, &b->addr, sizeof(a->addr));

	return c ? c : (a->bits > b->bits) - (a->bits < b->bits);
}

static int compare_block_rows(const void *a, const void *b)
{
	return compare_blocks(&((const struct policy_block_row *)a)->block,
			      &((const struct policy_block_row *)b)->block);
}

/* Bits of the last row that is not after `b`, in the order of the rows; -1 if all are. */
static int block_last(const struct policy_set *s, const struct block *b)
{
	int low = 0, high = s->blocks;

	while (low < high) {
		int mid = (low + high) / 2;

		if (compare_blocks(&s->block[mid].block, b) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low - 1;
}

static void add_block(struct policy_set *s, unsigned *size, const struct block *b)
{
	if (s->blocks == *size) {
		*size = *size ? *size * 2 : 16;
		s->block = mem_grow(s->block, *size, sizeof(*s->block));
	}
	s->block[s->blocks++] = (struct policy_block_row){.block = *b, .parent = -1};
}

/* Every block that some test names, once, in order, each with the one around it. */
static void list_blocks(struct policy_set *s)
{
	static const struct block all_v4 = {.addr.byte = {[10] = 0xff, [11] = 0xff}, .bits = 96};
	unsigned size = 0, kept = 0;

	for (unsigned i = 0; i < s->terms.count; i++) {
		const struct predicate *p = &s->terms.term[i].dim[DIM_BLOCK];

		for (unsigned a = 0; a < p->alts; a++)
			for (unsigned t = 0; t < p->alt[a].count; t++)
				for (unsigned b = 0; b < p->alt[a].test[t]->count; b++)
					add_block(s, &size, &p->alt[a].test[t]->block[b]);
	}
	for (unsigned i = 0, n = s->blocks; i < n; i++) {
		const struct block *b = &s->block[i].block;

		if (b->bits < 96 && addr_in_block(&all_v4.addr, &b->addr, b->bits)) {
			add_block(s, &size, &all_v4); /* ::/0 holds no IPv4: fence it off */
			break;
		}
	}
	if (!s->blocks)
		return;
	qsort(s->block, s->blocks, sizeof(*s->block), compare_block_rows);
	for (unsigned i = 0; i < s->blocks; i++) {
		int parent = (int)kept - 1;

		if (kept && !compare_blocks(&s->block[i].block, &s->block[kept - 1].block))
			continue;
		while (parent >= 0 && !addr_in_block(&s->block[i].block.addr, &s->block[parent].block.addr,
						     s->block[parent].block.bits))
			parent = s->block[parent].parent;
		s->block[kept] = s->block[i];
		s->block[kept++].parent = parent;
	}
	s->blocks = kept;
}

/* mark[i] = 1 for each row whose addresses are in one of the blocks of the test. */
static void mark_test(const struct policy_set *s, const struct test *t, uint8_t *mark)
{
	for (unsigned b = 0; b < t->count; b++) {
		const struct block *block = &t->block[b];

		for (unsigned i = block_last(s, block); i < s->blocks; i++) {
			const struct block *in = &s->block[i].block;

			if (!addr_in_block(&in->addr, &block->addr, block->bits))
				break;
			if (terms_in_block(&in->addr, block))
				mark[i] = 1;
		}
	}
}

static void build_blocks(struct policy_set *s)
{
	uint8_t *holds, *mark;

	list_blocks(s);
	holds = mem_alloc(s->blocks + 1); /* one more: outside of all blocks */
	mark = mem_alloc(s->blocks + 1);
	for (unsigned i = 0; i < s->terms.count; i++) {
		const struct predicate *p = &s->terms.term[i].dim[DIM_BLOCK];

		for (unsigned a = 0; a < p->alts; a++) {
			memset(holds, 1, s->blocks + 1);
			for (unsigned t = 0; t < p->alt[a].count; t++) {
				const struct test *test = p->alt[a].test[t];

				memset(mark, 0, s->blocks + 1);
				mark_test(s, test, mark);
				for (unsigned b = 0; b <= s->blocks; b++)
					holds[b] &= mark[b] != test->invert;
			}
			for (unsigned b = 0; b < s->blocks; b++)
				if (holds[b])
					bit_set(&s->block[b].bits, i);
			if (holds[s->blocks])
				bit_set(&s->head.any_block, i);
		}
	}
	free(holds);
	free(mark);
}

/* ------------------------------------------------------------------ ports */

static int compare_ports(const void *pa, const void *pb)
{
	const struct policy_port_row *a = pa, *b = pb;

	return (a->port > b->port) - (a->port < b->port);
}

static void add_port(struct policy_set *s, uint8_t *seen, uint16_t port)
{
	if (seen[port / 8] & 1 << port % 8)
		return;
	seen[port / 8] |= 1 << port % 8;
	s->ports++;
}

static void port_bits(const struct policy_set *s, uint16_t port, struct abi_bits *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < s->terms.count; i++)
		if (terms_port_holds(&s->terms.term[i].dim[DIM_PORT], port))
			bit_set(ret, i);
}

static void build_ports(struct policy_set *s)
{
	uint8_t *seen = mem_alloc(65536 / 8);
	unsigned n = 0;

	for (unsigned i = 0; i < s->mtls_ports; i++)
		add_port(s, seen, s->mtls_port[i].port);
	for (unsigned i = 0; i < s->terms.count; i++) {
		const struct predicate *p = &s->terms.term[i].dim[DIM_PORT];

		for (unsigned a = 0; a < p->alts; a++)
			for (unsigned t = 0; t < p->alt[a].count; t++)
				for (unsigned b = 0; b < p->alt[a].test[t]->count; b++)
					add_port(s, seen, p->alt[a].test[t]->port[b]);
	}
	s->port = mem_alloc((s->ports + 1) * sizeof(*s->port));
	for (unsigned port = 0; port < 65536; port++) {
		if (!(seen[port / 8] & 1 << port % 8))
			continue;
		s->port[n].port = port;
		s->port[n].value.mtls = s->head.mtls;
		port_bits(s, port, &s->port[n++].value.bits);
	}
	for (unsigned i = 0; i < s->mtls_ports; i++) {
		struct policy_port_row key = {.port = s->mtls_port[i].port};
		struct policy_port_row *row =
			bsearch(&key, s->port, s->ports, sizeof(*s->port), compare_ports);

		row->value.mtls = s->mtls_port[i].mtls;
	}
	for (n = 0; n < 65535 && seen[n / 8] & 1 << n % 8; n++)
		; /* some port that no list names */
	port_bits(s, n, &s->head.any_port);
	free(seen);
}

/* ------------------------------------------------------------------ sets */

static void sign_predicate(struct text *t, const struct predicate *p)
{
	for (unsigned a = 0; a < p->alts; a++) {
		text_add(t, "|");
		for (unsigned i = 0; i < p->alt[a].count; i++) {
			const struct test *test = p->alt[a].test[i];

			text_add(t, "&%d%d", test->what, test->invert);
			for (unsigned v = 0; v < test->count; v++) {
				if (test->what == TEST_BLOCK) {
					text_add(t, "=%u ", test->block[v].bits);
					text_add_bytes(t, &test->block[v].addr, 16);
				} else if (test->what == TEST_PORT) {
					text_add(t, "=%u", test->port[v]);
				} else {
					text_add(t, "=%zu ", strlen(test->text[v]));
					text_add_bytes(t, test->text[v], strlen(test->text[v]));
				}
			}
		}
	}
}

/* Everything that the set says and shows, in a form that differs where two sets differ. */
static void sign(struct policy_set *s)
{
	struct text *t = &s->signature;

	text_add(t, "%u%u%u m%s p%s", s->head.mtls, s->head.has_allow, s->head.closed,
		 s->mtls_from ? s->mtls_from : "", s->mtls_port_from ? s->mtls_port_from : "");
	for (unsigned i = 0; i < s->mtls_ports; i++)
		text_add(t, ";%u=%u", s->mtls_port[i].port, s->mtls_port[i].mtls);
	for (unsigned i = 0; i < s->policies; i++)
		text_add(t, ";%s/%s %d%d", s->policy[i].namespace, s->policy[i].name, s->policy[i].deny,
			 s->policy[i].stand_in);
	for (unsigned i = 0; i < s->terms.count; i++) {
		const struct term *term = &s->terms.term[i];

		text_add(t, "\n%d%d", term->deny, term->l7);
		for (unsigned o = 0; o < term->origins; o++)
			text_add(t, " %s/%s:%u", term->origin[o].namespace, term->origin[o].name,
				 term->origin[o].rule);
		for (enum dimension d = 0; d < DIM_COUNT; d++) {
			text_add(t, "\t");
			sign_predicate(t, &term->dim[d]);
		}
	}
}

static const char *object_text(struct arena *a, const struct object *o)
{
	char *text, *copy;

	if (!o)
		return NULL;
	text = mem_format("%s/%s", o->namespace, o->name);
	copy = arena_string(a, text, strlen(text));
	free(text);
	return copy;
}

struct policy_set *policy_new(const struct policy_input *in)
{
	struct policy_set *s = mem_alloc(sizeof(*s));
	struct abi_bits *verdict[2][2] = {{&s->head.allow, &s->head.allow_l7},
					  {&s->head.deny, &s->head.deny_l7}};

	list_init(&s->all);
	terms_compile(&s->arena, in->policy, in->policies, in->addr, in->addrs, &s->terms);
	s->head.mtls = in->mtls.mtls;
	s->head.has_allow = s->terms.has_allow;
	s->head.closed = s->terms.too_many;
	s->mtls_from = object_text(&s->arena, in->mtls.from);
	s->mtls_port_from = object_text(&s->arena, in->mtls.port_from);
	s->policy = arena_alloc(&s->arena, in->policies * sizeof(*s->policy) + 1);
	for (s->policies = 0; s->policies < in->policies; s->policies++) {
		const struct object *o = in->policy[s->policies];

		s->policy[s->policies] = (struct policy_named){
			.namespace = arena_string(&s->arena, o->namespace, strlen(o->namespace)),
			.name = arena_string(&s->arena, o->name, strlen(o->name)),
			.deny = o->authorization.action == POLICY_DENY,
			.stand_in = o->authorization.stand_in};
	}
	for (unsigned i = 0; i < s->terms.count; i++)
		bit_set(verdict[s->terms.term[i].deny][s->terms.term[i].l7], i);
	s->mtls_port = arena_alloc(&s->arena, in->mtls.ports * sizeof(*s->mtls_port) + 1);
	if (in->mtls.ports)
		memcpy(s->mtls_port, in->mtls.port, in->mtls.ports * sizeof(*s->mtls_port));
	s->mtls_ports = in->mtls.ports;
	sign(s);
	return s;
}

void policy_build(struct policy_set *s, const char *trust_domain, const struct identities *ids)
{
	build_ports(s);
	build_blocks(s);
	build_sources(s, trust_domain, ids);
}

void policy_free(struct policy_set *s)
{
	if (!s)
		return;
	free(s->source);
	free(s->block);
	free(s->port);
	text_free(&s->signature);
	arena_free(&s->arena);
	free(s);
}

/* ------------------------------------------------------------------ deciding */

static const struct abi_bits *block_find(const struct policy_set *s, const struct abi_addr *addr)
{
	struct block all = {.addr = *addr, .bits = 128};
	int i = block_last(s, &all);

	while (i >= 0 && !addr_in_block(addr, &s->block[i].block.addr, s->block[i].block.bits))
		i = s->block[i].parent;
	return i < 0 ? NULL : &s->block[i].bits;
}

static const struct abi_port *port_find(const struct policy_set *s, uint16_t port)
{
	struct policy_port_row key = {.port = port};
	struct policy_port_row *row;

	if (!s->ports)
		return NULL;
	row = bsearch(&key, s->port, s->ports, sizeof(*s->port), compare_ports);
	return row ? &row->value : NULL;
}

enum abi_reason policy_decide(const struct policy_set *s, const struct identity *who,
			      const struct abi_addr *source, uint16_t port, struct abi_bits *ret_hit)
{
	uint32_t number = who ? who->number : 0;
	const struct policy_source_row *row = source_find(s, number, NULL);
	struct abi_bits hit = {0};
	enum abi_reason why;

	why = decide_policy(&s->head, row ? &row->bits : NULL, block_find(s, source), port_find(s, port),
			    number, &hit);
	if (ret_hit)
		*ret_hit = hit;
	return why;
}

const struct policy_origin *policy_origin(const struct policy_set *s, unsigned bit)
{
	return bit < s->terms.count ? &s->terms.term[bit].origin[0] : NULL;
}

enum abi_mtls policy_mtls_of(const struct policy_set *s, uint16_t port)
{
	const struct abi_port *p = port_find(s, port);

	return p ? p->mtls : s->head.mtls;
}
